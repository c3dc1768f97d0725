"""What a codec's codes tell of phones: on synthetic voices, whose phones are known, and on recordings.

A recording's phones are those that espeak-ng says for its words, laid over the times at which an aligner finds the
words. That is no phonetician's work, but the same for every codec that is compared.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.codec.contract import Codec
from sodakit.codec.fit.sounds import plain_phone
from sodakit.codec.quality import CodebookUse, codebook_use
from sodakit.errors import AudioError
from sodakit.eval.copies import HELD_OUT_SEED, Recording
from sodakit.eval.results import Estimate, estimate
from sodakit.eval.words import normalise
from sodakit.voices.catalogue import UNSEEN_VOICES
from sodakit.voices.contract import PhoneSpan, Speech, WordSpan
from sodakit.voices.engines import Synthesizer
from sodakit.voices.household import sentences

PAUSE = "_"
_NEXT_TO = (-1, 0, 1)
"""Codes of codebook 0 that the probe sees: the one in whose middle the phone sounds, and its neighbours."""
_FOLDS = 5


@dataclass(frozen=True)
class Labelled:
    """A sound and its phones, with gaps where nobody knows them."""

    wave: Wave
    phones: tuple[PhoneSpan, ...]
    group: str
    """Sounds of one group are never on both sides of a probe's test: the speaker, or the sound itself."""

    def at(self, times_s: np.ndarray) -> list[str | None]:
        """The phone at each time, without stress; None where it is not known."""
        if not self.phones:
            return [None] * len(times_s)
        starts_s = np.array([span.start_s for span in self.phones])
        which = np.searchsorted(starts_s, times_s, side="right") - 1
        found = [self.phones[i] if i >= 0 else None for i in which]
        return [
            plain_phone(span.phone) if span is not None and time_s < span.end_s else None
            for span, time_s in zip(found, times_s, strict=True)
        ]


def spoken_phones(count: int) -> list[Labelled]:
    """Held-out sentences by the unseen voices.

    Raises:
        MissingExtra: the package that brings espeak-ng is not installed.
    """
    asked = [
        (text, UNSEEN_VOICES[i % len(UNSEEN_VOICES)])
        for i, text in enumerate(sentences(count, HELD_OUT_SEED))
    ]
    with Synthesizer() as synthesizer:
        spoken = synthesizer.speak_many(asked)
        return [
            Labelled(speech.wave, _to_the_end(speech), voice.name)
            for speech, (_, voice) in zip(spoken, asked, strict=True)
        ]


def _to_the_end(speech: Speech) -> tuple[PhoneSpan, ...]:
    # A codec's last frame may reach beyond the sound.
    *phones, last = speech.phones
    return (*phones, PhoneSpan(last.phone, last.start_s, np.inf))


def recorded_phones(
    recordings: Sequence[Recording], words: Sequence[Sequence[WordSpan]], language: str = "en"
) -> list[Labelled]:
    """The recordings with the phones of their words; those of which no word was found are left out.

    Args:
        words: of each recording, with their times: those of its text, or others, which count for nothing.
        language: ISO 639 code of what is said, whose phones espeak-ng tells.
    """
    voice = UNSEEN_VOICES[0].in_language(language)
    found = []
    with Synthesizer() as synthesizer:
        for number, (recording, spans) in enumerate(zip(recordings, words, strict=True)):
            try:
                speech = synthesizer.speak(recording.text or "", voice) if spans else None
            except AudioError:  # no text, or nothing in it that can be said
                speech = None
            phones = tuple(_laid(speech, spans)) if speech else ()
            if phones:
                found.append(Labelled(recording.wave, phones, recording.speaker or f"sound {number}"))
    return found


