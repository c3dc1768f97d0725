"""Connections that are not held for nothing: time limits for requests on their way in, and a share for each client.

uvicorn limits how many connections there are and how long an idle one is kept. It waits for ever for a request that
comes in half, and answers 503 to everybody when such halves fill its limit. Here halves have a deadline, and where a
client, or all of them, have too many connections, the one that has been waited for longest makes room.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import h11
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from sodakit.serve.limits import Limits
from sodakit.serve.live_wire import LiveWire
from sodakit.serve.problems import Problem

HEADER_BYTES = 1 << 15
SLOWEST_BYTES_PER_S = 16_000
"""A body that comes more slowly than this, after the time that every body has, is given up."""
STALLED_S = 5.0
"""An answer of which nothing has been taken for so long may make room for others."""
GOODBYE_S = 5
"""A server that is told to stop gives answers in the making so long."""
MOST_CRUMBS, CRUMB_BYTES = 1000, 64
"""A body in more pieces than this, of fewer bytes each, is refused."""
LIVE_BYTES = 1 << 16
"""Longest message of a WebSocket."""
LINGER_S, LINGER_PAUSE_S = 10.0, 0.1
"""How long a connection stays whose request was answered before all of it came, and how often some more of it is taken."""
_TRAILERS = "sodakit.trailers"

State = Literal["idle", "headers", "body", "answer"]


def uvicorn_config(app: ASGIApp, limits: Limits, **settings: Any) -> uvicorn.Config:
    """How uvicorn runs the application within the limits."""
    settings.setdefault("timeout_graceful_shutdown", GOODBYE_S)
    kind = type("LimitedConnection", (Connection,), {"crowd": Crowd(limits)})
    return uvicorn.Config(
        app,
        http=kind,
        ws=LiveWire,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=limits.idle_s,  # type: ignore[arg-type] # uvicorn's timer takes fractions too
        ws_max_size=LIVE_BYTES,
        ws_max_queue=8,
        **settings,
    )


def trailers_of(scope: Scope) -> list[tuple[bytes, bytes]] | None:
    """Where to put header fields that are sent after the body; None if this connection has no such place."""
    if scope.get("http_version") != "1.1" or scope.get("method") == "HEAD":
        return None
    return scope.get("state", {}).get(_TRAILERS)


class Crowd:
    """All connections of a server."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._connections: set[Connection] = set()

    def enter(self, connection: "Connection") -> bool:
        """Whether there is room, or one could be sent away to make it."""
        mine = [c for c in self._connections if c.host == connection.host]
        everybody: Iterable[Connection] = self._connections
        if len(mine) >= self.limits.client_connections:
            crowded = mine
        elif len(self._connections) >= self.limits.connections:
            # Whoever has most of them gives one up.
            largest = Counter(c.host for c in everybody).most_common(1)[0][0]
            crowded = [c for c in everybody if c.host == largest]
        else:
            crowded = []
        waited_for = [c for c in crowded if c.may_leave]
        if crowded and not waited_for:
            return False
        if waited_for:
            oldest = min(waited_for, key=lambda c: (c.state != "idle", c.since_s))
            oldest.send_away(
                Problem(429, "Too many connections, and this one sent no whole request.", code="too_many")
            )
            self.leave(oldest)
        self._connections.add(connection)
        return True

    def leave(self, connection: "Connection") -> None:
        """One has closed."""
        self._connections.discard(connection)


