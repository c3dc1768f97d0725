"""Ids to sound as they arrive, and the end of speech that does not end by itself.

Models of flattened frames often miss their ending: they go on in silence, or say the same thing again and again, until
a limit stops them. `SpeechStream` notices both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sodakit.audio.levels import decibels, rms
from sodakit.audio.watermark import Watermark
from sodakit.audio.wave import Wave
from sodakit.codec.contract import Codec
from sodakit.errors import ConfigError
from sodakit.generate.engine import Batch, Request
from sodakit.generate.speech_model import SpeechModel
from sodakit.tokens.frames import codes_to_ids, ids_to_codes
from sodakit.tokens.vocabulary import Vocabulary

Stop = Literal["silence", "loop"]

FIRST_CHUNK_FRAMES = 1
"""Sound of the first chunk: what one waits for."""
LARGEST_CHUNK_FRAMES = 8
"""Chunks grow up to this: a call to the codec costs nearly the same for one frame as for several. They grow by half,
so that a listener who hears one out is not kept waiting for the next."""
LONGEST_PERIOD_S = 2.5
"""Loops with a longer period are not looked for."""
LOOP_AGREEMENT = 0.95
"""Share of the semantic codes that must come again for a loop: acoustic codes, being sampled, rarely repeat exactly."""


@dataclass(frozen=True, kw_only=True)
class Endings:
    """When speech is taken to be over although the model goes on."""

    silence_s: float | None = 2.5
    """So much silence ends it; None never does."""
    silence_db: float = -40.0
    """Silent is what lies this far below the loudest frame so far, or below -70 dB of full scale."""
    loop_s: float | None = 4.0
    """So much repetition ends it; None never does."""

    def __post_init__(self) -> None:
        for name in ("silence_s", "loop_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}={value}; needed: more than 0 s, or None for no such limit.")


@dataclass(frozen=True)
class Chunk:
    """A little more speech."""

    codes_KF: np.ndarray
    samples_S: np.ndarray
    """The sound that these frames release: theirs, `S = F * frame_samples`, or with a codec that looks ahead, or a
    watermark that waits for a block, that of frames before them."""


class SpeechStream:
    """Ids in, one by one; sound out, in chunks whose samples, joined, are those of decoding all codes at once."""

    def __init__(
        self,
        codec: Codec,
        vocabulary: Vocabulary,
        num_codebooks: int,
        endings: Endings | None = None,
        watermark: Watermark | None = None,
    ) -> None:
        self.codec, self.vocabulary, self.num_codebooks = codec, vocabulary, num_codebooks
        self.endings = endings or Endings()
        self._decoder = codec.stream()
        self._marker = watermark.stream(codec.spec.sample_rate_hz) if watermark else None
        self._loudest_db = -np.inf
        self.begin()

    def begin(self) -> None:
        """Start the next piece of the same sound: the codec goes on, the search for endings starts anew."""
        self.stopped: Stop | None = None
        """Why this piece should end now."""
        self._ids: list[int] = []
        self._semantic: list[int] = []
        self._silent_frames = 0
        self._chunk_frames = FIRST_CHUNK_FRAMES

    def push(self, token: int) -> Chunk | None:
        """The chunk that this id completes, if it completes one. Other ids than codes give nothing."""
        if not self.vocabulary.is_audio(np.array(token)):
            return None
        self._ids.append(token)
        return self.flush() if len(self._ids) == self._chunk_frames * self.num_codebooks else None

    def push_codes(self, codes_KF: np.ndarray) -> list[Chunk]:
        """The chunks of a whole piece, up to where it should end."""
        chunks: list[Chunk | None] = []
        for token in codes_to_ids(codes_KF, self.vocabulary, self.num_codebooks).tolist():
            chunks.append(self.push(token))
            if self.stopped:
                break
        else:
            chunks.append(self.flush())
        return [chunk for chunk in chunks if chunk]

    def flush(self) -> Chunk | None:
        """Whatever whole frames are waiting."""
        whole = len(self._ids) // self.num_codebooks * self.num_codebooks
        if not whole:
            return None
        codes_KF = ids_to_codes(np.array(self._ids[:whole]), self.vocabulary, self.num_codebooks)
        self._ids = self._ids[whole:]
        self._chunk_frames = min(self._chunk_frames + max(1, self._chunk_frames // 2), LARGEST_CHUNK_FRAMES)
        chunk = Chunk(codes_KF, self._decoder.push(codes_KF))
        self._watch(chunk)
        return replace(chunk, samples_S=self._marker.push(chunk.samples_S)) if self._marker else chunk

    def finish(self) -> Chunk | None:
        """The sound that waited for more frames, at the end of all pieces; nothing with a causal codec and no watermark."""
        samples_S = self._decoder.finish()
        if self._marker:
            samples_S = np.concatenate([self._marker.push(samples_S), self._marker.finish()])
        if not len(samples_S):
            return None
        return Chunk(np.zeros((self.num_codebooks, 0), np.uint16), samples_S)

    def _watch(self, chunk: Chunk) -> None:
        spec, endings = self.codec.spec, self.endings
        for frame_S in chunk.samples_S.reshape(-1, spec.frame_samples):
            level_db = decibels(rms(frame_S))
            self._loudest_db = max(self._loudest_db, level_db)
            silent = level_db < max(self._loudest_db + endings.silence_db, -70.0)
            self._silent_frames = self._silent_frames + 1 if silent else 0
        self._semantic.extend(chunk.codes_KF[0].tolist())
        if endings.silence_s is not None and self._silent_frames >= endings.silence_s * spec.frame_rate_hz:
            self.stopped = "silence"
        elif endings.loop_s is not None and is_loop(
            self._semantic,
            round(endings.loop_s * spec.frame_rate_hz),
            round(LONGEST_PERIOD_S * spec.frame_rate_hz),
        ):
            self.stopped = "loop"


def is_loop(ids: Sequence[int], length: int, longest_period: int, agreement: float = LOOP_AGREEMENT) -> bool:
    """Whether the last `length` ids, nearly all, are those that came one period before them.

    Args:
        ids: what came so far.
        length: how much repetition makes a loop.
        longest_period: the longest thing repeated; at most half of `length` is looked for.
        agreement: share of the ids that must agree.
    """
    tail = np.asarray(ids[-(length + longest_period) :])
    for period in range(1, min(longest_period, length // 2) + 1):
        if len(tail) < length + period:
            return False
        if np.mean(tail[-length:] == tail[-length - period : -period]) >= agreement:
            return True
    return False


def stream_of(model: SpeechModel, endings: Endings | None = None) -> SpeechStream:
    """A fresh stream of this model's sound."""
    return SpeechStream(model.codec, model.vocabulary, model.template.num_codebooks, endings, model.watermark)


