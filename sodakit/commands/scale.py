"""`sodakit scale`: which models to train, training them, and what they teach."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from sodakit.errors import ConfigError
from sodakit.files import read_json, write_json
from sodakit.log import say
from sodakit.units import format_count

if TYPE_CHECKING:
    from sodakit.scaling.design import DesignPoint, GridRule
    from sodakit.scaling.information import Surface
    from sodakit.scaling.optimal import Quantity

Size = Literal["total", "non_embedding", "one_embedding", "two_embeddings", "matmul"]
Flops = Literal["given", "soda", "exact", "palm", "6nd"]


@dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """How budgets become runs; the defaults are the paper's."""

    vocab: int = 144_644
    """Ids of the vocabulary."""
    context: int = 4096
    """Tokens in a row."""
    tied: bool = False
    """One matrix for embedding and head."""
    reference_steps: int = 65_536
    """Batches are the smallest power of two with which a run takes at most about so many steps."""
    min_batch_rows: int = 8
    """Runs with smaller batches are left out."""
    count: Literal["soda", "exact", "palm", "6nd"] = "soda"
    """How FLOPs are counted: soda is the paper's training FLOPs."""

    def rule(self) -> "GridRule":
        from sodakit.scaling.design import GridRule

        return GridRule(
            vocab_size=self.vocab,
            context=self.context,
            tied_embeddings=self.tied,
            reference_steps=self.reference_steps,
            min_batch_rows=self.min_batch_rows,
            flops=self.count,
        )


@dataclass(frozen=True, kw_only=True)
class Design(RuleOptions):
    """Which models to train: SODA's sweep (the default), a grid (--budgets and --widths), or the best sweep for a question.

    Example: sodakit scale design --question a --total 4e21 --runs 60 --target 3e22 --out design.jsonl
    """

    out: Path | None = None
    """Where the design goes, as JSON lines for `scale run`."""
    budgets: tuple[float, ...] = ()
    """Training FLOPs of each budget; for a question the lowest and highest."""
    widths: tuple[int, ...] = ()
    """Model widths: multiples of 128, or even numbers from 64 to 254."""
    seeds: tuple[int, ...] = (0,)
    """Repeat every run with these seeds."""
    question: Literal["a", "size", "both"] | None = None
    """Design for the exponent a, for N* at --target, or for both."""
    target: float = 3e22
    """Training FLOPs at which N* is asked for."""
    total: float = 4e21
    """Training FLOPs of the whole sweep."""
    runs: int = 60
    """Runs at most."""
    prior: str = "soda"
    """The surface believed for now: soda, hoffmann, besiroglu, or a file written by `scale fit`."""
    window: float = 8.0
    """Sizes from N*/window to window·N*."""
    grid_share: float = 0.4
    """Share of the sweep that is a plain grid, able to contradict the law."""
    noise: float = 0.005
    """Expected standard deviation of log loss."""
    flops_per_s: float | None = None
    """Speed of the machine, to print hours."""

    def run(self) -> None:
        from sodakit.scaling.design import design_hours, isoflop_grid, soda_design
        from sodakit.scaling.design_file import write_design

        rule = self.rule()
        if self.question is not None:
            points = self._optimal(rule)
        elif self.budgets or self.widths:
            points = isoflop_grid(self.budgets, self.widths, rule=rule, seeds=self.seeds)
        else:
            points = soda_design(rule=rule)
        _print_table([p.row() for p in points])
        cost = sum(p.training_flops for p in points)
        hours = f", {design_hours(points, self.flops_per_s):.1f} hours" if self.flops_per_s else ""
        say(f"{len(points)} runs, {cost:.3g} training FLOPs ({cost / 3:.3g} forward){hours}.")
        if self.out is not None:
            write_design(self.out, points)
            say(
                f"Written to {self.out}. Train it with: sodakit scale run {self.out} --data STORE --out runs/scale"
            )

    def _optimal(self, rule: "GridRule") -> "list[DesignPoint]":
        from dataclasses import replace

        import numpy as np

        from sodakit.scaling.design import buildable_widths
        from sodakit.scaling.information import buildable_candidates
        from sodakit.scaling.optimal import compound_design

        surface = _surface(self.prior)
        low, high = (min(self.budgets), max(self.budgets)) if self.budgets else (3e18, 3e20)
        candidates = buildable_candidates(
            surface,
            rule,
            [float(c) for c in np.geomspace(low, high, 13)],
            self.widths or buildable_widths(rule, 64, 4096),
            window=self.window,
        )
        sweep = compound_design(
            surface,
            candidates,
            _questions(self.question or "both", self.target),
            budget_flops=self.total,
            max_runs=self.runs,
            noise=self.noise,
            grid_share=self.grid_share,
        )
        for name, error in sweep.errors.items():
            say(
                f"{name}: standard error {error:.4f}, efficiency {sweep.efficiency[name]:.0%} of the bound {sweep.bounds[name]:.4f}."
            )
        seen: dict[str, int] = {}
        points = []
        for point in sweep.runs.points:
            seed = seen.get(point.name, 0)
            seen[point.name] = seed + 1
            points.append(replace(point, seed=seed))
        return points


