"""A server on loopback with a random model and the toy codec, for tests that speak to it as clients do."""

import asyncio
import io
import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
httpx = pytest.importorskip("httpx")

from sodakit.checkpoint.load import load_checkpoint  # noqa: E402
from sodakit.checkpoint.save import save_checkpoint  # noqa: E402
from sodakit.codec.toy import ToyCodec  # noqa: E402
from sodakit.commands.serve import translator_for  # noqa: E402
from sodakit.config import to_plain  # noqa: E402
from sodakit.generate.engine import Batch  # noqa: E402
from sodakit.generate.speech_model import SpeechModel  # noqa: E402
from sodakit.model.any_config import family_config  # noqa: E402
from sodakit.model.config import model_size  # noqa: E402
from sodakit.model.families import build_model  # noqa: E402
from sodakit.model.transformer import Transformer  # noqa: E402
from sodakit.serve.app import build_app  # noqa: E402
from sodakit.serve.connections import uvicorn_config  # noqa: E402
from sodakit.serve.limits import Limits  # noqa: E402
from sodakit.serve.recording import Recording  # noqa: E402
from sodakit.tokens.grammar import FIRST_SLOT  # noqa: E402
from sodakit.tokens.tasks import open_tag, tagged  # noqa: E402
from sodakit.tokens.text import train_bpe  # noqa: E402
from sodakit.tokens.vocabulary import Vocabulary  # noqa: E402
from tests.pair_stores import pair_tokenizer  # noqa: E402

LIMITS = Limits(
    concurrent=3,
    queue=4,
    recording_s=20.0,
    speech_s=8.0,
    voice_s=3.0,
    text_characters=300,
    voices=3,
    upload_bytes=400_000,
)


def slow_steps(monkeypatch, pause_s: float) -> None:
    """The tiny model is faster than its clients: from here on a step takes so much longer."""
    step = Batch.step
    monkeypatch.setattr(Batch, "step", lambda self, rows=None: (time.sleep(pause_s), step(self, rows))[1])


@pytest.fixture(scope="package")
def model():
    """Random weights: it says noise, nearly never closes by itself, and every limit is met."""
    tokenizer = train_bpe(["open the door", "close the window"], 280)
    vocabulary = Vocabulary.layout(
        text_size=tokenizer.size, bos=tokenizer.bos, eos=tokenizer.eos, num_codebooks=4, codebook_size=16
    )
    network = Transformer(model_size("nano", vocabulary.size, context=1000, init_std=0.2), seed=1)
    return SpeechModel(network, vocabulary, tokenizer, ToyCodec(4, 16))


@contextmanager
def serving(app):
    """The address of a server running `app` in a thread."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    limits = app.state.service.limits
    config = uvicorn_config(app, limits, port=port, log_level="error", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)


@pytest.fixture(scope="package")
def app(model):
    return build_app(model, name="tiny", limits=LIMITS)


@pytest.fixture(scope="package")
def address(app):
    with serving(app) as address:
        yield address


@pytest.fixture
def service(app):
    return app.state.service


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


def sound(duration_s=1.0, rate_hz=8000, channels=1, kind="WAV", encoding="PCM_16"):
    """The bytes of a sound file: a tone."""
    time_S = np.arange(round(duration_s * rate_hz)) / rate_hz
    samples_SC = np.repeat(0.3 * np.sin(2 * np.pi * 440 * time_S)[:, None], channels, axis=1)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples_SC, rate_hz, encoding, format=kind)
    return buffer.getvalue()


def read(data, longest_s=60.0, rate_hz=8000):
    """The sound in uploaded bytes, as the server hears it."""
    return Recording(io.BytesIO(data), longest_s).read(rate_hz)


def wait_until(condition, timeout_s=10.0):
    """Whether the condition comes true in time."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.02)
    return False


HEARD, MEANT = "¿dónde está la casa?", "where is the house?"
DIRECTIONS = (("es", "en"), ("es", "fr"))


def finetuned(folder, task="s2st", directions=DIRECTIONS, family="flat"):
    """A folder as `sodakit finetune` leaves it, with random weights."""
    tokenizer = pair_tokenizer()
    vocabulary = Vocabulary.layout(
        text_size=tokenizer.size, bos=tokenizer.bos, eos=tokenizer.eos, num_codebooks=4, codebook_size=16
    )
    tokenizer.save(folder / "vocabulary")
    vocabulary.save(folder / "vocabulary")
    shape = model_size("nano", vocabulary.size, context=1000, init_std=0.2)
    network = build_model(family_config(family, shape, vocabulary), seed=1)
    save_checkpoint(
        folder / "best",
        model=network,
        state={"step": 1, "directions": directions},
        config={"data": {"sources": [{"view": {"task": task}}]}},
        vocabulary_folder=folder / "vocabulary",
        codec=to_plain(ToyCodec(4, 16).spec),
    )
    return folder


def load_finetuned(folder):
    """The translator of such a folder, as `sodakit serve` loads it."""
    path = load_checkpoint(folder).folder
    return translator_for(SpeechModel.load(path, codec=ToyCodec(4, 16), device="cpu"), path, ())


def make_fluent(translator, frames=10):
    """Have its engine write what a trained one might, and speak for so long: noise, of whatever it draws."""
    model, next_positions = translator.model, translator.model.engine.next_positions
    opening = len(model.tokenizer.encode(open_tag("en")))

    def text(row):
        prompt = row.request.prompt_T.tolist()
        if prompt.count(model.vocabulary.text_start) == 1 and "source_text" in translator.task.answer:
            return model.tokenizer.encode(tagged("es", HEARD))
        return model.tokenizer.encode(tagged("en", MEANT))[opening:]

    frame = [model.vocabulary.codebook_range(k)[0] for k in range(4)]

    def fluent(rows, x_BD):
        made = next_positions(rows, x_BD)
        for n, row in enumerate(rows):
            nothing_else = [-1] * (len(made[n]) - 1)
            if row.cursor.state < FIRST_SLOT:
                made[n] = [[*text(row), model.vocabulary.text_end][len(row.ids)], *nothing_else]
            elif row.cursor.state == FIRST_SLOT and len(row.ids) >= 4 * frames:
                made[n] = [model.vocabulary.audio_end, *nothing_else]
            elif made[n][0] == model.vocabulary.audio_end:
                made[n] = frame[: len(made[n])]
        return made

    model.engine.next_positions = fluent
    return translator


@pytest.fixture(scope="package")
def translator(tmp_path_factory):
    """Fluent, from Spanish to English and French."""
    return make_fluent(load_finetuned(finetuned(tmp_path_factory.mktemp("finetuned"))))


@pytest.fixture(scope="package")
def frames_translator(tmp_path_factory):
    """The same, of a model with one position a frame."""
    folder = finetuned(tmp_path_factory.mktemp("finetuned"), family="depth")
    return make_fluent(load_finetuned(folder))


@pytest.fixture(scope="package")
def frames_address(frames_translator):
    app = build_app(frames_translator.model, name="tiny", limits=LIMITS, translator=frames_translator)
    with serving(app) as address:
        yield address


@pytest.fixture(scope="package")
def translating_app(translator):
    return build_app(translator.model, name="tiny", limits=LIMITS, translator=translator)


@pytest.fixture(scope="package")
def translating_address(translating_app):
    with serving(translating_app) as address:
        yield address
