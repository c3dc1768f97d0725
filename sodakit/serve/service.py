"""The model as a service: jobs to chunks of sound and to transcripts, measured on the way."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sodakit.align.contract import Aligner
from sodakit.align.spread import SpreadAligner
from sodakit.align.subtitles import words_of
from sodakit.audio.wave import Wave
from sodakit.generate.long_form import (
    Piece,
    Segment,
    Speaker,
    continuation,
    frames_in_view,
    pieces_of,
    transcription,
)
from sodakit.generate.long_form import speech as sentence_by_sentence
from sodakit.generate.plans import Plan
from sodakit.generate.sampling import GREEDY, Sampling
from sodakit.generate.speech_model import SpeechModel, VoiceSample
from sodakit.generate.stream import Chunk, SpeechStream, stream_of
from sodakit.generate.translate import Translator
from sodakit.serve.limits import Limits
from sodakit.serve.metrics import Metrics
from sodakit.serve.problems import Problem
from sodakit.serve.recording import Recording
from sodakit.serve.turns import Turns
from sodakit.serve.voices import Voice, Voices, check_sample
from sodakit.serve.worker import Event, Finished, Ids, Job, PieceEnded, Worker
from sodakit.voices.contract import WordSpan

T = TypeVar("T")
ALIASES = frozenset({"tts-1", "tts-1-hd", "gpt-4o-mini-tts", "whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"})  # fmt: skip
"""Names that programs written for OpenAI ask for: they get the one model there is."""
DECODERS = 2
"""Uploads decoded and encoded at the same time: bounds memory. One of them is kept for whom the other is not busy."""
NICENESS = 5
"""Of threads for whom nobody waits at this moment."""
READERS_SHARE = 0.3
"""Of a core and of Python's lock, at most so much is for uploads that are read while speech is awaited."""
AHEAD_S = 2.0
"""Speech so far ahead of its listener yields: the model and the codec work on what others wait for."""
WORDS_RATE_HZ = 16_000
"""What aligners hear."""
FASTEST_CHARACTERS_PER_S = 20.0
"""No text is spoken faster; one that would have to be is refused, not cut."""


@dataclass
class Timing:
    """How long one answer took."""

    started_s: float = field(default_factory=time.perf_counter)
    first_sound_s: float | None = None
    """From request to first sound."""
    speech_s: float = 0.0
    """Sound made so far."""
    heard_s: float | None = None
    """Of a recording that goes on: how much of it was in view, its last seconds."""
    ending: str = "end"
    """Why the answer ended: limit, if something was cut off for want of room; else end, silence or loop."""

    @property
    def ahead_s(self) -> float:
        """How much sound there is that one who listens to it has not heard yet."""
        first_s = self.first_sound_s
        return 0.0 if first_s is None else self.speech_s - (self.elapsed_s - first_s)

    def note(self, ending: str) -> None:
        """Take in how one more piece ended."""
        self.ending = self.ending if self.ending == "limit" else ending

    @property
    def elapsed_s(self) -> float:
        """Since the request came."""
        return time.perf_counter() - self.started_s

    def to_plain(self) -> dict[str, Any]:
        """What clients are told at the end."""
        first_s = self.first_sound_s
        return {
            "first_sound_s": None if first_s is None else round(first_s, 4),
            "speech_s": round(self.speech_s, 3),
            "elapsed_s": round(self.elapsed_s, 3),
            "ending": self.ending,
        } | ({} if self.heard_s is None else {"heard_s": round(self.heard_s, 3)})


