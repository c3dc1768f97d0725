"""Recordings and texts longer than the context: cut at pauses and sentences, one piece leading to the next.

A plan is a generator: it yields requests, is sent their completions, and returns its result. `carry_out` runs one with
an engine; a server runs many at once, each next to the others.
"""

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from sodakit.audio.levels import frame_powers
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.generate.engine import Completion, Engine, Request
from sodakit.generate.sampling import GREEDY, Sampling
from sodakit.generate.speech_model import SPEECH, SpeechModel, VoiceSample
from sodakit.tokens.documents import Span, Speech, Text
from sodakit.tokens.frames import ids_to_codes

R = TypeVar("R")
Plan = Generator[Request, Completion, R]

TEXT_TOKENS_PER_S = 12.0
"""Room for transcripts: fast speech is 5 syllables a second, and small tokenizers need several ids for one."""
SLOWEST_CHARACTERS_PER_S = 5.0
"""Speech that takes longer than its text at this pace is stopped."""
SHORTEST_SENTENCE = 16
"""Characters; a shorter sentence is spoken together with its neighbour."""
LONGEST_SENTENCE = 240
"""Characters; a longer sentence is cut at a comma or a space."""
_LEVEL_S = 0.02
_SMOOTH_S = 0.2

_ABBREVIATION = re.compile(r"(?:^|\s|\()(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|e\.g|i\.e|No|Fig)\.$")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])|\s*\n\s*")
_CLAUSE_END = re.compile(r"(?<=[,;:–—])\s+|(?<=[，；：、])")


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording with its transcript."""

    start_s: float
    end_s: float
    text: str
    ids_T: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Piece:
    """A stretch of a recording as codes."""

    start_s: float
    end_s: float
    codes_KF: np.ndarray = field(repr=False)


def context_s(model: SpeechModel) -> float:
    """The seconds of speech that fill the model's context."""
    return model.model.config.context / (model.template.num_codebooks * model.codec.spec.frame_rate_hz)


def longest_piece_s(model: SpeechModel) -> float:
    """The longest recording that can be transcribed in one go, its transcript included."""
    tokens_per_s = model.template.num_codebooks * model.codec.spec.frame_rate_hz + TEXT_TOKENS_PER_S
    return (model.model.config.context - 32) / tokens_per_s


def cut_at_pauses(wave: Wave, longest_s: float) -> list[tuple[float, float]]:
    """Stretches (start_s, end_s) of at most `longest_s`, together the whole sound, cut where it is quietest.

    A cut lies in the second half of the stretch that it ends, so that pieces stay long.

    Raises:
        ConfigError: `longest_s` is too short to hold a word.
    """
    if longest_s < 0.5:
        raise ConfigError(f"Pieces of at most {longest_s:.2f} s hold no word; needed: at least 0.5 s.")
    power_F = _smooth_power(wave)
    cuts, end_s = [0.0], wave.duration_s
    while end_s - cuts[-1] > longest_s:
        first = int((cuts[-1] + longest_s / 2) / _LEVEL_S) + 1
        last = int((cuts[-1] + longest_s) / _LEVEL_S)
        cuts.append((first + int(np.argmin(power_F[first:last]))) * _LEVEL_S)
    return list(zip(cuts, [*cuts[1:], end_s], strict=True))


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
        if "\n" not in match[0] and _ABBREVIATION.search(text[start : match.start()]):
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


def carry_out(plan: Plan[R], engine: Engine) -> R:
    """What the plan returns, its requests answered one after another."""
    try:
        request = next(plan)
        while True:
            request = plan.send(engine.generate([request])[0])
    except StopIteration as end:
        return end.value


def encode_pieces(model: SpeechModel, wave: Wave, longest_s: float | None = None) -> list[Piece]:
    """The recording as codes, cut at pauses into pieces that the model can transcribe."""
    return list(each_piece(model, wave, longest_s))


def each_piece(model: SpeechModel, wave: Wave, longest_s: float | None = None) -> Iterator[Piece]:
    """`encode_pieces`, one after another: for those who may have to stop."""
    longest_s = min(longest_s or np.inf, longest_piece_s(model))
    for start_s, end_s in cut_at_pauses(wave, longest_s):
        yield Piece(start_s, end_s, model.encode(wave.cut(start_s, end_s)))


def transcription(
    model: SpeechModel, pieces: Sequence[Piece], *, sampling: Sampling = GREEDY, seed: int = 0
) -> Plan[list[Segment]]:
    """A plan: each piece in turn, after the one before it and its transcript where both fit the context."""
    segments: list[Segment] = []
    before: list[Span] = []
    for piece in pieces:
        room = round((piece.end_s - piece.start_s) * TEXT_TOKENS_PER_S) + 16
        spans = [*before, Speech(piece.codes_KF)]
        if _length(model, spans) + room > model.model.config.context:
            spans = [Speech(piece.codes_KF)]
        completion = yield Request(
            prompt_T=model.template.prompt(spans, model.vocabulary.text_start),
            closing=model.vocabulary.text_end,
            max_new_tokens=room,
            text=sampling,
            seed=seed,
        )
        text = model.tokenizer.decode(completion.ids_T).strip()
        segments.append(Segment(piece.start_s, piece.end_s, text, completion.ids_T))
        # A piece that said nothing, or would not end, is no example to follow.
        before = [Speech(piece.codes_KF), Text(completion.ids_T)] if text and completion.ended else []
    return segments


