"""`sodakit serve`: the model behind HTTP, with a page to try it."""

import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sodakit.bounds import Bounds, Count, Positive
from sodakit.checkpoint.shipped import STARTER
from sodakit.commands.options import introduce, read_options
from sodakit.errors import ConfigError, MissingExtra
from sodakit.hardware import device_named
from sodakit.log import say

if TYPE_CHECKING:
    from sodakit.generate.speech_model import SpeechModel
    from sodakit.generate.translate import Translator


@dataclass(frozen=True)
class Options:
    """Serve a model: OpenAI-compatible speech and transcription, a WebSocket, and a page to try it in a browser.

    A folder of `sodakit finetune` translates too.

    A key that clients must send is read from the environment variable SODAKIT_API_KEY.

    Example: sodakit serve runs/demo/model --port 8000
    """

    model: tyro.conf.Positional[Path] = STARTER
    """Checkpoint, or run folder: its best checkpoint where it kept one, else its newest. `starter` comes with sodakit."""
    host: str = "127.0.0.1"
    """Address to listen at. Any other than a loopback address needs a key."""
    port: Annotated[int, Bounds(least=0, most=65_535)] = 8000
    """Port to listen at."""
    name: str | None = None
    """What clients call the model; default: the name of its run."""
    concurrent: Count | None = None
    """Requests of one client answered at once; one more place is kept for the next client. Default: 8, and 3 on a CPU,
    where each slows the others down."""
    queue: int = 32
    """Requests that may wait for a place."""
    connections: Count = 256
    """Connections open at once; beyond, those that send no whole request make room."""
    client_connections: Count = 128
    """Connections open at once to one address. Behind a proxy, that is all of them: give it as many as --connections."""
    recording_s: Positive = 600.0
    """Longest recording taken, in seconds."""
    speech_s: Positive = 300.0
    """Longest speech made for one request, in seconds. A text that takes longer is refused."""
    piece_s: Annotated[float, Bounds(least=0.5)] | None = None
    """Cut recordings into pieces of at most this length; default: what the context holds. Shorter pieces suit models
    that were trained on short ones."""
    translates: tuple[str, ...] = ()
    """Languages that a fine-tuned model translates, as es:en; default: those written down when it was fine-tuned."""
    aligner: str | None = None
    """Who says when words are said, for subtitles: a CTC model of transformers by hub id or folder, a Whisper in CTranslate2
    form, or a .safetensors of `sodakit align`. Default: words are spread over what is loud, a guess."""
    voices: Path | None = None
    """Folder in which uploaded voices are kept; default: in memory."""
    require_consent: bool = False
    """Refuse voices of recordings that come without a note of consent; by default their speech is marked as without one."""
    watermark: str | None = None
    """Put a watermark into all speech: name of an installed one, or package.module:function."""
    allow_host: tuple[str, ...] = ()
    """Further names by which the server may be called."""
    allow_origin: tuple[str, ...] = ()
    """Other sites whose pages may use the server, as https://example.org; * for every page. Without a key, so may
    whoever is on such a page."""
    root_path: str = ""
    """Path below which a proxy serves it, as /soda. The proxy may cut it off or leave it."""
    codec: str | None = None
    """Codec by name, hub id or folder; default: the one the model was trained with."""
    device: str | None = None
    """cpu, cuda, …"""
    precision: Literal["float32", "bfloat16", "int8"] | None = None
    """Of the weights; default: the checkpoint's own on a CPU, bfloat16 on a GPU. int8, for CPUs, is fastest and close to it,
    not equal."""


