"""Answers that are sent while they are being made, and work that ends when the client leaves."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Send

from sodakit.generate.interpreter import Passage
from sodakit.generate.long_form import Segment
from sodakit.generate.stream import Chunk
from sodakit.serve.connections import trailers_of
from sodakit.serve.problems import Problem, as_problem
from sodakit.serve.schemas import SoundFormat, joined
from sodakit.serve.service import Service, Timing
from sodakit.serve.sound import CONTENT_TYPES, SoundWriter
from sodakit.serve.translation import Words

T = TypeVar("T")
Json = dict[str, Any]
Parts = AsyncGenerator[Chunk] | AsyncGenerator[Words | Chunk | list[Passage]]
"""Sound as it is made, with what is written beside it."""
ENDING = "X-Sodakit-Ending"
"""Why the answer ended: `limit` if something was cut off. A header where that is known in time, else a trailer."""
ORIGIN = "X-Sodakit-Origin"
"""That the sound is synthetic, of which model and in whose voice."""
HEADER_CHARACTERS = 300
"""Of a text in a header, which proxies limit."""


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What the work gives; it is given up when the client leaves.

    Raises:
        Problem: 499, which nobody reads.
    """
    task, left = asyncio.ensure_future(work), asyncio.ensure_future(_has_left(request))
    try:
        await asyncio.wait([task, left], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Problem(499, "The client left.")
        return task.result()
    finally:
        task.cancel()
        left.cancel()
        # What it holds, such as the upload, is given back only when it has ended.
        await asyncio.wait([task, left])


async def _has_left(request: Request) -> None:
    """Wait for it: its connection says so by itself."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@dataclass(frozen=True)
class SoundAnswer:
    """How speech is sent: as a sound file, or as events with pieces of one."""

    kind: SoundFormat
    stream_format: Literal["audio", "sse"]
    codes: bool
    """Whether events hold the codes of their sound too."""
    speed: float = 1.0
    origin: str = ""
    """What the file says of where it comes from; a header says it too."""

    async def response(self, request: Request, service: Service, parts: Parts, timing: Timing) -> Response:
        """The answer, begun as soon as there is sound. Words are events, or headers where there are no events.

        Raises:
            Problem: whatever goes wrong before the first sound.
        """
        writer = SoundWriter(self.kind, service.rate_hz, self.speed, self.origin)
        if self.stream_format == "sse":
            return await _event_stream(request, service, self._events(parts, timing, writer))
        headers = {"X-Sample-Rate": str(service.rate_hz), ORIGIN: self.origin}
        sound = _file(parts, writer, headers, timing)
        return await _streamed(request, service, sound, CONTENT_TYPES[self.kind], headers, timing)

    async def _events(self, parts: Parts, timing: Timing, writer: SoundWriter) -> AsyncGenerator[Json]:
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Chunk):
                    event = {"type": "speech.audio.delta", "audio": _base64(writer.write(part.samples_S))}
                    yield event | ({"codes": part.codes_KF.tolist()} if self.codes else {})
                elif isinstance(part, Words):
                    yield part.to_plain()
        if last := writer.finish():
            yield {"type": "speech.audio.delta", "audio": _base64(last)}
        yield {"type": "speech.audio.done", **timing.to_plain(), "origin": self.origin}


async def text_events(
    request: Request,
    service: Service,
    found: AsyncGenerator[tuple[str, list[Segment] | None]],
    timing: Timing,
) -> Response:
    """A transcript as events: its words as they are found, at the end the whole."""

    async def events() -> AsyncGenerator[Json]:
        async with aclosing(found):
            async for more, segments in found:
                if segments is None:
                    yield {"type": "transcript.text.delta", "delta": more}
                else:
                    ending = {"ending": timing.ending}
                    yield {"type": "transcript.text.done", "text": joined(segments)} | ending

    return await _event_stream(request, service, events())


async def translation_events(
    request: Request,
    service: Service,
    parts: AsyncGenerator[Words | Chunk | list[Passage]],
    timing: Timing,
) -> Response:
    """A written translation as events: what is heard and its translation as they are found, at the end the whole."""

    async def events() -> AsyncGenerator[Json]:
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Words):
                    yield part.to_plain() | ({"ending": timing.ending} if part.done else {})

    return await _event_stream(request, service, events())


async def _file(
    parts: Parts, writer: SoundWriter, headers: dict[str, str], timing: Timing
) -> AsyncGenerator[bytes]:
    texts: dict[str, str] = {}
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, Chunk):
                if data := writer.write(part.samples_S):
                    yield data
            elif isinstance(part, Words) and not part.done:
                # Headers leave with the first bytes: what is written before the first sound is in time for them.
                texts[part.side] = texts.get(part.side, "") + part.text
                headers[f"X-{part.side.title()}"] = quote(texts[part.side][:HEADER_CHARACTERS])
    headers[ENDING] = timing.ending  # in time if nothing has been sent yet
    yield writer.finish()


async def _event_stream(request: Request, service: Service, events: AsyncGenerator[Json]) -> Response:
    begun = False

    async def lines() -> AsyncGenerator[bytes]:
        nonlocal begun
        try:
            async with aclosing(events):
                async for event in events:
                    yield _line(event)
                    begun = True
        except Exception as error:
            if not begun:
                raise
            # Too late for a status: the client learns it here.
            yield _line({"type": "error", **as_problem(error).to_plain()})

    return await _streamed(request, service, lines(), "text/event-stream", {"Cache-Control": "no-store"})


async def _streamed(
    request: Request,
    service: Service,
    parts: AsyncGenerator[bytes],
    content_type: str,
    headers: dict[str, str],
    timing: Timing | None = None,
) -> Response:
    # What cannot be done at all fails with the first part, while there is still a status to say so.
    first = await unless_gone(request, anext(parts, b""))

    trailers = None if ENDING in headers or timing is None else trailers_of(request.scope)
    if trailers is not None:
        headers["Trailer"] = ENDING

    async def all_parts() -> AsyncGenerator[bytes]:
        async with aclosing(parts):
            yield first
            async for part in parts:
                yield part
        if trailers is not None and timing is not None:
            trailers.append((ENDING.lower().encode(), timing.ending.encode()))

    return _PatientResponse(all_parts(), service.limits.write_s, content_type, headers)


class _PatientResponse(StreamingResponse):
    """Given up when the client takes nothing for `write_s`; what makes the parts is closed in any case."""

    def __init__(
        self, parts: AsyncGenerator[bytes], write_s: float, content_type: str, headers: dict[str, str]
    ) -> None:
        super().__init__(parts, media_type=content_type, headers=headers)
        self._parts, self._write_s = parts, write_s

    async def stream_response(self, send: Send) -> None:
        async def patient(message: Any) -> None:
            async with asyncio.timeout(self._write_s):
                await send(message)

        async with aclosing(self._parts):
            await super().stream_response(patient)


def _line(event: Json) -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