class _Wire(h11.Connection):
    """HTTP/1.1 with trailers, which uvicorn does not send; it closes after a refusal before the body has come.

    It refuses what reads in two ways, and bodies in crumbs, of which each costs as much as a whole piece.
    """

    def __init__(self) -> None:
        super().__init__(h11.SERVER, HEADER_BYTES)
        self.trailers: list[tuple[bytes, bytes]] = []
        self._pieces = self._piece_bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """What has come.

        Raises:
            RemoteProtocolError: no HTTP, or none that is taken.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._piece_bytes = 0
            names = {name for name, _ in event.headers}
            if {b"content-length", b"transfer-encoding"} <= names:
                # A proxy before us may read the other one, and see another request in the body.
                raise h11.RemoteProtocolError("Content-Length and Transfer-Encoding together")
        elif isinstance(event, h11.Data):
            self._pieces, self._piece_bytes = self._pieces + 1, self._piece_bytes + len(event.data)
            if self._pieces > MOST_CRUMBS and self._piece_bytes < self._pieces * CRUMB_BYTES:
                raise h11.RemoteProtocolError("a body in crumbs")
        return event

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]
        """The event as bytes."""
        if isinstance(event, h11.EndOfMessage) and self.trailers:
            event = h11.EndOfMessage(headers=list(self.trailers))
            self.trailers.clear()
        if isinstance(event, h11.Response) and event.status_code >= 400 and self.their_state is h11.SEND_BODY:
            headers = [*event.headers, (b"connection", b"close")]
            event = h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
        return super().send(event)


class _Door:
    """A transport that closes when what is still on its way has come, which it throws away.

    What is unread when a socket closes takes the answer with it, before the client has seen it. A little is taken now
    and then and not looked at: a body of many megabytes, refused by its header, costs next to nothing.
    """

    def __init__(self, transport: asyncio.Transport, wire: _Wire, loop: asyncio.AbstractEventLoop) -> None:
        self.transport, self._wire, self._loop = transport, wire, loop
        self.lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def is_closing(self) -> bool:
        """Whether nothing is to be said here any more."""
        return self.lingers or self.transport.is_closing()

    def close(self) -> None:
        """Close: at once if the whole request has come, or if asked twice."""
        if self.is_closing() or self._wire.their_state is not h11.SEND_BODY:
            self.transport.close()
            return
        try:
            if self.transport.can_write_eof():
                self.transport.write_eof()
        except OSError:  # the client has gone already: nobody waits for the answer
            self.transport.close()
            return
        self.lingers = True
        self._loop.call_later(LINGER_S, self.transport.close)
        self.drop()

    def drop(self) -> None:
        """Something has come; more of it is taken in a moment."""
        self.transport.pause_reading()
        self._loop.call_later(LINGER_PAUSE_S, self._take)

    def _take(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()


class Connection(H11Protocol):
    """One connection, and what is being waited for on it."""

    crowd: ClassVar[Crowd]

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = self._wire = _Wire()
        self.app_state = {**app_state, _TRAILERS: self._wire.trailers}
        self.state: State = "headers"
        self.since_s = self.loop.time()
        self.host = ""
        self._received = self._received_before = 0
        self._write_paused_s: float | None = None
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def may_leave(self) -> bool:
        """Whether it is the client that is waited for."""
        stalled_s = self._write_paused_s
        return self.state != "answer" or (stalled_s is not None and self.loop.time() - stalled_s > STALLED_S)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It opens: its first request is due."""
        self._door = _Door(transport, self._wire, self.loop)
        super().connection_made(self._door)  # type: ignore[arg-type]
        self.host = self.client[0] if self.client else ""
        self._refused = not self.crowd.enter(self)
        self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has closed."""
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        if self._door.lingers:
            self._door.drop()
            return
        if self._refused:
            # Answered now and not at once: what is unread when a socket closes takes the answer with it.
            self.send_away(Problem(429, "Too many connections. Try again in a moment.", code="too_many"))
            return
        self._received += len(data)
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """The next request may come."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """The client takes less than is sent."""
        super().pause_writing()
        self._write_paused_s = self.loop.time()

    def resume_writing(self) -> None:
        """It takes more again."""
        super().resume_writing()
        self._write_paused_s = None

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """From here on `serve/live.py` keeps the time."""
        self._stop_watching()
        self.transport = self._door.transport
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered in JSON too."""
        self.send_away(Problem(400, msg))

    def send_away(self, problem: Problem) -> None:
        """Say why, if there is still time for it, and close at once."""
        if self.transport.is_closing():
            self._door.transport.close()
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and self.state != "idle":
            self._answer(problem)
        self._door.transport.close()

    def _answer(self, problem: Problem) -> None:
        body = json.dumps(problem.to_plain()).encode()
        fields = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        if problem.status == 429:
            fields["retry-after"] = "1"
        for event in (
            h11.Response(status_code=problem.status, headers=list(fields.items())),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")

    def _watch(self) -> None:
        """Note what is waited for now; a new wait has a new deadline."""
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        theirs = self.conn.their_state
        state: State = "answer"
        if theirs is h11.IDLE:
            state = "headers" if self.conn.trailing_data[0] else "idle"
        elif theirs is h11.SEND_BODY:
            state = "body"
        if state != self.state:
            self.state, self.since_s, self._received_before = state, self.loop.time(), self._received
            self._set_timer()

    def _due_s(self) -> float:
        limits = self.crowd.limits
        if self.state == "body":
            received = self._received - self._received_before
            return self.since_s + limits.body_s + received / SLOWEST_BYTES_PER_S
        return self.since_s + limits.header_s

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.state in ("headers", "body"):
            self._timer = self.loop.call_at(self._due_s(), self._check_time)

    def _check_time(self) -> None:
        if self._door.lingers or self.state not in ("headers", "body"):
            return
        if self.state == "body" and self.flow.read_paused:
            # It is we who do not read.
            self.since_s = self.loop.time()
        if self.loop.time() < self._due_s():
            self._set_timer()
        else:
            what = "The request's header" if self.state == "headers" else "The request's body"
            self.send_away(Problem(408, f"{what} came too slowly.", code="too_slow"))

    def _stop_watching(self) -> None:
        self.crowd.leave(self)
        if self._timer is not None:
            self._timer.cancel()
