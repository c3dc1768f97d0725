"""Whatever lies in a corpus: it is left out with a clear reason, memory stays bounded, and the rest is kept."""

import gzip
import io
import json
import struct
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from sodakit.audio.files import probe, read_part
from sodakit.codec.toy import ToyCodec
from sodakit.errors import AudioError, ConfigError, VocabularyError
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import prepare
from sodakit.store.reader import StoreReader
from sodakit.tokens.characters import WrittenDocument
from tests.prepare.layouts import add_member

OPTIONS = PrepareOptions(split=SplitRule(validation_fraction=0, test_fraction=0), max_failed_fraction=1.0)
RATE_HZ = 16_000


def sound_bytes(
    duration_s: float = 0.5, kind: str = "WAV", channels: int = 1, rate_hz: int = RATE_HZ
) -> bytes:
    samples_S = 0.3 * np.sin(np.arange(round(duration_s * rate_hz)) * 2 * np.pi * 200 / rate_hz)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.repeat(samples_S[:, None], channels, 1), rate_hz, "PCM_16", format=kind)
    return buffer.getvalue()


def with_nan() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.array([0.1, np.nan] * 4000, np.float32), RATE_HZ, "FLOAT", format="WAV")
    return buffer.getvalue()


def with_sample(value: float) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(
        buffer, np.array([0.1, -0.1] * 4000 + [value], np.float32), RATE_HZ, "FLOAT", format="WAV"
    )
    return buffer.getvalue()


def with_data_size(size: int) -> bytes:
    """A wav of 0.5 s whose header claims another number of bytes of sound."""
    whole = bytearray(sound_bytes())
    whole[40:44] = struct.pack("<I", size)
    return bytes(whole)


def huge_flac() -> bytes:
    """A flac whose header claims 2^36 - 1 samples of 8 channels: 512 GiB in 8 bit, 2 TiB as float32."""
    whole = bytearray(sound_bytes(kind="FLAC", channels=8))
    whole[21] |= 0x0F  # the last 36 bits of these 8 bytes of STREAMINFO count the samples
    whole[22:26] = b"\xff" * 4
    return bytes(whole)


def piped_flac() -> bytes:
    """A flac without a length, as encoders write into a pipe."""
    whole = bytearray(sound_bytes(kind="FLAC"))
    whole[21] &= 0xF0
    whole[22:26] = bytes(4)
    return bytes(whole)


BAD_SOUNDS = {
    "empty.wav": (b"", "empty file", "0 bytes"),
    "header.wav": (sound_bytes()[:20], "undecodable", "cannot be decoded"),
    "cut.wav": (sound_bytes()[:5000], "undecodable", "its header promises 16000 bytes of sound, 4956"),
    "cut.aiff": (sound_bytes(kind="AIFF")[:5000], "undecodable", "breaks off"),
    "cut.flac": (sound_bytes(5, "FLAC")[:9000], "undecodable", "It is damaged"),
    "long.wav": (with_data_size(1 << 30), "undecodable", "promises 1073741824 bytes of sound, 16000"),
    "short.wav": (with_data_size(2000), "undecodable", "wrong length"),
    "nan.wav": (with_nan(), "NaN or infinite samples", "4000 of 8000"),
    "tiny.wav": (sound_bytes(0.01), "too short", "0.010 s"),
    "text.wav": (b"these are words and no sound " * 99, "undecodable", "cannot be decoded"),
    "text.mp3": (b"these are words and no sound " * 99, "undecodable", "cannot be decoded"),
    # libsndfile would take any file of this name for raw sound.
    "text.au": (b"these are words and no sound " * 99, "undecodable", "cannot be decoded"),
    "playlist.mp4": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "undecodable", "cannot be decoded"),
    "broken.mp4": (b"\0\0\0\x20ftypisom" + bytes(500), "undecodable", "broken.mp4"),
    "huge.flac": (huge_flac(), "too long", "allowed at most"),
    "piped.flac": (piped_flac(), "undecodable", "does not say how long"),
}


