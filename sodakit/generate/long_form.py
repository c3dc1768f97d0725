"""Recordings and texts of any length, as plans: cut at pauses and sentences, one piece leading to the next."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.generate.defaults import CONTINUATION, CONTINUATION_S, SPEECH
from sodakit.generate.engine import Completion, Request
from sodakit.generate.plans import Plan, carry_out, run_together
from sodakit.generate.sampling import GREEDY, Sampling
from sodakit.generate.segmentation import (
    LONGEST_SENTENCE,
    SHORTEST_SENTENCE,
    cut_at_sentences,
    spoken_letters,
    stretches,
)
from sodakit.generate.speech_model import SpeechModel, Spoken, VoiceSample
from sodakit.generate.stream import sound_of_pieces
from sodakit.tokens.documents import Span, Speech, Text

TEXT_TOKENS_PER_S = 12.0
"""Room for transcripts: fast speech is 5 syllables a second, and small tokenizers need several ids for one."""
SLOWEST_LETTERS_PER_S = 5.0
"""Speech that takes longer than its text at this pace is stopped."""
USUAL_LETTERS_PER_S = 12.0
"""How much text is put into one piece: as much as at this pace fills half of the context."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording with its transcript."""

    start_s: float
    end_s: float
    text: str
    ids_T: np.ndarray = field(repr=False)
    ended: bool = True
    """Whether the transcript ended by itself, rather than where there was no more room for it."""


@dataclass(frozen=True)
class Transcript:
    """What is said in a recording."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The whole of it, on one line."""
        return " ".join(s.text for s in self.segments if s.text)

    @property
    def ended(self) -> bool:
        """Whether every part of it ended by itself."""
        return not self.stopped

    @property
    def stopped(self) -> tuple[str, ...]:
        """What was cut off, a line each."""
        return tuple(
            f"the transcript of {s.start_s:.1f} to {s.end_s:.1f} s was cut off at {len(s.ids_T)} tokens, the most for it"
            for s in self.segments
            if not s.ended
        )


@dataclass(frozen=True)
class Piece:
    """A stretch of a recording as codes."""

    start_s: float
    end_s: float
    codes_KF: np.ndarray = field(repr=False)


def context_s(model: SpeechModel) -> float:
    """The seconds of speech that fill the model's context."""
    return model.context_s


def longest_piece_s(model: SpeechModel) -> float:
    """The longest recording that can be transcribed in one go, its transcript included."""
    return (model.context_positions - 32) / (model.positions_per_s + TEXT_TOKENS_PER_S)


def pieces_of(model: SpeechModel, blocks: Iterable[Wave], longest_s: float | None = None) -> Iterator[Piece]:
    """The recording as codes, cut at pauses into pieces that the model can transcribe, as they are asked for.

    Args:
        model: whose codec is used.
        blocks: consecutive parts of the recording.
        longest_s: of a piece; default: what the context holds.
    """
    longest_s = min(longest_s or np.inf, longest_piece_s(model))
    for start_s, end_s, wave in stretches(blocks, longest_s):
        yield Piece(start_s, end_s, model.encode(wave))


def encode_pieces(model: SpeechModel, wave: Wave, longest_s: float | None = None) -> list[Piece]:
    """All `pieces_of` a sound."""
    return list(pieces_of(model, [wave], longest_s))


def transcription(
    model: SpeechModel, pieces: Iterable[Piece], *, sampling: Sampling = GREEDY, seed: int = 0
) -> Plan[list[Segment]]:
    """A plan: each piece in turn, after the one before it and its transcript where both fit the context."""
    segments: list[Segment] = []
    before: list[Span] = []
    for piece in pieces:
        room = round((piece.end_s - piece.start_s) * TEXT_TOKENS_PER_S) + 16
        spans = [*before, Speech(piece.codes_KF)]
        if model.prompt_positions(spans) + room > model.context_positions:
            spans = [Speech(piece.codes_KF)]
        prompt_T = model.template.prompt(spans, model.vocabulary.text_start)
        completion = yield model.text_request(prompt_T, max_tokens=room, sampling=sampling, seed=seed)
        text = model.tokenizer.decode(completion.ids_T).strip()
        segments.append(Segment(piece.start_s, piece.end_s, text, completion.ids_T, completion.ended))
        # A piece that said nothing, or would not end, is no example to follow.
        before = [Speech(piece.codes_KF), Text(completion.ids_T)] if text and completion.ended else []
    return segments


def transcribe(
    model: SpeechModel,
    blocks: Iterable[Wave],
    *,
    longest_s: float | None = None,
    sampling: Sampling = GREEDY,
    seed: int = 0,
) -> Transcript:
    """What is said in a recording of any length, piece by piece; memory holds one piece of it.

    Args:
        model: who listens.
        blocks: consecutive parts of the recording.
        longest_s: of a piece; default: what the context holds.
        sampling: how text is chosen.
        seed: of the choice.
    """
    pieces = pieces_of(model, blocks, longest_s)
    return Transcript(
        tuple(carry_out(transcription(model, pieces, sampling=sampling, seed=seed), model.engine))
    )


