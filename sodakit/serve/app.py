"""The application: routes, page, guard and numbers around one model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware

from sodakit import __version__
from sodakit.align.contract import Aligner
from sodakit.generate.speech_model import SpeechModel
from sodakit.generate.translate import Translator
from sodakit.serve.address import Address
from sodakit.serve.forms import UNUSED
from sodakit.serve.guard import Access, Guard
from sodakit.serve.limits import Limits
from sodakit.serve.live import live_router
from sodakit.serve.metrics import Measured
from sodakit.serve.problems import add_problem_handlers
from sodakit.serve.routes import ServiceHere, open_router, router
from sodakit.serve.service import Service
from sodakit.serve.streaming import ENDING, ORIGIN

PAGE = Path(__file__).parent / "page"
OUR_HEADERS = (ENDING, ORIGIN, UNUSED, "X-Sample-Rate", "X-Transcript", "X-Translation", "Retry-After")
"""What pages of other sites may read."""


def build_app(
    model: SpeechModel,
    *,
    name: str = "soda",
    limits: Limits | None = None,
    access: Access | None = None,
    voices_folder: Path | None = None,
    piece_s: float | None = None,
    translator: Translator | None = None,
    aligner: Aligner | None = None,
    root_path: str = "",
    needs_consent: bool = False,
) -> FastAPI:
    """The server as an ASGI application; its model thread starts now and ends with the application.

    Args:
        model: who listens and speaks.
        name: what clients call it.
        limits: what they may ask for.
        access: who they are.
        voices_folder: where uploaded voices outlive the server; default: nowhere.
        piece_s: longest piece in which recordings are transcribed and translated; default: what the context holds.
        translator: the same model as one that translates, if it does.
        aligner: who says when words are said; default: they are spread over what is loud, a guess.
        root_path: the path below which a proxy serves it, as /soda.
        needs_consent: whether voices of recordings are refused without a note of consent.
    """
    limits, access = limits or Limits(), access or Access()
    service = Service(
        model,
        name,
        limits,
        voices_folder=voices_folder,
        piece_s=piece_s,
        translator=translator,
        needs_consent=needs_consent,
        aligner=aligner,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # FastAPI's interactive pages load scripts from elsewhere. docs/howto/serve.md is the page; the description that
    # tools read stays at /openapi.json.
    app = FastAPI(
        title="sodakit",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.service, app.state.access = service, access
    add_problem_handlers(app)
    app.include_router(router)
    app.include_router(open_router)
    app.include_router(live_router)

    @app.get("/metrics")
    async def metrics(service: ServiceHere) -> Response:
        """Numbers for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    # The last one added is the first to see a request.
    app.add_middleware(Guard, access=access, limits=limits, turns=service.turns)
    if access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=access.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=OUR_HEADERS,
        )
    app.add_middleware(Measured, metrics=service.metrics)
    app.add_middleware(Address, root_path=root_path)
    return app