def test_each_bad_sound_is_left_out_with_its_reason_and_the_good_ones_are_kept(tmp_path):
    good = {
        "good.wav": sound_bytes(),
        "good.flac": sound_bytes(kind="FLAC"),
        "eight.wav": sound_bytes(channels=8),
        "fast.wav": sound_bytes(rate_hz=96_000),
        "piped.wav": with_data_size(0xFFFFFFFF),
        "line\nbreak.wav": sound_bytes(),
        "tab\t.wav": sound_bytes(),
    }
    for name, content in {**good, **{name: bad[0] for name, bad in BAD_SOUNDS.items()}}.items():
        (tmp_path / "corpus").mkdir(exist_ok=True)
        (tmp_path / "corpus" / name).write_bytes(content)
    tracemalloc.start()
    report = prepare(open_folder(tmp_path / "corpus", "c"), tmp_path / "out", ToyCodec(), OPTIONS)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    rows = {row["id"].removeprefix("c/"): row for row in report.rejected}
    assert set(rows) == {name.replace("\n", "\\n") for name in BAD_SOUNDS}
    for name, (_, reason, detail) in BAD_SOUNDS.items():
        row = rows[name.replace("\n", "\\n")]
        assert row["reason"] == reason and detail in row["detail"], row
    found = {u.id.removeprefix("c/"): u for u in StoreReader(tmp_path / "out").utterances("train")}
    assert set(found) == {name.replace("\n", "\\n").replace("\t", "\\t") for name in good}
    assert all(u.end_s == pytest.approx(0.5, abs=1e-3) for u in found.values())
    # Eight equal channels are the sound of one, and a higher rate is the same sound to half a code.
    assert (found["eight.wav"].codes_KF == found["good.wav"].codes_KF).all()
    assert peak_bytes < 64 << 20


def test_a_claimed_length_costs_no_memory_even_where_no_limit_stops_it(tmp_path):
    (tmp_path / "huge.flac").write_bytes(huge_flac())
    tracemalloc.start()
    assert probe(tmp_path / "huge.flac").duration_s > 1e6
    with pytest.raises(AudioError, match=r"huge\.flac"):
        read_part(tmp_path / "huge.flac")
    assert read_part(tmp_path / "huge.flac", 0, 0.25).duration_s == 0.25
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def tar_of(folder: Path) -> tarfile.TarFile:
    folder.mkdir(exist_ok=True)
    return tarfile.open(folder / "a.tar", "w")


