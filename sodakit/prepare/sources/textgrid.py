"""TextGrid, as Praat and the Montreal aligner write it: tiers of intervals, in the long and the short form."""

import re
from collections.abc import Iterator

from sodakit.prepare.sources.columns import seconds

_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<![\w.\[])(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\w.\]])|(<exists>)')
_SILENCE = frozenset({"", "sil", "sp", "spn", "<eps>", "<sil>", "<p:>"})

Interval = tuple[float, float, str]
"""Start and end in seconds, and what is said."""


def tiers(text: str) -> Iterator[tuple[str, list[Interval]]]:
    """Name and spoken intervals of each tier, of the long and the short form alike.

    Raises:
        ValueError: it breaks off, or is no TextGrid.
    """
    # Both forms hold the same strings and numbers in one order; the long one has words around them.
    tokens = iter(_TOKEN.findall(text))

    def string() -> str:
        quoted, number, exists = next(tokens)
        if number or exists:
            raise ValueError(f"a TextGrid with {number or exists} where a text is due")
        return str(quoted).replace('""', '"').strip()

    def number() -> float:
        quoted, digits, _ = next(tokens)
        value = seconds(digits)
        if value is None:
            raise ValueError(f"a TextGrid with {quoted[:40]!r} where a number is due")
        return value

    try:
        if [string(), string()] != ["ooTextFile", "TextGrid"]:
            raise ValueError("no TextGrid in Praat's text form")
        number(), number(), next(tokens)
        for _ in range(int(number())):
            kind, name = string(), string()
            number(), number()
            rows: list[Interval] = []
            for _ in range(int(number())):
                if kind != "IntervalTier":
                    number(), string()
                    continue
                start_s, end_s, said = number(), number(), string()
                if said.lower() not in _SILENCE:
                    rows.append((start_s, end_s, " ".join(said.split())))
            if kind == "IntervalTier":
                yield name, rows
    except StopIteration as error:
        raise ValueError("a TextGrid that breaks off") from error
