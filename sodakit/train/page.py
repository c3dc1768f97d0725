"""`run.html`: one file that shows a run while it trains. Curves, speed and sounds are inside it."""

import base64
import json
import time
from html import escape
from pathlib import Path
from typing import Any

from sodakit.config import to_plain
from sodakit.files import read_json, write_text
from sodakit.train.config import TrainConfig
from sodakit.train.metrics import read_metrics

EVERY_S = 15.0
"""Between writings; an open page reads itself again twice as rarely."""
MAX_POINTS = 1500
MAX_SOUND_BYTES = 8_000_000
"""The newest sounds that fit are shown."""
TEMPLATE = Path(__file__).with_name("page.html")


class RunPage:
    """Writes the page of a run folder, not too often."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self._folder, self._config = folder, config
        self._written_s = -EVERY_S

    def update(self) -> None:
        """Write the page if it is time."""
        if time.monotonic() - self._written_s >= EVERY_S:
            self.write()

    def write(self, *, finished: bool = False) -> None:
        """Write the page now; one of a finished run does not read itself again."""
        write_text(self._folder / "run.html", page(self._folder, self._config, finished=finished))
        self._written_s = time.monotonic()


def page(folder: Path, config: TrainConfig, *, finished: bool = False) -> str:
    """The page of what lies in a run folder now."""
    rows = read_metrics(folder)
    data = {
        "name": folder.resolve().name,
        "steps": config.steps,
        "finished": finished,
        "rows": _thinned(rows),
        "samples": _samples(folder / "samples"),
        "config": to_plain(config),
    }
    # Inside a script element only `<` could end it early.
    text = json.dumps(data).replace("<", "\\u003c")
    refresh = "" if finished else f'<meta http-equiv="refresh" content="{2 * EVERY_S:.0f}">'
    html = TEMPLATE.read_text(encoding="utf-8")
    return html.replace("$REFRESH", refresh).replace("$TITLE", escape(data["name"])).replace("$DATA", text)


def _thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every n-th training row and the last one; rows of validation are few and all stay."""
    training = [row for row in rows if "loss/all" in row]
    step = max(1, -(-len(training) // MAX_POINTS))
    kept = {id(row) for row in training[::-1][::step]}
    return [row for row in rows if "loss/all" not in row or id(row) in kept]


def _samples(folder: Path) -> list[dict[str, Any]]:
    """The newest samples, oldest first: sounds as data URIs, and what should have been said and was heard."""
    steps: list[dict[str, Any]] = []
    room = MAX_SOUND_BYTES
    for made in sorted(folder.glob("step_*"), reverse=True):
        if not made.name.removeprefix("step_").isdecimal():
            continue
        sounds = [(file.stem, file.read_bytes()) for file in sorted(made.glob("*.wav"))]
        room -= sum(len(data) * 4 // 3 for _, data in sounds)
        if room < 0:
            break
        texts = read_json(made / "samples.json") if (made / "samples.json").exists() else []
        steps.append(
            {
                "step": int(made.name.removeprefix("step_")),
                "sounds": [
                    {"name": n, "uri": "data:audio/wav;base64," + base64.b64encode(d).decode()}
                    for n, d in sounds
                ],
                "texts": texts,
            }
        )
    return steps[::-1]