def main(argv: list[str]) -> None:
    """Serve as argv says, until interrupted."""
    options = read_options(Options, "serve", argv)
    try:
        import uvicorn

        from sodakit.serve.app import build_app
        from sodakit.serve.connections import uvicorn_config
        from sodakit.serve.guard import LOOPBACK, Access
        from sodakit.serve.limits import Limits
    except ModuleNotFoundError as error:
        if (error.name or "sodakit").startswith("sodakit"):
            raise
        raise MissingExtra(str(error.name), "serve", "Serving") from error
    from sodakit.align.named import named_aligner
    from sodakit.checkpoint.load import load_checkpoint
    from sodakit.generate.speech_model import SpeechModel

    _check(options)
    key = os.environ.get("SODAKIT_API_KEY") or None
    if options.host not in LOOPBACK and key is None:
        raise ConfigError(
            f"host={options.host} can be reached from other machines, and there is no key. "
            "Set SODAKIT_API_KEY, or listen at 127.0.0.1."
        )
    limits = Limits(
        concurrent=_concurrent(options),
        queue=options.queue,
        recording_s=options.recording_s,
        speech_s=options.speech_s,
        connections=options.connections,
        client_connections=options.client_connections,
    )
    hosts: tuple[str, ...] | None
    if options.host in ("0.0.0.0", "::") and not options.allow_host:
        hosts = None
    else:
        hosts = (*LOOPBACK, options.host, *options.allow_host)
    listener = _bound(options.host, options.port)
    path = load_checkpoint(options.model).folder
    model = SpeechModel.load(
        path,
        codec=options.codec,
        device=options.device,
        precision=options.precision,
        watermark=options.watermark,
    )
    introduce(model, options.model)
    app = build_app(
        model,
        name=options.name or model.name,
        limits=limits,
        access=Access(key, hosts, tuple(origin.lower().rstrip("/") for origin in options.allow_origin)),
        voices_folder=options.voices,
        piece_s=options.piece_s,
        aligner=None if options.aligner is None else named_aligner(options.aligner),
        translator=translator_for(model, path, options.translates),
        root_path=options.root_path.rstrip("/"),
        needs_consent=options.require_consent,
    )
    name = f"[{options.host}]" if ":" in options.host else options.host
    port = listener.getsockname()[1]
    say(f"Open http://{name}:{port}/ in a browser; the API is at /v1. Stop with Ctrl-C.")
    config = uvicorn_config(app, limits, log_level="warning")
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # how uvicorn passes Ctrl-C on
        return


def _check(options: Options) -> None:
    """Raise for what cannot be served, before anything is loaded.

    Raises:
        ConfigError: the option, and what it needs.
    """
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", options.root_path):
        raise ConfigError(f"root_path={options.root_path}; needed: a path such as /soda.")
    for origin in options.allow_origin:
        if origin != "*" and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]+/?", origin):
            raise ConfigError(f"allow_origin={origin}; needed: a site such as https://example.org, or *.")
    if options.voices is not None and options.voices.exists() and not options.voices.is_dir():
        raise ConfigError(f"voices={options.voices} is a file; needed: a folder.")


def _concurrent(options: Options) -> int:
    if options.concurrent is not None:
        return options.concurrent
    return 3 if (options.device or device_named(None)) == "cpu" else 8


def _bound(host: str, port: int) -> socket.socket:
    """A socket at that address, which is this server's from now on: who calls waits until the model is loaded.

    Raises:
        ConfigError: the address is taken, or none of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Bound alone it could be bound again, and of two servers that load the later one would fail at its end.
        listener.listen()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"host={host} port={port} cannot be listened at ({reason}). Name another."
        ) from error
    return listener


def translator_for(model: "SpeechModel", path: Path, translates: Sequence[str]) -> "Translator | None":
    """The model as one that translates; None if it was not fine-tuned on pairs.

    Raises:
        ConfigError: languages of a model that does not translate, or no pairs of languages.
    """
    from sodakit.generate.translate import Translator, directions_of, task_of
    from sodakit.tokens.tasks import task

    name = task_of(path)
    if name is None and translates:
        raise ConfigError(
            f"{path} was not fine-tuned on pairs and does not translate. Leave --translates out."
        )
    pairs = [tuple(pair.split(":")) for pair in translates]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise ConfigError(f"translates={' '.join(translates)}; needed: pairs of languages such as es:en.")
    known = [(source, to) for source, to in pairs] or directions_of(path)
    return None if name is None else Translator(model, task(name), known)
