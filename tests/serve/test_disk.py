"""A server whose disk is full: one answer, one line in its log, and the same request again when there is room."""

import logging
import tempfile

import pytest

from sodakit.serve.app import build_app
from tests.disks import small_disk
from tests.serve.conftest import LIMITS, httpx, serving, sound


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", 4096) as mounted:
        yield mounted


def sent_until_there_is_room(disk, page_bytes, caplog, send) -> int:
    """How often the request is refused on a disk that is given room page by page, until it is answered."""
    for refused in range(100):
        disk.resize(4096 + refused * page_bytes)
        caplog.clear()
        answer = send()
        if answer.is_success:
            return refused
        assert answer.status_code == 507 and answer.json()["error"]["code"] == "not_stored"
        assert str(disk.folder) not in answer.text
        told = [record for record in caplog.records if record.levelno == logging.ERROR]
        said = told[0].getMessage()
        assert len(told) == 1 and told[0].exc_info is None and "\n" not in said
        assert f"could not be kept: {disk.folder}" in said and "the disk is full; needed: " in said
        assert not [p for p in disk.folder.rglob("*") if p.name.endswith(".tmp")]
    raise AssertionError("it was never answered")


def test_a_voice_is_kept_whole_or_not_listed(model, tmp_path, disk, caplog):
    """Its sound finds no room; then its text beside the sound finds none."""
    files = {"file": ("a.wav", sound(1.5))}
    whole, folder = tmp_path / "whole", disk.folder / "voices"
    with serving(build_app(model, limits=LIMITS, voices_folder=whole)) as address:
        assert httpx.post(f"{address}/v1/audio/voices", data={"name": "ann"}, files=files).is_success
    with (
        serving(build_app(model, limits=LIMITS, voices_folder=folder)) as address,
        httpx.Client(base_url=address) as client,
    ):

        def send():
            answer = client.post("/v1/audio/voices", data={"name": "ann"}, files=files)
            listed = [voice["name"] for voice in client.get("/v1/audio/voices").json()["data"]]
            assert ("ann" in listed) == answer.is_success
            assert answer.is_success or not list(folder.glob("*"))  # nor half of one
            return answer

        assert sent_until_there_is_room(disk, 4096, caplog, send) >= 2
    assert {p.name for p in folder.iterdir()} == {p.name for p in whole.iterdir()}
    sounds = [next(place.glob("*.flac")).read_bytes() for place in (whole, folder)]
    assert sounds[0] == sounds[1]


def test_an_upload_for_which_there_is_no_room_is_refused_and_later_heard(
    model, tmp_path, disk, caplog, monkeypatch
):
    """More than a megabyte waits on disk for its turn."""
    monkeypatch.setattr(tempfile, "tempdir", str(disk.folder))
    limits = LIMITS.__class__(**{**vars(LIMITS), "upload_bytes": 3 << 20, "recording_s": 60.0})
    files = {"file": ("a.wav", sound(40.0, rate_hz=16_000, channels=1))}
    with (
        serving(build_app(model, limits=limits)) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):

        def send():
            return client.post("/v1/audio/transcriptions", data={"model": "whisper-1"}, files=files)

        assert sent_until_there_is_room(disk, 400 << 10, caplog, send) >= 3
        first = send()
        assert first.status_code == 200 and not list(disk.folder.iterdir())
        monkeypatch.setattr(tempfile, "tempdir", None)
        assert send().json() == first.json()
