"""Text in, sound out, both as they come: one WebSocket, one voice.

    client   {"type": "start", "voice": …, "seed": …, "temperature": …, "top_p": …, "codes": …, "api_key": …}
    server   {"type": "started", "sample_rate_hz": …, "format": "pcm_s16le", "unused": [fields that change nothing]}
    client   {"type": "text", "text": "…"}            as often as there is more; sentences are spoken as they close
    server   {"type": "sentence", "text": "…"}, then binary messages of 16-bit samples, {"type": "codes", …} before each
    client   {"type": "end"}                          the rest is spoken; or {"type": "cancel"}
    server   {"type": "done", "first_sound_s": …, "speech_s": …, "elapsed_s": …, "ending": …}

Anything that fails is told as {"type": "error", "error": {…}} and closes the connection.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import ValidationError

from sodakit.files import parse_json
from sodakit.generate.sampling import Sampling
from sodakit.generate.segmentation import SHORTEST_SENTENCE, cut_at_sentences
from sodakit.serve.guard import Access, bearer
from sodakit.serve.problems import Problem, as_problem
from sodakit.serve.schemas import Seed, Temperature, TopP, Wanted, check_letters
from sodakit.serve.service import Service, Timing
from sodakit.serve.sound import pcm_bytes

live_router = APIRouter()


class Start(Wanted):
    """The first message."""

    voice: str = "default"
    seed: int = Seed
    temperature: float = Temperature
    top_p: float = TopP
    codes: bool = False
    api_key: str | None = None
    """Browsers cannot set headers here."""


@live_router.websocket("/v1/audio/live")
async def live(socket: WebSocket) -> None:
    """Speak what the client writes, while it writes."""
    await socket.accept()
    service: Service = socket.app.state.service
    try:
        start = await _start(socket, socket.app.state.access)
        await _converse(socket, service, start)
    except WebSocketDisconnect:
        return
    except Exception as error:
        problem = as_problem(error)
        # The client may have left in the meantime: then there is nobody to tell.
        try:
            await socket.send_json({"type": "error", **problem.to_plain()})
            await socket.close(1011 if problem.status >= 500 else 1008)
        except (RuntimeError, WebSocketDisconnect):
            return


async def _start(socket: WebSocket, access: Access) -> Start:
    message = await _message(socket, socket.app.state.service.limits.header_s)
    if message.get("type") != "start":
        raise Problem(400, f"The first message has type {message.get('type')!r}; needed: 'start'.")
    try:
        start = Start.model_validate(message)
    except ValidationError as error:
        first = error.errors()[0]
        raise Problem(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    spoken = None if start.api_key is None else start.api_key.encode("utf-8", "surrogatepass")
    access.check_key(bearer(socket.headers) or spoken)
    return start


async def _message(socket: WebSocket, timeout_s: float) -> dict[str, Any]:
    try:
        text = await asyncio.wait_for(socket.receive_text(), timeout_s)
        message = parse_json(text)
    except TimeoutError:
        raise Problem(408, f"No message for {timeout_s:g} s.", code="too_slow") from None
    except (ValueError, KeyError):
        raise Problem(400, 'A message that is not JSON text. Send {"type": …}.') from None
    if not isinstance(message, dict):
        raise Problem(400, 'A message that is no object. Send {"type": …}.')
    return message


async def _converse(socket: WebSocket, service: Service, start: Start) -> None:
    sampling = Sampling(temperature=start.temperature, top_p=start.top_p)
    speaker = service.speaker(start.voice, sampling, start.seed, None)
    sentences: asyncio.Queue[str | None] = asyncio.Queue()
    await socket.send_json(
        {
            "type": "started",
            "sample_rate_hz": service.rate_hz,
            "format": "pcm_s16le",
            "model": service.name,
            "origin": speaker.origin,
            "unused": sorted({*(start.model_extra or {})} - {"type"}),
        }
    )

    async def listen() -> None:
        async for sentence in _sentences(socket, service):
            sentences.put_nowait(sentence)
        sentences.put_nowait(None)
        await _until_cancelled(socket)

    async def talk() -> None:
        timing, stream = Timing(), service.stream()
        while (sentence := await sentences.get()) is not None:
            if speaker.silent:
                timing.note("limit")
                break
            await _send(socket, service, {"type": "sentence", "text": sentence})
            async with aclosing(service.speech(speaker, sentence, timing, stream)) as chunks:
                async for chunk in chunks:
                    if start.codes:
                        await _send(socket, service, {"type": "codes", "codes": chunk.codes_KF.tolist()})
                    await _send(socket, service, pcm_bytes(chunk.samples_S))
        for chunk in await service.rest(stream, timing):
            await _send(socket, service, pcm_bytes(chunk.samples_S))
        await _send(socket, service, {"type": "done", **timing.to_plain()})

    # Whichever ends first ends the other: no more talk when the client leaves, no more listening when all is said.
    tasks = [asyncio.create_task(listen()), asyncio.create_task(talk())]
    try:
        finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in finished:
            task.result()
        await socket.close()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _sentences(socket: WebSocket, service: Service) -> AsyncGenerator[str]:
    """Sentences as they close, and at the end what is left."""
    text, total, limits = "", 0, service.limits
    until_s = time.monotonic() + limits.live_s
    while True:
        message = await _message(socket, min(limits.live_idle_s, max(0.0, until_s - time.monotonic())))
        kind = message.get("type")
        if kind == "cancel":
            raise WebSocketDisconnect(1000)
        if kind == "end":
            break
        if kind != "text" or not isinstance(message.get("text"), str):
            raise Problem(400, f"A message of type {kind!r}; needed: 'text' with a text, 'end' or 'cancel'.")
        try:
            total += len(check_letters(message["text"]))
        except ValueError as error:
            raise Problem(400, f"text: {error}.", code="invalid_text", param="text") from None
        if total > limits.text_characters:
            raise Problem(
                400,
                f"More than {limits.text_characters} characters, the most spoken here.",
                code="text_too_long",
            )
        text += message["text"]
        # The last sentence may still go on; a mark behind it keeps its place, and its last space.
        *closed, rest = cut_at_sentences(f"{text}~", shortest=0)
        if len(" ".join(closed)) >= SHORTEST_SENTENCE:
            text = rest[:-1]
            for sentence in cut_at_sentences(" ".join(closed)):
                yield sentence
    for sentence in cut_at_sentences(text):
        yield sentence


async def _until_cancelled(socket: WebSocket) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect" or '"cancel"' in (message.get("text") or ""):
            raise WebSocketDisconnect(1000)


async def _send(socket: WebSocket, service: Service, message: dict[str, Any] | bytes) -> None:
    async with asyncio.timeout(service.limits.write_s):
        if isinstance(message, bytes):
            await socket.send_bytes(message)
        else:
            await socket.send_json(message)
