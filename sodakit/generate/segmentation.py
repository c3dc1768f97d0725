"""Where recordings and texts may be cut: at pauses, at the ends of sentences.

Sentences are those of many languages: what ends them differs by script, and a point ends none before a small letter.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np

from sodakit.audio.levels import frame_powers
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError

SHORTEST_SENTENCE = 16
"""Characters; a shorter sentence is spoken together with its neighbour."""
LONGEST_SENTENCE = 240
"""Characters; a longer sentence is cut at a comma or a space."""
_LEVEL_S = 0.02
_SMOOTH_S = 0.2

_ABBREVIATIONS = (
    r"[^\W\d_]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|e\.g|i\.e|No|Fig"  # English, and any single letter
    r"|Hr|Fr|Nr|Str|bzw|ca|usw|z\.\s?B|d\.\s?h|u\.\s?a"  # German
    r"|Mme|MM|p\.\s?ex|Sra|Srta|Ud|Uds|Dña|Dn|pág|núm|EE|UU"  # French, Spanish
    r"|Sig|Dott|ecc|Exmo|Exma|dhr|mevr|bijv"  # Italian, Portuguese, Dutch
)
_ABBREVIATION = re.compile(rf"(?:^|[\s(])(?:{_ABBREVIATIONS})\.$")
_SENTENCE_END = re.compile(r"(?<=[.!?…؟۔।॥։።])[\"'”’»)\]]*\s+|(?<=[。！？])|\s*\n\s*")
_CLAUSE_END = re.compile(r"(?<=[,;:–—،؛])\s+|(?<=[，；：、])")


def cut_at_pauses(wave: Wave, longest_s: float) -> list[tuple[float, float]]:
    """Stretches (start_s, end_s) of at most `longest_s`, together the whole sound; see `stretches`."""
    return [(start_s, end_s) for start_s, end_s, _ in stretches([wave], longest_s)]


def stretches(blocks: Iterable[Wave], longest_s: float) -> Iterator[tuple[float, float, Wave]]:
    """The sound in stretches (start_s, end_s, sound) of at most `longest_s`, cut where it is quietest.

    A cut lies in the second half of the stretch that it ends, so that stretches stay long. Memory holds one stretch and
    one block, however long the recording is.

    Args:
        blocks: consecutive parts of one recording.
        longest_s: of a stretch.
    Raises:
        ConfigError: `longest_s` is too short to hold a word.
        AudioError: no samples at all.
    """
    if not longest_s >= 0.5:
        raise ConfigError(f"Pieces of at most {longest_s:.2f} s hold no word; needed: at least 0.5 s.")
    held_S, start, rate_hz = np.zeros(0, np.float32), 0, 1
    for block in blocks:
        rate_hz = block.sample_rate_hz
        held_S = np.concatenate([held_S, block.samples_S]) if len(held_S) else block.samples_S
        # Smoothing looks a little past the last place where a cut may lie.
        while len(held_S) > (longest_s + _SMOOTH_S) * rate_hz:
            cut = _quietest(held_S, rate_hz, longest_s)
            yield start / rate_hz, (start + cut) / rate_hz, Wave(held_S[:cut], rate_hz)
            held_S, start = held_S[cut:], start + cut
    while len(held_S) > longest_s * rate_hz:
        cut = _quietest(held_S, rate_hz, longest_s)
        yield start / rate_hz, (start + cut) / rate_hz, Wave(held_S[:cut], rate_hz)
        held_S, start = held_S[cut:], start + cut
    if not start and not len(held_S):
        raise AudioError("The recording holds no samples.")
    yield start / rate_hz, (start + len(held_S)) / rate_hz, Wave(held_S, rate_hz)


def _quietest(samples_S: np.ndarray, rate_hz: int, longest_s: float) -> int:
    """The sample in the second half of the first `longest_s` around which it is quietest."""
    bin_samples = max(1, round(_LEVEL_S * rate_hz))
    last = int(longest_s * rate_hz) // bin_samples
    first = min(int(longest_s * rate_hz / 2) // bin_samples + 1, last - 1)
    power_F = _smooth_power(Wave(samples_S[: int((longest_s + _SMOOTH_S) * rate_hz)], rate_hz))
    return (first + int(np.argmin(power_F[first:last]))) * bin_samples


def _smooth_power(wave: Wave) -> np.ndarray:
    power_F = frame_powers(wave, _LEVEL_S)
    width = round(_SMOOTH_S / _LEVEL_S)
    return np.convolve(power_F, np.ones(width) / width, mode="same") if len(power_F) >= width else power_F


def cut_at_sentences(
    text: str, *, shortest: int = SHORTEST_SENTENCE, longest: int = LONGEST_SENTENCE
) -> list[str]:
    """The sentences of a text, every word in its place.

    Neighbours shorter than `shortest` characters are joined; sentences longer than `longest` are cut after a comma,
    else at a space, else anywhere.
    """
    found: list[str] = []
    for sentence in _sentences(text):
        for part in _cut(sentence, longest):
            joined = f"{found[-1]} {part}" if found else part
            if found and min(len(found[-1]), len(part)) < shortest and len(joined) <= longest:
                found[-1] = joined
            else:
                found.append(part)
    return found


def _sentences(text: str) -> list[str]:
    found: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if "\n" not in match[0] and _goes_on(
            text[start : match.start()], text[match.end() : match.end() + 1]
        ):
            continue
        found.append(text[start : match.end()].strip())
        start = match.end()
    return [s for s in [*found, text[start:].strip()] if s]


def _cut(sentence: str, longest: int) -> list[str]:
    parts = []
    while len(sentence) > longest:
        head = sentence[: longest + 1]
        clauses = [m.end() for m in _CLAUSE_END.finditer(head) if longest // 3 < m.end() <= longest]
        place = clauses[-1] if clauses else max(head.rfind(" "), 0) or longest
        parts.append(sentence[:place].strip())
        sentence = sentence[place:].strip()
    return [p for p in [*parts, sentence] if p]


def _goes_on(before: str, following: str) -> bool:
    """Whether the point that ends `before` ends no sentence."""
    return before.endswith(".") and (following.islower() or bool(_ABBREVIATION.search(before)))


def spoken_letters(text: str) -> int:
    """How many letters the text has when written as it is spoken: an upper estimate, for any script.

    A digit, a sign such as % or €, and a letter of a script where one stands for a syllable or a word (Chinese, Korean)
    are several; a capital may be spelled out.
    """
    return sum(_SPOKEN_LETTERS.get(unicodedata.category(c), 1) for c in text)


_SPOKEN_LETTERS = {"Nd": 6, "No": 6, "Nl": 6, "Sc": 8, "Sm": 6, "So": 6, "Lo": 4, "Lu": 2}
