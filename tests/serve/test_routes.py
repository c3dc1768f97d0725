import base64
import io
import json

import numpy as np
import pytest
import soundfile

from sodakit.generate.long_form import Speaker, speech, transcribe_long
from sodakit.generate.plans import carry_out
from sodakit.generate.sampling import Sampling
from tests.late_codec import Late
from tests.serve.conftest import read, sound

SAY = {"model": "tiny", "input": "Open the door.", "max_s": 1.5, "seed": 3}


def error_of(response, status):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


def events_of(response):
    lines = [line for line in response.text.split("\n\n") if line]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize(
    ("kind", "container"), [("wav", "WAV"), ("flac", "FLAC"), ("mp3", "MP3"), ("opus", "OGG")]
)
def test_speech_in_every_format_is_a_file_that_others_can_read(client, kind, container):
    response = client.post("/v1/audio/speech", json={**SAY, "response_format": kind})
    assert response.status_code == 200
    with soundfile.SoundFile(io.BytesIO(response.content)) as file:
        assert (file.format, file.channels) == (container, 1)
        samples_S = file.read()
    rate_hz = 48_000 if len(samples_S) > 40_000 else 8_000  # Opus may be read at 48 kHz
    assert len(samples_S) / rate_hz == pytest.approx(1.5, abs=0.25)  # MP3 pads both ends
    assert np.abs(samples_S).max() > 0.01


@pytest.mark.parametrize("late", [False, True])
def test_served_speech_is_the_speech_of_the_library(late, client, model, monkeypatch):
    """Same seed, same sound: batching, threads, streaming and a codec that looks ahead change nothing."""
    if late:
        monkeypatch.setattr(model, "codec", Late(4, 16))
    pcm = client.post("/v1/audio/speech", json={**SAY, "response_format": "pcm"}).content
    speaker = Speaker(model, sampling=Sampling(temperature=0.9, top_p=0.8), seed=3, max_s=1.5)
    expected_S = model.codec.decode(carry_out(speech(speaker, SAY["input"]), model.engine))
    np.testing.assert_allclose(np.frombuffer(pcm, "<i2") / 32767, expected_S, atol=1e-4)


def test_events_hold_sound_codes_and_times(client, model):
    body = {**SAY, "response_format": "pcm", "stream_format": "sse", "codes": True}
    *deltas, done = events_of(client.post("/v1/audio/speech", json=body))
    assert done["type"] == "speech.audio.done" and done["ending"] in ("limit", "silence", "loop", "end")
    assert done["speech_s"] == pytest.approx(1.5, abs=0.1) and 0 < done["first_sound_s"] <= done["elapsed_s"]
    codes_KF = np.concatenate([np.array(d["codes"]) for d in deltas if "codes" in d], axis=1)
    pcm = b"".join(base64.b64decode(d["audio"]) for d in deltas)
    np.testing.assert_allclose(np.frombuffer(pcm, "<i2") / 32767, model.codec.decode(codes_KF), atol=1e-4)


def test_a_transcript_comes_in_every_format(client, model):
    data = sound(2.0)
    expected = " ".join(s.text for s in transcribe_long(model, read(data)) if s.text)
    answers = {}
    for kind in ("json", "text", "verbose_json", "srt", "vtt"):
        form = {"model": "whisper-1", "response_format": kind}
        response = client.post("/v1/audio/transcriptions", files={"file": ("a.wav", data)}, data=form)
        assert response.status_code == 200, response.text
        answers[kind] = response
    assert answers["json"].json()["text"] == expected
    assert answers["text"].text == expected + "\n"
    verbose = answers["verbose_json"].json()
    assert verbose["text"] == expected and verbose["duration"] == 2.0 and verbose["segments"][0]["end"] == 2.0
    assert "00:00:00,000 --> 00:00:02,000" in answers["srt"].text
    assert answers["vtt"].text.startswith("WEBVTT")


def test_a_transcript_streams_as_it_is_found(client):
    form = {"model": "tiny", "stream": "true"}
    response = client.post("/v1/audio/transcriptions", files={"file": ("a.wav", sound(3.0))}, data=form)
    *deltas, done = events_of(response)
    assert len(deltas) > 1 and done["type"] == "transcript.text.done"
    assert done["text"].startswith("".join(d["delta"] for d in deltas[:2]).strip())


def test_a_recording_goes_on(client):
    form = {"max_s": "1.0", "seed": "5", "prompt_s": "2.0"}
    response = client.post("/v1/audio/continuations", files={"file": ("a.wav", sound(4.0))}, data=form)
    samples_S, rate_hz = soundfile.read(io.BytesIO(response.content))
    assert rate_hz == 8000 and 0 < len(samples_S) <= 8000


def test_a_recording_that_fills_the_context_goes_on_from_its_end(client, model):
    data = {"max_s": "1.0", "seed": "5"}
    response = client.post("/v1/audio/continuations", files={"file": ("a.wav", sound(19.9))}, data=data)
    assert response.status_code == 200
    heard_s = float(response.headers["x-sodakit-heard-s"])
    assert model.context_s / 2 < heard_s < model.context_s


