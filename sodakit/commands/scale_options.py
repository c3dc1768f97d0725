"""What the words of `sodakit scale` share: how budgets become runs, surfaces by name, tables on the screen."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sodakit.bounds import Count
from sodakit.errors import ConfigError
from sodakit.files import read_json
from sodakit.log import say

if TYPE_CHECKING:
    from sodakit.scaling.design import GridRule
    from sodakit.scaling.intervals import Quantity
    from sodakit.scaling.laws import Law
    from sodakit.scaling.transfer import LrRule

Size = Literal["total", "non_embedding", "one_embedding", "two_embeddings", "matmul"]
Resample = Literal["residuals", "runs"]
Flops = str
Decimal = Literal["point", "comma"]
SIZE: Size = "total"
FLOPS: Flops = "given"
"""What counts as N and C in every word that reads a table: what the table itself gives. C is `given`, `soda`, `exact`, `palm`,
`6nd`, `hoffmann`, or a formula (`scaling/formula.py`)."""
FAR = 3.0
"""Times the largest run beyond which a plan is warned of."""


@dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """How budgets become runs: as it was in the runs of the table or law given, else the paper's rule."""

    vocab: Count | None = None
    """Ids of the vocabulary; the paper has 144,644."""
    context: Count | None = None
    """Positions in a row; the paper has 4,096, and 1,024 is published for models of frames."""
    family: Literal["flat", "depth", "delay"] | None = None
    """Of models: one position for every code; or one for every frame, its codes written by a depth decoder, or by heads
    side by side."""
    num_codebooks: Count | None = None
    """Of the codec, for a family of frames; Mimi has 8."""
    codebook_size: Count | None = None
    """Codes in each; Mimi has 2,048."""
    tied: bool | None = None
    """One matrix for embedding and head; not in the paper."""
    reference_steps: Count | None = None
    """Batches are the smallest power of two with which a run takes at most about so many steps; the paper has 65,536."""
    min_batch_rows: Count | None = None
    """Runs with smaller batches are left out; the paper has 8."""
    count: Literal["soda", "exact", "palm", "6nd"] | None = None
    """How FLOPs are counted; soda is the paper's training FLOPs."""
    conditioning: Literal["exact", "shifted"] | None = None
    """Of depth: whether a code sees the one before it in its frame; the published models are shifted."""
    lr_rule: str | None = None
    """Of learning rates: soda (the paper's, lr ~ 1/width for all parameters), mup (per kind of parameter, so that width does not
    decide), or a file of `scale tune --law`."""
    lr_base_width: Count | None = None
    """Of mup: the width at which it is the paper's; 128."""

    def rule(self, known: Mapping[str, Any] | None = None) -> "GridRule":
        """What was asked for; what was not is as `known` has it (`RunTable.rule`), else as in the paper."""
        from sodakit.scaling.design import GridRule

        asked = {
            "vocab_size": self.vocab,
            "context": self.context,
            "family": self.family,
            "num_codebooks": self.num_codebooks,
            "codebook_size": self.codebook_size,
            "tied_embeddings": self.tied,
            "reference_steps": self.reference_steps,
            "min_batch_rows": self.min_batch_rows,
            "flops": self.count,
            "conditioning": self.conditioning,
            "lr": self._lr(),
        }
        return GridRule(**{**(known or {}), **{k: v for k, v in asked.items() if v is not None}})

    def _lr(self) -> "LrRule | None":
        from sodakit.scaling.transfer import read_lr_rule

        if self.lr_rule is None and self.lr_base_width is None:
            return None
        return read_lr_rule(self.lr_rule or "soda", self.lr_base_width)


@dataclass(frozen=True, kw_only=True)
class KnownLaw:
    """A law's parameters, and how its runs were counted."""

    parameters: dict[str, float]
    draws: list[dict[str, float]]
    """Of refits, for intervals."""
    size: Size = "two_embeddings"
    """What counts as N."""
    half_life: float | None = None
    """R*, where the law is of repeated data."""
    law: "Law | None" = None
    """None for the Chinchilla law."""
    rule: Mapping[str, Any] = field(default_factory=dict)
    """How its runs were made, for `RuleOptions.rule`."""
    largest_flops: float | None = None
    """Of its runs."""
    tokens_per_audio_s: float | None = None
    """Tokens of its mixture over seconds of audio; None where nothing tells, as for text."""

    @property
    def has_shapes(self) -> bool:
        """Whether its runs tell how shapes are made of sizes: their vocabulary at least."""
        return "vocab_size" in self.rule

    unidentified: Mapping[str, str] = field(default_factory=dict)
    """Parameters that its runs say nothing about, with the reason."""

    def warnings(self, flops: float) -> list[str]:
        """What to know before believing it at a budget."""
        said = [f"{name} is not identified: {why}." for name, why in self.unidentified.items()]
        if self.largest_flops is not None and flops > FAR * self.largest_flops:
            said.append(
                f"{flops:.3g} FLOPs are {flops / self.largest_flops:.2g} times the largest run of this law ({self.largest_flops:.3g}). "
                "The intervals take the law for true there; nobody has seen it."
            )
        return said