def transcribe_long(model: SpeechModel, wave: Wave, *, longest_s: float | None = None) -> list[Segment]:
    """The segments of `transcribe`."""
    return list(transcribe(model, [wave], longest_s=longest_s).segments)


def transcribe_codes(
    model: SpeechModel, codes: Sequence[np.ndarray], *, sampling: Sampling = GREEDY, seed: int = 0
) -> list[Transcript]:
    """What is said in each codes_KF that fits the context, asked together."""
    pieces = [Piece(0.0, model.duration_s(codes_KF), codes_KF) for codes_KF in codes]
    plans = [transcription(model, [piece], sampling=sampling, seed=seed) for piece in pieces]
    return [Transcript(tuple(segments)) for segments in run_together(plans, model.engine)]


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
        max_s: float | None = None,
        consent: str | None = None,
    ) -> None:
        """
        Args:
            model: who speaks.
            voice: a sample, or one as it stands in prompts; default: whatever the model picks.
            sampling: how codes are drawn.
            seed: of the first sentence; the next has the next.
            max_s: longest speech in all.
            consent: the note of who agreed, for a voice given as spans; a sample has its own.
        Raises:
            ConfigError: no time to speak.
        """
        if max_s is not None and not 0 < max_s < np.inf:
            raise ConfigError(f"max_s={max_s}; needed: more than 0 s.")
        self.model, self.sampling, self.seed = model, sampling, seed
        self.reference: Sequence[Span] = (
            voice_spans(model, voice) if isinstance(voice, VoiceSample) else voice or ()
        )
        self.left_s = np.inf if max_s is None else max_s
        """How much more may be said."""
        self.pieces: list[np.ndarray] = []
        """codes_KF of each sentence so far."""
        self.stopped: list[str] = []
        """Of each sentence that did not end by itself, a line that says where it was stopped, and why."""
        self.unspoken: list[str] = []
        """Sentences for which no time was left."""
        self._given = bool(self.reference)
        self.origin = model.origin(
            cloned=self._given, consent=voice.consent if isinstance(voice, VoiceSample) else consent
        )
        """What a file says of this speech."""
        self._why = ""

    @property
    def silent(self) -> bool:
        """Whether the time is over."""
        return self.left_s < 1 / self.model.codec.spec.frame_rate_hz - 1e-6

    def sentences(self, text: str) -> list[str]:
        """The text in pieces that this model can speak in one go."""
        longest = int(USUAL_LETTERS_PER_S * self.model.context_s / 2)
        return cut_at_sentences(text, longest=min(LONGEST_SENTENCE, max(longest, SHORTEST_SENTENCE)))

    def request(self, text: str) -> Request:
        """The request that speaks one sentence.

        Raises:
            ConfigError: reference, sentence and its speech do not fit the context.
        """
        model, text_T = self.model, self.model.text_ids(text)
        wanted_s = 2.0 + spoken_letters(text) / SLOWEST_LETTERS_PER_S
        prompt_T = model.template.speak_prompt(text_T, self.reference)
        if self.reference and not self._given and model.room_s(prompt_T) < wanted_s / 3:
            self.reference = ()  # our own first sentence: too long to go before this one
            prompt_T = model.template.speak_prompt(text_T)
        room_s = model.room_s(prompt_T)
        if room_s < min(wanted_s / 3, len(text) / USUAL_LETTERS_PER_S):
            raise ConfigError(
                f"The voice sample and a sentence of {len(text)} characters leave {room_s:.1f} s of the model's "
                f"{model.context_s:.1f} s for speech. Use a shorter voice sample, or shorter sentences."
            )
        limits = {
            f"{wanted_s:.1f} s, long enough for it": wanted_s,
            f"{room_s:.1f} s, where the model's context was full": room_s,
            "the end of the time given": self.left_s,
        }
        self._why = min(limits, key=lambda why: limits[why])
        return model.speech_request(
            prompt_T,
            max_s=limits[self._why],
            sampling=self.sampling,
            seed=self.seed + len(self.pieces),
            shared=self.reference or None,
        )

    def spoke(self, text: str, completion: Completion) -> np.ndarray:
        """Take note of a spoken sentence: its codes_KF."""
        codes_KF = self.model.codes_of(completion)
        self.left_s -= self.model.duration_s(codes_KF)
        self.pieces.append(codes_KF)
        if not completion.ended:
            self.stopped.append(
                f"sentence {len(self.pieces)} ({_shortened(text)}) was stopped at {self._why}"
            )
        if not self.reference and completion.ended and codes_KF.shape[1]:
            self.reference = (Text(self.model.text_ids(text)), Speech(codes_KF))
        return codes_KF


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def voice_spans(model: SpeechModel, voice: VoiceSample) -> tuple[Span, ...]:
    """A voice sample as it stands in prompts."""
    return model.voice_spans(voice)