def test_a_hostile_tar_gives_its_good_members_and_a_reason_for_each_other(tmp_path):
    with tar_of(tmp_path / "tars") as tar:
        add_member(tar, "EN_B00000_S00001_W000001.flac", sound_bytes(kind="FLAC"))
        add_member(tar, "EN_B00000_S00001_W000001.json", b'{"text": " second ", "speaker": "s"}')
        add_member(tar, "../../outside.wav", sound_bytes())
        add_member(tar, "/absolute.wav", sound_bytes())
        add_member(tar, "link.wav", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add_member(tar, "hard.wav", b"", type=tarfile.LNKTYPE, linkname="EN_B00000_S00001_W000001.flac")
        add_member(tar, "pipe.wav", b"", type=tarfile.FIFOTYPE)
        add_member(tar, "alone.json", b'{"text": "nothing to hear"}')
        add_member(tar, "broken.json", b"{")
        add_member(tar, "large.json", b" " * ((1 << 20) + 1))
        add_member(tar, "list.json", b"[1]")
        add_member(tar, "hollow.mp3", b"")
        add_member(tar, "hollow.txt", b"no sound")
        add_member(tar, "notes.md", b"ignored")
        add_member(tar, "EN_B00000_S00001_W000000.flac", sound_bytes(0.3, "FLAC"))
        add_member(tar, "EN_B00000_S00001_W000000.json", b'{"text": "first"}')
        add_member(tar, "EN_B00000_S00001_W000000.flac", sound_bytes(0.4, "FLAC"))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    items = list(open_folder(tmp_path / "tars", "t"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == before, "listing a tar writes nothing"
    report = prepare(items, tmp_path / "out", ToyCodec(), OPTIONS)
    reasons = {row["id"].removeprefix("t/"): row["detail"] for row in report.rejected}
    expected = {
        "a.tar:../../outside.wav": "leads out of the tar",
        "a.tar:/absolute.wav": "leads out of the tar",
        "a.tar:link.wav": "a link",
        "a.tar:hard.wav": "a link",
        "a.tar:pipe.wav": "a link, device",
        "a.tar:alone": "without sound",
        "a.tar:broken.json": "not JSON",
        "a.tar:large.json": "allowed for a .json",
        "a.tar:list.json": "needed: a JSON object",
        "hollow": "0 bytes",
        "a.tar:EN_B00000_S00001_W000000.flac": "a second sound of that name",
    }
    assert set(reasons) == set(expected)
    assert all(part in reasons[name] for name, part in expected.items()), reasons
    found = list(StoreReader(tmp_path / "out").utterances("train"))
    assert [(u.id[-7:], u.recording, u.text) for u in found] == [
        ("W000000", "t/EN_B00000_S00001", "first"),
        ("W000001", "t/EN_B00000_S00001", "second"),
    ]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda whole: whole[:2000], "ends before"),
        (lambda whole: whole[:17920] + b"x" * 512 + whole[18432:], "no header at byte 17920"),
        (gzip.compress, "damaged or compressed"),
        (lambda whole: b"", "damaged"),
    ],
)
def test_a_damaged_tar_says_so_and_never_ends_silently(tmp_path, damage, problem):
    with tar_of(tmp_path / "tars") as tar:
        for n in range(4):
            add_member(tar, f"{n}.json", b'{"text": "x"}')
            add_member(tar, f"{n}.wav", sound_bytes())
    path = tmp_path / "tars/a.tar"
    path.write_bytes(damage(path.read_bytes()))
    assert any(item.problem and problem in item.problem for item in open_folder(path.parent, "t"))


def test_a_header_that_claims_gigabytes_of_attributes_is_not_read(tmp_path):
    (tmp_path / "tars").mkdir()
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.XHDTYPE, 8 << 30
    path = tmp_path / "tars/a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    with open(path, "r+b") as handle:
        handle.truncate(9 << 30)  # sparse: it takes no room
    tracemalloc.start()
    (item,) = open_folder(path.parent, "t")
    assert "a header of" in item.problem and tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_a_duplicate_id_is_left_out_once(tmp_path):
    (tmp_path / "a.wav").write_bytes(sound_bytes())
    rows = [{"audio": "a.wav", "id": "same", "text": t} for t in ("first", "second")]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = prepare(open_folder(tmp_path, "m"), tmp_path / "out", ToyCodec(), OPTIONS)
    assert [row["reason"] for row in report.rejected] == ["duplicate id"]
    assert [u.text for u in StoreReader(tmp_path / "out").utterances("train")] == ["first"]


def test_names_and_texts_that_no_table_can_hold_become_problems():
    broken = "a\udc80"  # how Python reads a byte of a file name that is no UTF-8
    for item in (
        Item(id="x", problem=broken),
        Item(id=broken),
        Item(id="x", text=broken),
        Item(id="x", speaker=broken),
    ):
        assert item.problem is not None
        json.dumps([item.id, item.problem], ensure_ascii=False).encode("utf-8")
    assert Item(id="früh 東京", text="two\nlines").problem is None


