"""Words of a text and when they are said: what tells times, matched with the text letter by letter.

Whoever tells times (a voice, a corpus, an aligner) writes words in its own way: without marks, in capitals, in other
pieces. Only letters and digits are compared. Where they are all the same every word has its times; else those that are
found in order have, and the others none.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import groupby

import numpy as np

from sodakit.tokens.text import TextTokenizer
from sodakit.voices.contract import WordSpan

SLACK_S = 0.05
"""A time this far outside an utterance is rounding; it is moved to the border."""


@dataclass(frozen=True)
class TimedWord:
    """A word of an utterance. It reaches to where the next begins."""

    text_at: int
    """The character of the text where it begins; spaces before it belong to it."""
    id_at: int
    """The text id that begins with it; -1 where one id holds the end of the word before as well."""
    start_s: float | None
    """When it begins, from the beginning of the utterance; None where nobody knows."""
    end_s: float | None
    """When it ends, likewise."""
    confidence: float | None = None
    """How sure the source is, 0 to 1; None where it does not say."""


@dataclass
class _Letter:
    """A letter or digit of a text."""

    letter: str
    at: int
    """Its character."""
    begins_piece: bool = False
    """Whether it is the first after a space."""
    owner: int = -1
    """The spoken word it belongs to; -1: none that is known."""
    is_first: bool = False
    is_last: bool = False
    """Of that word."""


def timed_words(
    text: str, spoken: Sequence[WordSpan], duration_s: float, tokenizer: TextTokenizer | None = None
) -> tuple[TimedWord, ...]:
    """The words of a text with their times; () where none is known.

    Args:
        text: of an utterance.
        spoken: words in order of time, from the beginning of the utterance.
        duration_s: of the utterance: times outside it are none.
        tokenizer: gives the ids of `text`; None leaves them at -1.
    """
    spoken = [word for word in _in_order(spoken, duration_s) if next(_letters_of(word.word), None)]
    letters = _letters(text)
    if not letters or not spoken:
        return ()
    _own(letters, spoken)
    words = list(_words(text, letters, spoken))
    if not any(word.start_s is not None or word.end_s is not None for word in words):
        return ()
    return tuple(words) if tokenizer is None else _with_ids(words, text, tokenizer)


def pieces_of(text: str, words: Sequence[TimedWord]) -> list[str]:
    """Each word as it is written, without the spaces around it."""
    ends = [*(word.text_at for word in words[1:]), *([len(text)] if words else [])]
    return [text[word.text_at : end].strip() for word, end in zip(words, ends, strict=True)]


def spans_of(text: str, words: Sequence[TimedWord]) -> tuple[WordSpan, ...]:
    """The words that have both times, as they are written."""
    return tuple(
        WordSpan(piece, word.start_s, word.end_s, word.confidence)
        for piece, word in zip(pieces_of(text, words), words, strict=True)
        if word.start_s is not None and word.end_s is not None
    )


def shifted(words: Sequence[WordSpan], by_s: float) -> tuple[WordSpan, ...]:
    """The same words, all so much later."""
    if not by_s:
        return tuple(words)
    return tuple(replace(word, start_s=word.start_s + by_s, end_s=word.end_s + by_s) for word in words)


def count_words(text: str) -> int:
    """Pieces between spaces that hold a letter or a digit."""
    return sum(next(_letters_of(piece), None) is not None for piece in text.split())


def _letters_of(text: str) -> Iterator[str]:
    """Letters and digits alone, without case and accents."""
    if text.isascii():
        return (c for c in text.lower() if c.isalnum())
    return (c for c in unicodedata.normalize("NFKD", text.casefold()) if c.isalnum())


def _letters(text: str) -> list[_Letter]:
    found: list[_Letter] = []
    after_space = True
    for at, character in enumerate(text):
        after_space = after_space or character.isspace()
        for letter in _letters_of(character):
            found.append(_Letter(letter, at, after_space))
            after_space = False
    return found


def _in_order(spoken: Sequence[WordSpan], duration_s: float) -> Iterator[WordSpan]:
    """Those whose times lie in the utterance, one after the other."""
    last_s = 0.0
    for word in spoken:
        inside = -SLACK_S <= word.start_s <= word.end_s <= duration_s + SLACK_S
        if not inside or word.start_s < last_s - SLACK_S:
            continue
        start_s = min(max(word.start_s, last_s), duration_s)
        last_s = min(max(word.end_s, start_s), duration_s)
        yield replace(word, start_s=start_s, end_s=last_s)


def _own(letters: list[_Letter], spoken: Sequence[WordSpan]) -> None:
    """Say of each letter which spoken word it is of."""
    written = [list(_letters_of(word.word)) for word in spoken]
    if [letter for word in written for letter in word] == [found.letter for found in letters]:
        at = 0
        for owner, word in enumerate(written):
            _take(letters[at : at + len(word)], owner, True, True)
            at += len(word)
        return
    ours, theirs = (
        list(_runs(letters)),
        [(n, *part) for n, word in enumerate(spoken) for part in _parts(word)],
    )
    matcher = SequenceMatcher(
        None, ["".join(f.letter for f in run) for run in ours], [part[1] for part in theirs], autojunk=False
    )
    for block in matcher.get_matching_blocks():
        for place in range(block.size):
            owner, _, is_first, is_last = theirs[block.b + place]
            _take(ours[block.a + place], owner, is_first, is_last)


def _take(letters: list[_Letter], owner: int, is_first: bool, is_last: bool) -> None:
    for letter in letters:
        letter.owner = owner
    letters[0].is_first, letters[-1].is_last = is_first, is_last


def _runs(letters: list[_Letter]) -> Iterator[list[_Letter]]:
    """Letters that follow each other with no mark or space between them."""
    run: list[_Letter] = []
    for letter in letters:
        if run and letter.at > run[-1].at + 1:
            yield run
            run = []
        run.append(letter)
    if run:
        yield run


def _parts(word: WordSpan) -> Iterator[tuple[str, bool, bool]]:
    """A spoken word as runs of letters, with whether each is its first and its last."""
    runs = [
        "".join(_letters_of("".join(run)))
        for isletter, run in groupby(unicodedata.normalize("NFC", word.word), str.isalnum)
        if isletter
    ]
    runs = [run for run in runs if run]
    for place, run in enumerate(runs):
        yield run, place == 0, place == len(runs) - 1


def _words(text: str, letters: list[_Letter], spoken: Sequence[WordSpan]) -> Iterator[TimedWord]:
    begins = [n for n, letter in enumerate(letters) if letter.begins_piece or letter.is_first]
    before = 0
    for first, end in zip(begins, [*begins[1:], len(letters)], strict=True):
        head, tail = letters[first], letters[end - 1]
        owners = {letter.owner for letter in letters[first:end]}
        sure = [spoken[owner].confidence if owner >= 0 else None for owner in owners]
        yield TimedWord(
            text_at=_begin(text, head.at, before) if before else 0,
            id_at=-1,
            start_s=spoken[head.owner].start_s if head.is_first else None,
            end_s=spoken[tail.owner].end_s if tail.is_last else None,
            confidence=None if None in sure else min(c for c in sure if c is not None),
        )
        before = tail.at + 1


def _begin(text: str, at: int, before: int) -> int:
    """Where the word begins whose first letter is at `at`: marks after the last space are its own."""
    gap = text[before:at]
    spaces = [place for place, character in enumerate(gap) if character.isspace()]
    return before + spaces[-1] + 1 if spaces else at


def _with_ids(words: list[TimedWord], text: str, tokenizer: TextTokenizer) -> tuple[TimedWord, ...]:
    starts_T, ends_T = tokenizer.places(text)
    placed = [replace(words[0], id_at=0 if len(starts_T) else -1)]
    for word in words[1:]:
        before = len(text[: word.text_at].rstrip())
        place = int(np.searchsorted(starts_T, before))
        torn = place == len(starts_T) or (place > 0 and ends_T[place - 1] > word.text_at)
        placed.append(replace(word, id_at=-1 if torn else place))
    return tuple(placed)
