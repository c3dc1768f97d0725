"""What went wrong, as OpenAI's clients expect it: `{"error": {"message", "type", "param", "code"}}`."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sodakit.errors import SodakitError

logger = logging.getLogger("sodakit.serve")


class Problem(SodakitError):
    """A request that cannot be answered, with the status that says why."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def to_plain(self) -> dict[str, Any]:
        """The JSON body."""
        return problem_body(self.status, self.message, self.code, self.param)

    def response(self) -> JSONResponse:
        """The HTTP response. Who is turned away for want of room learns when to try again."""
        headers = {"Retry-After": "1"} if self.status in (429, 503) else None
        return JSONResponse(self.to_plain(), self.status, headers)


def busy(waiting: int) -> Problem:
    """Too many requests are waiting."""
    message = (
        f"{waiting} requests are waiting already, as many as this server lets wait. Try again in a moment."
    )
    return Problem(429, message, code="rate_limit_exceeded")


def not_stored(what: str, error: Exception) -> Problem:
    """Something that a client sent has no room on the server's disk. Its log has the path and how much was needed."""
    logger.error("%s could not be kept: %s", what, error)
    message = f"{what} could not be written to the server's disk; its log says more. Try again later."
    return Problem(507, message, code="not_stored")


def problem_body(status: int, message: str, code: str | None, param: str | None) -> dict[str, Any]:
    kind = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
    }
    default = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind.get(status, default), "param": param, "code": code}}


def as_problem(error: Exception) -> Problem:
    """Any error as a problem: a user's mistake keeps its message, a fault of ours is logged and does not leak."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, SodakitError):
        return Problem(400, str(error))
    logger.error("A request failed", exc_info=error)
    return Problem(500, "The server made a mistake; its log says more.", code="internal_error")


def add_problem_handlers(app: FastAPI) -> None:
    """Have every error of `app` answered in this form."""

    @app.exception_handler(SodakitError)
    async def ours(request: Request, error: SodakitError) -> JSONResponse:
        return as_problem(error).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = [str(p) for p in first["loc"] if p not in ("body", "query", "path")]
        name = ".".join(place) or "body"
        return Problem(400, f"{name}: {first['msg']}.", code=first["type"], param=name).response()

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        code = {413: "upload_too_large", 429: "rate_limit_exceeded"}.get(error.status_code)
        if error.status_code == 404:
            message = f"Nothing at {request.url.path}. The addresses are listed at /openapi.json."
        return Problem(error.status_code, message, code=code).response()

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        return Problem(500, "The server made a mistake; its log says more.", code="internal_error").response()