def sound_of_pieces(
    model: SpeechModel, pieces: Sequence[np.ndarray], *, as_drawn: bool = False, origin: str | None = None
) -> tuple[Wave, np.ndarray]:
    """The sound of pieces said one after another, each codes_KF, as a server would send it; and its codes.

    Args:
        model: whose codec is used.
        pieces: codes_KF of each.
        as_drawn: keep silence and repetition at the end of each.
        origin: what a file says of it; default: the model's.
    """
    endings = Endings(silence_s=None, loop_s=None) if as_drawn else Endings()
    stream = stream_of(model, endings)
    chunks = []
    for codes_KF in pieces:
        stream.begin()
        chunks += stream.push_codes(codes_KF)
    chunks += [last for last in [stream.finish()] if last]
    spec = model.codec.spec
    samples_S = np.concatenate([np.zeros(0, np.float32), *(c.samples_S for c in chunks)])
    codes_KF = np.concatenate(
        [np.zeros((spec.num_codebooks, 0), np.uint16), *(c.codes_KF for c in chunks)], axis=1
    )
    return Wave(samples_S, spec.sample_rate_hz, model.origin() if origin is None else origin), codes_KF


def stream_speech(model: SpeechModel, request: Request, endings: Endings | None = None) -> Iterator[Chunk]:
    """The answer to a request for speech, as sound that comes while it is being made.

    Raises:
        ConfigError: the prompt does not fit the context.
    """
    batch = Batch(model.engine, capacity=1, prefixes=0)
    stream = stream_of(model, endings)
    batch.admit(request)
    while batch.rows and not stream.stopped:
        for _, tokens in batch.step():
            for token in tokens:
                if chunk := stream.push(token):
                    yield chunk
    for last in (None if stream.stopped else stream.flush(), stream.finish()):
        if last:
            yield last