def test_translation_says_that_this_model_cannot(client):
    response = client.post(
        "/v1/audio/translations", files={"file": ("a.wav", sound())}, data={"model": "tiny"}
    )
    assert error_of(response, 501)["code"] == "not_supported"


def test_a_voice_is_kept_used_and_forgotten(client, service):
    files = {"file": ("v.flac", sound(1.0, kind="FLAC"))}
    made = client.post("/v1/audio/voices", files=files, data={"name": "Ada", "text": "open the door"})
    assert made.status_code == 201 and made.json()["duration_s"] == 1.0
    assert [v["name"] for v in client.get("/v1/audio/voices").json()["data"]] == ["Ada"]
    plain, cloned, by_object = (
        client.post("/v1/audio/speech", json={**SAY, "response_format": "pcm", "voice": voice}).content
        for voice in ("default", "Ada", {"id": "Ada"})
    )
    assert cloned != plain and cloned == by_object
    assert client.delete("/v1/audio/voices/Ada").json()["deleted"]
    error = error_of(client.post("/v1/audio/speech", json={**SAY, "voice": "Ada"}), 404)
    assert error["code"] == "voice_not_found"


def test_a_voice_without_a_transcript_is_listened_to(client, service):
    made = client.post("/v1/audio/voices", files={"file": ("v.wav", sound(1.0))}, data={"name": "Bo"})
    assert made.status_code == 201
    assert made.json()["text"] == service.voices.all()[0].text
    client.delete("/v1/audio/voices/Bo")


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a/b", "x" * 65, "alloy", "default", "\u202eevil"])
def test_names_that_are_paths_or_taken_are_refused(client, name):
    response = client.post("/v1/audio/voices", files={"file": ("v.wav", sound())}, data={"name": name})
    assert error_of(response, 400)["param"] == "name"


def test_a_full_shelf_of_voices_says_so(client):
    for n in range(4):
        data = {"name": f"v{n}", "text": "open"}
        response = client.post("/v1/audio/voices", files={"file": ("v.wav", sound())}, data=data)
    assert error_of(response, 409)["code"] == "too_many_voices"
    for n in range(3):
        client.delete(f"/v1/audio/voices/v{n}")


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "gpt-9"}, 404, "model"),
        ({"input": "  "}, 400, "input"),
        ({"input": "a" * 301}, 400, "input"),
        ({"max_s": 9}, 400, "max_s"),
        ({"max_s": -1}, 400, "max_s"),
        ({"speed": 5.0}, 400, "speed"),
        ({"speed": 0.2}, 400, "speed"),
        ({"input": "a " * 100, "max_s": None}, 400, "input"),
        ({"response_format": "m4a"}, 400, "response_format"),
        ({"temperature": 9}, 400, "temperature"),
        ({"seed": 2**64}, 400, "seed"),
        ({"voice": ["x"]}, 400, "voice"),
        ({"input": None}, 400, "input"),
    ],
)
def test_what_cannot_be_spoken_is_refused_by_name(client, change, status, param):
    assert error_of(client.post("/v1/audio/speech", json={**SAY, **change}), status)["param"] == param


def test_bodies_that_are_no_json_are_refused(client):
    for body in (b"", b"{", b"[]", b"\xff\xfe", b'{"input": NaN}'):
        error_of(
            client.post("/v1/audio/speech", content=body, headers={"content-type": "application/json"}), 400
        )


def test_models_lists_the_one_there_is(client):
    listed = client.get("/v1/models").json()["data"]
    assert [m["id"] for m in listed] == ["tiny"] and listed[0]["sample_rate_hz"] == 8000
    assert client.get("/v1/models/tiny").json() == listed[0]
    error_of(client.get("/v1/models/other"), 404)


def test_health_and_metrics_tell_what_was_done(client):
    client.post("/v1/audio/speech", json={**SAY, "response_format": "pcm"})
    assert client.get("/health").json()["status"] == "ok"
    text = client.get("/metrics").text
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(numbers['sodakit_requests_total{route="/v1/audio/speech",status="200"}']) >= 1
    assert float(numbers["sodakit_speech_seconds_total"]) >= 1.4
    assert float(numbers["sodakit_tokens"]) > 50 and float(numbers["sodakit_active"]) == 0
    assert float(numbers["sodakit_first_sound_seconds_count"]) >= 1


def test_unknown_addresses_are_answered_in_json(client):
    assert "openapi.json" in error_of(client.get("/v1/nothing"), 404)["message"]
    error_of(client.get("/v1/audio/speech"), 405)


def test_the_page_and_its_files_are_served_with_a_policy_that_keeps_them_at_home(client):
    page = client.get("/")
    assert page.status_code == 200 and "text/html" in page.headers["content-type"]
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "http://" not in page.text and "https://" not in page.text
