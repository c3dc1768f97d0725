"""One corpus in every layout gives one store.

Equal means: every file of the store (shards, tokenizer, store.json, quarantine.jsonl) byte for byte, so ids,
recordings, times, speakers, languages, texts, text ids and codes. plan.json says what was
read and verify.json what was listened to again: they are not compared.
The published parquet cannot hold ids, times and speakers: without our extra column its store is equal in the bytes of
codes, texts and text ids, and in the grouping.
"""

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sodakit.codec.toy import ToyCodec
from sodakit.errors import ConfigError, StoreError
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.sources.lhotse_sets import read_recipe
from sodakit.prepare.splits import SplitRule, assign_splits
from sodakit.prepare.stages import prepare
from sodakit.store.reader import StoreReader
from sodakit.store.written import write_documents
from tests.prepare import layouts
from tests.prepare.layouts import SOURCE, real_clips
from tests.recordings import recordings

CODEC = ToyCodec(8, 2048, 24_000, 1920)
"""Mimi's shape: the published strings know no other."""
OPTIONS = PrepareOptions(split=SplitRule(validation_fraction=0, test_fraction=0))


def store_of(corpus: Path, out: Path, source: str = SOURCE) -> Path:
    report = prepare(open_folder(corpus, source, CODEC.spec), out, CODEC, OPTIONS)
    assert report.rejected == []
    return out


def contents(store: Path) -> dict[str, bytes]:
    files = (p for p in store.rglob("*") if p.is_file() and p.name not in ("plan.json", "verify.json"))
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in sorted(files)}


@pytest.fixture(scope="module")
def kaldi_store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kaldi")
    return store_of(layouts.write_kaldi(folder / "corpus", real_clips()), folder / "store")


@pytest.mark.parametrize("layout", ["emilia", "hub", "lhotse", "lhotse cuts"])
def test_the_same_recordings_in_another_layout_give_the_same_bytes(layout, kaldi_store, tmp_path):
    corpus, clips = tmp_path / "corpus", real_clips()
    if layout == "emilia":
        layouts.write_emilia(corpus, clips)
    elif layout == "hub":
        layouts.write_hub(corpus, clips)
    else:
        pytest.importorskip("lhotse")
        layouts.write_lhotse(corpus, clips, cuts=layout.endswith("cuts"))
    found = contents(store_of(corpus, tmp_path / "store"))
    assert set(found) == set(contents(kaldi_store))
    assert [name for name, content in contents(kaldi_store).items() if found[name] != content] == []
    rows = StoreReader(tmp_path / "store").utterances("train")
    assert [(u.id, u.text, u.speaker) for u in rows] == [
        (f"{SOURCE}/{c.name}", c.text, c.speaker) for c in clips
    ]


def test_the_published_documents_hold_the_store_and_give_it_back(kaldi_store, tmp_path):
    report = write_documents(StoreReader(kaldi_store), tmp_path / "documents")
    assert (report.documents, report.left_out) == (8, ())
    assert contents(store_of(tmp_path / "documents", tmp_path / "store")) == contents(kaldi_store)
    write_documents(StoreReader(tmp_path / "store"), tmp_path / "again")
    first, again = (tmp_path / name / "train-00000.parquet" for name in ("documents", "again"))
    assert first.read_bytes() == again.read_bytes()


