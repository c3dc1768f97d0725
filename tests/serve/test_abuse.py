"""Uploads and callers that mean no good: bounded memory, and an answer that says why."""

import io
import resource
import struct

import httpx
import numpy as np
import pytest
import soundfile

from sodakit.audio.wave import Wave
from sodakit.generate.speech_model import VoiceSample
from sodakit.serve.app import build_app
from sodakit.serve.guard import Access
from sodakit.serve.problems import Problem
from sodakit.serve.sound import SoundWriter
from sodakit.serve.voices import Voices
from tests.serve.conftest import LIMITS, read, serving, sound


def transcribe(client, data, name="a.wav"):
    return client.post("/v1/audio/transcriptions", files={"file": (name, data)}, data={"model": "tiny"})


def bomb(duration_s, rate_hz=8000):
    """Silence, which FLAC packs 1000 times smaller than it is."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate_hz, 1, "PCM_16", format="FLAC") as file:
        for _ in range(int(duration_s)):
            file.write(np.zeros(rate_hz, np.int16))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"GIF89a" + b"\0" * 100, 400),
        (b"PK\x03\x04" + b"\0" * 1000, 400),
        (b"RIFF\xff\xff\xff\xffWAVE", 400),
        (sound(1.0)[:60], 400),
        (sound(1.0)[:44], 400),
        (sound(1.0, kind="FLAC")[:200], 400),
        (sound(0.05, channels=9), 400),
        (sound(0.1, rate_hz=1000), 400),
        (sound(21.0), 413),
        (bomb(3600), 413),
        (sound(0.5, encoding="FLOAT").replace(sound(0.5, encoding="FLOAT")[-8:], struct.pack("<2f", np.nan, np.inf)), 400),
        (np.random.default_rng(0).bytes(5000), 400),
    ],
    ids=["empty", "gif", "zip", "header alone", "cut wav", "no samples", "cut flac", "9 channels", "1 kHz", "too long", "bomb", "nan", "noise"],
)  # fmt: skip
def test_uploads_are_judged_by_what_they_are(client, data, status):
    response = transcribe(client, data)
    assert response.status_code == status, response.text
    assert status == 200 or response.json()["error"]["param"] == "file"


def test_a_bomb_is_given_up_before_it_fills_memory():
    data = bomb(3600, 48_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Problem, match="longer than 20 s"):
        read(data, 20.0)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert len(data) < 4_000_000 and grown_mib < 60  # all of it would be 660 MiB


def test_a_header_that_promises_years_is_not_believed():
    data = bytearray(sound(1.0))
    data[4:8] = data[40:44] = b"\xff\xff\xff\x7f"
    assert read(bytes(data), 20.0).duration_s == 1.0


def test_our_own_streamed_sound_can_be_sent_back():
    for kind in ("wav", "flac", "mp3", "opus"):
        writer = SoundWriter(kind, 8000)
        parts = [writer.write(np.full(640, 0.1, np.float32)) for _ in range(25)]
        wave = read(b"".join(parts) + writer.finish(), 20.0)
        assert wave.duration_s == pytest.approx(2.0, abs=0.25), kind


def test_large_bodies_are_refused_with_and_without_a_length(client):
    data = b"\0" * (LIMITS.upload_bytes + 1)
    announced = transcribe(client, data)
    assert announced.status_code == 413 and announced.json()["error"]["code"] == "upload_too_large"

    def unannounced():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(40):
            yield b"\0" * 20_000

    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = client.post("/v1/audio/transcriptions", content=unannounced(), headers=headers)
    assert response.status_code == 413


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"host": "127.0.0.1.evil.example"},
    ],
)
def test_other_hosts_and_pages_of_other_sites_are_refused(client, headers):
    response = client.get("/v1/models", headers=headers)
    assert response.status_code == 403 and response.json()["error"]["type"] == "permission_error"


def test_a_page_of_this_server_may_call_it(client, address):
    assert client.get("/v1/models", headers={"origin": address}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/page/..%2fapp.py"]
)
def test_the_page_folder_has_no_way_out(client, path):
    assert client.get(path).status_code in (403, 404)


def test_a_key_is_needed_where_there_is_one(model):
    with serving(build_app(model, limits=LIMITS, access=Access(api_key="sesame"))) as address:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic sesame"}):
            answer = httpx.get(f"{address}/v1/models", headers=headers)
            assert answer.status_code == 401 and answer.json()["error"]["type"] == "authentication_error"
        assert httpx.get(f"{address}/metrics").status_code == 401
        ok = {"authorization": "Bearer sesame"}
        assert httpx.get(f"{address}/v1/models", headers=ok).status_code == 200
        assert httpx.get(f"{address}/health").status_code == 200 == httpx.get(address).status_code


def test_voices_in_a_folder_outlive_the_server_and_stay_in_it(model, tmp_path):
    folder = tmp_path / "voices"
    for lives in (1, 2):
        with serving(build_app(model, limits=LIMITS, voices_folder=folder)) as address:
            if lives == 1:
                form = {
                    "files": {"file": ("../../v.wav", sound())},
                    "data": {"name": "..Ada".strip("."), "text": "open"},
                }
                assert httpx.post(f"{address}/v1/audio/voices", **form).status_code == 201
            voices = httpx.get(f"{address}/v1/audio/voices").json()["data"]
            assert [v["name"] for v in voices] == ["Ada"]
    assert {p.suffix for p in folder.iterdir()} == {".json", ".flac"}
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "b.json").write_text("{" * 100_000),
        lambda f: (f / "b.json").write_text('{"name": "Bo"}'),
        lambda f: (f / "b.json").write_text("[]"),
        lambda f: (f / "b.json").write_text('{"name": 3, "text": "", "created": 1}'),
        lambda f: (f / "b.json").write_bytes(b"\xff\xfe"),
        lambda f: (f / "b.json").write_text('{"name": "Bo", "text": "open", "created": 1}'),
        lambda f: (f / "b.json").mkdir(),
        lambda f: (
            (f / "b.json").write_text('{"name": "Bo", "text": "open", "created": 1}'),
            (f / "b.flac").write_bytes(b"fLaC nothing"),
        ),
    ],
    ids=["nested", "fields", "list", "types", "letters", "no sound", "folder", "bad sound"],
)
def test_a_damaged_voice_is_named_and_skipped(model, tmp_path, caplog, damage):
    voices = Voices(model, 3, tmp_path)
    voices.add("Ada", VoiceSample(Wave(np.full(8000, 0.1, np.float32), 8000), "open"))
    damage(tmp_path)
    assert [v.name for v in Voices(model, 3, tmp_path).all()] == ["Ada"]
    assert "b.json" in caplog.text and "Upload it again" in caplog.text


def test_a_voice_that_cannot_be_written_is_not_listed(model, tmp_path, monkeypatch):
    voices = Voices(model, 3, tmp_path)
    monkeypatch.setattr(
        "sodakit.generate.voice_file.write_json", lambda *_: (_ for _ in ()).throw(OSError("full"))
    )
    with pytest.raises(Problem, match="could not be written") as problem:
        voices.add("Ada", VoiceSample(Wave(np.full(8000, 0.1, np.float32), 8000), "open"))
    assert problem.value.status == 507 and voices.all() == []


def test_messages_name_the_upload_and_no_object_of_ours(client):
    for data in (b"RIFF" + bytes(40), b"\x1a\x45\xdf\xa3" + bytes(200), b"fLaC" + bytes(100), bytes(300)):
        message = transcribe(client, data).json()["error"]["message"]
        assert "The upload" in message and "<" not in message and "0x" not in message
