"""Sounds that lie, and sounds that are written in unusual ways: `tests/hostile/odd_sounds.py`."""

import io

import numpy as np
import pytest

from sodakit.audio.files import probe, read_blocks, read_wave
from sodakit.errors import AudioError
from tests.audio.joined import encoded, vbr_mp3
from tests.hostile import odd_sounds

ODD, READABLE = odd_sounds.odd_sounds(), odd_sounds.readable_wavs()


@pytest.mark.parametrize("name", ODD)
def test_an_odd_sound_is_refused_with_what_is_wrong(name):
    data, says = ODD[name]
    with pytest.raises(AudioError) as raised:
        for _ in read_blocks(io.BytesIO(data), 24_000, name, longest_s=60.0):
            pass
    assert says in str(raised.value) and name in str(raised.value)


@pytest.mark.parametrize("name", READABLE)
def test_an_unusual_way_to_write_a_sound_is_read(name):
    wave = read_wave(io.BytesIO(READABLE[name]), 16_000)
    assert 0.99 < wave.duration_s < 1.07
    if "Opus" not in name and "mp3" not in name:
        np.testing.assert_allclose(wave.samples_S, odd_sounds.tone(), atol=1e-4)


def test_a_file_of_any_name_where_we_were_started_does_not_hide_an_mp3(tmp_path, monkeypatch):
    """libsndfile looks for the other half of what it does not know at once: in the working folder, as `._`."""
    (tmp_path / "._").write_bytes(b"words")
    monkeypatch.chdir(tmp_path)
    assert probe(io.BytesIO(vbr_mp3(1.0))).duration_s == pytest.approx(1.0)
    with pytest.raises(AudioError, match=r"'\._' would be taken"):
        probe(io.BytesIO(b"words " * 99))


@pytest.mark.parametrize("kind", ["FLAC", "MP3", "OGG", "WAV"])
def test_what_a_huge_file_holds_after_its_sound_is_not_read_to_its_end(tmp_path, kind):
    """Twenty gigabytes without a block on the disk: reading them took minutes."""
    path = tmp_path / "a.bin"
    path.write_bytes(encoded(odd_sounds.tone(), kind))
    with open(path, "r+b") as file:
        file.truncate(20 << 30)
    with pytest.raises(AudioError, match=r"wrong length|no sound"):
        read_wave(path)
