"""`sodakit scale design`: which models to train."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from sodakit.bounds import Bounds, Count, Positive, Share
from sodakit.commands.scale_options import (
    KnownLaw,
    RuleOptions,
    print_table,
    questions,
    read_law,
)
from sodakit.errors import ConfigError
from sodakit.log import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sodakit.scaling.design import GridRule
    from sodakit.scaling.information import Runs
    from sodakit.scaling.point import DesignPoint


@dataclass(frozen=True, kw_only=True)
class Design(RuleOptions):
    """Which models to train: SODA's sweep (the default), a grid (--budgets and --widths), or the best sweep for a question.

    Example: sodakit scale design --question a --total 4e21 --runs 60 --target 3e22 --out design.jsonl
    """

    out: Path | None = None
    """Where the design goes, as JSON lines for `scale run`."""
    budgets: tuple[Positive, ...] = ()
    """Training FLOPs of each budget; for a question the lowest and highest."""
    widths: tuple[Count, ...] = ()
    """Model widths: multiples of 128, or even numbers from 64 to 254."""
    seeds: tuple[int, ...] = (0,)
    """Repeat every run with these seeds."""
    lr_multiples: tuple[Positive, ...] = (1.0,)
    """Train every run of a grid at these multiples of the rule's learning rate; `scale tune` finds the best."""
    question: Literal["a", "size", "both"] | None = None
    """Design for the exponent a, for N* at --target, or for both."""
    target: Positive = 3e22
    """Training FLOPs at which N* is asked for."""
    total: Positive = 4e21
    """Training FLOPs of the whole sweep."""
    runs: Count = 60
    """Runs at most."""
    prior: str = "soda"
    """The surface believed for now: soda, hoffmann, besiroglu, or a file written by `scale fit`."""
    window: Annotated[float, Bounds(above=1)] = 8.0
    """Sizes from N*/window to window·N*."""
    grid_share: Share = 0.4
    """Share of the sweep that is a plain grid, able to contradict the law."""
    noise: Positive = 0.005
    """Expected standard deviation of log loss."""
    share_trunks: bool = False
    """Let the token budgets of each model share one trunk, with a decay leg each (one batch size for each model)."""
    flops_per_s: Positive | None = None
    """Speed of the machine, to print hours and cost."""
    hourly_cost: float = 0.10
    """What an hour of this machine costs, in dollars."""
    plot: Path | None = None
    """A figure of the runs over compute and size with the optimum expected by --prior: .svg or .png."""

    def run(self) -> None:
        import numpy as np

        from sodakit.scaling.design import isoflop_grid, soda_design
        from sodakit.scaling.design_file import write_design
        from sodakit.scaling.laws import LAWS
        from sodakit.scaling.trunks import computed_flops, share_trunks

        law = read_law(self.prior)
        if "alpha" not in law.parameters or law.law not in (None, LAWS["chinchilla"]):
            raise ConfigError(
                f"{self.prior} holds a law of one's own; designs are made for Chinchilla's. Fit that for the prior."
            )
        rule = self.rule(law.rule)
        if self.lr_multiples != (1.0,) and not (self.budgets and self.widths and self.question is None):
            raise ConfigError("--lr-multiples are of a grid. Give --budgets and --widths, and no --question.")
        if rule.family != (known := law.rule.get("family", "flat")):
            say(
                f"The law {self.prior} is of models of family {known}; what it expects of family {rule.family} is a guess."
            )
        if self.question is not None:
            points, promises = self._optimal(law, rule)
        else:
            points = (
                isoflop_grid(
                    self.budgets, self.widths, rule=rule, seeds=self.seeds, lr_multiples=self.lr_multiples
                )
                if self.budgets or self.widths
                else soda_design(rule=rule)
            )
            if not points:
                raise ConfigError(
                    "No run is left: each would miss its budget, take too many steps, or have fewer rows in a batch than "
                    "--min-batch-rows. Lower that, --context or --vocab, or raise the budgets."
                )
            promises = self._promises(law, rule, points)
        if self.share_trunks:
            points = share_trunks(points)
        print_table([p.row() for p in points])
        cost = computed_flops(points)
        say(f"{len(points)} runs, {cost:.3g} training FLOPs ({cost / 3:.3g} forward){self._price(cost)}.")
        say(
            f"Expected by the law of {self.prior}, with log losses scattered by {self.noise:g}; size is ln N* at {self.target:.3g} FLOPs:"
        )
        for name, (error, bound) in promises.items():
            if np.isfinite(error):
                say(
                    f"{name}: standard error {error:.4f}, efficiency {(bound / error) ** 2:.0%} of the bound {bound:.4f}."
                )
            else:
                say(f"{name}: these runs cannot tell it. Add sizes or budgets.")
        self._say_left_out(law, rule, points)
        if self.plot is not None:
            self._draw(law, rule, points, self.plot)
        if self.out is not None:
            write_design(self.out, points)
            say(
                f"Written to {self.out}. Train it with: sodakit scale run {self.out} --data STORE --out runs/scale"
            )

    def _price(self, flops: float) -> str:
        if self.flops_per_s is None:
            return ""
        hours = flops / self.flops_per_s / 3600
        return f", {hours:.1f} hours, ${hours * self.hourly_cost:.2f}"

    def _promises(
        self, law: KnownLaw, rule: "GridRule", points: "Sequence[DesignPoint]"
    ) -> "dict[str, tuple[float, float]]":
        """By question the standard error that the law expects of these runs, and the least that so much compute in so many
        runs of these budgets could give."""
        import numpy as np

        from sodakit.scaling.information import Surface, runs_of, standard_error
        from sodakit.scaling.optimal import elfving_bound

        surface, runs = Surface(parameters=law.parameters), runs_of(points, law.size)
        ends = min(p.budget_flops for p in points), max(p.budget_flops for p in points)
        candidates = self._candidates(law, rule, *ends)
        promises = {}
        for name, quantity in questions("both", self.target).items():
            error, bound = standard_error(surface, runs, quantity, noise=self.noise), float("nan")
            if np.isfinite(error):
                bound = elfving_bound(
                    surface,
                    candidates,
                    quantity,
                    budget_flops=float(runs.cost_R.sum()),
                    max_runs=len(points),
                    noise=self.noise,
                ).error
            promises[name] = (error, bound)
        return promises

    def _say_left_out(self, law: KnownLaw, rule: "GridRule", points: "Sequence[DesignPoint]") -> None:
        """How much the smallest batch costs: the grid's points that it leaves out, and SE(a) with them."""
        from dataclasses import replace

        from sodakit.scaling.design import isoflop_grid, soda_design
        from sodakit.scaling.information import Surface, exponent_a, runs_of, standard_error

        if self.question is not None or rule.min_batch_rows <= 1:
            return
        freer = replace(rule, min_batch_rows=1)
        every = (
            isoflop_grid(self.budgets, self.widths, rule=freer, seeds=self.seeds)
            if self.budgets or self.widths
            else soda_design(rule=freer)
        )
        if len(every) <= len(points):
            return
        surface = Surface(parameters=law.parameters)
        errors = [
            standard_error(surface, runs_of(p, law.size), exponent_a, noise=self.noise)
            for p in (points, every)
        ]
        say(
            f"{len(every) - len(points)} points are left out because their batch would be below {rule.min_batch_rows} rows "
            f"(--min-batch-rows 1 keeps them): with them the standard error of a would be {errors[1]:.4f}, not {errors[0]:.4f}, "
            f"{errors[0] / errors[1]:.1f} times smaller."
        )

    def _candidates(self, law: KnownLaw, rule: "GridRule", low: float, high: float) -> "Runs":
        """What could be run at budgets between two."""
        import numpy as np

        from sodakit.scaling.design import buildable_widths
        from sodakit.scaling.information import Surface, buildable_candidates

        return buildable_candidates(
            Surface(parameters=law.parameters),
            rule,
            [float(c) for c in np.geomspace(low, high, 13)],
            self.widths or buildable_widths(rule, 64, 4096),
            window=self.window,
            size=law.size,
        )

    def _draw(self, law: KnownLaw, rule: "GridRule", points: "Sequence[DesignPoint]", path: Path) -> None:
        import numpy as np

        from sodakit.scaling.costs import flops_by_size
        from sodakit.scaling.information import runs_of
        from sodakit.scaling.plan import plan_budget
        from sodakit.scaling.plot import design_figure, save

        runs = runs_of(points, law.size)
        cost = flops_by_size(rule, law.size)
        budgets = np.geomspace(runs.cost_R.min(), runs.cost_R.max(), 20)
        best = [plan_budget(law.parameters, float(c), flops_per_token=cost).size for c in budgets]
        save(design_figure(runs, optimum=(budgets, np.array(best))), path)
        say(f"Drawn in {path}.")

    def _optimal(
        self, law: KnownLaw, rule: "GridRule"
    ) -> "tuple[list[DesignPoint], dict[str, tuple[float, float]]]":
        from dataclasses import replace

        from sodakit.scaling.information import Surface
        from sodakit.scaling.optimal import compound_design

        surface = Surface(parameters=law.parameters)
        low, high = (min(self.budgets), max(self.budgets)) if self.budgets else (3e18, 3e20)
        candidates = self._candidates(law, rule, low, high)
        sweep = compound_design(
            surface,
            candidates,
            questions(self.question or "both", self.target),
            budget_flops=self.total,
            max_runs=self.runs,
            noise=self.noise,
            grid_share=self.grid_share,
        )
        seen: dict[str, int] = {}
        points = []
        for point in sweep.runs.points:
            seed = seen.get(point.name, 0)
            seen[point.name] = seed + 1
            points.append(replace(point, seed=seed))
        return points, {name: (error, sweep.bounds[name]) for name, error in sweep.errors.items()}