def _length(model: SpeechModel, spans: Sequence[Span]) -> int:
    return 2 + sum(len(model.template.span(span)) for span in spans)


def transcribe_long(model: SpeechModel, wave: Wave, *, longest_s: float | None = None) -> list[Segment]:
    """What is said in a recording of any length, piece by piece.

    Args:
        model: who listens.
        wave: the recording.
        longest_s: of a piece; default: what the context holds.
    """
    return carry_out(transcription(model, encode_pieces(model, wave, longest_s)), model.engine)


class Speaker:
    """One voice through many sentences: the sample given, or else the voice of the first sentence.

    Every later sentence has the same reference before it, as in training documents, so the voice does not drift and
    an engine may keep the reference in memory.
    """

    def __init__(
        self,
        model: SpeechModel,
        voice: VoiceSample | Sequence[Span] | None = None,
        *,
        sampling: Sampling = SPEECH,
        seed: int = 0,
        max_s: float = 120.0,
    ) -> None:
        self.model, self.sampling, self.seed = model, sampling, seed
        self.reference: Sequence[Span] = (
            voice_spans(model, voice) if isinstance(voice, VoiceSample) else voice or ()
        )
        self.left_s = max_s
        """How much more may be said."""
        self.pieces: list[np.ndarray] = []
        """codes_KF of each sentence so far."""

    def request(self, text: str) -> Request:
        """The request that speaks one sentence.

        Raises:
            ConfigError: reference, sentence and its speech do not fit the context.
        """
        model = self.model
        text_T = np.array(model.tokenizer.encode(text), np.int32)
        prompt_T = model.template.speak_prompt(text_T, self.reference)
        frame_tokens, rate_hz = model.template.num_codebooks, model.codec.spec.frame_rate_hz
        wanted_s = 2.0 + len(text) / SLOWEST_CHARACTERS_PER_S
        room_s = (model.model.config.context - len(prompt_T) - 1) / (frame_tokens * rate_hz)
        if room_s < wanted_s / 3:
            raise ConfigError(
                f"The voice sample and a sentence of {len(text)} characters leave {room_s:.1f} s of the model's "
                f"{context_s(model):.1f} s for speech. Use a shorter voice sample, or shorter sentences."
            )
        frames = max(1, int(min(wanted_s, room_s, self.left_s) * rate_hz))
        return Request(
            prompt_T=prompt_T,
            closing=model.vocabulary.audio_end,
            max_new_tokens=frames * frame_tokens + 1,
            semantic=self.sampling,
            acoustic=self.sampling,
            seed=self.seed + len(self.pieces),
            shared_tokens=_length(model, self.reference) - 1 if self.reference else 0,
        )

    def spoke(self, text: str, completion: Completion) -> np.ndarray:
        """Take note of a spoken sentence: its codes_KF."""
        frame_tokens = self.model.template.num_codebooks
        codes_KF = ids_to_codes(completion.ids_T, self.model.vocabulary, frame_tokens)
        self.left_s -= codes_KF.shape[1] / self.model.codec.spec.frame_rate_hz
        self.pieces.append(codes_KF)
        if not self.reference and completion.ended and codes_KF.shape[1]:
            text_T = np.array(self.model.tokenizer.encode(text), np.int32)
            self.reference = (Text(text_T), Speech(codes_KF))
        return codes_KF


def voice_spans(model: SpeechModel, voice: VoiceSample) -> tuple[Span, ...]:
    """A voice sample as it stands in prompts."""
    text_T = np.array(model.tokenizer.encode(voice.text), np.int32)
    return (Text(text_T), Speech(model.encode(voice.wave)))


def speech(speaker: Speaker, text: str) -> Plan[np.ndarray]:
    """A plan: sentence after sentence, until the text or the speaker's time is over. Returns the codes_KF of all."""
    for sentence in cut_at_sentences(text):
        if speaker.left_s * speaker.model.codec.spec.frame_rate_hz < 1:
            break
        completion = yield speaker.request(sentence)
        speaker.spoke(sentence, completion)
    empty_KF = np.zeros((speaker.model.template.num_codebooks, 0), np.uint16)
    return np.concatenate([empty_KF, *speaker.pieces], axis=1)


def speak_long(
    model: SpeechModel,
    text: str,
    *,
    voice: VoiceSample | None = None,
    sampling: Sampling = SPEECH,
    seed: int = 0,
    max_s: float = 120.0,
) -> Wave:
    """A text of any length, spoken sentence by sentence in one voice, at most `max_s` seconds."""
    codes_KF = carry_out(
        speech(Speaker(model, voice, sampling=sampling, seed=seed, max_s=max_s), text), model.engine
    )
    samples_S = model.codec.decode(codes_KF) if codes_KF.shape[1] else np.zeros(0, np.float32)
    return Wave(samples_S, model.codec.spec.sample_rate_hz)
