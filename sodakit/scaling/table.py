"""A table of training runs: N, D, C and losses of every run, by every convention under its own name.

No convention is taken for another. What a file does not tell is counted from shapes and steps, or, where these are not
told either, follows from C = 6ND; the table's `notes` say of which columns, for how many runs.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.errors import ConfigError, nearest
from sodakit.files import digest, write_json_lines, write_text
from sodakit.scaling.columns import FLOPS, SIZES, WORDS, meaning_of
from sodakit.scaling.design import SODA_RULE
from sodakit.scaling.formula import FORMULAS, evaluate, is_formula
from sodakit.scaling.numbers import read_cells

_FINISHED = ("", "finished", "done", "completed", "true")

BUDGET_WIDTH = 1.5
"""Largest C over smallest of one budget: runs of a budget miss it by rounding of steps, not by more."""

_LOW_6ND_OVER_C = {"non_embedding": 0.003}
"""Lowest believable 6ND/C where it is not 0.1. N without embeddings leaves out the head, which C counts: of width 64 over
144,644 ids it is 0.0067, over 262,144 ids 0.0038. A size in thousands or tokens in millions still fall below."""


@dataclass(frozen=True)
class RunTable:
    """Columns by name, one entry for each run; numbers that are not known are nan.

    `n/…` parameters, `c/…` training FLOPs, `tokens`, `loss/…` in nats per token, `bits_per_audio_s`, `shape/…`.
    """

    columns: Mapping[str, np.ndarray]
    origin: str = ""
    """Where it was read."""
    notes: tuple[str, ...] = ()
    """What the file did not say: columns that were filled in, of how many runs and from what; runs left out, and why."""
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Columns that no name of ours fits, by their own names: what runs are grouped and chosen by."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    @property
    def runs(self) -> list[str]:
        """Names of the runs."""
        return [str(r) for r in self.columns["run"]]

    @property
    def losses(self) -> list[str]:
        """Losses that some run has: `all`, `text`, `semantic`, …, and `bits_per_audio_s`."""
        named = [
            c.removeprefix("loss/") for c in self.columns if c.startswith("loss/") or c == "bits_per_audio_s"
        ]
        return [n for n in named if np.isfinite(self.loss(n)).any()]

    @property
    def fingerprint(self) -> str:
        """A digest of every value."""
        return digest(json.dumps(self.rows(), sort_keys=True, default=str))

    def sizes(self, convention: str = "total") -> np.ndarray:
        """N of every run."""
        return self._numbers(f"n/{convention}", SIZES)

    def tokens(self) -> np.ndarray:
        """D of every run."""
        return self._numbers("tokens", ())

    def flops(self, convention: str = "given", size: str = "total") -> np.ndarray:
        """C of every run: a column by its convention, `6nd` (of the given convention for N), a name in `FORMULAS`, or a formula
        over N, D and columns.

        Raises:
            ConfigError: no such convention, or a formula that cannot be computed of these columns.
        """
        if convention == "6nd":
            return 6 * self.sizes(size) * self.tokens()
        if is_formula(convention):
            return evaluate(FORMULAS.get(convention, convention), partial(self._in_formula, size))
        return self._numbers(f"c/{convention}", (*FLOPS, "6nd", *FORMULAS))

    def loss(self, name: str = "all") -> np.ndarray:
        """A loss of every run, in nats per token (bits per second for `bits_per_audio_s`); nan where a run lacks it.

        Raises:
            ConfigError: no column of that name.
        """
        column = name if name == "bits_per_audio_s" else f"loss/{name}"
        if column not in self.columns:
            raise ConfigError(
                f"{self.origin or 'The table'} has no loss {name!r}.{nearest(name, self.losses, 'Its losses')}"
            )
        return self._numbers(column, ())

    def weights(self) -> np.ndarray:
        """Weight of every run in a fit: the column `weight`, else 1.

        Standard errors of the losses are not turned into weights. They tell how exactly one run was measured; runs
        differ from a law by more than that, by their seeds and the law's own misfit, so 1/variance would let a run
        with a large validation set outweigh all others. Huber's cost is also linear almost everywhere at its published
        threshold, where 1/variance is not the weight for unequal noise.
        """
        given = self.columns.get("weight", np.full(len(self), np.nan)).astype(float)
        return np.where(np.isfinite(given), given, 1.0)

    def weighted(
        self, by: str, *, loss: str = "all", flops: str = "given", size: str = "total"
    ) -> "RunTable":
        """The same with the column `weight` set: `compute` by the square root of C, so that large runs count more; `seeds` by the
        variance of runs of equal N and D at each budget, where there are such. The mean weight is 1.

        Raises:
            ConfigError: `seeds`, and no two runs are equal.
        """
        if by == "compute":
            weight_R = np.sqrt(self.flops(flops, size))
        else:
            variance_R = self._seed_variance(loss, size, self.budgets(flops, size))
            weight_R = 1 / variance_R
        return replace(self, columns={**self.columns, "weight": weight_R / weight_R.mean()})

    def _seed_variance(self, loss: str, size: str, budget_R: np.ndarray) -> np.ndarray:
        """Variance of log loss between equal runs, pooled over each budget; over all where a budget has none."""
        logs, keys = (
            np.log(self.loss(loss)),
            [(f"{n:.4g}", f"{d:.4g}") for n, d in zip(self.sizes(size), self.tokens(), strict=True)],
        )
        squares: dict[float, list[float]] = {}
        for key in set(keys):
            rows = [i for i, k in enumerate(keys) if k == key]
            if len(rows) > 1:
                at = squares.setdefault(float(budget_R[rows[0]]), [0.0, 0.0])
                at[0] += float(((logs[rows] - logs[rows].mean()) ** 2).sum())
                at[1] += len(rows) - 1
        spare = sum(count for _, count in squares.values())
        whole = sum(total for total, _ in squares.values()) / max(spare, 1)
        if not whole > 0:
            raise ConfigError(
                "No two runs have equal N and D, so seeds tell no noise. Weigh by compute, or equally."
            )
        # A budget with few seeds leans on all of them.
        pooled = {b: (total + 2 * whole) / (count + 2) for b, (total, count) in squares.items()}
        return np.array([pooled.get(float(b), whole) for b in budget_R])

    def conventions(self) -> tuple[list[str], list[str]]:
        """For N and for C, the conventions every run has."""
        return (
            [s for s in SIZES if self._has(f"n/{s}")],
            [c for c in FLOPS if self._has(f"c/{c}")] + ["6nd"],
        )

    def select(self, keep: np.ndarray | Sequence[int]) -> "RunTable":
        """The runs of a mask or of indices."""
        return replace(
            self,
            columns={name: column[keep] for name, column in self.columns.items()},
            others={name: column[keep] for name, column in self.others.items()},
        )

    def column(self, name: str) -> np.ndarray:
        """A column by our name for it or by its own (`params` is `n/total`).

        Raises:
            ConfigError: there is none.
        """
        found = self.columns.get(name, self.others.get(name))
        if found is None:  # by the name that the file has for what we call otherwise
            found = self.columns.get(meaning_of(name, {})[0] or "")
        if found is None:
            raise ConfigError(
                f"{self.origin or 'The table'} has no column {name!r}."
                f"{nearest(name, [*self.columns, *self.others], 'Its columns')}"
            )
        return found

    def usable(self, *, loss: str | None = "all", size: str = "total", flops: str = "given") -> "RunTable":
        """Runs that finished and have N, D, C and the loss; the notes say how many were left out, and why.

        Args:
            loss: None where none is asked for, as of runs that might be done.
        Raises:
            ConfigError: there is none, or no such loss.
        """
        status_R = [str(s).lower() for s in self.columns.get("status", [""] * len(self))]
        unfinished = sorted(set(status_R) - set(_FINISHED))
        lacks_R = {
            f"not finished ({', '.join(unfinished)})": np.isin(status_R, unfinished),
            f"no N ({size})": ~np.isfinite(self.sizes(size)),
            "no tokens": ~np.isfinite(self.tokens()),
            f"no C ({flops})": ~np.isfinite(self.flops(flops, size)),
        }
        if loss is not None:
            lacks_R[f"no loss {loss!r}"] = ~np.isfinite(self.loss(loss))
            lacks_R[f"loss {loss!r} not above 0"] = np.isfinite(self.loss(loss)) & ~(self.loss(loss) > 0)
        keep, why = np.ones(len(self), bool), []
        for reason, lacking_R in lacks_R.items():
            # A run that lacks several things is counted once.
            if count := int((keep & lacking_R).sum()):
                why.append(f"{count} {reason}")
            keep &= ~lacking_R
        if not keep.any():
            raise ConfigError(
                f"None of the {len(self)} runs of {self.origin or 'the table'} can be used: {', '.join(why)}. "
                f"Columns: {', '.join(self.columns)}."
            )
        if why:
            why = [f"{len(self) - int(keep.sum())} of {len(self)} runs left out: {', '.join(why)}."]
        kept = self.select(keep)
        num_told = int(np.isfinite(kept._numbers("budget", ())).sum())
        if 0 < num_told < len(kept):
            why.append(
                f"budget: {num_told} of {len(kept)} runs tell theirs; those of all are found from C instead."
            )
        return replace(kept, notes=tuple(dict.fromkeys((*self.notes, *why))))

    def budgets(self, flops: str = "given", size: str = "total", tolerance: float = 0.1) -> np.ndarray:
        """The budget each run belongs to: the column `budget` where it is whole, else found from C (nan: to none)."""
        told_R = self._numbers("budget", ())
        return told_R if np.isfinite(told_R).all() else self.budgets_of_flops(flops, size, tolerance)

    def budgets_of_flops(
        self, flops: str = "given", size: str = "total", tolerance: float = 0.1
    ) -> np.ndarray:
        """The budget each run belongs to by its C alone, whatever the table says.

        C's that follow one another within `tolerance` are one budget, their median, if they are within `BUDGET_WIDTH`
        together. Runs whose C's go on and on form no budget, and have nan.
        """
        flops_R = self.flops(flops, size)
        order = np.argsort(flops_R)
        new = np.concatenate([[True], np.diff(np.log(flops_R[order])) > np.log1p(tolerance)])
        group = np.cumsum(new) - 1
        result = np.empty(len(self))
        for g in range(group[-1] + 1):
            members = order[group == g]
            wide = flops_R[members].max() > BUDGET_WIDTH * flops_R[members].min()
            result[members] = np.nan if wide else np.median(flops_R[members])
        return result

    def rule(self) -> dict[str, float | bool | str]:
        """What all runs have in common of how they were made, as far as the table tells: `vocab_size`, `context`,
        `tied_embeddings`, the family with its codebooks where it is of frames, the smallest batch (`min_batch_rows`)
        and the most steps (`reference_steps`)."""
        shared: dict[str, float | bool | str] = {}
        if set(self.others.get("family", ())) in ({"depth"}, {"delay"}):
            shared |= {name: self.others[name][0] for name in ("family", "num_codebooks", "codebook_size")}
        for name, column, kind in (
            ("vocab_size", "shape/vocab_size", int),
            ("context", "shape/context", int),
            ("tied_embeddings", "shape/tied_embeddings", bool),
        ):
            values = np.unique(self.columns.get(column, np.array([np.nan])).astype(float))
            if len(values) == 1 and np.isfinite(values[0]):
                shared[name] = kind(values[0])
        rows, steps, lr = (self._numbers(name, ()) for name in ("batch_rows", "steps", "lr"))
        if np.isfinite(rows).all():
            shared["min_batch_rows"] = int(rows.min())
        # Where the learning rate bounds the batch a run takes more steps; twice such a batch would be above the bound.
        free = ~(lr * np.sqrt(2) > SODA_RULE.max_lr)
        if np.isfinite(steps).all() and free.any():
            # One more, for steps were rounded: the longest run itself would get twice its batch.
            shared["reference_steps"] = int(steps[free].max()) + 1
        return shared

    def tokens_per_audio_s(self) -> float | None:
        """Tokens over seconds of audio heard, where all runs that tell agree within 5%; None where none tells."""
        told = self._numbers("tokens_per_audio_s", ())
        told = told[np.isfinite(told)]
        return float(np.median(told)) if len(told) and told.max() < 1.05 * told.min() else None

    def variable(self, name: str) -> np.ndarray:
        """Any column as numbers, by our name for it or by its own, a part of the shape by its plain name (`width`); nan where a
        run has none.

        Raises:
            ConfigError: there is none.
        """
        column = self.column(f"shape/{name}" if f"shape/{name}" in self.columns else name)
        cells = read_cells(name, name, column.tolist(), None).values
        return np.array([v if isinstance(v, (int, float)) else np.nan for v in cells], float)

    def _in_formula(self, size: str, name: str) -> np.ndarray:
        if name in ("N", "D"):
            return self.sizes(size) if name == "N" else self.tokens()
        if name == "query_width" and name not in self.others:
            told = "shape/head_width" in self.columns
            return self.variable("heads") * self.variable("head_width") if told else self.variable("width")
        return self.variable(name)

    def consistency(self, flops: str = "given", size: str = "total") -> tuple[float, float]:
        """Lowest and highest 6ND/C. 1 in a small-vocabulary model; 0.98–1.66 in SODA's sweep.

        Raises:
            ConfigError: outside 0.1–10 (from 0.003 for N without embeddings), where C, N and D cannot be of the same
                run, or one is in another unit.
        """
        ratio_R = 6 * self.sizes(size) * self.tokens() / self.flops(flops, size)
        low, high = float(np.nanmin(ratio_R)), float(np.nanmax(ratio_R))
        if not _LOW_6ND_OVER_C.get(size, 0.1) <= low <= high <= 10:
            worst = self.runs[int(np.nanargmax(np.abs(np.log(ratio_R))))]
            raise ConfigError(
                f"6ND/C lies between {low:.3g} and {high:.3g} (worst: run {worst!r}); needed: about 1. "
                "Check the units of N, D and C; forward-only FLOPs are a third of training FLOPs."
            )
        return low, high

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each run, unknown values left out."""
        return [
            {
                name: (str(column[i]) if name in WORDS else float(column[i]))
                for name, column in self.columns.items()
                if name in WORDS or np.isfinite(column[i])
            }
            for i in range(len(self))
        ]

    def other_rows(self) -> list[dict[str, Any]]:
        """One dict for each run of what our names do not fit, unknown values left out."""
        return [{k: c[i] for k, c in self.others.items() if c[i] is not None} for i in range(len(self))]

    def write(self, path: Path | str) -> None:
        """Write CSV or JSON lines, by the ending of the name."""
        path = Path(path)
        rows = [{**row, **rest} for row, rest in zip(self.rows(), self.other_rows(), strict=True)]
        if path.suffix == ".csv":
            text = io.StringIO()
            writer = csv.DictWriter(text, [*self.columns, *self.others], restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(path, text.getvalue())
        else:
            write_json_lines(path, rows)

    def _numbers(self, name: str, known: Sequence[str]) -> np.ndarray:
        if name not in self.columns:
            if known and name.split("/")[-1] not in known:
                own = name.split("/")[-1]
                raise ConfigError(f"No convention {own!r}.{nearest(own, known, 'Conventions')}")
            return np.full(len(self), np.nan)
        return self.columns[name].astype(float)

    def _has(self, name: str) -> bool:
        return name in self.columns and bool(np.isfinite(self.columns[name].astype(float)).all())