def _laid(speech: Speech, spans: Sequence[WordSpan]) -> Iterator[PhoneSpan]:
    """The phones of words that both know, stretched to the times of the recording, and the pauses between neighbours."""
    said, heard = speech.words, [span for span in spans if span.end_s > span.start_s]
    matched = SequenceMatcher(
        None, [_letters(word.word) for word in said], [_letters(word.word) for word in heard], autojunk=False
    ).get_matching_blocks()
    pairs = [(block.a + i, block.b + i) for block in matched for i in range(block.size)]
    before, end_s = (-2, -2), 0.0
    for ours, theirs in pairs:
        source, target = said[ours], heard[theirs]
        # Where a word of either side lies between two that both know, nothing is told.
        if before == (ours - 1, theirs - 1) and target.start_s > end_s:
            yield PhoneSpan(PAUSE, end_s, target.start_s)
        start_s = max(target.start_s, end_s)
        own = [p for p in speech.phones if source.start_s - 1e-6 <= p.start_s < source.end_s - 1e-6]
        stretch = max(0.0, target.end_s - start_s) / max(source.end_s - source.start_s, 1e-6)
        edges = [start_s + stretch * (phone.start_s - source.start_s) for phone in own]
        for phone, (from_s, to_s) in zip(own, pairwise([*edges, max(target.end_s, start_s)]), strict=True):
            yield PhoneSpan(phone.phone, from_s, to_s)
        before, end_s = (ours, theirs), max(target.end_s, start_s)


def _letters(word: str) -> str:
    return "".join(normalise(word).split())


# ------------------------------------------------------------------------------------------------- codebooks


@dataclass(frozen=True)
class LabelledCodes:
    """The codes of some sounds, each codebook in time, and the phone in the middle of each code."""

    codes: list[list[np.ndarray]]
    """By codebook and sound."""
    phones: list[list[list[str | None]]]
    """The same, one for each code."""
    groups: list[str]
    """Of the sounds."""

    def uses(self, codebook_size: int) -> list[CodebookUse]:
        """What each codebook carries; codes whose phone is not known do not count."""
        joined = [
            (np.concatenate(codes), [phone for sound in phones for phone in sound])
            for codes, phones in zip(self.codes, self.phones, strict=True)
        ]
        known = [np.array([phone is not None for phone in phones]) for _, phones in joined]
        return codebook_use(
            [codes_N[known_N] for (codes_N, _), known_N in zip(joined, known, strict=True)],
            [[phone for phone in phones if phone is not None] for _, phones in joined],
            codebook_size,
        )


def labelled_codes(codec: Codec, sounds: Iterable[Labelled]) -> LabelledCodes:
    """The codes of each sound beside its phones."""
    counts = [len(rows) for rows in codec.spec.rows]
    found = LabelledCodes([[] for _ in counts], [[] for _ in counts], [])
    for sound in sounds:
        codes_KF = codec.encode(resample(sound.wave, codec.spec.sample_rate_hz).samples_S)
        for k, codes_N in enumerate(codec.spec.in_time(codes_KF)):
            middles_s = (np.arange(len(codes_N)) + 0.5) / (codec.spec.frame_rate_hz * counts[k])
            found.codes[k].append(codes_N.astype(np.int64))
            found.phones[k].append(sound.at(middles_s))
        found.groups.append(sound.group)
    return found


# ----------------------------------------------------------------------------------------------------- probe


@dataclass(frozen=True)
class PhoneProbe:
    """A linear classifier of the phone, from the code of codebook 0 and its neighbours."""

    accuracy: Estimate
    """On sounds of speakers it was not taught, with the interval over them."""
    most_frequent: float
    """Share of the commonest phone: what knowing no code gives."""


@dataclass(frozen=True)
class RecordedPhones:
    """What a codec's codes tell of phones on recordings."""

    codebooks: tuple[CodebookUse, ...]
    num_codes: int
    """Codes of codebook 0 whose phone is known."""
    probe: PhoneProbe | None
    """None with fewer than two speakers or sounds."""
    words_by: str
    """Who found the words in time."""

    @property
    def purity_ratio(self) -> float:
        """Phone purity of codebook 0 over that of the best other; NaN with one codebook."""
        others = [use.phone_purity for use in self.codebooks[1:]]
        return self.codebooks[0].phone_purity / max(others) if others else float("nan")

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"purity_ratio": self.purity_ratio}


