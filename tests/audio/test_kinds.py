"""What kind of sound a file is, by its content alone."""

import io

import pytest

from sodakit.audio.files import probe
from sodakit.audio.headers import kind_of, kind_of_file
from sodakit.errors import AudioError
from sodakit.prepare.sources.corpus import Corpus
from tests.audio.joined import encoded, speechlike, vbr_mp3

AC3 = b"\x0b\x77" + bytes(500)
SPEEX = b"OggS" + bytes(24) + b"Speex   " + bytes(100)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        *((kind, encoded(speechlike(0.2), kind.upper(), "PCM_16")) for kind in ("wav", "flac", "aiff", "au", "caf", "w64")),
        ("ogg", encoded(speechlike(0.2), "OGG")),
        ("mp3", vbr_mp3(0.2)),
        ("mp3", b"ID3\x04\0\0\0\0\x02\0" + bytes(1256) + vbr_mp3(0.2)),
        ("ac3", AC3),
        ("speex", SPEEX),
        ("aac", b"\xff\xf1\x60\x40\x3c\xbf\xfc" + bytes(50)),
        ("mp4", b"\0\0\0\x20ftypisom"),
        (None, b""),
        (None, b"words " * 50),
        (None, "words ".encode("utf-16") * 50),
        (None, b"\x89PNG" + bytes(50)),
        (None, b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(500)),
    ],
)  # fmt: skip
def test_kinds_are_told_by_content(kind, data):
    assert kind_of(io.BytesIO(data)) == kind


@pytest.mark.parametrize(("kind", "data"), [("ac3", AC3), ("speex", SPEEX)])
def test_a_kind_that_is_not_read_is_named(kind, data):
    with pytest.raises(AudioError, match=f"It is {kind}"):
        probe(io.BytesIO(data))


def test_sounds_without_a_telling_name_are_seen(tmp_path):
    wav = encoded(speechlike(0.2), "WAV", "PCM_16")
    for name in ("a.wav", "recording", "b.flac.bak", ".hidden.wav"):
        (tmp_path / name).write_bytes(wav)
    (tmp_path / "c.ac3").write_bytes(AC3)
    (tmp_path / "._a.wav").write_bytes(b"\0\5\x16\7" + bytes(50))  # what macOS leaves beside files
    (tmp_path / "notes").write_text("words")
    (tmp_path / "a.txt").write_bytes(wav)
    corpus = Corpus(tmp_path, "c")
    assert [path.name for path in corpus.sounds] == ["a.wav", "b.flac.bak", "c.ac3", "recording"]
    assert any("hidden sound files not read: .hidden.wav" in line for line in corpus.account([]))
    assert kind_of_file(tmp_path) is None