@dataclass(frozen=True, kw_only=True)
class Run:
    """Train a design; the same command goes on after an interruption. Start it once for each GPU to share the queue.

    Example: sodakit scale run design.jsonl --data stores/mine --out runs/scale
    """

    design: Annotated[Path, tyro.conf.Positional]
    """Made by `scale design --out`."""
    data: tuple[Path, ...]
    """Stores to train on; the first one's validation split is what losses are measured on."""
    out: Path = Path("runs/scale")
    """Gets one folder for each run."""
    device: str | None = None
    """cpu, cuda, cuda:1, …"""
    micro_rows: int | None = None
    """Rows through the model at a time; smaller needs less memory."""
    validation_rows: int = 64
    """Rows to validate on."""
    dry_run: bool = False
    """Say how far the queue is, and stop."""

    def run(self) -> None:
        from sodakit.scaling.design_file import read_design
        from sodakit.scaling.run import progress, run_design

        points = read_design(self.design)
        if self.dry_run:
            print(progress(self.out, points))
            return
        from sodakit.recipes.isoflop import isoflop
        from sodakit.train.trainer import train

        done = run_design(
            points,
            self.out,
            lambda point: isoflop(
                point, self.data, micro_rows=self.micro_rows, validation_rows=self.validation_rows
            ),
            lambda config, folder: train(config, folder, device=self.device),
        )
        say(f"{done}. Fit them with: sodakit scale fit {self.out}")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fit laws to runs: four approaches, intervals, held-out budgets, influence, conventions.

    Example: sodakit scale fit runs/scale --loss semantic --report scale.html --out fit.json
    """

    table: Annotated[Path, tyro.conf.Positional]
    """A CSV or JSONL table (W&B exports too), or a folder of runs."""
    loss: str = "all"
    """all, text, semantic, acoustic_1, …, bits_per_audio_s."""
    law: str = "chinchilla"
    """chinchilla, tied, interaction, over_training or compute."""
    misfit: str = "huber"
    """huber, huber-linear, mse, mse-log, asymmetric, median or lower-decile."""
    size: Size = "total"
    """What counts as N."""
    flops: Flops = "given"
    """What counts as C."""
    given_e: float | None = None
    """Irreducible loss, where it is known."""
    drop_highest: int = 0
    """Leave out the runs with the highest losses (Besiroglu et al. leave out five)."""
    draws: int = 1000
    """Bootstrap refits."""
    hold_out: int = 1
    """Largest budgets to predict from the rest."""
    seed: int = 0
    """Keys the bootstrap."""
    alias: tuple[str, ...] = ()
    """Further column names, theirs=ours: my_loss=loss/all."""
    out: Path | None = None
    """A JSON file for all numbers, to plan with."""
    report: Path | None = None
    """An HTML page."""

    def run(self) -> None:
        import numpy as np

        from sodakit.scaling.records import read_table
        from sodakit.scaling.study import study

        table = read_table(self.table, dict(_pair(a) for a in self.alias))
        if self.drop_highest:
            table = table.select(np.sort(np.argsort(table.loss(self.loss))[: -self.drop_highest]))
        found = study(
            table,
            loss=self.loss,
            law=self.law,
            misfit=self.misfit,
            size=self.size,
            flops=self.flops,
            draws=self.draws,
            seed=self.seed,
            hold_out=self.hold_out,
            given_e=self.given_e,
        )
        names = ("parameter", "value", "error", "bootstrap_95", "profile_95")
        _print_table([dict(zip(names, row, strict=True)) for row in found.parameter_rows()])
        _print_table(
            [dict(zip(("approach", "a", "b", "how"), row, strict=True)) for row in found.approach_rows()]
        )
        if found.rollouts:
            best = found.rollouts[0]
            print(
                f"largest {self.hold_out} of the budgets predicted from the others within {best.error:.2%} ({best.law}, {best.misfit})"
            )
        print(f"objective {found.fit.objective:.12g}; {found.fit.certificate}")
        for sentence in found.findings:
            print(f"- {sentence}")
        if self.out is not None:
            write_json(self.out, found.to_json())
        if self.report is not None:
            from sodakit.scaling.report import write_report

            write_report(found, self.report, f"Scaling laws of {self.table.name}")


@dataclass(frozen=True, kw_only=True)
class Plan(RuleOptions):
    """The best size and tokens for a budget, how flat the optimum is, and how over-trained a given run would be.

    Example: sodakit scale plan --flops 1e23 --fit fit.json --unique 5e11
    """

    flops: float
    """Training FLOPs to spend."""
    fit: str = "soda"
    """soda, hoffmann, besiroglu, or a file written by `scale fit`."""
    size: float | None = None
    """A size to judge instead: its over-training with --tokens."""
    tokens: float | None = None
    """Tokens of that size."""
    unique: float | None = None
    """Tokens of data there are; more are repeats."""
    inference_tokens: float | None = None
    """Tokens to be served over the model's life."""
    exact_flops: bool = True
    """FLOPs per token of buildable shapes; with --no-exact-flops 6N."""

    def run(self) -> None:
        from sodakit.scaling.costs import flops_by_size, six_n
        from sodakit.scaling.plan import (
            SODA_LAW,
            buildable_plans,
            over_training_factor,
            plan_budget,
            plan_with_inference,
        )

        parameters, draws = _parameters(self.fit)
        cost = flops_by_size(self.rule()) if self.exact_flops else six_n
        plan = plan_budget(
            parameters, self.flops, flops_per_token=cost, draws=draws, unique_tokens=self.unique
        )
        between = "" if plan.size_interval is None else f" (95 %: {_range(plan.size_interval)})"
        print(f"N* {format_count(plan.size)}{between}, D* {format_count(plan.tokens)}, loss {plan.loss:.4f}")
        print(f"D*/N* {plan.tokens_per_parameter:.1f}; about {plan.audio_hours():,.0f} hours of audio heard")
        for share, ends in plan.within.items():
            print(f"within {share:.1%} of that loss: {_range(ends)} parameters")
        if plan.passes is not None:
            print(f"{plan.passes:.1f} passes over the data")
        for found in buildable_plans(parameters, self.flops, self.rule()):
            print(
                f"buildable: width {found.model.width}, {found.model.layers} layers, {format_count(found.size)} parameters, "
                f"{format_count(found.tokens)} tokens, loss +{found.excess:.3%}"
            )
        if self.inference_tokens is not None:
            size, tokens, total = plan_with_inference(
                parameters, self.flops, self.inference_tokens, flops_per_token=cost
            )
            print(
                f"with serving: {format_count(size)} parameters, {format_count(tokens)} tokens, {total:.3g} FLOPs in all"
            )
        if self.size is not None and self.tokens is not None:
            factor = over_training_factor(parameters, self.size, self.tokens, flops_per_token=cost)
            print(
                f"{format_count(self.size)} on {format_count(self.tokens)} tokens: {factor:.1f} times its optimal tokens"
            )
        if self.fit == "soda":
            size, tokens = SODA_LAW.optimum(self.flops)
            print(f"by the published power laws: N* {format_count(size)}, D* {format_count(tokens)}")
            if self.size is not None and self.tokens is not None:
                print(
                    f"and {SODA_LAW.over_training_factor(self.size, self.tokens):.1f} times its optimal tokens"
                )