def test_names_with_newlines_and_tabs_are_escaped_and_kept():
    item = Item(id="a\tb", speaker="a\nb", licence="CC\u2028BY", text="x")
    assert (item.id, item.recording, item.speaker, item.licence) == (r"a\tb", r"a\tb", r"a\nb", r"CC\u2028BY")
    assert item.problem is None


def test_lhotse_manifests_run_no_commands_and_fetch_nothing(tmp_path):
    pytest.importorskip("lhotse")
    (tmp_path / "ran").unlink(missing_ok=True)

    def row(name: str, kind: str, source: str) -> dict:
        sources = [{"type": kind, "channels": [0], "source": source}]
        return {"id": name, "sources": sources, "sampling_rate": 16000, "num_samples": 8000, "duration": 0.5}

    (tmp_path / "good.wav").write_bytes(sound_bytes())
    rows = [
        row("good", "file", "good.wav"),
        row("command", "command", f"touch {tmp_path}/ran"),
        row("address", "url", "https://example.org/a.wav"),
        row("pipe", "file", f"pipe:touch {tmp_path}/ran"),
        {"id": "odd", "sources": 3},
    ]
    (tmp_path / "recordings.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    items = {item.id: item for item in open_folder(tmp_path, "l")}
    assert items["l/good"].problem is None and items["l/good"].read().duration_s == 0.5
    assert "Commands are not run" in items["l/command"].problem
    assert "addresses not fetched" in items["l/address"].problem
    assert "does not exist" in items["l/pipe"].problem
    assert "no lhotse manifest" in items["l/recordings.jsonl:5"].problem
    assert not (tmp_path / "ran").exists()


def test_bad_rows_of_a_hub_table_are_left_out_and_a_broken_table_is_refused(tmp_path):
    rows = [
        {"audio": {"bytes": sound_bytes(), "path": "a.wav"}, "text": "good"},
        {"audio": {"bytes": None, "path": "gone.wav"}, "text": "no bytes"},
        {"audio": {"bytes": b"words", "path": "b.wav"}, "text": "no sound"},
        {"audio": None, "text": "nothing"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    report = prepare(open_folder(tmp_path, "h"), tmp_path / "out", ToyCodec(), OPTIONS)
    details = [row["detail"] for row in report.rejected]
    assert len(details) == 3 and sum("0 bytes, only a path" in d for d in details) == 2
    assert [u.text for u in StoreReader(tmp_path / "out").utterances("train")] == ["good"]
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(ConfigError, match="no complete parquet"):
        list(open_folder(tmp_path, "h"))


@pytest.mark.parametrize(
    ("string", "problem"),
    [
        ("no markers", "is needed"),
        ("<|begin_of_text|>cut off", "is needed"),
        ("<|begin_of_text|><|text_start|>a<|text_end|><|end_of_text|>", "do not alternate"),
        (
            "<|begin_of_text|>x<|text_start|>a<|text_end|><|audio_start|><|audio_end|><|end_of_text|>",
            "nothing between",
        ),
    ],
)
def test_a_broken_published_document_is_refused_with_the_place(string, problem):
    with pytest.raises(VocabularyError, match=problem):
        WrittenDocument.parse(string)


def test_a_transcript_that_spells_a_marker_is_never_written():
    with pytest.raises(VocabularyError, match="spells the marker"):
        WrittenDocument((("a<|text_end|>b", ""),)).write()


def test_a_bomb_of_compressed_text_is_refused(tmp_path):
    with gzip.open(tmp_path / "bomb.txt.gz", "wb") as handle:
        for _ in range(80):
            handle.write(b" " * (1 << 20))
    (tmp_path / "good.txt").write_text("words")
    bomb, good = open_folder(tmp_path, "t")
    assert "longer than" in bomb.problem and good.text == "words"
    (tmp_path / "bomb.txt.gz").rename(tmp_path / "rows.jsonl.gz")
    with pytest.raises(ConfigError, match="a line of more than"):
        list(open_folder(tmp_path / "rows.jsonl.gz", "t"))
