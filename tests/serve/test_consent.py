"""Over HTTP: every file of speech says that it is synthetic; voices come with a note of consent, or are marked."""

import io
import json

import pytest

from sodakit.audio.origin import SYNTHETIC, origin_of
from sodakit.serve.app import build_app
from sodakit.serve.sound import CONTENT_TYPES
from tests.serve.conftest import LIMITS, httpx, serving, sound

ASKED = {"model": "tiny", "input": "open the door", "max_s": 1.0}


def add_voice(client, name, **more):
    data = {"name": name, "text": "open the door", **more}
    return client.post("/v1/audio/voices", files={"file": ("v.wav", sound())}, data=data)


@pytest.mark.parametrize("kind", sorted(CONTENT_TYPES))
def test_speech_in_every_format_says_that_it_is_synthetic(client, kind):
    if kind == "aac":
        pytest.importorskip("av")
    answer = client.post("/v1/audio/speech", json=ASKED | {"response_format": kind})
    assert answer.status_code == 200, answer.text
    said = answer.headers["X-Sodakit-Origin"]
    assert said.startswith(SYNTHETIC)
    if kind == "aac":
        import av

        with av.open(io.BytesIO(answer.content)) as file:
            assert file.metadata["comment"] == said
    elif kind != "pcm":  # which is samples alone
        assert origin_of(io.BytesIO(answer.content)) == said


def test_a_voice_keeps_its_note_and_speech_says_that_there_is_one(model, tmp_path):
    def said(client, name):
        return client.post("/v1/audio/speech", json=ASKED | {"voice": name}).headers["X-Sodakit-Origin"]

    with (
        serving(build_app(model, name="tiny", limits=LIMITS, voices_folder=tmp_path)) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        assert add_voice(client, "Ada", consent="Ada said yes").json()["consent"] == "consent stated"
        assert add_voice(client, "Bo").json()["consent"] == "consent unstated"
        assert said(client, "Ada").endswith("of a recording, consent stated")
        assert said(client, "Bo").endswith("of a recording, consent unstated")
        assert "recording" not in said(client, "alloy")
        assert "said yes" not in client.get("/v1/audio/voices").text
    notes = {json.loads(p.read_text())["consent"] for p in tmp_path.glob("*.json")}
    assert notes == {"Ada said yes", None}
    with (
        serving(
            build_app(model, name="tiny", limits=LIMITS, voices_folder=tmp_path, needs_consent=True)
        ) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        assert said(client, "Ada").endswith("consent stated")
        refused = client.post("/v1/audio/speech", json=ASKED | {"voice": "Bo"})
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "consent_required"


def test_a_server_that_needs_consent_refuses_voices_without(model):
    app = build_app(model, name="tiny", limits=LIMITS, needs_consent=True)
    with serving(app) as address, httpx.Client(base_url=address, timeout=30) as client:
        assert client.get("/v1/models").json()["data"][0]["needs_consent"] is True
        assert add_voice(client, "Ada").json()["error"]["code"] == "consent_required"
        assert add_voice(client, "Ada", consent="  ").status_code == 400
        assert add_voice(client, "Ada", consent="she signed").status_code == 201
        files = {"file": ("v.wav", sound())}
        goes_on = "/v1/audio/continuations"
        assert client.post(goes_on, files=files, data={"max_s": "1"}).status_code == 400
        answer = client.post(goes_on, files=files, data={"max_s": "1", "consent": "mine"})
        assert answer.headers["X-Sodakit-Origin"].endswith("of a recording, consent stated")
        assert client.post("/v1/audio/speech", json=ASKED).status_code == 200
