"""What comes beside an upload: the fields of forms, each read, refused or named as unused."""

import codecs
import re
import tempfile
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Form, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect

from sodakit.disk import writing
from sodakit.errors import DiskError
from sodakit.files import parse_json
from sodakit.generate.sampling import Sampling
from sodakit.serve.problems import Problem, not_stored
from sodakit.serve.schemas import SoundFormat, TextFormat, Times, check_letters

UNUSED = "X-Sodakit-Unused"
"""The header that names the fields that were sent and changed nothing."""
MAX_FIELDS, FIELD_BYTES = 64, 1 << 16
CONSENT_CHARACTERS = 2000
"""Of a note of consent."""
GATHERED_BYTES = 1 << 18
"""Forms are read in pieces of at least so much: each is handed to a thread that writes it, which costs more than to write it."""
_ABSENT = ("", "null")
"""What clients write into forms for what they do not set."""
_LISTS = ("timestamp_granularities", "include", "known_speaker_")
"""Fields that may come more than once."""
_LISTED = re.compile(r"^(timestamp_granularities|include)(\[\d*\])?$")
"""Lists as clients call them: name, name[], or name[0]."""
_FIELD_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")


class FormRequest(Request):
    """A request whose form holds one file at most, and no field that says nothing."""

    async def stream(self) -> AsyncGenerator[bytes]:
        """The body in pieces of some size."""
        gathered = bytearray()
        async for data in super().stream():
            gathered += data
            if len(gathered) >= GATHERED_BYTES or not data:
                yield bytes(gathered)
                gathered.clear()

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            Problem: 499, which nobody reads.
        """
        try:
            return await super().body()
        except ClientDisconnect:
            raise Problem(499, "The client left.") from None

    async def json(self) -> Any:
        """The body as JSON.

        Raises:
            Problem: 400, it is none.
        """
        if not hasattr(self, "_json"):
            try:
                self._json = parse_json((await self.body()).removeprefix(codecs.BOM_UTF8))
            except ValueError as error:
                raise Problem(400, f"The body is {error}.", code="json_invalid") from None
        return self._json

    async def form(self, **_: Any) -> FormData:  # type: ignore[override]
        """The form, read once.

        Raises:
            HTTPException: 400, it is none, or larger than forms are here.
            Problem: 400, text that is none, or a field twice; 499, which nobody reads; 507, its file cannot be kept.
        """
        try:
            # What the body says of its length is how much room was needed.
            length = self.headers.get("content-length", "")
            with writing(tempfile.gettempdir(), int(length) if length.isdecimal() else None):
                form = await super().form(max_files=1, max_fields=MAX_FIELDS, max_part_size=FIELD_BYTES)
        except ClientDisconnect:
            raise Problem(499, "The client left.") from None
        except DiskError as error:
            raise not_stored("The upload", error) from error
        except (UnicodeError, LookupError) as error:  # of the charset that it names
            raise Problem(400, f"The form cannot be read as text ({error}).", code="invalid_text") from None
        for name, value in form.multi_items():
            try:
                check_letters(name + value if isinstance(value, str) else name)
            except ValueError as error:
                raise Problem(400, f"A field of the form: {error}.", code="invalid_text") from None
            if len(form.getlist(name)) > 1 and not name.startswith(_LISTS):
                raise Problem(400, f"{name[:64]!r} comes twice. Send it once.", code="duplicate", param=name)
        return FormData([(_LISTED.sub(r"\1[]", n), v) for n, v in form.multi_items() if v not in _ABSENT])


class NamingRoute(APIRoute):
    """A route whose answers name, in a header, the fields that were sent and changed nothing."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with that header."""
        handle = super().get_route_handler()
        fields = getattr(self.body_field and self.body_field.field_info.annotation, "model_fields", {})
        known = {field.alias or name for name, field in fields.items()}

        async def naming(request: Request) -> Response:
            request = FormRequest(request.scope, request.receive)
            # Read here first: FastAPI would say of whatever is wrong in it that it cannot be parsed.
            kind = request.headers.get("content-type", "").lower()
            unused = set(await request.form()) - known if kind.startswith("multipart/form-data") else set()
            if kind.startswith("application/json") and await request.body():
                await request.json()
            response = await handle(request)
            unused |= set(getattr(request.state, "unused", ()))
            if named := sorted(name for name in unused if _FIELD_NAME.fullmatch(name)):
                response.headers[UNUSED] = ", ".join(named)
            return response

        return naming


@dataclass(frozen=True)
class WrittenForm:
    """How a text that is heard is to be written."""

    request: Request
    model: Annotated[str, Form()]
    response_format: Annotated[TextFormat, Form()] = "json"
    temperature: Annotated[float, Form(ge=0, le=2, allow_inf_nan=False)] = 0.0
    stream: Annotated[bool, Form()] = False
    prompt: Annotated[str | None, Form(description="Taken and not used.")] = None
    times: Annotated[list[str] | None, Form(alias="timestamp_granularities[]")] = None
    include: Annotated[list[str] | None, Form(alias="include[]")] = None

    def __post_init__(self) -> None:
        unused = ["prompt"] if self.prompt else []
        # Events have one form.
        unused += ["response_format"] if self.stream and self.response_format != "json" else []
        self.request.state.unused = set(unused)
        if self.include:
            raise Problem(
                400,
                f"include[]: {', '.join(self.include)[:80]} is not given here. Leave it out.",
                code="not_supported",
                param="include[]",
            )
        self._check_times(self.times or [])

    @property
    def timed(self) -> Times:
        """What is to be given with its times: the finest that was asked for."""
        asked = set(self.times or ())
        return "word" if "word" in asked else "line" if "line" in asked else "segment"

    def _check_times(self, times: list[str]) -> None:
        problem = None
        if not times:
            return
        if not set(times) <= {"word", "segment", "line"}:
            problem = f"{', '.join(times)[:80]!r}; needed: word, segment or, for subtitles, line"
        elif self.response_format not in ("verbose_json", "srt", "vtt"):
            problem = "times come with response_format=verbose_json, srt or vtt only. Ask for one, or leave the times out"
        elif "line" in times and self.response_format == "verbose_json":
            problem = "lines are those of subtitles. Ask for response_format=srt or vtt, or for word"
        elif self.stream and self.timed != "segment":
            problem = "times of words come when all is heard. Leave stream out"
        if problem:
            raise Problem(
                400,
                f"timestamp_granularities: {problem}.",
                code="not_supported",
                param="timestamp_granularities",
            )


@dataclass(frozen=True)
class SoundForm:
    """How speech is to be made and sent, where a recording is sent along."""

    response_format: Annotated[SoundFormat | None, Form(description="Default: by route.")] = None
    stream_format: Annotated[Literal["audio", "sse"], Form()] = "audio"
    max_s: Annotated[float | None, Form(gt=0, allow_inf_nan=False)] = None
    temperature: Annotated[float | None, Form(ge=0, le=2, allow_inf_nan=False)] = None
    top_p: Annotated[float | None, Form(gt=0, le=1, allow_inf_nan=False)] = None
    seed: Annotated[int, Form(ge=0, lt=2**62)] = 0
    codes: Annotated[bool, Form()] = False
    consent: Annotated[
        str | None,
        Form(max_length=CONSENT_CHARACTERS, description="Who agreed to the use of the voice, and how."),
    ] = None

    def sampling(self, default: Sampling) -> Sampling:
        """How codes are chosen: as asked, else as by default."""
        return Sampling(
            temperature=default.temperature if self.temperature is None else self.temperature,
            top_p=default.top_p if self.top_p is None else self.top_p,
        )
