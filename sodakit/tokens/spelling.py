"""What a tokenizer makes of letters that it was not made for."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sodakit.tokens.text import TextTokenizer

MOST_NAMED = 12


@dataclass(frozen=True)
class Spelling:
    """The characters of some texts that a tokenizer has no id for, and how often each occurs."""

    lost: dict[str, int]
    """Those that do not come back from its ids."""
    in_pieces: dict[str, int]
    """Those that are spelled by several ids, byte by byte: they come back, but nothing was learnt of them."""

    def lines(self) -> list[str]:
        """A sentence for each kind that there is."""
        said = (
            (self.lost, "cannot write {}: texts of the model will lack them, and so does its training"),
            (
                self.in_pieces,
                "has no id of its own for {}: it spells them by bytes, which the model must learn",
            ),
        )
        return [f"The tokenizer {what.format(_named(counts))}." for counts, what in said if counts]


def spelling(tokenizer: TextTokenizer, texts: Iterable[str]) -> Spelling:
    """How the characters of the texts are spelled where they stand, the most frequent first."""
    lost: Counter[str] = Counter()
    in_pieces: Counter[str] = Counter()
    comes_back: dict[str, bool] = {}
    for text in texts:
        ids_of_place = Counter(
            place for first, last in zip(*tokenizer.places(text), strict=True) for place in range(first, last)
        )
        for place, character in enumerate(text):
            if character.isspace():
                continue
            if character not in comes_back:
                comes_back[character] = tokenizer.decode(tokenizer.encode(character)).strip() == character
            if not comes_back[character]:
                lost[character] += 1
            elif ids_of_place[place] > 1:
                in_pieces[character] += 1
    return Spelling(dict(lost.most_common()), dict(in_pieces.most_common()))


def _named(counts: dict[str, int]) -> str:
    shown = [f"{c!r} ({count})" for c, count in list(counts.items())[:MOST_NAMED]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
