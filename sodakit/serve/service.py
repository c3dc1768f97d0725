"""The model as a service: jobs to chunks of sound and to transcripts, measured on the way."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sodakit.audio.wave import Wave
from sodakit.generate.engine import Request
from sodakit.generate.long_form import Plan, Segment, Speaker, context_s, encode_pieces, speech, transcription
from sodakit.generate.sampling import GREEDY, Sampling
from sodakit.generate.speech_model import SpeechModel, VoiceSample
from sodakit.generate.stream import Chunk, Endings, SpeechStream
from sodakit.generate.translate import Translator
from sodakit.serve.limits import Limits
from sodakit.serve.metrics import Metrics
from sodakit.serve.problems import Problem
from sodakit.serve.sound import decode_upload
from sodakit.serve.voices import Voice, Voices, check_length
from sodakit.serve.worker import Event, Finished, Ids, Job, PieceEnded, Worker

ALIASES = frozenset({"tts-1", "tts-1-hd", "gpt-4o-mini-tts", "whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"})  # fmt: skip
"""Names that programs written for OpenAI ask for: they get the one model there is."""
DECODERS = 4
"""Uploads decoded at the same time: bounds memory."""


@dataclass
class Timing:
    """How long one answer took."""

    started_s: float = field(default_factory=time.perf_counter)
    first_sound_s: float | None = None
    """From request to first sound."""
    speech_s: float = 0.0
    """Sound made so far."""
    ending: str = "end"
    """Why the last piece ended: end, limit, silence or loop."""

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
        }


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
    ) -> None:
        self.model, self.name, self.limits, self.piece_s = model, name, limits, piece_s
        self.translator = translator
        self.created = int(time.time())
        self.voices = Voices(model, limits.voices, voices_folder)
        self.worker = Worker(model.engine, concurrent=limits.concurrent, queue=limits.queue)
        self.metrics = Metrics(self.worker)
        self.rate_hz = model.codec.spec.sample_rate_hz
        self._decoders = asyncio.Semaphore(DECODERS)

    @property
    def voice_s(self) -> float:
        """The longest voice sample: it must leave more than half of the context."""
        return min(self.limits.voice_s, 0.4 * context_s(self.model))

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

    async def read(self, data: bytes, longest_s: float | None = None) -> Wave:
        """The sound in uploaded bytes."""
        async with self._decoders:
            return await asyncio.to_thread(decode_upload, data, longest_s or self.limits.recording_s)

    def speaker(
        self, voice: str, sampling: Sampling, seed: int, max_s: float | None, param: str = "max_s"
    ) -> Speaker:
        """Who speaks.

        Raises:
            Problem: an unknown voice, or more seconds than allowed.
        """
        max_s = self.check_length(max_s or self.limits.speech_s, param)
        spans, shift = self.voices.find(voice)
        return Speaker(self.model, spans, sampling=sampling, seed=seed + shift, max_s=max_s)

    def check_length(self, max_s: float, param: str = "max_s") -> float:
        """The seconds of speech, unless they are more than are made here.

        Raises:
            Problem: 400.
        """
        longest_s = self.limits.speech_s
        if max_s > longest_s:
            raise Problem(400, f"{param}={max_s:g}; at most {longest_s:g} s are made here.", param=param)
        return max_s

    def check_text(self, text: str, param: str = "input") -> str:
        """The text, unless there is nothing in it or too much.

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
        return text

    def speech(
        self, speaker: Speaker, text: str, timing: Timing, stream: SpeechStream | None = None
    ) -> AsyncGenerator[Chunk]:
        """The text as chunks of sound, sentence by sentence."""
        return self.chunks(speech(speaker, text), timing, stream or self.stream())

    def stream(self) -> SpeechStream:
        """A fresh stream of sound."""
        return SpeechStream(
            self.model.codec, self.model.vocabulary, self.model.template.num_codebooks, Endings()
        )

    async def chunks(self, plan: Plan, timing: Timing, stream: SpeechStream) -> AsyncGenerator[Chunk]:
        """A plan's sound as it is made. A piece that falls silent or repeats itself is ended here.

        Raises:
            Problem: too many requests, or no answer in time.
        """
        job = self.worker.submit(plan)
        async with aclosing(job.events(self.limits.request_s)) as events:
            async for event in events:
                for chunk in await self.sound_of(job, event, timing, stream):
                    yield chunk

    async def sound_of(self, job: Job, event: Event, timing: Timing, stream: SpeechStream) -> list[Chunk]:
        """The sound in an event of a job that speaks."""
        chunks: list[Chunk] = []
        if isinstance(event, Ids) and not stream.stopped:
            # The codec works beside the model, not in its thread: the next frame need not wait for it.
            chunks = await asyncio.to_thread(_push, stream, event.ids)
            if stream.stopped:
                job.skip(event.piece)
        elif isinstance(event, PieceEnded):
            if not stream.stopped and (last := await asyncio.to_thread(stream.flush)):
                chunks = [last]
            timing.ending = stream.stopped or ("end" if event.completion.ended else "limit")
            self.metrics.endings.labels(timing.ending).inc()
            stream.begin()
        return [self._measured(chunk, timing) for chunk in chunks]

    def _measured(self, chunk: Chunk, timing: Timing) -> Chunk:
        chunk_s = len(chunk.samples_S) / self.rate_hz
        if timing.first_sound_s is None:
            timing.first_sound_s = timing.elapsed_s
            self.metrics.first_sound_s.observe(timing.first_sound_s)
        timing.speech_s += chunk_s
        self.metrics.speech_s.inc(chunk_s)
        return chunk

    async def continuation(
        self, wave: Wave, sampling: Sampling, seed: int, max_s: float, timing: Timing
    ) -> AsyncGenerator[Chunk]:
        """What might be said next, as chunks of sound.

        Raises:
            Problem: the recording leaves no room in the context.
        """
        codes_KF = await asyncio.to_thread(self.model.encode, wave)
        prompt_T = self.model.template.continue_prompt(codes_KF)
        spec, frame_tokens = self.model.codec.spec, self.model.template.num_codebooks
        left = self.model.model.config.context - len(prompt_T)
        if left < frame_tokens * spec.frame_rate_hz:
            raise Problem(
                400,
                f"{wave.duration_s:.1f} s of recording leave no room in a context of {context_s(self.model):.1f} s. "
                "Send prompt_s, to use the last seconds only.",
                code="context_length_exceeded",
                param="file",
            )
        request = Request(
            prompt_T=prompt_T,
            closing=self.model.vocabulary.audio_end,
            max_new_tokens=max(1, int(max_s * spec.frame_rate_hz)) * frame_tokens + 1,
            semantic=sampling,
            acoustic=sampling,
            seed=seed,
        )
        async with aclosing(self.chunks(_single(request), timing, self.stream())) as chunks:
            async for chunk in chunks:
                yield chunk

    async def transcribe(
        self, wave: Wave, sampling: Sampling = GREEDY
    ) -> AsyncGenerator[tuple[str, list[Segment] | None]]:
        """Text as it is found, with None; at the end the whole, with its segments.

        Raises:
            Problem: too many requests, or no answer in time.
        """
        self.metrics.heard_s.inc(wave.duration_s)
        pieces = await asyncio.to_thread(encode_pieces, self.model, wave, self.piece_s)
        job = self.worker.submit(transcription(self.model, pieces, sampling=sampling))
        ids: list[int] = []
        told = before = ""
        async with aclosing(job.events(self.limits.request_s)) as events:
            async for event in events:
                if isinstance(event, Ids):
                    ids.extend(event.ids)
                    text = before + self.model.tokenizer.decode(ids)
                    # A letter of several bytes shows as U+FFFD until its last byte is there.
                    if text.startswith(told) and not text.endswith("\ufffd") and len(text) > len(told):
                        yield text[len(told) :], None
                        told = text
                elif isinstance(event, PieceEnded):
                    before, ids = f"{told} " if told else "", []
                elif isinstance(event, Finished) and event.result is not None:
                    yield "", event.result

    async def transcript(self, wave: Wave, sampling: Sampling = GREEDY) -> list[Segment]:
        """The whole transcript."""
        segments: list[Segment] = []
        async with aclosing(self.transcribe(wave, sampling)) as parts:
            async for _, found in parts:
                segments = found if found is not None else segments
        return segments

    async def add_voice(self, name: str, wave: Wave, text: str | None) -> Voice:
        """A new voice; without a transcript, the model writes one.

        Raises:
            Problem: a bad name, a sample too long, or a full shelf.
        """
        self.voices.check_name(name)
        check_length(wave, self.voice_s)
        if text is None or not text.strip():
            text = " ".join(s.text for s in await self.transcript(wave))
        return await asyncio.to_thread(self.voices.add, name, VoiceSample(wave, text.strip()))

    def close(self) -> None:
        """Let the model go."""
        self.worker.close()


def _single(request: Request) -> Plan:
    completion = yield request
    return completion


def _push(stream: SpeechStream, ids: list[int]) -> list[Chunk]:
    chunks = []
    for token in ids:
        if chunk := stream.push(token):
            chunks.append(chunk)
        if stream.stopped:
            break
    return chunks