def on_recordings(codec: Codec, sounds: Sequence[Labelled], words_by: str) -> RecordedPhones:
    """Purity and information of every codebook, and the probe of codebook 0."""
    found = labelled_codes(codec, sounds)
    size = codec.spec.codebook_size
    count = sum(phone is not None for sound in found.phones[0] for phone in sound)
    probe = probe_phones(found.codes[0], found.phones[0], found.groups, size)
    return RecordedPhones(tuple(found.uses(size)), count, probe, words_by)


def probe_phones(
    codes: Sequence[np.ndarray],
    phones: Sequence[Sequence[str | None]],
    groups: Sequence[str],
    codebook_size: int,
) -> PhoneProbe | None:
    """How well phones are read off codes by a linear classifier, each group tested by one that was taught the others.

    Args:
        codes: of each sound.
        phones: of each code; None where it is not known.
        groups: of the sounds.
    Returns:
        None with fewer than two groups.
    """
    names = {phone for sound in phones for phone in sound if phone is not None}
    index = {phone: number for number, phone in enumerate(sorted(names))}
    kept = [np.array([n for n, phone in enumerate(sound) if phone is not None], np.int64) for sound in phones]
    seen = [_neighbours(codes_N, codebook_size)[chosen] for codes_N, chosen in zip(codes, kept, strict=True)]
    truth = [np.array([index[phone] for phone in sound if phone is not None], np.int64) for sound in phones]
    fold_of = {group: number % _FOLDS for number, group in enumerate(sorted(set(groups)))}
    if len(fold_of) < 2:
        return None
    right = np.zeros(len(codes))
    for fold in sorted(set(fold_of.values())):
        held = [i for i, group in enumerate(groups) if fold_of[group] == fold]
        taught = [i for i in range(len(groups)) if i not in held]
        scores = _linear(
            np.concatenate([seen[i] for i in taught]), np.concatenate([truth[i] for i in taught]),
            len(_NEXT_TO) * (codebook_size + 1), len(index),
        )  # fmt: skip
        for i in held:
            guessed_N = scores[torch.from_numpy(seen[i])].sum(1).argmax(-1).numpy()
            right[i] = (guessed_N == truth[i]).sum()
    counts = np.array([len(own) for own in truth], float)
    some = counts > 0
    return PhoneProbe(
        estimate(right[some] / counts[some], list(np.array(groups)[some]), weights=counts[some]),
        float(np.bincount(np.concatenate(truth)).max() / counts.sum()),
    )


def _neighbours(codes_N: np.ndarray, size: int) -> np.ndarray:
    """For each code the rows of a table that stand for it and its neighbours, (N, 3); `size` is beyond an end."""
    padded_N = np.pad(codes_N, 1, constant_values=size)
    columns = [padded_N[1 + step : 1 + step + len(codes_N)] for step in _NEXT_TO]
    return np.stack([column + place * (size + 1) for place, column in enumerate(columns)], axis=1)


def _linear(rows_NC: np.ndarray, truth_N: np.ndarray, num_rows: int, classes: int) -> Tensor:
    """The scores (rows, classes) whose sum over the rows seen tells the class: logistic regression, convex, so the same
    from every start."""
    rows, truth = torch.from_numpy(rows_NC), torch.from_numpy(truth_N)
    table = torch.zeros(num_rows, classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([table], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = functional.embedding_bag(rows, table, mode="sum")
        value = functional.cross_entropy(logits, truth, reduction="sum") + 0.5 * table.square().sum()
        value = value / len(truth)
        value.backward()
        return value

    optimizer.step(loss)
    return table.detach()