def speech(speaker: Speaker, text: str) -> Plan[np.ndarray]:
    """A plan: sentence after sentence, until the text or the speaker's time is over. Returns the codes_KF of all.

    The speaker notes what was stopped and what was not spoken.
    """
    for sentence in speaker.sentences(text):
        if speaker.silent:
            speaker.unspoken.append(sentence)
            continue
        completion = yield speaker.request(sentence)
        speaker.spoke(sentence, completion)
    empty_KF = np.zeros((speaker.model.codec.spec.num_codebooks, 0), np.uint16)
    return np.concatenate([empty_KF, *speaker.pieces], axis=1)


def speak_together(
    model: SpeechModel,
    texts: Sequence[str],
    *,
    voices: Sequence[VoiceSample | None] | None = None,
    sampling: Sampling = SPEECH,
    max_s: float | None = None,
    seed: int = 0,
    as_drawn: bool = False,
) -> list[Spoken]:
    """See `SpeechModel.speak_many`."""
    for text in texts:
        if not text.strip():
            raise ConfigError("The text is empty. Give words to speak.")
    speakers = [
        Speaker(model, voice, sampling=sampling, seed=seed + number, max_s=max_s)
        for number, voice in enumerate(voices or [None] * len(texts))
    ]
    plans = [speech(speaker, text) for speaker, text in zip(speakers, texts, strict=True)]
    run_together(plans, model.engine)
    return [_heard(speaker, as_drawn) for speaker in speakers]


def _heard(speaker: Speaker, as_drawn: bool) -> Spoken:
    wave, codes_KF = sound_of_pieces(speaker.model, speaker.pieces, as_drawn=as_drawn, origin=speaker.origin)
    unspoken = " ".join(speaker.unspoken)
    stopped = tuple(speaker.stopped)
    return Spoken(wave, codes_KF, not stopped and not unspoken, stopped, unspoken)


def speak_long(
    model: SpeechModel,
    text: str,
    *,
    voice: VoiceSample | None = None,
    sampling: Sampling = SPEECH,
    seed: int = 0,
    max_s: float | None = None,
) -> Wave:
    """A text of any length, spoken sentence by sentence in one voice: the sound of `SpeechModel.speak`."""
    return model.speak(text, voice=voice, sampling=sampling, max_s=max_s, seed=seed).wave


def frames_in_view(model: SpeechModel, codes_KF: np.ndarray, max_s: float) -> int:
    """How many of a recording's last frames are heard for a continuation of `max_s`."""
    whole = model.frames(model.context_s) - 1
    return min(codes_KF.shape[1], max(whole - max(1, model.frames(max_s)), whole // 2))


def continuation(
    model: SpeechModel,
    codes_KF: np.ndarray,
    *,
    sampling: Sampling = CONTINUATION,
    max_s: float = CONTINUATION_S,
    seed: int = 0,
) -> Plan[Spoken]:
    """A plan: what might be said next, without its sound.

    The last seconds are in view that leave room for the continuation, at least half of the context; where it is full,
    what was said goes on from its own second half.
    """
    if not 0 < max_s < np.inf:
        raise ConfigError(f"max_s={max_s}; needed: more than 0 s.")
    left, said, ended = max(1, model.frames(max_s)), [codes_KF[:, :0]], False
    heard, whole = frames_in_view(model, codes_KF, max_s), model.frames(model.context_s)
    view_KF = codes_KF[:, codes_KF.shape[1] - heard :]
    while left > 0 and not ended:
        request = model.speech_request(
            model.template.continue_prompt(view_KF),
            max_s=left / model.codec.spec.frame_rate_hz,
            sampling=sampling,
            seed=seed + len(said) - 1,
        )
        completion = yield request
        more_KF, ended = model.codes_of(completion), completion.ended
        if not more_KF.shape[1] or (
            not ended and more_KF.shape[1] < min(left, model.room_frames(request.prompt_T))
        ):
            said.append(more_KF)  # a server has ended it, for silence or repetition
            break
        said.append(more_KF)
        left -= more_KF.shape[1]
        view_KF = np.concatenate([view_KF, more_KF], axis=1)[:, -(whole // 2) :]
    codes_KF = np.concatenate(said, axis=1)
    silence = Wave(np.zeros(0, np.float32), model.codec.spec.sample_rate_hz)
    return Spoken(silence, codes_KF, ended, heard_s=heard / model.codec.spec.frame_rate_hz)


def continue_long(
    model: SpeechModel,
    codes_KF: np.ndarray,
    *,
    sampling: Sampling = CONTINUATION,
    max_s: float = CONTINUATION_S,
    seed: int = 0,
    consent: str | None = None,
) -> Spoken:
    """The continuation with its sound; see `SpeechModel.continue_speech`."""
    plan = continuation(model, codes_KF, sampling=sampling, max_s=max_s, seed=seed)
    made = carry_out(plan, model.engine)
    origin = model.origin(cloned=True, consent=consent)
    wave, codes_KF = sound_of_pieces(model, [made.codes_KF], origin=origin)
    return replace(made, wave=wave, codes_KF=codes_KF)
