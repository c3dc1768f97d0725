"""`sodakit scale tune`: the best learning rate and batch by size and tokens."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sodakit.commands.scale_options import print_table
from sodakit.commands.scale_tables import TableOptions
from sodakit.errors import ConfigError
from sodakit.files import write_json
from sodakit.log import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sodakit.scaling.response import Response
    from sodakit.scaling.table import RunTable


@dataclass(frozen=True, kw_only=True)
class Tune(TableOptions):
    """The best learning rate and batch at each size and token count, by a smooth response; and how they move with N and D.

    Example: sodakit scale tune runs.csv --over lr batch_rows --out best.csv
             sodakit scale tune runs/lr --by family lr_rule --plot lr.png --law lr.json --where lr_rule=soda family=flat
    """

    over: tuple[str, ...] = ("lr",)
    """Columns that were tried: lr, batch_rows, batch_tokens, or any other of positive numbers."""
    by: tuple[str, ...] = ()
    """Columns of groups, each looked at by itself: family, lr_rule."""
    out: Path | None = None
    """The reduced table: a row for each size and token count, for `scale fit`. CSV or JSONL."""
    law: Path | None = None
    """The best learning rate by N and D, for `scale design --lr-rule`. JSON."""
    plot: Path | None = None
    """Curves of the loss over the first of --over, a panel for each group and budget: .svg or .png."""

    def run(self) -> None:
        from sodakit.scaling.groups import split_by
        from sodakit.scaling.records import table_from_rows
        from sodakit.scaling.response import reduced, responses

        table = self.read(said=(*self.over, *self.by))
        groups = split_by(table, self.by)
        if self.law is not None and (len(groups) > 1 or "lr" not in self.over):
            raise ConfigError(
                f"--law is of one group's lr; these are {len(groups)} of {', '.join(self.over)}. Choose one with --where."
            )
        best: dict[str, tuple[RunTable, list[Response]]] = {}
        rows: list[dict] = []
        for name, members in groups.items():
            try:
                found, left_out = responses(members, self.over, loss=self.loss, size=self.size)
            except ConfigError as error:
                if len(groups) == 1:
                    raise
                say(f"{name}: {error}")
                continue
            best[name] = (members, found)
            for line in left_out:
                say(f"{name}: {line}" if name else line)
            told = reduced(members, found)
            rows += [row | ({"group": name} if name else {}) for row in told]
            if name:
                print(name)
            print_table([{"N": r["n/total"], "D": r["tokens"], "loss": r["loss/all"], **{s: r.get(s, "") for s in self.over}, "at_edge": r["at_edge"]} for r in told])  # fmt: skip
            self._print_laws(found)
            self._print_regret(members)
        if not best:
            raise ConfigError(
                f"None of the {len(groups)} groups has runs enough. Take fewer columns for --by."
            )
        if self.out is not None:
            table_from_rows(rows, str(self.out)).write(self.out)
        if self.plot is not None:
            from sodakit.scaling.plot import save
            from sodakit.scaling.tune_plot import tune_figure

            save(tune_figure(best, self.over[0], loss=self.loss, size=self.size), self.plot)
            say(f"Drawn in {self.plot}.")

    def _print_laws(self, found: "Sequence[Response]") -> None:
        from sodakit.scaling.response import best_law
        from sodakit.scaling.transfer import LrLaw

        for setting in self.over:
            try:
                law = best_law(found, setting)
            except ConfigError as error:
                if self.law is not None:
                    raise
                print(f"{setting}: no law: {error}")
                continue
            half = [law.interval_t * e for e in law.errors]
            print(
                f"{setting}: {law.factor:.4g} N^{law.n:.3f} D^{law.d:.3f}, exponents ± {half[0]:.3f} and ± {half[1]:.3f} (95 %), "
                f"{law.num_points} points"
            )
            if self.law is not None and setting == "lr":
                write_json(self.law, asdict(LrLaw(factor=law.factor, n=law.n, d=law.d, size=self.size)))
                say(f"Written to {self.law}. Use it with: sodakit scale design --lr-rule {self.law}")

    def _print_regret(self, table: "RunTable") -> None:
        """What the rule's own learning rate costs, where the runs tell which one it was."""
        from sodakit.scaling.response import regrets

        rows = regrets(table, loss=self.loss, size=self.size)
        if rows:
            print_table(rows)