@dataclass(frozen=True, kw_only=True)
class Next(RuleOptions):
    """The most informative next runs, given those that are done.

    Example: sodakit scale next runs/scale --budgets 1e14 3e14 --widths 96 128 160 --count 5 --out next.jsonl
    """

    table: Annotated[Path, tyro.conf.Positional]
    """Runs that are done: a table or a folder."""
    budgets: tuple[float, ...]
    """Training FLOPs to choose from."""
    widths: tuple[int, ...]
    """Widths to choose from."""
    runs: int = 5
    """How many."""
    question: Literal["a", "size"] = "a"
    """The exponent a, or N* at --target."""
    target: float = 3e22
    """Training FLOPs at which N* is asked for."""
    loss: str = "all"
    """Which loss."""
    size: Size = "two_embeddings"
    """What counts as N."""
    flops: Flops = "soda"
    """What counts as C."""
    total: float = float("inf")
    """Training FLOPs for all of them."""
    out: Path | None = None
    """Where the design goes."""

    def run(self) -> None:
        from dataclasses import replace

        from sodakit.scaling.design_file import write_design
        from sodakit.scaling.fit import fit_law
        from sodakit.scaling.information import Runs, Surface, buildable_candidates
        from sodakit.scaling.intervals import bootstrap
        from sodakit.scaling.laws import LAWS
        from sodakit.scaling.records import read_table
        from sodakit.scaling.sequential import next_runs

        table = read_table(self.table).usable(loss=self.loss, size=self.size, flops=self.flops)
        n, d = table.sizes(self.size), table.tokens()
        fit = fit_law(LAWS["chinchilla"], {"N": n, "D": d}, table.loss(self.loss))
        refits = bootstrap(fit, draws=20).draws_SP
        surfaces = [Surface(parameters=fit.parameters)]
        surfaces += [Surface(parameters=dict(zip(fit.names, row.tolist(), strict=True))) for row in refits]
        candidates = buildable_candidates(
            surfaces[0], self.rule(), self.budgets, self.widths, window=1e9, size=self.size
        )
        chosen, errors = next_runs(
            surfaces,
            Runs(size_R=n, tokens_R=d, cost_R=table.flops(self.flops, self.size)),
            candidates,
            _questions(self.question, self.target)[self.question],
            count=self.runs,
            budget_flops=self.total,
            noise=max(fit.noise, 1e-4),
        )
        points = [replace(p, seed=list(chosen.points[:i]).count(p)) for i, p in enumerate(chosen.points)]
        _print_table([p.row() | {"error_after": e} for p, e in zip(points, errors, strict=True)])
        if self.out is not None:
            write_design(self.out, points)


