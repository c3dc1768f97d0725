"""`sodakit scale proxy`: which loss foretells which score."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.commands.scale_options import print_table
from sodakit.files import write_json


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """Rank correlation of every validation likelihood with every score over a ladder of models, with intervals.

    Example: sodakit scale proxy runs/eval/model_1 runs/eval/model_2 … --out proxy.json
    """

    models: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of `sodakit eval`, one for each model; or one CSV or JSONL table: a line a model, losses named nll_…"""
    policy: str | None = None
    """Scoring policy of the pair tasks; default: the first of each result."""
    draws: int = 2000
    """Resamples of the models."""
    out: Path | None = None
    """A JSON file for all numbers."""

    def run(self) -> None:
        from sodakit.scaling.ladder import read_ladder
        from sodakit.scaling.proxy import rank_correlations

        losses, scores = read_ladder(self.models, policy=self.policy)
        found = rank_correlations(losses, scores, draws=self.draws)
        shown: dict[str, dict[str, str]] = {}
        for c in found:
            row = shown.setdefault(c.loss, {"loss": c.loss})
            row[c.score] = f"{c.rho:+.3f} ({c.low:+.2f} to {c.high:+.2f})"
        print_table(list(shown.values()))
        print("Spearman's rho of the negated loss with the score, 95 % over resampled models")
        if self.out is not None:
            write_json(self.out, [vars(c) for c in found])
