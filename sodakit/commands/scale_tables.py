"""What the words of `sodakit scale` that read a table of runs share: which runs, what columns mean, what is said of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sodakit.commands.scale_options import FLOPS, SIZE, Decimal, Flops, Size, pair
from sodakit.log import say

if TYPE_CHECKING:
    from sodakit.scaling.table import RunTable


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Which runs, and how they are counted."""

    tables: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """CSV or JSONL tables (W&B exports too) or folders of runs; several are read as one."""
    loss: str = "all"
    """all, text, semantic, acoustic_1, …, bits_per_audio_s."""
    size: Size = SIZE
    """What counts as N."""
    flops: Flops = FLOPS
    """What counts as C: given, soda, exact, palm, 6nd, hoffmann (with embeddings and an ungated feed-forward), or a formula over N, D,
    parts of the shape and columns: "6*N*D + 12*layers*width*context*D"."""
    where: tuple[str, ...] = ()
    """Only runs that meet these, for example split=train or loss/all<4; several values as dataset=a|b."""
    alias: tuple[str, ...] = ()
    """Further column names, theirs=ours, with a unit where theirs has none: my_loss=loss/all "size=n/total (M)"."""
    decimal: Decimal | None = None
    """What stands before decimals in the tables, point or comma; by default read off the cells."""

    @property
    def aliases(self) -> dict[str, str]:
        """Ours by theirs."""
        return dict(pair(a) for a in self.alias)

    def read(
        self,
        losses: Sequence[str] = (),
        *,
        said: Sequence[str] = (),
        repeats_known: bool = False,
        clustered: bool = False,
    ) -> "RunTable":
        """The finished runs that have N, D, C and the losses asked for; what was taken, left out and looks grouped is said.

        Args:
            said: columns that are no news: by which runs are split.
            repeats_known: the law is of repeated data.
            clustered: which rows are of one run is said.
        """
        from sodakit.scaling.groups import looks_grouped, where
        from sodakit.scaling.records import read_tables

        table = read_tables(self.tables, self.aliases, self.decimal)
        say(f"{len(table)} rows of {table.origin}.")
        table = where(table, self.where)
        for loss in losses or (self.loss,):
            table = table.usable(loss=loss, size=self.size, flops=self.flops)
        for note in table.notes:
            say(note)
        chosen = [re.split("[=!<>]", condition)[0].strip() for condition in self.where]
        for line in looks_grouped(table, [*chosen, *said], repeats_known=repeats_known, clustered=clustered):
            say(f"NOTE: {line}")
        return table
