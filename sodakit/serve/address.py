"""Where the server is found: behind a proxy that serves it below a path, and for those who ask with HEAD."""

import re

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Address:
    """ASGI middleware: paths come with `root_path` or without it, as proxies leave it or cut it off; slashes at their end
    or one after the other mean nothing, as clients join addresses; HEAD is GET without its body."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app, self.root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        path = re.sub("/{2,}", "/", scope["path"])
        if self.root_path and path == self.root_path and scope["type"] == "http":
            # Without the slash, the page's own addresses would be looked for one level higher.
            return await RedirectResponse(f"{self.root_path}/", 308)(scope, receive, send)
        if not path.startswith(f"{self.root_path}/"):
            path = self.root_path + path
        # No redirect: clients send no body, or no key, a second time.
        path = path if path == f"{self.root_path}/" else path.rstrip("/")
        scope = {**scope, "path": path, "root_path": self.root_path}
        if scope.get("method") == "HEAD":
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        await self.app(scope, receive, send)


def _without_body(send: Send) -> Send:
    async def silent(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return silent
