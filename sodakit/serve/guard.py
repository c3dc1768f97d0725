"""Who may speak to the server, and how much they may send."""

import asyncio
import hmac
import re
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sodakit.serve.limits import Limits
from sodakit.serve.problems import Problem
from sodakit.serve.turns import CALLER, Turns

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TEXT_BYTES = 1 << 20
"""Largest body that is no upload of a file."""
TOO_MANY = "Too many uploads at once. Try again in a moment."
_OPEN = re.compile(r"/|/health|/openapi\.json|/page/.*", re.DOTALL)
"""Addresses that need no key: the page asks for it itself."""
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^][:@/?#\s]+))(?::\d{0,5})?")
_SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


@dataclass(frozen=True)
class Access:
    """Who is let in."""

    api_key: str | None = None
    """Needed as `Authorization: Bearer …`, if set."""
    hosts: tuple[str, ...] | None = LOOPBACK
    """Names by which the server may be called; None for any. A page elsewhere can make a browser call a loopback
    address by a name of its own (DNS rebinding), and is stopped here."""
    origins: tuple[str, ...] = ()
    """Other sites whose pages may use the server, as https://example.org; * for all."""

    def check_key(self, given: bytes | None) -> None:
        """Raise unless the key is right.

        Raises:
            Problem: 401.
        """
        if self.api_key is None:
            return
        if not given:
            raise Problem(
                401, "An API key is needed. Send it as 'Authorization: Bearer KEY'.", code="missing_api_key"
            )
        if not hmac.compare_digest(given, self.api_key.encode("utf-8", "surrogateescape")):
            raise Problem(401, "The API key is wrong.", code="invalid_api_key")

    def check_caller(self, headers: Headers) -> None:
        """Raise for another host name, or a page of another site.

        Raises:
            Problem: 403.
        """
        host = headers.get("host", "")
        if self.hosts is not None and host_name(host) not in [_bare(name) for name in self.hosts]:
            raise Problem(
                403,
                f"This server is not called {host[:80]!r}. Name further names with --allow-host.",
                code="wrong_host",
            )
        origin = headers.get("origin")
        # "null", of files and sandboxes, is another site too.
        if origin and not self.is_allowed(origin) and _site(origin) != host.lower():
            raise Problem(
                403,
                "Pages of other sites may not use this server. Name those that may with --allow-origin.",
                code="wrong_origin",
            )

    def is_allowed(self, origin: str) -> bool:
        """Whether pages of another site may use the server."""
        return "*" in self.origins or origin.lower() in self.origins


def bearer(headers: Headers) -> bytes | None:
    """The key in the Authorization header."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip().encode("latin-1") if kind.lower() == "bearer" else None


def host_name(host: str) -> str:
    """The name in a Host header, small, without port and brackets; "" if it is none."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]).lower().removesuffix(".") if found else ""


class Guard:
    """ASGI middleware: checks the caller, and the key before a byte of the body is read; counts the body's bytes."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits, turns: Turns) -> None:
        self.app, self.access, self.limits, self.turns = app, access, limits, turns
        self._in_flight_bytes = 0
        self._pace = asyncio.Lock()
        self._live: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers, host = Headers(scope=scope), (scope.get("client") or ("",))[0]
        largest, has_file = self.limits.upload_bytes, _has_file(headers)
        if not has_file:
            largest = min(TEXT_BYTES, largest)
        CALLER.set(f"{host} {scope['path']}")
        try:
            self.access.check_caller(headers)
            if scope["type"] == "websocket":
                return await self._converse(host, scope, receive, send)
            if not _OPEN.fullmatch(scope["path"].removeprefix(scope.get("root_path", ""))):
                self.access.check_key(bearer(headers))
            length = _length(headers, largest)
            with self.turns.expected() if has_file else nullcontext():
                if has_file and self._in_flight_bytes + length > self.limits.in_flight_bytes:
                    raise Problem(429, TOO_MANY, code="rate_limit_exceeded")
                await self._exchange(largest, scope, receive, send)
        except Problem as problem:
            await problem.response()(scope, receive, send)

    async def _converse(self, host: str, scope: Scope, receive: Receive, send: Send) -> None:
        if self._live[host] >= self.limits.client_live:
            raise Problem(
                429, f"{self._live[host]} WebSockets are open to this address already.", code="too_many"
            )
        self._live[host] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._live[host] -= 1
            if not self._live[host]:
                del self._live[host]

    async def _exchange(self, largest: int, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            more = len(message.get("body", b""))
            received, self._in_flight_bytes = received + more, self._in_flight_bytes + more
            if received > TEXT_BYTES:
                # Forms are read by Python. One piece of a large one between two looks at everything else.
                async with self._pace:
                    await asyncio.sleep(0)
            # The form parser lets this kind of exception through, and turns others into a plain 400.
            if received > largest:
                raise HTTPException(413, _too_large(largest).message)
            if self._in_flight_bytes > self.limits.in_flight_bytes:
                raise HTTPException(429, TOO_MANY)
            return message

        try:
            await self.app(scope, counted, _secured(send))
        finally:
            self._in_flight_bytes -= received


def _has_file(headers: Headers) -> bool:
    return headers.get("content-type", "").lower().startswith("multipart/form-data")


def _length(headers: Headers, largest: int) -> int:
    """What the header says of the body's length; 0 if nothing."""
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length) > largest:
        raise _too_large(largest)
    return int(length)


def _too_large(largest: int) -> Problem:
    return Problem(
        413,
        f"The body is larger than {largest / 2**20:g} MiB, the most allowed here.",
        code="upload_too_large",
    )


def _secured(send: Send) -> Send:
    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_SECURITY_HEADERS]}
        await send(message)

    return secured


def _bare(name: str) -> str:
    return name.lower().strip("[]").removesuffix(".")


def _site(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None
