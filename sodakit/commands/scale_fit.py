"""`sodakit scale fit` and `scale report`: what runs teach, in numbers and to look at."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from sodakit.bounds import Bounds, Positive
from sodakit.commands.scale_options import Resample, print_table
from sodakit.commands.scale_tables import TableOptions
from sodakit.errors import ConfigError
from sodakit.files import write_json
from sodakit.log import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sodakit.scaling.onset_vector import Onsets
    from sodakit.scaling.study import Study
    from sodakit.scaling.table import RunTable


@dataclass(frozen=True, kw_only=True)
class FitOptions(TableOptions):
    """Which runs, how they are counted, and what is fitted to them."""

    law: str = "chinchilla"
    """chinchilla, tied, interaction, over_training, compute, data_repeat (needs unique_tokens), farseer, or your own as a sum of terms over
    N, D, C, M (D/N) and columns of the table: "E + A/N^a + B/(D^b N^c)"."""
    delta: Positive | None = None
    """Of Huber's cost, in units of log loss (of nats for huber-linear); by default the misfit's own, 0.001 for huber."""
    weights: Literal["given", "compute", "seeds"] = "given"
    """Of runs: the column weight, or 1; compute: the square root of C; seeds: one over the variance of equal runs at each budget."""
    fix: tuple[str, ...] = ()
    """Parameters that are held: beta=0.35 E=1.69."""
    misfit: str = "huber"
    """huber, huber-linear, mse, mse-log, absolute, absolute-linear, asymmetric, asymmetric-linear, median or lower-decile."""
    window: Annotated[float, Bounds(above=1)] | None = 10.0
    """Parabolas: use runs with N within this factor of the lowest run of their budget; None for all of them."""
    edge_reach: Annotated[float, Bounds(least=1)] | None = 2.0
    """Parabolas: minima outside the runs of their budget count if within this factor of them; 1: none of them, None: all."""
    valley: Literal["parabola", "akima"] = "parabola"
    """How the optimum of a budget is found: a parabola in log N, or Akima's curve through the runs."""
    cluster: str | None = None
    """Column of what belongs together in a bootstrap, or none. By default the runs of one name, apart from a step at its end:
    checkpoints of one training run."""
    drop_highest: int = 0
    """Leave out the runs with the highest losses (Besiroglu et al. leave out five)."""
    draws: int = 1000
    """Bootstrap refits."""
    resample: Resample | None = None
    """residuals: losses of the same sweep come out anew. runs: the bootstrap of Besiroglu et al., wider. By default
    residuals, runs for misfits that count the two sides differently. The intervals of resampled runs are given beside."""
    onsets: bool = False
    """For every loss, or those of --streams: where it begins to fall, and the law that held-out budgets keep for it."""
    streams: tuple[str, ...] = ()
    """Losses that are looked at together: text semantic acoustic_1 …"""
    hold_out: int = 1
    """Largest budgets to predict from the rest."""
    at: tuple[Positive, ...] = ()
    """Training FLOPs at which N* and D* are given by every approach; by default the largest of the runs and ten times that."""
    seed: int = 0
    """Keys the bootstrap."""

    def runs(self, losses: tuple[str, ...] = (), by: str | None = None) -> "RunTable":
        """The finished runs that have N, D, C and the losses asked for, without the highest."""
        import numpy as np

        table = self.read(
            losses,
            said=[name for name in (by, self.cluster) if name],
            repeats_known=self.law == "data_repeat",
            clustered=self.cluster is not None,
        )
        first = (losses or (self.loss,))[0]
        if self.drop_highest:
            table = table.select(np.sort(np.argsort(table.loss(first))[: -self.drop_highest]))
        if self.weights != "given":
            table = table.weighted(self.weights, loss=first, flops=self.flops, size=self.size)
        return table

    def fixed(self) -> dict[str, float]:
        """The parameters that are held."""
        held = {}
        for word in self.fix:
            name, _, value = word.partition("=")
            try:
                held[name.strip()] = float(value)
            except ValueError as error:
                raise ConfigError(
                    f"{word!r} holds nothing. Write NAME=NUMBER, for example --fix beta=0.35."
                ) from error
        return held

    def onset_runs(self) -> "RunTable":
        """The runs that have all the losses whose onsets are asked for."""
        table = self.runs(self.streams)
        for loss in self.streams or table.losses:
            table = table.usable(loss=loss, size=self.size, flops=self.flops)
        return table

    def found_onsets(self, table: "RunTable") -> "Onsets":
        """Where each loss of these runs begins to fall."""
        from sodakit.scaling.onset_vector import fit_onsets

        n, c = table.sizes(self.size), table.flops(self.flops, self.size)
        return fit_onsets(
            {"N": n, "D": table.tokens(), "C": c},
            {name: table.loss(name) for name in self.streams or table.losses},
            table.budgets(self.flops, self.size),
            hold_out=self.hold_out,
            draws=min(self.draws, 300),
            seed=self.seed,
        )

    @property
    def name(self) -> str:
        """Of the tables, for a heading."""
        return ", ".join(path.name for path in self.tables)

    def study(self) -> "Study":
        """Everything these runs say."""
        from sodakit.scaling.study import study
        from sodakit.scaling.sweeps import ValleyRule

        return study(
            self.runs(),
            loss=self.loss,
            law=self.law,
            misfit=self.misfit,
            size=self.size,
            flops=self.flops,
            draws=self.draws,
            seed=self.seed,
            hold_out=self.hold_out,
            fixed=self.fixed(),
            resample=self.resample,
            cluster=self.cluster,
            delta=self.delta,
            valley_rule=ValleyRule(window=self.window, edge_reach=self.edge_reach, method=self.valley),
        )


