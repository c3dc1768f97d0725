"""Translation over HTTP, by a model laid out as `sodakit finetune` leaves it."""

import base64
import io
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
import soundfile

from sodakit.errors import ConfigError
from sodakit.generate.sampling import Sampling
from sodakit.serve.app import build_app
from sodakit.serve.problems import Problem
from sodakit.serve.translation import languages
from sodakit.tokens.grammar import Grammar
from tests.serve.conftest import (
    HEARD,
    LIMITS,
    MEANT,
    finetuned,
    load_finetuned,
    make_fluent,
    read,
    serving,
    slow_steps,
    sound,
    translator_for,
    wait_until,
)
from tests.serve.test_routes import error_of, events_of

openai = pytest.importorskip("openai")


@pytest.fixture
def client(translating_address):
    with httpx.Client(base_url=translating_address, timeout=30) as client:
        yield client


@pytest.fixture
def openai_client(translating_address):
    with openai.OpenAI(base_url=f"{translating_address}/v1", api_key="none needed", max_retries=0) as client:
        yield client


def post(client, kind, data=None, **form):
    files = {"file": ("a.wav", data or sound(1.5))}
    return client.post(f"/v1/audio/{kind}", files=files, data={"model": "tiny", **form})


def test_the_official_client_gets_translations_in_every_form(openai_client):
    upload, ask = ("a.wav", sound(1.5)), openai_client.audio.translations.create
    plain = ask(model="whisper-1", file=upload)
    assert plain.text == MEANT
    assert (plain.source_text, plain.source_language, plain.language) == (HEARD, "es", "en")
    verbose = ask(model="tiny", file=upload, response_format="verbose_json", temperature=0, prompt="house")
    assert (verbose.text, verbose.task, verbose.language, verbose.duration) == (MEANT, "translate", "en", 1.5)
    assert (verbose.segments[0].start, verbose.segments[0].end) == (0.0, 1.5)
    assert ask(model="tiny", file=upload, response_format="text") == f"{MEANT}\n"
    assert "00:00:00,000 --> 00:00:01,500" in ask(model="tiny", file=upload, response_format="srt")
    assert ask(model="tiny", file=upload, response_format="vtt").startswith("WEBVTT")
    french = ask(model="tiny", file=upload, extra_body={"to": "fr"})
    assert french.language == "fr"


@pytest.mark.parametrize("family", ["flat", "frames"])
def test_speech_streamed_is_the_speech_made_offline(request, family):
    names = {"flat": ("translating_address", "translator"), "frames": ("frames_address", "frames_translator")}
    address, translator = map(request.getfixturevalue, names[family])
    client = httpx.Client(base_url=address, timeout=30)
    data, sampling = sound(1.5), Sampling(temperature=0.9, top_p=0.8)
    made = translator.translate(read(data), to="en", sampling=sampling, max_s=8.0, seed=7)
    response = post(client, "speech_translations", data, response_format="pcm", to="en", seed="7")
    assert response.status_code == 200, response.text
    np.testing.assert_allclose(
        np.frombuffer(response.content, "<i2") / 32767, made.spoken.wave.samples_S, atol=1e-4
    )
    assert made.ended and len(made.spoken.wave.samples_S) > 0
    assert unquote(response.headers["x-transcript"]) == HEARD == made.source_text
    assert unquote(response.headers["x-translation"]) == MEANT == made.text
    other = post(client, "speech_translations", data, response_format="pcm", to="en", seed="8")
    assert other.content != response.content


def test_events_tell_words_before_sound_and_both_texts_at_the_end(client, translator):
    response = post(client, "speech_translations", response_format="pcm", stream_format="sse", codes="true")
    events = events_of(response)
    kinds = list(dict.fromkeys(e["type"] for e in events))
    assert kinds == [
        "transcript.text.delta",
        "translation.text.delta",
        "speech.audio.delta",
        "transcript.text.done",
        "translation.text.done",
        "speech.audio.done",
    ]
    for side, text, language in (("transcript", HEARD, "es"), ("translation", MEANT, "en")):
        assert "".join(e["delta"] for e in events if e["type"] == f"{side}.text.delta") == text
        assert next(e for e in events if e["type"] == f"{side}.text.done") == {
            "type": f"{side}.text.done", "text": text, "language": language,
        }  # fmt: skip
    deltas = [e for e in events if e["type"] == "speech.audio.delta"]
    assert len(deltas) > 1 and events[-1]["ending"] == "end"
    codes_KF = np.concatenate([np.array(d["codes"]) for d in deltas], axis=1)
    pcm = b"".join(base64.b64decode(d["audio"]) for d in deltas)
    assert codes_KF.shape == (4, 10)
    np.testing.assert_allclose(
        np.frombuffer(pcm, "<i2") / 32767, translator.model.codec.decode(codes_KF), atol=1e-4
    )


