"""`sodakit scale tune`: the best learning rate and batch by size and tokens."""

from dataclasses import dataclass
from pathlib import Path

from sodakit.commands.scale_options import print_table
from sodakit.commands.scale_tables import TableOptions
from sodakit.log import say


@dataclass(frozen=True, kw_only=True)
class Tune(TableOptions):
    """The best learning rate and batch at each size and token count, by a smooth response; and how they move with N and D.

    Example: sodakit scale tune runs.csv --over lr batch_rows --out best.csv
    """

    over: tuple[str, ...] = ("lr",)
    """Columns that were tried: lr, batch_rows, batch_tokens, or any other of positive numbers."""
    out: Path | None = None
    """The reduced table: a row for each size and token count, for `scale fit`. CSV or JSONL."""

    def run(self) -> None:
        from sodakit.errors import ConfigError
        from sodakit.scaling.records import table_from_rows
        from sodakit.scaling.response import best_law, reduced, responses

        table = self.read(said=self.over)
        found, left_out = responses(table, self.over, loss=self.loss, size=self.size)
        for line in left_out:
            say(line)
        rows = reduced(table, found)
        print_table([{"N": r["n/total"], "D": r["tokens"], "loss": r["loss/all"], **{s: r.get(s, "") for s in self.over}, "at_edge": r["at_edge"]} for r in rows])  # fmt: skip
        for setting in self.over:
            try:
                law = best_law(found, setting)
            except ConfigError as error:
                print(f"{setting}: no law: {error}")
                continue
            half = [law.interval_t * e for e in law.errors]
            print(
                f"{setting}: {law.factor:.4g} N^{law.n:.3f} D^{law.d:.3f}, exponents ± {half[0]:.3f} and ± {half[1]:.3f} (95 %), "
                f"{law.num_points} points"
            )
        if self.out is not None:
            table_from_rows(rows, str(self.out)).write(self.out)