@dataclass(frozen=True, kw_only=True)
class Fit(FitOptions):
    """Fit laws to runs: four approaches, intervals, held-out budgets, influence, conventions.

    Example: sodakit scale fit runs/scale --loss semantic --report scale.html --out fit.json
    """

    by: str | None = None
    """A column of groups: the law is fitted to each, and their parameters are compared."""
    shared: tuple[str, ...] = ("alpha", "beta")
    """Exponents that --streams share in one law fitted to them together."""
    out: Path | None = None
    """A JSON file for all numbers, to plan with."""
    report: Path | None = None
    """An HTML page; `scale report` also writes the figures alone."""

    def run(self) -> None:
        if self.onsets:
            return self._fit_onsets()
        if self.streams:
            return self._fit_streams()
        if self.by is not None:
            return self._fit_groups(self.by)
        found = self.study()
        print_findings(found, self.hold_out, self.at)
        if self.out is not None:
            write_json(self.out, found.to_json())
        if self.report is not None:
            from sodakit.scaling.report import write_report

            write_report(found, self.report, f"Scaling laws of {self.name}")

    def _fit_onsets(self) -> None:
        if self.report is not None or self.by is not None:
            raise ConfigError(
                "--onsets with --report or --by. A page has them with `scale report --onsets`; groups are chosen with --where."
            )
        found = self.found_onsets(table := self.onset_runs())
        print_onsets(found)
        if self.out is not None:
            write_json(self.out, found.to_json() | {"table": table.origin, "fingerprint": table.fingerprint})

    def _fit_groups(self, column: str) -> None:
        from sodakit.scaling.compare import fit_groups

        found = fit_groups(
            self.runs(by=column),
            column,
            law=self.law,
            misfit=self.misfit,
            loss=self.loss,
            size=self.size,
            flops=self.flops,
            fixed=self.fixed(),
            draws=min(self.draws, 300),
            seed=self.seed,
            cluster=self.cluster,
            delta=self.delta,
        )
        print_table(found.rows())
        for line in found.verdicts():
            print(f"- {line}")
        if self.out is not None:
            write_json(self.out, found.to_json())

    def _fit_streams(self) -> None:
        from dataclasses import asdict

        from sodakit.scaling.laws import named_law
        from sodakit.scaling.residuals import MISFITS
        from sodakit.scaling.streams import fit_streams

        table = self.runs(self.streams)
        found = fit_streams(
            {"N": table.sizes(self.size), "D": table.tokens(), "C": table.flops(self.flops, self.size)},
            {name: table.loss(name) for name in self.streams},
            law=named_law(self.law).given(**self.fixed()),
            shared=self.shared,
            misfit=MISFITS[self.misfit],
            draws=min(self.draws, 300),
            seed=self.seed,
        )
        rows = []
        for name, parameters in found.parameters.items():
            errors = found.standard_errors[name]
            rows.append({"stream": name} | {p: f"{v:.4g} ± {errors[p]:.2g}" for p, v in parameters.items()})
        print_table(rows)
        verdict = "sharing holds" if found.sharing_holds else "sharing does not hold"
        print(
            f"{len(table)} runs, shared: {', '.join(found.shared) or 'nothing'}; AICc {found.aicc:.1f}, "
            f"{found.separate_aicc:.1f} with a law for each stream: {verdict}"
        )
        if self.out is not None:
            write_json(self.out, asdict(found) | {"law": found.law.name, "fingerprint": table.fingerprint})