def test_words_stream_without_sound(client):
    events = events_of(post(client, "translations", stream="true"))
    assert events[-1] == {"type": "translation.text.done", "text": MEANT, "language": "en", "ending": "end"}
    assert not any("audio" in e["type"] for e in events)


@pytest.mark.parametrize(
    ("kind", "container"), [("wav", "WAV"), ("flac", "FLAC"), ("mp3", "MP3"), ("opus", "OGG")]
)
def test_translated_speech_in_every_format(client, kind, container):
    response = post(client, "speech_translations", response_format=kind)
    with soundfile.SoundFile(io.BytesIO(response.content)) as file:
        assert file.format == container and len(file.read())
    assert unquote(response.headers["x-translation"]) == MEANT


def test_a_long_recording_is_translated_piece_by_piece(client, translator):
    longest_s = client.get("/v1/models").json()["data"][0]["translation"]["longest_piece_s"]
    seconds = 1.5 * longest_s
    verbose = post(client, "translations", sound(19.9), response_format="verbose_json").json()
    pieces = verbose["segments"]
    assert len(pieces) > 1 and pieces[-1]["end"] == pytest.approx(19.9)
    assert verbose["text"] == " ".join([MEANT] * len(pieces))
    events = events_of(post(client, "speech_translations", sound(seconds), stream_format="sse", codes="true"))
    done = {e["type"]: e for e in events if e["type"].endswith("done")}
    assert done["translation.text.done"]["text"] == " ".join([MEANT] * 2)
    frames = sum(len(e["codes"][0]) for e in events if "codes" in e)
    assert frames == 20
    short = events_of(
        post(client, "speech_translations", sound(seconds), stream_format="sse", codes="true", max_s="0.4")
    )
    assert sum(len(e["codes"][0]) for e in short if "codes" in e) == 5  # at 12.5 frames a second
    assert short[-1]["ending"] == "limit"


def test_the_requests_follow_the_task_and_name_the_languages(client, translator, monkeypatch):
    from sodakit.generate.engine import Batch

    admit, asked = Batch.admit, []
    monkeypatch.setattr(
        Batch, "admit", lambda self, request: (asked.append(request), admit(self, request))[1]
    )
    assert post(client, "speech_translations", **{"from": "es", "to": "fr"}).status_code == 200
    v, tokenizer = translator.model.vocabulary, translator.model.tokenizer
    assert [r.closing for r in asked] == [v.text_end, v.text_end, v.audio_end]
    ends = [
        tokenizer.decode(r.prompt_T[r.prompt_T.tolist()[::-1].index(v.text_start) * -1 :]) for r in asked[:2]
    ]
    assert ends == ["<language>es</language", "<language>fr</language"]
    grammar = Grammar(v, 4)
    assert all(grammar.first_error(r.prompt_T) is None for r in asked)
    asked.clear()
    post(client, "translations")
    assert [r.closing for r in asked] == [v.text_end, v.text_end]  # nothing is spoken that nobody hears


def test_an_untrained_model_gives_legal_codes_and_ends_at_its_limits(tmp_path):
    """Random weights write on and on and never close: the answer is short, and says that it was cut off."""
    translator = load_finetuned(finetuned(tmp_path, directions=()))
    app = build_app(translator.model, name="tiny", limits=LIMITS, translator=translator)
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        assert client.get("/v1/models").json()["data"][0]["translation"]["languages"] is None
        form = {"stream_format": "sse", "codes": "true", "max_s": "1.0", "to": "xx"}
        events = events_of(post(client, "speech_translations", sound(0.5), **form))
        assert events[-1]["type"] == "speech.audio.done", events[-1]
        codes_KF = np.concatenate([np.array(e["codes"]) for e in events if "codes" in e], axis=1)
        assert 0 < codes_KF.shape[1] <= 13 and codes_KF.min() >= 0 and codes_KF.max() < 16
        made = translator.translate(read(sound(0.5)), to="xx", max_s=1.0)
        whole = {e["type"]: e.get("text") for e in events}
        assert whole["translation.text.done"] == made.text.strip()
        assert "".join(e["delta"] for e in events if e["type"] == "translation.text.delta") == made.text
        np.testing.assert_array_equal(codes_KF, made.spoken.codes_KF)
        error = error_of(post(client, "translations", to="<language>"), 400)
        assert error["param"] == "to" and error["code"] == "unsupported_language"