def test_bare_published_documents_give_back_codes_text_and_grouping(kaldi_store, tmp_path):
    write_documents(StoreReader(kaldi_store), tmp_path / "documents", bare=True)
    store_of(tmp_path / "documents", tmp_path / "store")
    expected, found = (StoreReader(folder).columns("train") for folder in (kaldi_store, tmp_path / "store"))
    for name in ("codes", "frame_offsets", "text_ids", "text_offsets"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name
    assert found.recordings == expected.recordings and (found.recording == expected.recording).all()
    texts = [[u.text for u in StoreReader(s).utterances("train")] for s in (kaldi_store, tmp_path / "store")]
    assert texts[0] == texts[1]


def test_documents_need_the_codec_that_made_them_and_its_shape(kaldi_store, tmp_path):
    write_documents(StoreReader(kaldi_store), tmp_path / "documents")
    with pytest.raises(ConfigError, match="needed: the codec"):
        list(open_folder(tmp_path / "documents"))
    small = ToyCodec()
    prepare(
        open_folder(layouts.write_kaldi(tmp_path / "k", real_clips(1))), tmp_path / "small", small, OPTIONS
    )
    with pytest.raises(StoreError, match="8 of 2048"):
        write_documents(StoreReader(tmp_path / "small"), tmp_path / "nothing")


def test_parts_of_one_long_recording_are_the_same_from_kaldi_lhotse_and_a_yodas_table(tmp_path):
    pytest.importorskip("lhotse")
    import pyarrow as pa
    import pyarrow.parquet as pq
    from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

    sonnet = (recordings("format_variants") / "audio/sonnet_p001.mp3").resolve()
    video = "a-b_c-D9"
    parts = [
        (f"{video}-{n:05d}-{s:08d}-{e:08d}", s / 100, e / 100)
        for n, (s, e) in enumerate([(150, 420), (420, 815)])
    ]
    kaldi, table, lhotse = tmp_path / "kaldi", tmp_path / "table", tmp_path / "lhotse"
    for folder in (kaldi, table, lhotse):
        folder.mkdir()
    (kaldi / "wav.scp").write_text(f"{video} {sonnet}\n")
    (kaldi / "segments").write_text("".join(f"{name} {video} {s} {e}\n" for name, s, e in parts))
    (kaldi / "text").write_text("".join(f"{name} part at {s}\n" for name, s, _ in parts))
    told = [{"utt_id": name, "text": f"part at {s}", "start": s, "end": e} for name, s, e in parts]
    row = {"video_id": video, "audio": {"bytes": sonnet.read_bytes(), "path": None}, "utterances": told}
    pq.write_table(pa.Table.from_pylist([row]), table / "en000.parquet")
    RecordingSet.from_recordings([Recording.from_file(sonnet, recording_id=video)]).to_file(
        lhotse / "recordings.jsonl.gz"
    )
    SupervisionSet.from_segments(
        [
            SupervisionSegment(name, video, s, round(e - s, 3), [0, 1], text=f"part at {s}")
            for name, s, e in parts
        ]
    ).to_file(lhotse / "supervisions.jsonl.gz")
    first, *others = [contents(store_of(f, tmp_path / f"{f.name}-store")) for f in (kaldi, table, lhotse)]
    assert all(other == first for other in others)
    rows = StoreReader(tmp_path / "table-store").utterances("train")
    assert [(u.recording, u.start_s, u.end_s) for u in rows] == [
        (f"{SOURCE}/{video}", 1.5, 4.2),
        (f"{SOURCE}/{video}", 4.2, 8.15),
    ]


def test_one_channel_of_a_recording_is_left_to_lhotse(tmp_path):
    """A telephone call has a speaker on each channel: their mean would be another sound."""
    pytest.importorskip("lhotse")
    from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

    two_SC = np.stack([np.full(16_000, 0.25, np.float32), np.full(16_000, -0.5, np.float32)], 1)
    soundfile.write(tmp_path / "call.wav", two_SC, 16_000, "FLOAT")
    RecordingSet.from_recordings([Recording.from_file(tmp_path / "call.wav")]).to_file(
        tmp_path / "recordings.jsonl"
    )
    SupervisionSet.from_segments([SupervisionSegment("b", "call", 0.5, 0.25, channel=1)]).to_file(
        tmp_path / "supervisions.jsonl"
    )
    (item,) = pickle.loads(pickle.dumps(list(open_folder(tmp_path, "l"))))
    wave = item.read()
    assert (item.sound_duration_s(), wave.duration_s, item.begins_s) == (0.25, 0.25, 0.5)
    assert (wave.samples_S == -0.5).all()


def test_librispeech_is_found_by_lhotses_own_recipe(tmp_path):
    pytest.importorskip("lhotse")
    items = list(read_recipe("librispeech", layouts.write_librispeech(tmp_path / "LibriSpeech"), "ls"))
    assert len(items) == 12 and all(item.problem is None and item.audio.is_file() for item in items)
    assert {item.fields["part"] for item in items} == {"test-other"}
    assert set(assign_splits(items, SplitRule())) == {"test"}  # its own, kept without being asked
    assert all(item.text.isupper() and item.speaker and item.language == "English" for item in items)
    with pytest.raises(ConfigError, match="no recipe 'nothing'"):
        next(read_recipe("nothing", tmp_path, "x"))
    with pytest.raises(ConfigError, match="Is it that corpus"):
        next(read_recipe("librispeech", recordings("vctk"), "x"))


def test_librispeech_is_read_without_lhotse_as_by_its_recipe(tmp_path):
    pytest.importorskip("lhotse")
    folder = layouts.write_librispeech(tmp_path / "LibriSpeech")
    theirs, ours = (
        {i.id: i for i in found}
        for found in (read_recipe("librispeech", folder, "ls"), open_folder(folder, "ls"))
    )
    assert ours.keys() == theirs.keys()
    for name, item in ours.items():
        other = theirs[name]
        assert (item.audio, item.text, item.speaker) == (other.audio, other.text, other.speaker)