def main(argv: list[str]) -> None:
    """Run `sodakit scale` with these arguments."""
    tyro.extras.subcommand_cli_from_dict(
        {"design": Design, "run": Run, "fit": Fit, "plan": Plan, "next": Next},
        prog="sodakit scale",
        description="Which models to train, training them, and what they teach.\n\n"
        "Example: sodakit scale fit runs.csv --report scale.html",
        args=argv,
    ).run()


def _parameters(source: str) -> tuple[dict[str, float], list[dict[str, float]]]:
    """A law's parameters and their refits, by name or from a file."""
    from sodakit.scaling import simulate

    known = {
        "soda": simulate.SODA_SURFACE,
        "hoffmann": simulate.HOFFMANN,
        "besiroglu": simulate.BESIROGLU,
    }
    if source in known:
        return dict(known[source]), []
    if not Path(source).exists():
        raise ConfigError(
            f"{source!r} is neither a known surface ({', '.join(known)}) nor a file. Make one with `sodakit scale fit --out`."
        )
    stored = read_json(source)
    if stored["settings"]["law"] not in ("chinchilla", "tied"):
        raise ConfigError(
            f"{source} holds the law {stored['settings']['law']!r}; plans need 'chinchilla' or 'tied'."
        )
    draws = [{"beta": d["alpha"], **d} for d in stored["draws"]]
    return {"beta": stored["parameters"]["alpha"], **stored["parameters"]}, draws


def _surface(source: str) -> "Surface":
    from sodakit.scaling.information import Surface

    return Surface(parameters=_parameters(source)[0])


def _questions(question: str, target: float) -> "dict[str, Quantity]":
    from sodakit.scaling.information import exponent_a
    from sodakit.scaling.intervals import log_optimal_size

    known = {"a": exponent_a, "size": log_optimal_size(target)}
    return known if question == "both" else {question: known[question]}


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Rows under aligned names, to be read or piped."""
    if not rows:
        return
    cells = [[_cell(v) for v in row.values()] for row in rows]
    names = list(rows[0])
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(names)]
    for line in [names, *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    return (
        f"{value:.4g}"
        if isinstance(value, float)
        else (json.dumps(value) if isinstance(value, dict) else str(value))
    )


def _pair(word: str) -> tuple[str, str]:
    theirs, sign, ours = word.partition("=")
    if not sign:
        raise ConfigError(f"{word!r} is no alias. Write theirs=ours, for example my_loss=loss/all.")
    return theirs, ours


def _range(ends: tuple[float, float]) -> str:
    return f"{format_count(ends[0])} – {format_count(ends[1])}"
