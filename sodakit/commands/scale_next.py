"""`sodakit scale next`: what to train next, given what is done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sodakit.bounds import Count, Positive
from sodakit.commands.scale_options import (
    FLOPS,
    SIZE,
    Flops,
    RuleOptions,
    Size,
    flops_rule,
    print_table,
    questions,
)
from sodakit.log import say


@dataclass(frozen=True, kw_only=True)
class Next(RuleOptions):
    """The most informative next runs, given those that are done.

    Example: sodakit scale next runs/scale --budgets 1e14 3e14 --widths 96 128 160 --runs 5 --out next.jsonl
    """

    tables: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Runs that are done: tables or folders."""
    budgets: tuple[Positive, ...]
    """Training FLOPs to choose from."""
    widths: tuple[Count, ...]
    """Widths to choose from."""
    runs: Count = 5
    """How many."""
    question: Literal["a", "size"] = "a"
    """The exponent a, or N* at --target."""
    target: Positive = 3e22
    """Training FLOPs at which N* is asked for."""
    loss: str = "all"
    """Which loss."""
    size: Size = SIZE
    """What counts as N; as in `scale fit`."""
    flops: Flops = FLOPS
    """What counts as C; as in `scale fit`."""
    total: Positive = float("inf")
    """Training FLOPs for all of them."""
    out: Path | None = None
    """Where the design goes. Of a queue's folder it holds the runs that are done too, so that the queue goes on with it."""

    def run(self) -> None:
        from sodakit.scaling.design_file import read_design, write_design
        from sodakit.scaling.fit import fit_law
        from sodakit.scaling.information import Runs, Surface, buildable_candidates
        from sodakit.scaling.intervals import bootstrap
        from sodakit.scaling.laws import LAWS
        from sodakit.scaling.records import read_tables
        from sodakit.scaling.sequential import fresh_seeds, next_runs

        table = read_tables(self.tables).usable(loss=self.loss, size=self.size, flops=self.flops)
        n, d = table.sizes(self.size), table.tokens()
        fit = fit_law(LAWS["chinchilla"], {"N": n, "D": d}, table.loss(self.loss))
        refits = bootstrap(fit, draws=20).draws_SP
        surfaces = [Surface(parameters=fit.parameters)]
        surfaces += [Surface(parameters=dict(zip(fit.names, row.tolist(), strict=True))) for row in refits]
        rule = self.rule(table.rule() | flops_rule(self.flops))
        candidates = buildable_candidates(
            surfaces[0], rule, self.budgets, self.widths, window=1e9, size=self.size
        )
        done = Runs(size_R=n, tokens_R=d, cost_R=table.flops(self.flops, self.size))
        chosen, errors = next_runs(
            surfaces,
            done,
            candidates,
            questions(self.question, self.target)[self.question],
            count=self.runs,
            budget_flops=self.total,
            noise=max(fit.noise, 1e-4),
        )
        points = fresh_seeds(chosen, done, table.columns.get("seed"))
        print_table(
            [p.row() | {"seed": p.seed, "error_after": e} for p, e in zip(points, errors, strict=True)]
        )
        if self.out is None:
            return
        queue = self.tables[0] / "design.jsonl"
        if queue.exists():
            write_design(self.out, [*read_design(queue), *points])
            say(f"Go on with: sodakit scale run {self.out} --data STORE --out {self.tables[0]}")
        else:
            write_design(self.out, points)
            say(f"Train them with: sodakit scale run {self.out} --data STORE --out runs/next")
