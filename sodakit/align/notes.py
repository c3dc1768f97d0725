"""Items aligned one batch after the other; what was found is noted, so that a killed run does only what is missing."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from sodakit.align.contract import Aligner
from sodakit.audio.wave import Wave
from sodakit.bounds import Bounded, Share
from sodakit.errors import AudioError, CodecError, ConfigError
from sodakit.holding import hold
from sodakit.prepare.listening import ANY_LENGTH, hear_all, unheard
from sodakit.prepare.notebook import Notebook, Row, note
from sodakit.prepare.recording import Item
from sodakit.tokens.words import count_words, shifted
from sodakit.voices.contract import WordSpan

BATCH_S = 120.0
"""Sound whose notes share a file: what a killed run aligns again."""
NOTES = "aligned"
"""The folder of the notes, in that of the result."""


@dataclass(frozen=True, kw_only=True)
class AlignRule(Bounded):
    """What of an alignment is believed."""

    min_confidence: Share = 0.2
    """An utterance whose words have less, on average, stays as it was: its text is likely another's."""
    again: bool = False
    """Align also utterances whose words have times already."""


@dataclass(frozen=True)
class Counts:
    """What became of the items."""

    aligned: int = 0
    """Have times now."""
    kept: int = 0
    """Had times before, and keep them."""
    left: Counter[str] = field(default_factory=Counter)
    """Stay as they were, by reason."""
    words: int = 0
    """Words of the aligned ones."""
    timed_words: int = 0
    """Those of them with times."""

    def __str__(self) -> str:
        left = ", ".join(f"{reason}: {count}" for reason, count in self.left.most_common())
        share = f" ({self.timed_words / self.words:.1%} of {self.words} words)" if self.words else ""
        return f"{self.aligned} aligned{share}, {self.kept} had times before; as they were: {left or 'none'}"


def align_items(
    items: Sequence[Item], folder: Path, aligner: Aligner, rule: AlignRule, fresh: bool = False
) -> tuple[list[Item], Counts]:
    """The items, those that could be aligned with times of their words, in the same order.

    Args:
        items: sounds with their texts.
        folder: for `aligned/`, the notes.
        aligner: who listens.
        rule: what is believed.
        fresh: set aside what another aligner noted.
    Raises:
        ConfigError: the notes are another aligner's, or cannot be read.
    """
    notebook = Notebook(folder / NOTES)
    with hold(folder, "filled"):
        notebook.begin({"aligner": aligner.name, "fingerprint": aligner.fingerprint}, fresh)
        waiting = unheard((item for item in items if _reason(item, rule) is None), notebook, ANY_LENGTH)
        hear_all(waiting, notebook, partial(_align, aligner), "align (s)", BATCH_S)
    noted = notebook.rows()
    found: list[Item] = []
    aligned = kept = words = timed = 0
    left: Counter[str] = Counter()
    for item in items:
        reason = _reason(item, rule)
        if reason is None:
            spoken, reason = _believed(item, noted.get(item.fingerprint(), []), rule)
        if reason is None:
            aligned, words, timed = aligned + 1, words + count_words(item.text or ""), timed + len(spoken)
            item = replace(item, words=shifted(spoken, item.start_s or 0.0), words_source=aligner.name)
        elif reason == _KNOWN:
            kept += 1
        else:
            left[reason] += 1
        found.append(item)
    return found, Counts(aligned, kept, left, words, timed)


_KNOWN = "known"


def _reason(item: Item, rule: AlignRule) -> str | None:
    """Why an item is not listened to; None where it is."""
    if item.problem is not None:
        return item.reason
    if item.is_text:
        return "no sound"
    if not count_words(item.text or ""):
        return "no transcript"
    return _KNOWN if item.words and not rule.again else None


def _believed(item: Item, rows: Sequence[Row], rule: AlignRule) -> tuple[tuple[WordSpan, ...], str | None]:
    """The words that count, or why none does."""
    if not rows:
        return (), "not readable"
    row = rows[-1]
    if "problem" in row:
        return (), str(row.get("reason", "not readable"))
    words = tuple(_word(plain, item) for plain in row.get("words", ()))
    if not words:
        return (), "not aligned"
    sure = [word.confidence for word in words if word.confidence is not None]
    doubtful = bool(sure) and sum(sure) / len(sure) < rule.min_confidence
    return ((), "doubtful") if doubtful else (words, None)


def _word(plain: Any, item: Item) -> WordSpan:
    try:
        confidence = None if plain.get("confidence") is None else float(plain["confidence"])
        return WordSpan(str(plain["word"]), float(plain["start"]), float(plain["end"]), confidence)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The notes of {item.id} hold {plain!r:.80}; needed: word, start and end. Mend the row, or delete it."
        ) from error


def plain_words(words: Iterable[WordSpan]) -> list[dict[str, Any]]:
    """Words as JSON has them, in the notes as in a manifest."""
    plain = ({"word": w.word, "start": round(w.start_s, 4), "end": round(w.end_s, 4)} for w in words)
    sure = ({} if w.confidence is None else {"confidence": round(w.confidence, 4)} for w in words)
    return [row | more for row, more in zip(plain, sure, strict=True)]


def _align(aligner: Aligner, items: list[Item]) -> list[Row]:
    read = [(item, _read(item)) for item in items]
    heard = [(item, wave) for item, wave in read if isinstance(wave, Wave)]
    texts, languages = [item.text or "" for item, _ in heard], [item.language for item, _ in heard]
    found = aligner.align([wave for _, wave in heard], texts, languages) if heard else []
    rows = [note(item, words=plain_words(words)) for (item, _), words in zip(heard, found, strict=True)]
    return rows + [note(i, reason="not readable", problem=w) for i, w in read if isinstance(w, str)]


def _read(item: Item) -> Wave | str:
    """Its sound, or why there is none."""
    try:
        wave = item.read()
    except (AudioError, CodecError) as error:
        return str(error)
    return wave if wave.duration_s >= 0.05 else "shorter than 0.05 s"