def flops_rule(flops: Flops) -> dict[str, str]:
    """How a design counts the FLOPs that a table counts this way; what tables of ours give is the paper's count. Empty, and
    said, where they are counted by a formula, which designs do not know."""
    from sodakit.scaling.formula import is_formula

    if is_formula(flops):
        say("FLOPs of these runs are counted by a formula; shapes to be built are counted as --count says.")
        return {}
    return {"flops": "soda" if flops == "given" else flops}


def read_law(source: str) -> KnownLaw:
    """A law by name or from a file of `scale fit`.

    Raises:
        ConfigError: neither, or a law that trades no size for data.
    """
    from sodakit.scaling import simulate
    from sodakit.scaling.laws import FARSEER, LAWS, Law, named_law
    from sodakit.scaling.onset import ONSET_LAWS

    known = {
        "soda": simulate.SODA_SURFACE,
        "hoffmann": simulate.HOFFMANN,
        "besiroglu": simulate.BESIROGLU,
    }
    if source in known:
        from sodakit.scaling.design import SODA_RULE
        from sodakit.scaling.plan import SODA_TOKENS_PER_AUDIO_S

        if source == "soda":
            return KnownLaw(
                parameters=dict(known[source]),
                draws=[],
                rule={"vocab_size": SODA_RULE.vocab_size},
                tokens_per_audio_s=SODA_TOKENS_PER_AUDIO_S,
            )
        return KnownLaw(parameters=dict(known[source]), draws=[], size="total")
    if not Path(source).exists():
        raise ConfigError(
            f"{source!r} is neither a known surface ({', '.join(known)}) nor a file. Make one with `sodakit scale fit --out`."
        )
    try:
        stored = read_json(source)
    except ValueError:  # no JSON, or no text at all
        stored = None
    if not isinstance(stored, dict) or not {"settings", "parameters", "draws"} <= stored.keys():
        raise ConfigError(
            f"{source} is no fit. Make one of a table of runs with `sodakit scale fit RUNS --out fit.json`."
        )
    settings = stored["settings"]
    written = stored.get("law", {})
    law = LAWS["chinchilla"]
    parameters, draws = stored["parameters"], stored["draws"]
    if settings["law"] in ("chinchilla", "tied", "data_repeat"):
        # One law: what ties its exponents has no bearing on a plan.
        parameters = {"beta": parameters["alpha"], **parameters}
        draws = [{"beta": d["alpha"], **d} for d in draws]
    elif settings["law"] == FARSEER or settings["law"] in ONSET_LAWS:
        law = named_law(settings["law"])
    elif written:
        law = Law(written["name"], written["terms"], written["fixed"])
    if not ({"N", "D"} <= set(law.variables) <= {"N", "D", "C"} and set(law.coefficients) <= set(parameters)):
        raise ConfigError(
            f"{source} holds the law {settings['law']!r}; plans need one of N and D, as 'chinchilla', 'tied', 'data_repeat' or your own."
        )
    return KnownLaw(
        parameters=parameters,
        draws=draws,
        law=law,
        size=settings["size"],
        half_life=settings.get("half_life"),
        rule=flops_rule(settings["flops"]) | stored.get("rule", {}),
        largest_flops=stored.get("ranges", {}).get("C", [None, None])[1],
        unidentified=stored.get("unidentified", {}),
        tokens_per_audio_s=stored.get("tokens_per_audio_s"),
    )


def questions(question: str, target: float) -> "dict[str, Quantity]":
    """What a sweep is to answer, by name: the exponent a, ln N* at the target, or both."""
    from sodakit.scaling.information import exponent_a
    from sodakit.scaling.intervals import log_optimal_size

    known = {"a": exponent_a, "size": log_optimal_size(target)}
    return known if question == "both" else {question: known[question]}


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Rows under aligned names, to be read or piped."""
    if not rows:
        return
    cells = [[_cell(v) for v in row.values()] for row in rows]
    names = list(rows[0])
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(names)]
    for line in [names, *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return json.dumps(value) if isinstance(value, dict) else str(value)


def pair(word: str) -> tuple[str, str]:
    """The two sides of theirs=ours.

    Raises:
        ConfigError: no equals sign.
    """
    theirs, sign, ours = word.partition("=")
    if not sign:
        raise ConfigError(f"{word!r} is no alias. Write theirs=ours, for example my_loss=loss/all.")
    return theirs, ours
