"""What goes into a store comes out of it, exactly, or the reader says what is wrong."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sodakit.codec.contract import CodecSpec
from sodakit.errors import CodecError, StoreError
from sodakit.files import file_sha256
from sodakit.store import checked
from sodakit.store.reader import StoreReader
from sodakit.store.schema import Utterance
from sodakit.store.shard import open_batch
from sodakit.store.writer import StoreWriter
from sodakit.tokens.text import train_bpe
from sodakit.tokens.words import TimedWord

TOKENIZER = "tokenizer-a"


def spec(num_codebooks: int = 2, codebook_size: int = 2048, fingerprint: str = "codec-a") -> CodecSpec:
    return CodecSpec(
        name="toy",
        sample_rate_hz=24_000,
        frame_samples=1920,
        num_codebooks=num_codebooks,
        codebook_size=codebook_size,
        fingerprint=fingerprint,
    )


def utterance(name: str, frames: int = 3, num_codebooks: int = 2, **more) -> Utterance:
    codes_KF = np.arange(num_codebooks * frames, dtype=np.uint16).reshape(num_codebooks, frames)
    return Utterance(
        id=name, codes_KF=codes_KF, **{"recording": f"rec-{name}", "end_s": frames / 12.5, **more}
    )


def written(folder: Path, shards: list[list[Utterance]], codec: CodecSpec | None = None) -> Path:
    writer = StoreWriter(folder, codec or spec(), TOKENIZER)
    for index, rows in enumerate(shards):
        writer.write_shard("train", index, rows)
    writer.seal()
    return folder


def assert_same(left: Utterance, right: Utterance) -> None:
    for field in dataclasses.fields(Utterance):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and a.shape == b.shape and (a == b).all(), field.name
        else:
            assert a == b and type(a) is type(b), field.name


def timed_words(num_ids: int):
    """Any word that a shard may hold; times as 32-bit floats hold them."""
    sure, times = st.none() | st.floats(0, 1, width=32), st.none() | st.floats(0, 3600, width=32)
    found = st.builds(TimedWord, st.integers(0, 9), st.integers(-1, num_ids), times, times, sure)
    return found.filter(lambda w: w.start_s is None or w.end_s is None or w.start_s <= w.end_s)


@st.composite
def stores(draw) -> tuple[CodecSpec, list[list[Utterance]]]:
    num_codebooks = draw(st.integers(1, 16))
    codebook_size = draw(st.sampled_from([1, 2, 2048, 65_536]))
    code = st.one_of(st.sampled_from([0, codebook_size - 1]), st.integers(0, codebook_size - 1))
    word = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
    shards = []
    for _ in range(draw(st.integers(1, 3))):
        rows = []
        for number in range(draw(st.integers(0, 4))):
            frames = draw(st.integers(0, 5))
            codes = draw(st.lists(code, min_size=num_codebooks * frames, max_size=num_codebooks * frames))
            text_ids = draw(st.lists(st.integers(0, 2**31 - 1), max_size=5))
            words = tuple(draw(st.lists(timed_words(len(text_ids)), max_size=3)))
            rows.append(
                Utterance(
                    id=f"{number}-{draw(word)}",
                    recording=draw(word),
                    start_s=draw(st.floats(0, 1e6)),
                    end_s=draw(st.floats(0, 1e6)),
                    codes_KF=np.array(codes, np.uint16).reshape(num_codebooks, frames),
                    text=draw(st.none() | word),
                    text_ids_T=np.array(text_ids, np.int32),
                    words=words,
                    words_source=draw(word) if words else "",
                    speaker=draw(word),
                    language=draw(word),
                    source=draw(word),
                    licence=draw(word),
                )
            )
        shards.append(rows)
    return spec(num_codebooks, codebook_size), shards


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(store=stores())
def test_what_is_written_is_read_back_exactly(tmp_path_factory, store):
    """Code 0, the last code, no text, empty text, unicode, no frames, empty shards, K from 1 to 16."""
    codec, shards = store
    reader = StoreReader(written(tmp_path_factory.mktemp("store"), shards, codec))
    rows = [row for shard in shards for row in shard]
    found = reader.utterances("train")
    assert len(found) == len(rows)
    for left, right in zip(rows, found, strict=True):
        assert_same(left, right)
    assert reader.codec_spec == codec


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(store=stores())
def test_columns_say_the_same_as_utterances(tmp_path_factory, store):
    codec, shards = store
    reader = StoreReader(written(tmp_path_factory.mktemp("store"), shards, codec))
    columns, rows = reader.columns("train"), reader.utterances("train")
    assert len(columns) == len(rows)
    for n, row in enumerate(rows):
        frames = slice(columns.frame_offsets[n], columns.frame_offsets[n + 1])
        codes = slice(columns.code_offsets[n], columns.code_offsets[n + 1])
        assert (row.codes_KF == columns.codes_FK[frames].T).all()
        assert (columns.codes[codes] == row.codes_KF.T.reshape(-1)).all()
        text = columns.text_ids[columns.text_offsets[n] : columns.text_offsets[n + 1]]
        assert (text == row.text_ids_T).all()
        assert (columns.start_s[n], columns.end_s[n]) == (row.start_s, row.end_s)
        assert columns.recordings[columns.recording[n]] == row.recording
        assert columns.speakers[columns.speaker[n]] == row.speaker
        assert columns.languages[columns.language[n]] == row.language
        assert columns.sources[columns.source[n]] == row.source


def test_codes_are_views_and_never_copies(tmp_path):
    reader = StoreReader(written(tmp_path, [[utterance("a"), utterance("b")]]))
    flat = reader.columns("train").codes
    codes_KF = reader.utterances("train")[1].codes_KF
    assert np.shares_memory(flat, reader.columns("train").codes_FK)
    assert flat.ctypes.data <= codes_KF.ctypes.data < flat.ctypes.data + flat.nbytes
    assert codes_KF.T.flags.c_contiguous and not codes_KF.flags.writeable


def test_views_outlive_the_reader(tmp_path):
    """The memory map must stay while anybody holds codes."""
    codes_KF = StoreReader(written(tmp_path, [[utterance("a")]])).utterances("train")[0].codes_KF
    assert codes_KF.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_utterances_slice_and_count_like_a_list(tmp_path):
    rows = [utterance(name) for name in "abcde"]
    found = StoreReader(written(tmp_path, [rows[:2], [], rows[2:]])).utterances("train")
    assert [u.id for u in found[1:4]] == ["b", "c", "d"]
    assert found[-1].id == "e"
    with pytest.raises(IndexError):
        found[5]


def test_equal_utterances_give_equal_bytes(tmp_path):
    left, right = (written(tmp_path / name, [[utterance("a")]]) for name in ("one", "two"))
    for file in ("store.json", "train/shard-00000.arrow"):
        assert (left / file).read_bytes() == (right / file).read_bytes()


def test_the_description_counts_what_is_there(tmp_path):
    rows = [utterance("a", 25, text_ids_T=np.arange(4, dtype=np.int32)), utterance("b", 0)]
    folder = written(tmp_path, [rows, [utterance("c", 20)]])
    train = json.loads((folder / "store.json").read_text())["splits"]["train"]
    assert (train["rows"], train["frames"], train["text_tokens"]) == (3, 45, 4)
    assert train["hours"] == pytest.approx(45 / 12.5 / 3600, rel=1e-3)
    assert [shard["file"] for shard in train["shards"]] == [
        "train/shard-00000.arrow",
        "train/shard-00001.arrow",
    ]


def test_a_complete_shard_is_kept(tmp_path):
    writer = StoreWriter(tmp_path, spec(), TOKENIZER)
    path = writer.write_shard("train", 0, [utterance("first")])
    before = path.stat().st_mtime_ns
    writer.write_shard("train", 0, [utterance("second")])
    writer.seal()
    assert path.stat().st_mtime_ns == before
    assert StoreReader(tmp_path).utterances("train")[0].id == "first"


def test_rejected_rows_of_shards_reach_the_quarantine(tmp_path):
    writer = StoreWriter(tmp_path, spec(), TOKENIZER)
    writer.write_shard("train", 0, [utterance("a")], rejected=[{"id": "b", "reason": "silent"}])
    writer.seal([{"id": "c", "reason": "missing file"}])
    lines = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["c", "b"]
    assert json.loads((tmp_path / "store.json").read_text())["quarantined"] == 2


def test_codes_of_another_codec_are_refused(tmp_path):
    writer = StoreWriter(tmp_path, spec(num_codebooks=3), TOKENIZER)
    with pytest.raises(CodecError, match="K=3"):
        writer.write_shard("train", 0, [utterance("a")])
    assert not (tmp_path / "train").exists()


def test_a_gap_in_the_shards_is_an_error(tmp_path):
    writer = StoreWriter(tmp_path, spec(), TOKENIZER)
    writer.write_shard("train", 1, [utterance("a")])
    with pytest.raises(StoreError, match=r"shard-00000\.arrow is missing"):
        writer.seal()


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"expect_codec": "codec-b"}, "made with codec"),
        ({"expect_tokenizer": "other"}, "made with tokenizer"),
    ],
)
def test_another_fingerprint_is_refused(tmp_path, expected, message):
    written(tmp_path, [[utterance("a")]])
    StoreReader(tmp_path, expect_codec="codec-a", expect_tokenizer=TOKENIZER)
    with pytest.raises(StoreError, match=message):
        StoreReader(tmp_path, **expected)


def test_a_shard_of_another_store_is_noticed(tmp_path):
    """A shard copied from elsewhere has the right shape and the wrong meaning."""
    mine = written(tmp_path / "mine", [[utterance("a")]])
    other = written(tmp_path / "other", [[utterance("a")]], spec(fingerprint="codec-b"))
    shard = "train/shard-00000.arrow"
    (mine / shard).write_bytes((other / shard).read_bytes())
    with pytest.raises(StoreError, match="damaged or replaced"):
        StoreReader(mine).utterances("train")
    with pytest.raises(StoreError, match="made with codec codec-b"):
        StoreWriter(mine, spec(), TOKENIZER).seal()


@pytest.mark.parametrize("kept", [0, 10, 400, -1])
def test_a_truncated_shard_is_refused(tmp_path, kept):
    path = written(tmp_path, [[utterance("a")]]) / "train/shard-00000.arrow"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match="cut off"):
        StoreReader(tmp_path)
    with pytest.raises(StoreError, match="cut off"):
        StoreWriter(tmp_path, spec(), TOKENIZER).has_shard("train", 0)


def test_verify_finds_one_flipped_bit(tmp_path):
    written(tmp_path, [[utterance("a", frames=500)]])
    StoreReader(tmp_path).verify()
    path = tmp_path / "train/shard-00000.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="sha256"):
        StoreReader(tmp_path).verify()


@pytest.mark.parametrize("read", ["utterances", "columns", "shard_columns", "flat_shards", "each_flat_shard"])
@pytest.mark.parametrize("column", ["id", "recording", "codes", "source"])
def test_a_damaged_shard_of_the_same_size_is_named_before_it_is_used(tmp_path, column, read):
    """Offsets far outside ended the process; codes within range trained in silence."""
    written(tmp_path, [[utterance(f"a{n}", frames=50, source="corpus") for n in range(9)]])
    assert len(StoreReader(tmp_path).utterances("train")) == 9
    path = tmp_path / "train/shard-00000.arrow"
    batch = open_batch(path)
    data = bytearray(path.read_bytes())
    offsets = bytes(batch.column(column).buffers()[1])
    place = bytes(data).index(offsets)
    data[place + 4 : place + 8] = (0x7FFFFFF0).to_bytes(4, "little")
    del batch
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"shard-00000\.arrow has sha256 .* only that shard is made anew"):
        list(getattr(StoreReader(tmp_path), read)("train"))
    if column != "codes":  # a length of 2^31 codes is no impossible one, to Arrow: the offsets still tell
        with pytest.raises(StoreError, match="Delete it"):
            StoreWriter(tmp_path, spec(), TOKENIZER).has_shard("train", 0)


@pytest.mark.parametrize("read", ["utterances", "columns", "shard_columns", "flat_shards", "each_flat_shard"])
@pytest.mark.parametrize("column", ["id", "recording", "text", "codes", "text_ids"])
def test_a_shard_whose_digest_agrees_is_named_where_its_offsets_cannot_be(tmp_path, column, read):
    """Text far outside ended the process; ids far outside were read as others."""
    written(tmp_path, [[utterance(f"a{n}", frames=n + 1, text="say ah " * n) for n in range(9)]])
    path, described = tmp_path / "train/shard-00000.arrow", tmp_path / "store.json"
    batch = open_batch(path)
    width = 8 if column in ("codes", "text_ids") else 4
    data = bytearray(path.read_bytes())
    place = bytes(data).index(bytes(batch.column(column).buffers()[1])) + 3 * width
    before = file_sha256(path)
    del batch
    data[place : place + width] = (0x7FFFFFF0).to_bytes(width, "little")
    path.write_bytes(data)
    described.write_text(described.read_text().replace(before, file_sha256(path)))
    with pytest.raises(StoreError, match=r"shard-00000\.arrow is damaged .*offset.*Delete it"):
        list(getattr(StoreReader(tmp_path), read)("train"))
    with pytest.raises(StoreError, match="is damaged"):
        StoreReader(tmp_path).verify()


def test_a_large_store_is_read_whole_once_and_again_where_it_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checked, "SMALL_BYTES", 0)
    read = []
    monkeypatch.setattr(checked, "file_sha256", lambda path: (read.append(path.name), file_sha256(path))[1])
    store = written(tmp_path / "s", [[utterance("a")], [utterance("b")]])

    def opened() -> list[str]:
        read.clear()
        checked._seen.clear()  # as another process would
        StoreReader(store).utterances("train")
        return sorted(read)

    assert opened() == []  # whoever wrote them knows them
    os.utime(store / "train/shard-00001.arrow", ns=(1, 1))
    assert opened() == ["shard-00001.arrow"] and opened() == []
    (cached,) = (tmp_path / "cache/sodakit").iterdir()
    cached.write_text("{")
    assert opened() == ["shard-00000.arrow", "shard-00001.arrow"] and opened() == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 100_000, '{"schema_version": 1', "\udcff"], ids=range(6)
)
def test_a_half_store_json_names_the_file(tmp_path, text):
    written(tmp_path, [[utterance("a")]])
    (tmp_path / "store.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(StoreError, match=r"store\.json .*Run the same prepare again"):
        StoreReader(tmp_path)


def test_a_store_names_no_file_outside_itself(tmp_path):
    path = written(tmp_path, [[utterance("a")]]) / "store.json"
    path.write_text(path.read_text().replace("train/shard", "../train/shard"))
    with pytest.raises(StoreError, match=r"names '\.\./train/shard-00000\.arrow'"):
        StoreReader(tmp_path)


def test_a_store_without_its_tokenizer_asks_no_hub(tmp_path, monkeypatch):
    """A relative folder `s` made `s/tokenizer`, which reads like a name on the hub."""
    store = written(tmp_path / "s", [[utterance("a")]])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"s/tokenizer is missing or damaged .*prepare"):
        StoreReader("s").tokenizer()
    train_bpe(["other"], 300).save(store / "tokenizer")
    with pytest.raises(StoreError, match="made with tokenizer"):
        StoreReader("s").tokenizer()


def test_an_unfinished_or_missing_store_says_so(tmp_path):
    StoreWriter(tmp_path, spec(), TOKENIZER).write_shard("train", 0, [utterance("a")])
    with pytest.raises(StoreError, match=r"no store\.json"):
        StoreReader(tmp_path)
    (tmp_path / "store.json").write_text('{"schema_version": 99}')
    with pytest.raises(StoreError, match="schema version 99"):
        StoreReader(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(StoreError, match="not JSON"):
        StoreReader(tmp_path)


def test_a_missing_split_or_shard_is_named(tmp_path):
    written(tmp_path, [[utterance("a")]])
    with pytest.raises(StoreError, match="no split 'test'; it has train"):
        StoreReader(tmp_path).utterances("test")
    (tmp_path / "train/shard-00000.arrow").unlink()
    with pytest.raises(StoreError, match=r"shard-00000\.arrow does not exist"):
        StoreReader(tmp_path)


ENDLESS_WRITER = """
import sys
import numpy as np
from sodakit.codec.contract import CodecSpec
from sodakit.store.schema import Utterance
from sodakit.store.writer import StoreWriter
codec = CodecSpec(name="t", sample_rate_hz=24000, frame_samples=1920, num_codebooks=8, codebook_size=2048,
                  fingerprint="f")
