"""Aligners by CTC: a recogniser that labels frames with letters, held to the text it is given."""

import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sodakit.align.viterbi import forced_path
from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.eval.judges import CtcJudge, HubJudge
from sodakit.eval.normalisers import normalise
from sodakit.eval.recogniser import HOP_SAMPLES, RATE_HZ, SILENCE_FRAMES, SUBSAMPLING
from sodakit.voices.contract import WordSpan

PIECE_S, MARGIN_S = 30.0, 2.0
"""A longer sound is heard in pieces of so many seconds, each with so much of its neighbours on both sides: attention over
minutes costs gigabytes."""

PAUSE_S = 0.16
"""From here on what lies between two words' letters is a pause."""


@dataclass(frozen=True)
class Frames:
    """What a recogniser makes of a sound."""

    log_probs_FV: np.ndarray
    start_s: float
    """Where frame 0 begins."""
    frame_s: float
    """How long a frame is."""


@dataclass(frozen=True, eq=False)
class CtcAligner:
    """Letters along frames, word by word."""

    name: str
    fingerprint: str
    listen: Callable[[Sequence[Wave]], Iterator[Frames]]
    """The frames of each sound."""
    spell: Callable[[str], list[int]]
    """The outputs that write a word; [] where it has no letter that the model knows."""
    blank: int
    between: int | None
    """The output between two words, where the model has one."""
    lead_s: float = 0.0
    """How much a word begins before its first letter is sure."""
    border: float = 0.5
    """Where two words that follow each other meet: 0 is the end of the last letter, 1 the beginning of the next."""

    def align(
        self, waves: Sequence[Wave], texts: Sequence[str], languages: Sequence[str]
    ) -> list[tuple[WordSpan, ...]]:
        """See `contract.Aligner`. The languages do not matter: letters are letters."""
        return [
            self._words(frames, wave.duration_s, text)
            for wave, frames, text in zip(waves, self.listen(waves), texts, strict=True)
        ]

    def _words(self, frames: Frames, duration_s: float, text: str) -> tuple[WordSpan, ...]:
        words = [word for word in text.split() if normalise(word)]
        log_probs_FV = self._with_any_letter(frames.log_probs_FV)
        any_letter = log_probs_FV.shape[1] - 1
        labels: list[int] = []
        places = []
        for word in words:
            if labels and self.between is not None:
                labels.append(self.between)
            # A word of unknown letters, such as a number in figures, is whatever stands between its neighbours.
            letters = self.spell(word) or [any_letter]
            places.append((len(labels), len(labels) + len(letters) - 1))
            labels += letters
        path = forced_path(log_probs_FV, np.array(labels, np.int64), self.blank)
        if path is None:
            return ()
        starts = np.array([path.first_L[first] for first, _ in places])
        ends = np.array([path.last_L[last] + 1 for _, last in places])
        starts_s, ends_s = self._meeting(frames, starts, ends)
        return tuple(
            WordSpan(
                word,
                min(max(float(start_s), 0.0), duration_s),
                min(max(float(end_s), 0.0), duration_s),
                _sureness(log_probs_FV, path.first_L, path.last_L, labels, first, last),
            )
            for word, start_s, end_s, (first, last) in zip(words, starts_s, ends_s, places, strict=True)
        )

    def _meeting(self, frames: Frames, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frames as seconds. Speech seldom pauses between words: what lies between two letters is one of the words'."""
        starts_s, ends_s = (frames.start_s + frames.frame_s * edges for edges in (starts, ends))
        gaps_s = starts_s[1:] - ends_s[:-1]
        begins_s = np.maximum(starts_s - self.lead_s, np.concatenate([[0.0], ends_s[:-1]]))
        meets_s = ends_s[:-1] + self.border * gaps_s
        joined = gaps_s < PAUSE_S
        begins_s[1:] = np.where(joined, meets_s, begins_s[1:])
        ends_s[:-1] = np.where(joined, meets_s, ends_s[:-1])
        return begins_s, ends_s

    def _with_any_letter(self, log_probs_FV: np.ndarray) -> np.ndarray:
        """One output more: the likeliest letter of each frame."""
        letters_FV = log_probs_FV.copy()
        letters_FV[:, [self.blank, *([] if self.between is None else [self.between])]] = -np.inf
        return np.concatenate([log_probs_FV, letters_FV.max(1, keepdims=True)], axis=1)


def _sureness(
    log_probs_FV: np.ndarray,
    first_L: np.ndarray,
    last_L: np.ndarray,
    labels: list[int],
    first: int,
    last: int,
) -> float:
    """The geometric mean of how probable each letter of a word is where it is most."""
    best = [
        float(log_probs_FV[first_L[place] : last_L[place] + 1, labels[place]].max())
        for place in range(first, last + 1)
    ]
    return math.exp(sum(best) / len(best))


def taught_aligner(judge: CtcJudge) -> CtcAligner:
    """The aligner in a small recogniser that was taught here (`eval/judges.py`)."""
    letter = {character: n for n, character in enumerate(judge.alphabet, start=1)}

    def listen(waves: Sequence[Wave]) -> Iterator[Frames]:
        hop_s = HOP_SAMPLES / RATE_HZ
        for log_probs_FV in judge.listen(waves):
            yield Frames(log_probs_FV, -SILENCE_FRAMES * hop_s, SUBSAMPLING * hop_s)

    def spell(word: str) -> list[int]:
        return [letter[c] for c in normalise(word) if c in letter and c != " "]

    # Measured on speech of known times (benchmarks/alignment.py): it is sure of a word's first letter 0.055 s late, and of
    # its last one to the end.
    return CtcAligner(
        judge.name, judge.fingerprint, listen, spell, 0, letter.get(" "), lead_s=0.055, border=0.0
    )


def hub_aligner(judge: HubJudge) -> CtcAligner:
    """The aligner in a CTC model of transformers: wav2vec 2, HuBERT, MMS, …

    Raises:
        ConfigError: it labels no frames with letters.
    """
    if judge.writes:
        raise ConfigError(
            f"{judge.model_id!r} writes token by token and labels no frames. Needed: a CTC model (wav2vec 2, HuBERT, MMS), or a "
            "Whisper in CTranslate2 form (model.bin), as Systran/faster-whisper-base."
        )
    vocabulary: Mapping[str, int] = judge.processor.tokenizer.get_vocab()
    blank = judge.processor.tokenizer.pad_token_id
    between = vocabulary.get(getattr(judge.processor.tokenizer, "word_delimiter_token", None) or "|")

    def spell(word: str) -> list[int]:
        return [
            n for n in (_letter(vocabulary, c) for c in unicodedata.normalize("NFC", word)) if n is not None
        ]

    return CtcAligner(judge.name, judge.fingerprint, _Listener(judge), spell, blank, between)


def _letter(vocabulary: Mapping[str, int], character: str) -> int | None:
    """The output of a letter: as it is, in the other case, or without its accent."""
    bare = unicodedata.normalize("NFD", character)[0]
    for written in (character, character.lower(), character.upper(), bare.lower(), bare.upper()):
        if written in vocabulary and (written.isalnum() or written == "'"):
            return vocabulary[written]
    return None


@dataclass(frozen=True)
class _Listener:
    """The frames of sounds by a model of transformers, long ones in pieces."""

    judge: HubJudge

    def __call__(self, waves: Sequence[Wave]) -> Iterator[Frames]:
        hop = int(self.judge.model.config.inputs_to_logits_ratio)
        for wave in waves:
            samples_S = resample(wave, RATE_HZ).samples_S
            yield Frames(self._log_probs(samples_S, hop), 0.0, hop / RATE_HZ)

    @torch.inference_mode()
    def _log_probs(self, samples_S: np.ndarray, hop: int) -> np.ndarray:
        piece, margin = (round(s * RATE_HZ) // hop * hop for s in (PIECE_S, MARGIN_S))
        parts: list[np.ndarray] = []
        for first in range(0, max(1, len(samples_S)), piece):
            before = min(margin, first)
            heard_S = samples_S[first - before : first + piece + margin]
            if len(heard_S) <= hop and parts:
                break
            inputs = self.judge.processor(heard_S, sampling_rate=RATE_HZ, return_tensors="pt")
            logits_FV = self.judge.model(**inputs.to(self.judge.model.device)).logits[0]
            is_last = first + piece >= len(samples_S)
            kept_FV = logits_FV[before // hop : None if is_last else (before + piece) // hop]
            parts.append(kept_FV.float().log_softmax(-1).cpu().numpy())
        return np.concatenate(parts)
