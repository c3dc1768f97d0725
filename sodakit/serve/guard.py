"""Who may speak to the server, and how much they may send."""

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sodakit.serve.problems import Problem

LOOPBACK = ("127.0.0.1", "localhost", "::1")
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

    def check_key(self, given: str | None) -> None:
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
        if not hmac.compare_digest(given.encode(), self.api_key.encode()):
            raise Problem(401, "The API key is wrong.", code="invalid_api_key")

    def check_caller(self, headers: Headers) -> None:
        """Raise for another host name, or a page of another site.

        Raises:
            Problem: 403.
        """
        host = headers.get("host", "")
        if self.hosts is not None and _name(host) not in self.hosts:
            raise Problem(
                403,
                f"This server is not called {_name(host)[:80]!r}. Name further names with --allow-host.",
                code="wrong_host",
            )
        origin = headers.get("origin")
        if origin and urlsplit(origin).netloc != host:  # "null", of files and sandboxes, is another site too
            raise Problem(403, "Pages of other sites may not use this server.", code="wrong_origin")


def bearer(headers: Headers) -> str | None:
    """The key in the Authorization header."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else None


class Guard:
    """ASGI middleware: checks the caller and counts the bytes of every body."""

    def __init__(self, app: ASGIApp, access: Access, upload_bytes: int) -> None:
        self.app, self.access, self.upload_bytes = app, access, upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        try:
            self.access.check_caller(headers)
            if scope["type"] == "websocket":
                return await self.app(scope, receive, send)
            self._check_length(headers)
        except Problem as problem:
            if scope["type"] == "websocket":
                return await send({"type": "websocket.close", "code": 1008, "reason": problem.code or ""})
            return await problem.response()(scope, receive, send)
        await self.app(scope, self._counted(receive), _secured(send))

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.upload_bytes:
            raise self._too_large()

    def _counted(self, receive: Receive) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.upload_bytes:
                # The form parser lets this kind of exception through, and turns others into a plain 400.
                raise HTTPException(413, self._too_large().message)
            return message

        return counted

    def _too_large(self) -> Problem:
        megabytes = self.upload_bytes / 2**20
        return Problem(
            413,
            f"The upload is larger than {megabytes:g} MiB, the most allowed here.",
            code="upload_too_large",
        )


def _secured(send: Send) -> Send:
    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_SECURITY_HEADERS]}
        await send(message)

    return secured


def _name(host: str) -> str:
    # [::1]:8000 has colons of its own.
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