@pytest.mark.parametrize("kind", ["translations", "speech_translations"])
@pytest.mark.parametrize(
    ("form", "status", "param"),
    [
        ({"to": "de"}, 400, "to"),
        ({"to": "<b>"}, 400, "to"),
        ({"to": "x" * 99}, 400, "to"),
        ({"from": "en"}, 400, "from"),
        ({"temperature": "9"}, 400, "temperature"),
        ({"seed": "-1"}, 400, "seed"),
        ({"response_format": "m4a"}, 400, "response_format"),
        ({"model": "gpt-9"}, 404, "model"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(client, kind, form, status, param):
    assert error_of(post(client, kind, **form), status)["param"] == param


def test_sounds_and_lengths_are_limited_as_elsewhere(client):
    assert error_of(post(client, "speech_translations", max_s="9"), 400)["param"] == "max_s"
    assert error_of(post(client, "translations", b"GIF89a"), 400)["param"] == "file"
    assert error_of(post(client, "translations", sound(21.0)), 413)["code"] == "recording_too_long"


def test_a_client_that_leaves_ends_its_work(translating_address, translating_app, monkeypatch):

    worker = translating_app.state.service.worker
    slow_steps(monkeypatch, 0.02)
    form = {"files": {"file": ("a.wav", sound())}, "data": {"model": "tiny", "stream_format": "sse"}}
    with httpx.stream("POST", f"{translating_address}/v1/audio/speech_translations", **form) as response:
        next(response.iter_bytes())
        assert worker.num_active == 1
    assert wait_until(lambda: worker.num_active == 0, 3)


def test_models_says_what_is_translated(client, address):
    said = client.get("/v1/models/tiny").json()["translation"]
    assert said.pop("longest_piece_s") > 1
    assert said == {
        "task": "s2st",
        "writes_source": True,
        "writes": True,
        "speaks": True,
        "languages": [{"from": "es", "to": "en"}, {"from": "es", "to": "fr"}],
    }
    assert httpx.get(f"{address}/v1/models/tiny").json()["translation"] is None


def test_a_model_that_was_not_fine_tuned_says_so(address):
    with httpx.Client(base_url=address, timeout=30) as client:
        for kind in ("translations", "speech_translations"):
            assert "does not translate" in error_of(post(client, kind), 501)["message"]


@pytest.mark.parametrize(
    ("task", "can", "cannot", "instead"),
    [
        ("s2tt", "translations", "speech_translations", "/v1/audio/translations"),
        ("s2st_direct", "speech_translations", "translations", "/v1/audio/speech_translations"),
    ],
)
def test_a_task_does_what_its_spans_allow(tmp_path, task, can, cannot, instead):
    translator = make_fluent(load_finetuned(finetuned(tmp_path, task, [("es", "en")])))
    app = build_app(translator.model, name="tiny", limits=LIMITS, translator=translator)
    with serving(app) as address, httpx.Client(base_url=address, timeout=30) as client:
        assert post(client, can).status_code == 200
        assert instead in error_of(post(client, cannot), 501)["message"]
        if task == "s2st_direct":
            assert "x-translation" not in post(client, can).headers
            assert error_of(post(client, can, **{"from": "es"}), 400)["param"] == "from"


@pytest.mark.parametrize(
    ("task", "known", "asked", "given"),
    [
        ("s2st", [("es", "en"), ("es", "fr")], (None, None), ("en", "")),
        ("s2st", [("en", "de"), ("en", "fr")], ("fr", "en"), ("fr", "en")),
        ("s2st", [("en", "de"), ("es", "fr")], (None, "es"), ("fr", "es")),
        ("s2st_direct", [("en", "de")], (None, None), ("de", "")),
        ("s2st", [], (None, None), ("en", "")),
        ("s2st", [], ("zh-Hans", "pt_BR"), ("zh-Hans", "pt_BR")),
        ("s2st", [("en", "de"), ("en", "fr")], (None, None), "name one as 'to'"),
        (
            "s2st",
            [("en", "de"), ("es", "fr")],
            ("de", "es"),
            "No translation to 'de' here; learnt: en to de, es to fr",
        ),
        ("s2st_direct", [("en", "de"), ("en", "fr")], ("de", None), "cannot be told which"),
    ],
)
def test_languages_are_chosen_or_refused(translator, task, known, asked, given):
    from sodakit.generate.translate import Translator
    from sodakit.tokens.tasks import task as task_named

    who = Translator(translator.model, task_named(task), known)
    if isinstance(given, tuple):
        assert languages(who, *asked) == given
    else:
        with pytest.raises(Problem, match=given):
            languages(who, *asked)


def test_languages_may_be_named_on_the_command_line(tmp_path, translator, model):
    path = finetuned(tmp_path, directions=()) / "best"
    assert translator_for(translator.model, path, ("es:en",)).directions == (("es", "en"),)
    assert translator_for(translator.model, path, ()).directions == ()
    with pytest.raises(ConfigError, match="es:en"):
        translator_for(translator.model, path, ("english",))
