"""What was heard so far, as JSON lines that a person may read and mend; a killed run goes on from them."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from sodakit.errors import ConfigError
from sodakit.files import parse_json, read_json, write_json, write_json_lines
from sodakit.log import say
from sodakit.prepare.recording import Item

Row = dict[str, Any]


@dataclass(frozen=True)
class Notebook:
    """A folder of `.jsonl` files, each written once, and the settings they were written under.

    Every row names its item, and the item's fingerprint: where the sound changes, it is listened to again.
    """

    folder: Path
    """It need not exist."""

    def begin(self, settings: dict[str, Any], fresh: bool = False) -> None:
        """Write under these settings from now on.

        Args:
            settings: what the rows depend on, as JSON.
            fresh: what was written under others is set aside, as `<folder>.old1`; it may hold a person's corrections.
        Raises:
            ConfigError: it was begun with others; it says which.
        """
        path = self.folder / "settings.json"
        before = read_json(path) if path.exists() else settings
        if not isinstance(before, dict):
            raise ConfigError(
                f"{path} is damaged: it holds a {type(before).__name__}. Copy it back, or choose another folder."
            )
        changed = [name for name in sorted({*settings, *before}) if settings.get(name) != before.get(name)]
        if changed and not fresh:
            pairs = [f"{name}: {before.get(name)!r} then, {settings.get(name)!r} now" for name in changed]
            raise ConfigError(
                f"{self.folder} was written with other settings ({'; '.join(pairs)}). Needed: the same, to continue it. "
                "Ask for those, choose another folder, or use --fresh to listen again."
            )
        if changed:
            aside = next(place for place in _asides(self.folder) if not place.exists())
            os.replace(self.folder, aside)
            say(f"{self.folder} was written with other settings; it is {aside.name} now")
        if changed or not path.exists():
            write_json(path, settings)

    def rows(self) -> dict[str, list[Row]]:
        """What is noted of each item, by the item's fingerprint.

        Raises:
            ConfigError: a line is no row; it says which.
        """
        found: dict[str, list[Row]] = defaultdict(list)
        for path in self._files():
            # Not by splitlines: it also breaks at characters that a text may hold.
            for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
                if line.strip():
                    row = _row(line, f"{path}, line {number}")
                    found[row["fingerprint"]].append(row)
        return dict(found)

    def write(self, name: str, rows: Sequence[Row]) -> None:
        """Add a file with these rows, named so that a person finds it."""
        numbers = (re.match(r"\d+", path.name) for path in self._files())
        last = max((int(number[0]) for number in numbers if number), default=-1)
        readable = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)[-80:]
        write_json_lines(self.folder / f"{last + 1:05d}_{readable}.jsonl", rows)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.jsonl"))


def note(item: Item, **more: Any) -> Row:
    """A row about an item."""
    return {"item": item.id, "audio": item.place, **more, "fingerprint": item.fingerprint()}


def _row(line: bytes, where: str) -> Row:
    wrong = ""
    try:
        row = parse_json(line)
    except ValueError as error:
        wrong, row = f"is {error}", {}
    if not wrong and not (isinstance(row, dict) and isinstance(row.get("fingerprint"), str)):
        wrong = "has no 'fingerprint'"
    for name, kinds in {"start_s": (int, float), "end_s": (int, float), "text": str, "problem": str}.items():
        if not wrong and name in row and not isinstance(row[name], kinds):  # type: ignore[arg-type]
            wrong = f"has {name}={row[name]!r}"
    if wrong:
        raise ConfigError(
            f"{where}, {wrong}; needed: one JSON object a line, with numbers for times and a string for text. "
            "Mend the line, or delete it."
        )
    return row


def _asides(folder: Path) -> Iterator[Path]:
    return (folder.with_name(f"{folder.name}.old{number}") for number in count(1))
