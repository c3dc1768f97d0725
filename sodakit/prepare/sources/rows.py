"""What all layouts share: lines that may be broken, and names inside a source."""

from collections.abc import Iterator
from pathlib import Path

from sodakit.prepare.recording import Item


def read_lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Number (from 1) and text of each line that is not blank; None for the text of one that is not UTF-8."""
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                yield number, None
                continue
            if text.strip():
                yield number, text


def bad_row(path: Path, number: int, source: str, problem: str) -> Item:
    """An item that stands for a line nobody can use; it goes to quarantine."""
    return Item(
        id=f"{source}/{path.name}:{number}",
        source=source,
        problem=f"{path.name}, line {number}: {problem}",
    )


def seconds(value: object) -> float | None:
    """A time in seconds, or None where there is none.

    Raises:
        ValueError: something that is no number.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is no time in seconds")
    return float(value)