@dataclass(frozen=True, kw_only=True)
class Report(FitOptions):
    """The same fit to look at and to keep: one HTML page, every figure as SVG and PNG, and the numbers and runs behind them.

    Example: sodakit scale report runs/scale --size two_embeddings --flops exact --out scale_report
    """

    out: Path = Path("scale_report")
    """Gets report.html, fit.json, runs.csv and figures/, with --onsets also onsets.json."""
    title: str = ""
    """Of the page; by default the name of the table."""
    formats: tuple[Literal["svg", "png"], ...] = ("svg", "png")
    """Of the figures."""

    def run(self) -> None:
        from sodakit.scaling.report import save_pictures, write_report

        if self.streams and not self.onsets:
            raise ConfigError("--streams names losses for --onsets. Give that too, or `scale fit --streams`.")
        found = self.study()
        print_findings(found, self.hold_out, self.at)
        onsets = self.found_onsets(self.onset_runs()) if self.onsets else None
        if onsets is not None:
            print_onsets(onsets)
            write_json(self.out / "onsets.json", onsets.to_json())
        title = self.title or f"Scaling laws of {self.name}"
        write_report(found, self.out / "report.html", title, onsets=onsets)
        write_json(self.out / "fit.json", found.to_json())
        found.table.write(self.out / "runs.csv")
        figures = save_pictures(found, self.out / "figures", self.formats)
        say(f"{self.out}/report.html, fit.json, runs.csv and {len(figures)} figures written.")


def print_onsets(found: "Onsets") -> None:
    """Where losses begin to fall and which law is kept for each, on the screen."""
    print_table(found.rows())
    for stream in found.streams.values():
        print(f"- {stream}")


def print_findings(found: "Study", hold_out: int, at: "Sequence[float]" = ()) -> None:
    """A study on the screen: parameters, approaches, optima at budgets, held-out budgets, what speaks against it."""
    names = ("parameter", "value", "error", "bootstrap_95", "runs_95", "profile_95")
    print_table([dict(zip(names, row, strict=True)) for row in found.parameter_rows()])
    print_table([dict(zip(("approach", "a", "b", "how"), row, strict=True)) for row in found.approach_rows()])
    largest = float(found.fit.values["C"].max())
    print_table(found.optima_rows(at or (largest, 10 * largest)))
    if found.rollouts:
        best = found.rollouts[0]
        print(
            f"largest {hold_out} of the budgets predicted from the others within {best.error:.2%} ({best.law}, {best.misfit})"
        )
    print(f"objective {found.fit.objective:.12g}; {found.fit.certificate}")
    if found.repeats is not None:
        print(str(found.repeats))
    if found.clusters:
        print(found.clusters)
    for sentence in found.findings:
        print(f"- {sentence}")
