"""Hostile connections to a server: each is answered as it should or given up, and whoever comes next is served at once."""

import logging
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.eval.small_model import small_speech_model
from tests.hostile.bad_requests import SAY, SPEECH, START, bad_messages, bad_requests, frame, upgrade
from tests.hostile.trial import Trial

MOST_S = 1.0
"""An ordinary request beside it waits no longer."""


def make_whole(folder: Path) -> None:
    """Nothing: what is sent is made bad."""


@contextmanager
def watched() -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and what it logs of its own mistakes."""
    from sodakit.serve.app import build_app
    from sodakit.serve.limits import Limits
    from tests.serve.conftest import serving

    said: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logs = [logging.getLogger(name) for name in ("sodakit.serve", "uvicorn.error")]
    limits = Limits(header_s=1.0, body_s=1.0, idle_s=1.0, live_idle_s=5.0)
    with serving(build_app(small_speech_model(), name="tiny", limits=limits)) as address:
        for log in logs:
            log.addHandler(handler)
        try:
            yield address, said
        finally:
            for log in logs:
                log.removeHandler(handler)


def opened(address: str, first: bytes, wait_s: float = 20.0) -> socket.socket:
    """A connection on which this has been sent."""
    host, port = address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=wait_s)
    with suppress(ConnectionResetError, BrokenPipeError):  # refused, and closed before all of it was sent
        connection.sendall(first.replace(b"HOST", f"{host}:{port}".encode()))
    return connection


def sent(address: str, data: bytes, after: bytes = b"", ends: bytes | None = None) -> bytes:
    """All that comes back until the connection is closed, or this has come; more is sent after the first header."""
    found = b""
    with opened(address, data) as connection:
        try:
            while after and b"\r\n\r\n" not in found:
                found += connection.recv(1 << 16)
            connection.sendall(after)
            while (ends is None or ends not in found) and (more := connection.recv(1 << 16)):
                found += more
        except (ConnectionResetError, BrokenPipeError):
            pass  # refused, and closed before all of it was sent
    return found


def statuses(answer: bytes) -> set[int]:
    """Of all answers on a connection."""
    return {int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", answer)}


def request_answered(names: list[str], whole: Path, folder: Path) -> int:
    import httpx

    with watched() as (address, said), httpx.Client(base_url=address, timeout=30) as client:
        for name in names:
            data, wanted = bad_requests()[name]
            found = statuses(sent(address, data))
            # Half a request is told so.
            assert found <= (wanted or {408}), (name, found, wanted)
            begun_s = time.monotonic()
            answer = client.post(SPEECH.decode(), content=SAY, headers={"Content-Type": "application/json"})
            assert answer.status_code == 200 and time.monotonic() - begun_s < MOST_S, (
                name,
                answer.status_code,
            )
            assert not said, (name, said)
    return len(names)


def message_answered(whole: Path, folder: Path) -> int:
    """Each ends its WebSocket with the right code."""
    with watched() as (address, said):
        for name, (data, ends) in bad_messages().items():
            begun_s = time.monotonic()
            found = sent(address, upgrade(), data, ends[:2])
            assert found.startswith(b"HTTP/1.1 101"), (name, found[:200])
            place = found.rfind(ends[:2])
            assert place > 0 and ends[2:] in found[place:], (name, found[-200:], ends)
            assert time.monotonic() - begun_s < 10 * MOST_S and not said, (name, said)
    return len(bad_messages())


def pings_held_back(whole: Path, folder: Path) -> int:
    """Who never reads the answers to its pings cannot send more of them for ever: they would fill the memory."""
    with watched() as (address, _), opened(address, upgrade(), wait_s=3.0) as connection:
        assert b" 101 " in connection.recv(1 << 16)
        connection.sendall(frame(1, START))
        try:
            for _ in range(500):
                connection.sendall(frame(9, b"p" * 125) * 1000)
        except TimeoutError:
            return 1
    raise AssertionError("60 MB of pings were taken, and their answers by nobody")


def trials() -> dict[str, Trial]:
    """Every trial by name: those of a kind share a server."""
    kinds = ("request:", "body:", "form:")
    return {
        f"server, {kind} all": partial(request_answered, [name for name in bad_requests() if name.startswith(kind)])
        for kind in kinds
    } | {"server, messages": message_answered, "server, pings": pings_held_back}  # fmt: skip
