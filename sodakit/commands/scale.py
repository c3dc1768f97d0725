"""`sodakit scale`: which models to train, training them, and what they teach."""

from collections.abc import Callable
from typing import Any

from sodakit.commands.options import run_word
from sodakit.commands.scale_design import Design
from sodakit.commands.scale_families import Families
from sodakit.commands.scale_fit import Fit, Report
from sodakit.commands.scale_next import Next
from sodakit.commands.scale_plan import Plan
from sodakit.commands.scale_proxy import Proxy
from sodakit.commands.scale_run import Run
from sodakit.commands.scale_score import Score
from sodakit.commands.scale_study import Study
from sodakit.commands.scale_tune import Tune

WORDS: dict[str, Callable[..., Any]] = {
    "design": Design,
    "run": Run,
    "fit": Fit,
    "report": Report,
    "plan": Plan,
    "next": Next,
    "proxy": Proxy,
    "score": Score,
    "tune": Tune,
    "study": Study,
    "families": Families,
}


def main(argv: list[str]) -> None:
    """Run `sodakit scale` with these arguments."""
    run_word(
        WORDS,
        "scale",
        "Which models to train, training them, and what they teach.\n\n"
        "Example: sodakit scale fit runs.csv --report scale.html",
        argv,
    )
