"""`sodakit scale proxy`: which loss foretells which score."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.errors import ConfigError, nearest
from sodakit.files import write_json
from sodakit.log import say


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """Which loss foretells which score: Spearman's rank correlations over models or checkpoints, with intervals.

    Each folder holds the results of one of them: nll_SPLIT.json, and whatever else `sodakit eval` wrote there.

    Example: sodakit scale proxy runs/scale/*/eval --out proxy.json
    """

    models: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """One folder of results for each, at least four; or one CSV or JSONL table: a line for each model, losses named nll_…, or as in a
    table of runs, or by --losses."""
    losses: tuple[str, ...] = ()
    """Columns of the table that are losses; all other numbers are then scores."""
    scores: tuple[str, ...] = ()
    """Only these scores; by default all."""
    where: tuple[str, ...] = ()
    """Only lines of the table that meet these, as arm=flat."""
    draws: int = 2000
    """Resamples of the models."""
    seed: int = 0
    """Of the resampling."""
    plot: Path | None = None
    """A figure of the correlations with their intervals: .svg or .png."""
    out: Path | None = None
    """Where the correlations go as JSON."""

    def run(self) -> None:
        import numpy as np

        from sodakit.scaling.ladder import read_ladder
        from sodakit.scaling.proxy import MIN_MODELS, correlation_lines, rank_correlations

        losses, scores = read_ladder(self.models, self.losses, self.where)
        for name in self.scores:
            if name not in scores:
                raise ConfigError(f"There is no score {name!r}.{nearest(name, scores, 'Scores')}")
        scores = {name: scores[name] for name in (self.scores or scores)}
        enough = {name: values for name, values in scores.items() if np.isfinite(values).sum() >= MIN_MODELS}
        for name in scores.keys() - enough.keys():
            say(f"{name} is left out: fewer than {MIN_MODELS} of the models have it.")
        found = rank_correlations(losses, enough, draws=self.draws, seed=self.seed)
        print("\n".join(correlation_lines(found)))
        say("Positive: a lower loss goes with a higher score. Of errors (WER) expect it negative.")
        if self.plot is not None:
            from sodakit.scaling.plot import save
            from sodakit.scaling.proxy_plot import correlation_figure

            save(correlation_figure(found), self.plot)
        if self.out is not None:
            rows = [asdict(c) for c in found]
            write_json(self.out, [{k: None if v != v else v for k, v in row.items()} for row in rows])
