"""`sodakit scale next`: what to train next, given what is done."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from sodakit.bounds import Bounds, Count, Positive
from sodakit.commands.scale_options import RuleOptions, flops_rule, print_table, questions
from sodakit.commands.scale_tables import TableOptions
from sodakit.errors import ConfigError
from sodakit.log import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sodakit.scaling.information import Runs, Surface
    from sodakit.scaling.sequential import Aim
    from sodakit.scaling.table import RunTable


@dataclass(frozen=True, kw_only=True)
class Next(RuleOptions, TableOptions):
    """The most informative next runs, given those that are done: of shapes to be built, or of a pool of runs.

    Example: sodakit scale next runs/scale --budgets 1e14 3e14 --widths 96 128 160 --runs 5 --out next.jsonl
             sodakit scale next pilot.csv --pool all.csv --question losses --share 0.05 --out chosen.csv
    """

    budgets: tuple[Positive, ...] = ()
    """Training FLOPs to choose from."""
    widths: tuple[Count, ...] = ()
    """Widths to choose from."""
    pool: Path | None = None
    """A table of runs to choose from, each once, in place of budgets and widths. Those of equal N and D that are done are no choice."""
    runs: Count | None = None
    """How many; by default 5, of a pool as many as --total or --share allow."""
    question: Literal["a", "size", "law", "losses"] = "a"
    """The exponent a; N* at --target; all parameters together (D-optimal); the losses of all candidates (V-optimal)."""
    target: Positive = 3e22
    """Training FLOPs at which N* is asked for."""
    total: Positive = float("inf")
    """Training FLOPs for all of them."""
    share: Annotated[float, Bounds(above=0, most=1)] | None = None
    """Training FLOPs for all of them, as a share of the pool's; benchmarks take 0.01, 0.05 and 0.1."""
    out: Path | None = None
    """Where the design goes. Of a queue's folder it holds the runs that are done too, so that the queue goes on with it. Of a pool it
    is a table: .csv or .jsonl."""

    def run(self) -> None:
        from sodakit.scaling.fit import fit_law
        from sodakit.scaling.information import Runs, Surface
        from sodakit.scaling.intervals import bootstrap
        from sodakit.scaling.laws import LAWS

        if (self.pool is None) == (not (self.budgets and self.widths)):
            raise ConfigError(
                "Name what to choose from: shapes by --budgets and --widths (--budgets 1e18 3e18 --widths 512 768), or --pool, a table "
                "of runs that might be done."
            )
        if self.pool is None and self.share is not None:
            raise ConfigError("--share is of a pool's FLOPs. Name the pool, or give --total.")
        table = self.read()
        n, d = table.sizes(self.size), table.tokens()
        fit = fit_law(LAWS["chinchilla"], {"N": n, "D": d}, table.loss(self.loss))
        refits = bootstrap(fit, draws=20).draws_SP
        surfaces = [Surface(parameters=fit.parameters)]
        surfaces += [Surface(parameters=dict(zip(fit.names, row.tolist(), strict=True))) for row in refits]
        done = Runs(size_R=n, tokens_R=d, cost_R=table.flops(self.flops, self.size))
        noise = max(fit.noise, 1e-4)
        if self.pool is not None:
            self._of_pool(self.pool, surfaces, done, noise)
        else:
            self._of_shapes(surfaces, done, noise, table)

    def _say_error(self) -> None:
        """What the last column of the table is."""
        of = {
            "a": "standard error of a",
            "size": "standard error of ln N*",
            "law": "error of all parameters, relative to a pool that is done",
            "losses": "root of the summed variance of the candidates' log losses",
        }[self.question]
        say(f"error_after: {of}, once this run is done, as the fitted law expects it.")

    @property
    def _aim(self) -> "Aim":
        if self.question in ("law", "losses"):
            return self.question
        return questions(self.question, self.target)[self.question]

    def _of_shapes(
        self, surfaces: "Sequence[Surface]", done: "Runs", noise: float, table: "RunTable"
    ) -> None:
        from sodakit.scaling.design_file import read_design, write_design
        from sodakit.scaling.information import buildable_candidates
        from sodakit.scaling.sequential import fresh_seeds, next_runs

        known = table.rule()
        if "vocab_size" not in known and self.vocab is None:
            raise ConfigError(
                "These runs tell no vocabulary, so no shapes can be made that count as theirs do. Give --vocab and --context, or choose "
                "from a table of runs (--pool)."
            )
        rule = self.rule(known | flops_rule(self.flops))
        candidates = buildable_candidates(
            surfaces[0], rule, self.budgets, self.widths, window=1e9, size=self.size
        )
        chosen, errors = next_runs(
            surfaces,
            done,
            candidates,
            self._aim,
            count=self.runs or 5,
            budget_flops=self.total,
            noise=noise,
        )
        points = fresh_seeds(candidates.take(chosen), done, table.columns.get("seed"))
        print_table(
            [p.row() | {"seed": p.seed, "error_after": e} for p, e in zip(points, errors, strict=True)]
        )
        self._say_error()
        if self.out is None:
            return
        queue = self.tables[0] / "design.jsonl"
        if queue.exists():
            write_design(self.out, [*read_design(queue), *points])
            say(f"Go on with: sodakit scale run {self.out} --data STORE --out {self.tables[0]}")
        else:
            write_design(self.out, points)
            say(f"Train them with: sodakit scale run {self.out} --data STORE --out runs/next")

    def _of_pool(self, path: Path, surfaces: "Sequence[Surface]", done: "Runs", noise: float) -> None:
        from sodakit.scaling.information import Runs
        from sodakit.scaling.records import read_table
        from sodakit.scaling.sequential import next_runs

        pool = read_table(path, self.aliases, self.decimal, with_loss=False).usable(
            loss=None, size=self.size, flops=self.flops
        )
        n, d, cost_R = pool.sizes(self.size), pool.tokens(), pool.flops(self.flops, self.size)
        left = [i for i in range(len(pool)) if not done.equal_to(n[i], d[i]).any()]
        if not left:
            raise ConfigError(f"All runs of {path} are done. Name a pool with others.")
        pool, candidates = pool.select(left), Runs(size_R=n[left], tokens_R=d[left], cost_R=cost_R[left])
        chosen, errors = next_runs(
            surfaces,
            done,
            candidates,
            self._aim,
            count=self.runs or len(candidates),
            budget_flops=min(self.total, (self.share or 1.0) * float(cost_R.sum())),
            noise=noise,
            once=True,
        )
        found, runs = pool.select(chosen), candidates.take(chosen)
        columns = zip(found.runs, runs.size_R, runs.tokens_R, runs.cost_R, errors, strict=True)
        names = ("run", "N", "D", "C", "error_after")
        print_table([dict(zip(names, row, strict=True)) for row in columns])
        self._say_error()
        cost = float(runs.cost_R.sum())
        say(
            f"{len(chosen)} of {len(n)} runs of the pool, {cost:.3g} FLOPs, {cost / cost_R.sum():.1%} of its cost."
        )
        if self.out is not None:
            found.write(self.out)
            say(f"Written to {self.out}.")