rows = [Utterance(id="a", recording="a", codes_KF=np.zeros((8, 2_000_000), np.uint16))]
writer = StoreWriter(sys.argv[1], codec, "t")
print("go", flush=True)
for index in range(10_000):
    writer.write_shard("train", index, rows)
"""


@pytest.mark.parametrize("delay_s", [0.05, 0.3])
def test_a_killed_writer_leaves_no_partial_shard(tmp_path, delay_s):
    """SIGKILL in the middle of writing 32 MB shards: those that are there are whole."""
    process = subprocess.Popen([sys.executable, "-c", ENDLESS_WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"go\n"
    time.sleep(delay_s)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    codec = dataclasses.replace(spec(8), name="t", fingerprint="f")
    writer = StoreWriter(tmp_path, codec, "t")
    found = sorted((tmp_path / "train").glob("shard-*.arrow"))
    assert all(writer.has_shard("train", index) for index in range(len(found)))
    writer.seal()
    reader = StoreReader(tmp_path)
    assert not found or reader.columns("train").frame_offsets[-1] == 2_000_000 * len(found)


def test_a_shard_without_times_of_words_has_no_column_for_them(tmp_path):
    """Stores without them stay the bytes they were, and one that was made before is read."""
    word = TimedWord(0, 0, 0.0, 0.125, None)
    reader = StoreReader(
        written(tmp_path, [[utterance("a")], [utterance("b", words=(word,), words_source="x")]])
    )
    names = [open_batch(tmp_path / info.file).schema.names for info in reader.shards("train")]
    assert ["words" in columns for columns in names] == [False, True]
    assert [len(words.offsets) for words in reader.shard_words("train")] == [2, 2]
    assert [u.words for u in reader.utterances("train")] == [(), (word,)]


@pytest.mark.parametrize(
    "word",
    [
        TimedWord(-1, 0, 0.0, 0.1),
        TimedWord(0, 7, 0.0, 0.1),
        TimedWord(0, -2, 0.0, 0.1),
        TimedWord(0, 0, 0.2, 0.1),
    ],
)
def test_words_outside_their_text_are_damage(tmp_path, word):
    """The loader walks along them; a number outside would lead it out of its shard."""
    with pytest.raises(StoreError, match="word"):
        written(tmp_path, [[utterance("a", words=(word,), text_ids_T=np.arange(6, dtype=np.int32))]])