class Service:
    """Everything behind the routes."""

    def __init__(
        self,
        model: SpeechModel,
        name: str,
        limits: Limits,
        *,
        voices_folder: Path | None = None,
        piece_s: float | None = None,
        translator: Translator | None = None,
        needs_consent: bool = False,
        aligner: Aligner | None = None,
    ) -> None:
        self.needs_consent = needs_consent
        self.model, self.name, self.limits, self.piece_s = model, name, limits, piece_s
        self.aligner: Aligner = aligner or SpreadAligner()
        self.translator = translator
        self.created = int(time.time())
        self.voices = Voices(model, limits.voices, voices_folder)
        # One place more than one caller may take: for the next caller.
        self.worker = Worker(model.engine, concurrent=limits.concurrent + 1, queue=limits.queue + 1)
        self.turns = Turns(limits.concurrent + 1, limits.queue, limits.request_s)
        self.metrics = Metrics(self.worker, self.turns)
        self.rate_hz = model.codec.spec.sample_rate_hz
        self._ahead = ThreadPoolExecutor(1, "sodakit-ahead", _step_back)
        self._readers = ThreadPoolExecutor(DECODERS, "sodakit-reader", _step_back)
        self._spoken_jobs: set[Job] = set()
        self._decoders = Turns(DECODERS, limits.concurrent + 1, limits.request_s)

    @property
    def voice_s(self) -> float:
        """The longest voice sample: it must leave more than half of the context."""
        return min(self.limits.voice_s, 0.4 * self.model.context_s)

    def check_model(self, name: str) -> None:
        """Raise for a model that is not here.

        Raises:
            Problem: 404.
        """
        if name not in (self.name, *ALIASES):
            raise Problem(
                404,
                f"No model {name[:80]!r}; this server has {self.name!r}.",
                code="model_not_found",
                param="model",
            )

    async def pieces(self, recording: Recording, piece_s: float | None) -> list[Piece]:
        """An upload as codes, in pieces of at most `piece_s`. Its sound is let go before the model begins.

        Raises:
            Problem: it cannot be read, or is too long.
        """

        def encode() -> list[Piece]:
            give_way, pieces = self._giving_way(), []
            for piece in pieces_of(self.model, [self._hear(recording)], piece_s):
                pieces.append(piece)
                if recording.given_up:
                    break
                give_way()
            return pieces

        return await self._read(recording, encode)

    async def codes(self, recording: Recording) -> np.ndarray:
        """The codes_KF of an upload, in one piece.

        Raises:
            Problem: it cannot be read, or is too long.
        """
        return await self._read(recording, lambda: self.model.encode(self._hear(recording)))

    async def _read(self, recording: Recording, work: Callable[[], T]) -> T:
        """What a thread makes of an upload, when it is its turn. The turn lasts as long as the thread, also where the
        client has left: memory is bounded by turns."""
        async with self._decoders.taken():
            task = asyncio.get_running_loop().run_in_executor(self._readers, work)
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                recording.given_up = True
                await asyncio.wait([task])
                raise

    def _giving_way(self) -> Callable[[], None]:
        """For threads that read uploads, to be called now and then: while speech is awaited it rests for so long that
        the work done since was `READERS_SHARE` of the time."""
        worked_s = time.thread_time()

        def give_way() -> None:
            nonlocal worked_s
            now_s = time.monotonic()
            if any(job.rests_until_s <= now_s for job in tuple(self._spoken_jobs)):
                time.sleep((time.thread_time() - worked_s) * (1 / READERS_SHARE - 1))
            worked_s = time.thread_time()

        return give_way

    def _hear(self, recording: Recording) -> Wave:
        wave = recording.read(self.rate_hz, self._giving_way())
        self.metrics.heard_s.inc(wave.duration_s)
        return wave

    def speaker(
        self, voice: str, sampling: Sampling, seed: int, max_s: float | None, param: str = "max_s"
    ) -> Speaker:
        """Who speaks.

        Raises:
            Problem: an unknown voice, one that is kept without the consent needed here, or more seconds than allowed.
        """
        max_s = self.check_length(max_s or self.limits.speech_s, param)
        spans, shift, consent = self.voices.find(voice)
        if spans:
            self.check_consent(consent, "voice")
        return Speaker(self.model, spans, sampling=sampling, seed=seed + shift, max_s=max_s, consent=consent)

    def check_consent(self, consent: str | None, param: str = "consent") -> None:
        """Raise for speech in the voice of a recording without a note of consent, where this server needs one.

        Raises:
            Problem: 400.
        """
        if self.needs_consent and not (consent and consent.strip()):
            raise Problem(
                400,
                "This server takes voices of recordings only with a note of consent. Send `consent`: who agreed to the use "
                "of the voice, and how.",
                code="consent_required",
                param=param,
            )

    def check_length(self, max_s: float, param: str = "max_s") -> float:
        """The seconds of speech, unless they are more than are made here.

        Raises:
            Problem: 400.
        """
        longest_s = self.limits.speech_s
        if max_s > longest_s:
            raise Problem(400, f"{param}={max_s:g}; at most {longest_s:g} s are made here.", param=param)
        return max_s

    def check_text(self, text: str, max_s: float | None = None, param: str = "input") -> str:
        """The text, unless there is nothing in it or too much. Who names `max_s` wants it cut there.

        Raises:
            Problem: 400.
        """
        if not text.strip():
            raise Problem(400, f"{param} holds no text.", code="empty_text", param=param)
        if len(text) > self.limits.text_characters:
            raise Problem(
                400,
                f"{param} has {len(text)} characters; at most {self.limits.text_characters} are spoken here. Send it in parts.",
                code="text_too_long",
                param=param,
            )
        longest_s, needed_s = self.limits.speech_s, len(text) / FASTEST_CHARACTERS_PER_S
        if max_s is None and needed_s > longest_s:
            raise Problem(
                400,
                f"{param} has {len(text)} characters, more than {needed_s:.0f} s of speech; at most {longest_s:g} s "
                "are made here. Send it in parts, or send max_s to have its beginning only.",
                code="text_too_long",
                param=param,
            )
        return text

    async def speech(
        self, speaker: Speaker, text: str, timing: Timing, stream: SpeechStream | None = None
    ) -> AsyncGenerator[Chunk]:
        """The text as chunks of sound, sentence by sentence. Who gives a stream takes its `rest` when all is said."""
        sound = stream or self.stream()
        async with aclosing(self.chunks(sentence_by_sentence(speaker, text), timing, sound)) as chunks:
            async for chunk in chunks:
                yield chunk
        if stream is None:
            for chunk in await self.rest(sound, timing):
                yield chunk
        if speaker.unspoken:
            timing.note("limit")

    def stream(self) -> SpeechStream:
        """A fresh stream of sound."""
        return stream_of(self.model)

    async def chunks(self, plan: Plan, timing: Timing, stream: SpeechStream) -> AsyncGenerator[Chunk]:
        """A plan's sound as it is made. A piece that falls silent or repeats itself is ended here.

        Raises:
            Problem: too many requests, or no answer in time.
        """
        async with (
            self.turns.taken() as leave,
            aclosing(self._spoken(plan, timing, stream, leave)) as chunks,
        ):
            async for chunk in chunks:
                yield chunk

    @asynccontextmanager
    async def heard(
        self,
        recording: Recording,
        piece_s: float | None,
        plan: Callable[[list[Piece]], Plan],
    ) -> AsyncGenerator[tuple[Job, AsyncGenerator[Event]]]:
        """The job of a plan over an upload, from its turn on, and its events.

        Raises:
            Problem: too many requests, a recording that cannot be read, or no answer in time.
        """
        async with self.turns.taken() as leave:
            job = self.worker.submit(plan(await self.pieces(recording, piece_s)), leave)
            async with aclosing(job.events(self.limits.request_s)) as events:
                yield job, events

    async def _spoken(
        self, plan: Plan, timing: Timing, stream: SpeechStream, leave: Callable[[], None]
    ) -> AsyncGenerator[Chunk]:
        job = self.worker.submit(plan, leave)
        job.is_listened_to = True
        self._spoken_jobs.add(job)
        try:
            async with aclosing(job.events(self.limits.request_s)) as events:
                async for event in events:
                    for chunk in await self.sound_of(job, event, timing, stream):
                        yield chunk
        finally:
            self._spoken_jobs.discard(job)

    async def sound_of(self, job: Job, event: Event, timing: Timing, stream: SpeechStream) -> list[Chunk]:
        """The sound in an event of a job that speaks."""
        chunks: list[Chunk] = []
        if isinstance(event, Ids) and not stream.stopped:
            # The codec works beside the model, not in its thread: the next frame need not wait for it. Sound that
            # nobody waits for yet is made by one thread for all.
            spare_s = timing.ahead_s - AHEAD_S
            job.rests_until_s = time.monotonic() + spare_s
            pool = self._ahead if spare_s > 0 else None
            chunks = await asyncio.get_running_loop().run_in_executor(pool, _push, stream, event.ids)
            if stream.stopped:
                job.skip(event.piece)
        elif isinstance(event, PieceEnded):
            if not stream.stopped and (last := await asyncio.to_thread(stream.flush)):
                chunks = [last]
            ending = stream.stopped or ("end" if event.completion.ended else "limit")
            timing.note(ending)
            self.metrics.endings.labels(ending).inc()
            stream.begin()
        return [self._measured(chunk, timing) for chunk in chunks]

    async def rest(self, stream: SpeechStream, timing: Timing) -> list[Chunk]:
        """The sound that a codec which looks ahead still held, at the end of a stream."""
        last = await asyncio.to_thread(stream.finish)
        return [self._measured(last, timing)] if last else []

    def _measured(self, chunk: Chunk, timing: Timing) -> Chunk:
        chunk_s = len(chunk.samples_S) / self.rate_hz
        if timing.first_sound_s is None and chunk_s:
            timing.first_sound_s = timing.elapsed_s
            self.metrics.first_sound_s.observe(timing.first_sound_s)
        timing.speech_s += chunk_s
        self.metrics.speech_s.inc(chunk_s)
        return chunk

    async def continuation(
        self, recording: Recording, sampling: Sampling, seed: int, max_s: float, timing: Timing
    ) -> AsyncGenerator[Chunk]:
        """What might be said next, as chunks of sound. Of a long recording the last seconds are heard."""
        async with self.turns.taken() as leave:
            codes_KF = await self.codes(recording)
            timing.heard_s = self.model.duration_s(codes_KF[:, : frames_in_view(self.model, codes_KF, max_s)])
            plan = continuation(self.model, codes_KF, sampling=sampling, max_s=max_s, seed=seed)
            stream = self.stream()
            async with aclosing(self._spoken(plan, timing, stream, leave)) as chunks:
                async for chunk in chunks:
                    yield chunk
            for chunk in await self.rest(stream, timing):
                yield chunk

    async def transcribe(
        self, recording: Recording, timing: Timing, sampling: Sampling = GREEDY
    ) -> AsyncGenerator[tuple[str, list[Segment] | None]]:
        """Text as it is found, with None; at the end the whole, with its segments.

        Raises:
            Problem: too many requests, or no answer in time.
        """
        ids: list[int] = []
        told = before = ""
        async with self.heard(
            recording, self.piece_s, lambda pieces: transcription(self.model, pieces, sampling=sampling)
        ) as (_, events):
            async for event in events:
                if isinstance(event, Ids):
                    ids.extend(event.ids)
                    text = before + self.model.tokenizer.decode(ids)
                    # A letter of several bytes shows as U+FFFD until its last byte is there.
                    if text.startswith(told) and not text.endswith("\ufffd") and len(text) > len(told):
                        yield text[len(told) :], None
                        told = text
                elif isinstance(event, PieceEnded):
                    timing.note("end" if event.completion.ended else "limit")
                    before, ids = f"{told} " if told else "", []
                elif isinstance(event, Finished) and event.result is not None:
                    yield "", event.result

    async def transcript(
        self, recording: Recording, timing: Timing, sampling: Sampling = GREEDY
    ) -> list[Segment]:
        """The whole transcript."""
        segments: list[Segment] = []
        async with aclosing(self.transcribe(recording, timing, sampling)) as parts:
            async for _, found in parts:
                segments = found if found is not None else segments
        return segments

    async def words(self, recording: Recording, segments: list[Segment], language: str) -> list[WordSpan]:
        """When each word of a transcript is said. The recording is read once more: its sound was let go.

        Raises:
            Problem: it cannot be read.
        """

        def find() -> list[WordSpan]:
            wave = recording.read(WORDS_RATE_HZ, self._giving_way())
            return words_of(segments, wave, self.aligner, language)

        return await self._read(recording, find)

    async def add_voice(
        self, name: str, recording: Recording, text: str | None, consent: str | None = None
    ) -> Voice:
        """A new voice; without a transcript, the model writes one.

        Raises:
            Problem: a bad name, a sample too long, no consent where it is needed, or a full shelf.
        """
        self.check_consent(consent)
        self.voices.check_name(name)
        wave = await self._read(recording, lambda: recording.read(self.rate_hz))
        check_sample(wave, self.voice_s)
        if text is None or not text.strip():
            text = " ".join(s.text for s in await self.transcript(recording, Timing()))
        return await asyncio.to_thread(self.voices.add, name, VoiceSample(wave, text.strip(), consent))

    def close(self) -> None:
        """Let the model go."""
        self.worker.close()
        for pool in (self._readers, self._ahead):
            pool.shutdown(wait=False, cancel_futures=True)


def _step_back() -> None:
    """Let the model's thread, for which listeners wait, go before this one (Linux knows such threads)."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _push(stream: SpeechStream, ids: list[int]) -> list[Chunk]:
    chunks = []
    for token in ids:
        if chunk := stream.push(token):
            chunks.append(chunk)
        if stream.stopped:
            break
    return chunks
