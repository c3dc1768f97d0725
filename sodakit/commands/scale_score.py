"""`sodakit scale score`: from a budget to a score, by way of the loss."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sodakit.bounds import Bounds, Count, Positive
from sodakit.commands.scale_options import read_law
from sodakit.errors import ConfigError, nearest
from sodakit.files import write_json


@dataclass(frozen=True, kw_only=True)
class Score:
    """Predict a score at a budget: a loss by the law of a sweep, then the score by that loss, with the intervals of both.

    Example: sodakit scale score ladder.csv --loss nll_text --score swuggy --fit fit.json --flops 1e21 --floor 0.5 --ceiling 1
    """

    models: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Models that have loss and score: one folder of results for each, or one CSV or JSONL table."""
    loss: str
    """Which loss, with or without nll_; the law in --fit must be of the same one."""
    score: str
    """Which score."""
    fit: str
    """A file written by `scale fit`."""
    flops: tuple[Positive, ...]
    """Training FLOPs; the loss is that of the best size at each (C = 6ND)."""
    form: Literal["sigmoid", "power"] = "sigmoid"
    """Shape of score over loss."""
    floor: Annotated[float, Bounds()] | None = None
    """Score of chance, where it is known."""
    ceiling: Annotated[float, Bounds()] | None = None
    """The best score there is, where it is known."""
    draws: Count = 400
    """Refits of the curve."""
    seed: int = 0
    """Keys them."""
    out: Path | None = None
    """Where the predictions go as JSON."""

    def run(self) -> None:
        from sodakit.log import say
        from sodakit.scaling.ladder import LOSS_PREFIX, read_ladder
        from sodakit.scaling.laws import LAWS
        from sodakit.scaling.plan import plan_budget
        from sodakit.scaling.score_law import chained, fit_score_law

        loss_name = self.loss.removeprefix(LOSS_PREFIX)
        is_table = len(self.models) == 1 and self.models[0].is_file()
        losses, scores = read_ladder(self.models, [self.loss] if is_table else ())
        for name, kind, known in ((loss_name, "loss", losses), (self.score, "score", scores)):
            if name not in known:
                raise ConfigError(f"No {kind} {name!r}.{nearest(name, known, 'There are')}")
        law = read_law(self.fit)
        if not law.draws:
            raise ConfigError(
                f"{self.fit} has no refits, so its losses have no intervals. Give a file of `sodakit scale fit --out`."
            )
        curve = fit_score_law(
            losses[loss_name], scores[self.score], form=self.form, floor=self.floor, ceiling=self.ceiling
        )
        low, high = float(curve.loss_R.min()), float(curve.loss_R.max())
        print(
            f"{len(curve.loss_R)} models, losses {low:.3f} to {high:.3f}; scores scatter by {curve.noise:.4f} about the {self.form}"
        )
        rows = []
        for flops in self.flops:
            for sentence in law.warnings(flops):
                say(sentence)
            form = law.law or LAWS["chinchilla"]
            loss = plan_budget(law.parameters, flops, law=form).loss
            drawn = [plan_budget(p, flops, law=form, within=()).loss for p in law.draws]
            value, mean, one = chained(curve, loss, drawn, draws=self.draws, seed=self.seed)
            beyond = "" if low <= loss <= high else "; no model has such a loss, so the curve is extrapolated"
            print(
                f"{flops:.3g} FLOPs: loss {loss:.4f}, {self.score} {value:.4f} (95 %: {mean[0]:.4f} – {mean[1]:.4f}; "
                f"of one run {one[0]:.4f} – {one[1]:.4f}){beyond}"
            )
            rows.append({"flops": flops, "loss": loss, "score": value, "interval_95": mean, "run_95": one})
        if self.out is not None:
            write_json(
                self.out,
                {
                    "form": self.form,
                    "shape": curve.shape,
                    "ends": curve.ends,
                    "noise": curve.noise,
                    "predictions": rows,
                },
            )
