"""The best learning rate and batch of each size and token count, from runs that tried several; and how the best moves.

At each (N, D) the log loss is a parabola in the log of what was tried; the table is reduced to its minima, and
log best = constant + n log N + d log D is fitted through those that lie inside what was tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sodakit.errors import ConfigError
from sodakit.scaling.table import RunTable

_FEWEST = 3


@dataclass(frozen=True, kw_only=True)
class Response:
    """What was best at one size and token count."""

    size: float
    tokens: float
    num_runs: int
    best: dict[str, float]
    """Of each setting; that of the best run where the response has no minimum."""
    loss: float
    """At the best: of the response, or of the best run."""
    edge: tuple[str, ...]
    """Settings whose best is at the edge of what was tried, or beyond: it may lie further."""


@dataclass(frozen=True, kw_only=True)
class BestLaw:
    """best = factor · N^n · D^d of one setting."""

    setting: str
    factor: float
    n: float
    d: float
    errors: tuple[float, float]
    """Standard errors of n and d."""
    interval_t: float
    """Student's t of 95 %, by the points that there are."""
    num_points: int

    def __call__(self, size: float, tokens: float) -> float:
        """The best value at a size and token count."""
        return self.factor * size**self.n * tokens**self.d


def responses(
    table: RunTable, settings: Sequence[str], *, loss: str = "all", size: str = "total"
) -> tuple[list[Response], list[str]]:
    """The best settings at every (N, D) with runs enough, and what was left out in words.

    Raises:
        ConfigError: no (N, D) was run at three values of some setting.
    """
    keys = [(f"{n:.3g}", f"{d:.3g}") for n, d in zip(table.sizes(size), table.tokens(), strict=True)]
    columns = {s: table.column(s).astype(float) for s in settings}
    losses, found, too_few = table.loss(loss), [], 0
    for key in dict.fromkeys(keys):
        rows = np.array([i for i, k in enumerate(keys) if k == key])
        varied = [s for s in settings if len(np.unique(columns[s][rows])) >= _FEWEST]
        if not varied or len(rows) < 2 * len(varied) + 1:
            too_few += 1
            continue
        found.append(_response(rows, {s: columns[s] for s in varied}, losses, table, size))
    if not found:
        raise ConfigError(
            f"No size and token count was run at {_FEWEST} values of {' or '.join(settings)}. Needed: several runs of equal N and D."
        )
    left_out = (
        [f"{too_few} sizes and token counts left out: fewer than {_FEWEST} values tried."] if too_few else []
    )
    return found, left_out


def _response(
    rows: np.ndarray, columns: dict[str, np.ndarray], losses: np.ndarray, table: RunTable, size: str
) -> Response:
    logs = {s: np.log(c[rows]) for s, c in columns.items()}
    lowest = int(np.argmin(losses[rows]))
    best = {s: float(np.exp(x[lowest])) for s, x in logs.items()}
    loss, edge = float(losses[rows][lowest]), []
    middle = {s: float(x[lowest]) for s, x in logs.items()}
    # Without a term in common: each setting bends by itself, and few runs suffice.
    design = np.stack(
        [np.ones(len(rows)), *(v for s, x in logs.items() for v in (x - middle[s], (x - middle[s]) ** 2))], 1
    )
    solved = np.linalg.lstsq(design, np.log(losses[rows]), rcond=None)[0]
    at_best = solved[0]
    for i, (s, x) in enumerate(logs.items()):
        tilt, bend = solved[1 + 2 * i], solved[2 + 2 * i]
        at = middle[s] - tilt / (2 * bend) if bend > 0 else np.nan
        if not x.min() < at < x.max():
            edge.append(s)
            continue
        best[s] = float(np.exp(at))
        at_best -= tilt**2 / (4 * bend)
    if not edge:
        loss = float(np.exp(at_best))
    return Response(
        size=float(table.sizes(size)[rows].mean()),
        tokens=float(table.tokens()[rows].mean()),
        num_runs=len(rows),
        best=best,
        loss=loss,
        edge=tuple(edge),
    )


def best_law(found: Sequence[Response], setting: str) -> BestLaw:
    """How the best value of a setting moves with N and D, through the points inside what was tried.

    Raises:
        ConfigError: fewer than four such points, or N and D that do not vary apart.
    """
    inside = [r for r in found if setting in r.best and setting not in r.edge]
    logs = np.array([(1.0, np.log(r.size), np.log(r.tokens)) for r in inside]).reshape(-1, 3)
    centred = logs - np.array([0.0, *logs[:, 1:].mean(0)]) if len(logs) else logs
    if (
        len(inside) < 4
        or np.linalg.matrix_rank(centred, tol=1e-6 * max(np.abs(centred).max(initial=0), 1e-300)) < 3
    ):
        raise ConfigError(
            f"{len(inside)} sizes and token counts with a best {setting} inside what was tried; needed: 4, with N and D that vary apart."
        )
    target = np.log([r.best[setting] for r in inside])
    solved = np.linalg.lstsq(centred, target, rcond=None)[0]
    spare = len(inside) - 3
    noise = float(((centred @ solved - target) ** 2).sum()) / max(spare, 1)
    errors = np.sqrt(noise * np.diag(np.linalg.inv(centred.T @ centred)))
    factor = np.exp(solved[0] - solved[1:] @ logs[:, 1:].mean(0))
    return BestLaw(
        setting=setting,
        factor=float(factor),
        n=float(solved[1]),
        d=float(solved[2]),
        errors=(float(errors[1]), float(errors[2])),
        interval_t=float(stats.t.ppf(0.975, max(spare, 1))),
        num_points=len(inside),
    )


def regrets(table: RunTable, *, loss: str = "all", size: str = "total") -> list[dict[str, float | str]]:
    """What a rule of learning rates costs at every (N, D) that was run at several multiples of what it says: a row each, empty where
    the runs tell no multiples.

    `cost` is the loss at the rule's own rate less that at the best one, by the response; `best` the multiple that is best.
    """
    if "lr_multiple" not in table.others:
        return []
    multiples = np.array([np.nan if m is None else float(m) for m in table.others["lr_multiple"]])
    told = table.select(np.isfinite(multiples))
    told = RunTable(
        {**told.columns, "lr": multiples[np.isfinite(multiples)]}, told.origin, told.notes, told.others
    )
    try:
        found, _ = responses(told, ("lr",), loss=loss, size=size)
    except ConfigError:
        return []
    keys = [(f"{n:.3g}", f"{d:.3g}") for n, d in zip(told.sizes(size), told.tokens(), strict=True)]
    rows: list[dict[str, float | str]] = []
    for r in found:
        here = [i for i, k in enumerate(keys) if k == (f"{r.size:.3g}", f"{r.tokens:.3g}")]
        at_rule = told.loss(loss)[[i for i in here if told.columns["lr"][i] == 1.0]]
        cost = float(at_rule.mean() - r.loss) if len(at_rule) else float("nan")
        rows.append(
            {
                "N": r.size,
                "D": r.tokens,
                "best": r.best["lr"],
                "cost": cost,
                "at_edge": "edge" if r.edge else "",
            }
        )
    return rows


def reduced(table: RunTable, found: Sequence[Response]) -> list[dict[str, float | str]]:
    """One row for each (N, D) with its best settings and their loss, as `scale fit` reads it."""
    return [
        {
            "run": f"best{i:03d}",
            "n/total": r.size,
            "tokens": r.tokens,
            "loss/all": r.loss,
            **r.best,
            "at_edge": " ".join(r.edge),
        }
        for i, r in enumerate(found)
    ]
