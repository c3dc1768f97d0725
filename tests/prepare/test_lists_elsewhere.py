"""Lists of other programs, countries and machines: times in their units, names and folders as they are there, splits."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sodakit.codec.toy import ToyCodec
from sodakit.commands.prepare import main
from sodakit.errors import ConfigError
from sodakit.prepare.checks import Limits, check_item
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.columns import clock_s
from sodakit.prepare.sources.detect import open_corpus, read_corpus
from sodakit.prepare.sources.names import named_split, split_at
from sodakit.prepare.splits import SplitRule, assign_splits
from sodakit.prepare.stages import prepare
from sodakit.store.reader import StoreReader
from tests.prepare.layouts import add_member
from tests.prepare.test_bad_input import sound_bytes
from tests.prepare.test_transcripts_found import WAV, corpus, said

LOUDER = sound_bytes(0.8)


def read(folder: Path):
    found = open_corpus(folder)
    items = read_corpus(found)
    return items, "\n".join(found.account(items))


def splits(folder: Path) -> dict[str, str]:
    items, _ = read(folder)
    rule = SplitRule(validation_fraction=0, test_fraction=0)
    names = (item.audio.stem for item in items)
    return dict(zip(names, assign_splits(items, rule), strict=True))


# --- times


@pytest.mark.parametrize(
    ("time", "time_s"),
    [
        ("1.5", 1.5), ("1,5", 1.5), ("0,250", 0.25), ("01:02", 62), ("1:02.5", 62.5), ("01:02:03,250", 3723.25),
        ("1e1", 10), (" 7 ", 7),
    ],
)  # fmt: skip
def test_times_are_read_as_people_write_them(time, time_s):
    assert clock_s(time) == time_s


@pytest.mark.parametrize("time", ["1,234", "1:2:3:4", "a:10", "1:-2", "1,2,3", "1.234,5", "", "12 s"])
def test_what_may_be_two_times_is_none(time):
    with pytest.raises(ValueError):
        clock_s(time)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("path,start_ms,end_ms,text", "a.wav,100,300,hello"),
        ("path;start;end;text", "a.wav;0,1;0,3;hello"),
        ("path,start,end,text", "a.wav,0:00:00.1,0:00:00.3,hello"),
        ("path,start(ms),duration [ms],text", "a.wav,100,200,hello"),
    ],
)
def test_a_part_of_a_recording_is_cut_whatever_its_unit(tmp_path, header, row):
    (item,), _ = read(corpus(tmp_path, {"a.wav": WAV, "list.csv": f"{header}\n{row}\n"}))
    assert (item.start_s, item.end_s) == pytest.approx((0.1, 0.3))


@pytest.mark.parametrize("column", ["start_frame", "offset_samples", "begin_sample", "Segment Start Frames"])
def test_a_part_in_a_unit_that_nobody_knows_is_refused(tmp_path, column):
    """Without its times the whole recording would go in once for each of its parts."""
    rows = "".join(f"a.wav,{n},part {n}\n" for n in (1, 2))
    items, _ = read(corpus(tmp_path, {"a.wav": WAV, "list.csv": f"path,{column},text\n{rows}"}))
    assert all(item.problem is not None for item in items) and "may say where" in items[0].problem


def table(path: Path, **columns) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def cell() -> dict:
    return {"bytes": WAV, "path": "a.wav"}


def test_a_cell_longer_than_its_row_says_is_refused(tmp_path):
    table(tmp_path / "t.parquet", audio=[cell()], begin_time=[3.0], end_time=[30.0], text=["hello"])
    (item,), _ = read(tmp_path)
    _, rejection = check_item(item, Limits())
    assert rejection.reason == "wrong duration"


# --- names


def test_headers_in_other_languages(tmp_path):
    for n, (header, mark) in enumerate(
        [("Dateiname;Transkription", ";"), ("音频,文本", ","), ("fichier,texte", ",")]
    ):
        folder = corpus(tmp_path / str(n), {"a.wav": WAV, "list.csv": f"{header}\na.wav{mark}hallo\n"})
        assert said(folder) == ["hallo"]


def test_a_tsv_need_not_be_apart_by_tabs(tmp_path):
    folder = corpus(
        tmp_path, {"x/a.ogg": WAV, "asr_train.tsv": "id|raw_text|normalized_text|split\na|Hi!|hi|train\n"}
    )
    assert said(folder) == ["hi"]


@pytest.mark.parametrize(
    "name", ["data/mine/wavs/a.wav", "file:///home/me/wavs/a.wav", "A.WAV", "D:\\x\\wavs\\a.wav", "a"]
)
def test_a_sound_is_found_where_a_list_names_other_folders(tmp_path, name):
    assert said(corpus(tmp_path, {"wavs/a.wav": WAV, "list.csv": f"path,text\n{name},hello\n"})) == ["hello"]


@pytest.mark.parametrize("name", ["spk1/001.wav", "/home/me/spk1/001.wav", "D:\\data\\spk1\\001.wav"])
def test_another_speakers_sound_of_the_same_name_is_not_taken(tmp_path, name):
    """The list's own sound is missing: the only one of that name is somebody else's."""
    files = {
        "spk2/001.wav": WAV,
        "spk2/002.wav": WAV,
        "list.csv": f"path,text\n{name},hello\nspk2/002.wav,you\n",
    }
    items, _ = read(corpus(tmp_path, files))
    hello = next(item for item in items if item.text == "hello")
    assert not hello.audio.exists()


def test_capitals_of_a_transcript_do_not_matter_where_one_sound_has_a_claim(tmp_path):
    assert said(corpus(tmp_path / "1", {"Clip.wav": WAV, "clip.txt": "hello"})) == ["hello"]
    items, _ = read(corpus(tmp_path / "2", {"Clip.wav": WAV, "CLIP.wav": WAV, "clip.txt": "hello"}))
    assert not any(item.text for item in items)


def test_fleurs_is_read_and_its_splits_kept(tmp_path):
    files: dict[str, bytes | str] = {}
    for part in ("train", "dev", "test"):
        files[f"audio/{part}/1{part}.wav"] = WAV
        files[f"{part}.tsv"] = f"7\t1{part}.wav\tHello, you.\thello you\th e l l o | y o u\t8000\tFEMALE\n"
    folder = corpus(tmp_path, files)
    assert said(folder) == ["hello you"] * 3
    assert splits(folder) == {"1train": "train", "1dev": "validation", "1test": "test"}


def test_pinyin_behind_each_character_is_no_transcript(tmp_path):
    items, account = read(
        corpus(tmp_path, {"wav/S/a.wav": WAV, "content.txt": "a.wav\t广 guang3 州 zhou1\n"})
    )
    assert not any(item.text for item in items) and items[0].problem is not None and "content.txt" in account


# --- splits


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("eval", "test"), ("evaluation", "test"), ("eval92", "test"), ("tst-COMMON", "test"), ("heldout", "test"),
        ("train_dev", "validation"), ("train_nodev", "train"), ("train-clean-100", "train"), ("dev93", "validation"),
        ("evaluator", None), ("testimony", None),
    ],
)  # fmt: skip
def test_what_corpora_call_their_splits(name, split):
    assert named_split(name) == split


def test_a_list_for_evaluation_is_not_trained_on(tmp_path):
    assert split_at(Path("metadata_eval.csv")) == {"split": "test"}
    row = "audio_file|text|speaker_name\nwavs/{0}.wav|Hello.|me\n"
    files = {"metadata_train.csv": row.format("a"), "metadata_eval.csv": row.format("b")}
    folder = corpus(tmp_path, {"wavs/a.wav": WAV, "wavs/b.wav": WAV + b"\0\0", **files})
    assert splits(folder) == {"a": "train", "b": "test"}


def test_lists_of_names_say_the_split_of_sounds_with_transcripts_beside_them(tmp_path):
    files: dict[str, bytes | str] = {
        "train.txt": "a\n",
        "testing_list.txt": "wavs/b.wav\n",
        "val.lst": "c.wav\n",
    }
    for name in "abc":
        files |= {f"wavs/{name}.wav": WAV, f"wavs/{name}.txt": "hello"}
    assert splits(corpus(tmp_path, files)) == {"a": "train", "b": "test", "c": "validation"}


def test_a_list_of_names_that_are_not_all_there_is_said(tmp_path):
    files = {"a.wav": WAV, "a.txt": "hello", "test.txt": "a\nlost\n"}
    _, account = read(corpus(tmp_path, files))
    assert "1 of its 2 lines name no sound" in account


# --- inside other files


def tar(path: Path, members: dict[str, bytes | str]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            add_member(archive, name, content.encode() if isinstance(content, str) else content)


def test_dots_in_names_of_members_whose_endings_are_double(tmp_path):
    members: dict[str, bytes | str] = {}
    for n in (1, 2):
        members |= {f"talk_22.05_{n}.audio.wav": WAV, f"talk_22.05_{n}.metadata.json": '{"text": "hello"}'}
    tar(tmp_path / "s.tar", members)
    assert said(tmp_path) == ["hello", "hello"]


def test_sounds_whose_texts_have_other_names_stay_out(tmp_path):
    tar(tmp_path / "s.tar", {"a.wav": WAV, "a.en.txt": "hello", "a.de.txt": "hallo"})
    items, _ = read(tmp_path)
    assert all(item.problem is not None for item in items)


def test_a_column_of_objects_is_read_as_columns(tmp_path):
    """As the hub shows a WebDataset: a column for each ending."""
    about = {"text": "hello", "speaker": "p1"}
    table(tmp_path / "1/t.parquet", mp3=[cell()], json=[about], __key__=["a"])
    table(tmp_path / "2/t.parquet", mp3=[WAV], json=[json.dumps(about)], __key__=["a"])
    for folder in (tmp_path / "1", tmp_path / "2"):
        (item,), _ = read(folder)
        assert (item.text, item.speaker) == ("hello", "p1")


def test_of_two_columns_of_sounds_none_is_dropped_in_silence(tmp_path):
    table(tmp_path / "1/t.parquet", noisy=[cell()], audio=[cell()], text=["hello"])
    (item,), account = read(tmp_path / "1")
    assert "column audio" in item.held.name and "noisy are not read" in account
    table(tmp_path / "2/t.parquet", source_sound=[cell()], target_sound=[cell()], text=["hello"])
    with pytest.raises(ConfigError, match="source_sound, target_sound"):
        read(tmp_path / "2")


def test_channels_of_a_lhotse_cut_that_cancel_out(tmp_path):
    pytest.importorskip("lhotse")
    import soundfile
    from lhotse import Recording
    from lhotse.cut import MultiCut

    from sodakit.prepare.sources.lhotse_sets import LhotseCut

    tone_S = 0.3 * np.sin(2 * np.pi * 200 * np.arange(16000) / 16000)
    sound = io.BytesIO()
    soundfile.write(sound, np.stack([tone_S, -tone_S], 1), 16000, format="WAV", subtype="FLOAT")
    (tmp_path / "a.wav").write_bytes(sound.getvalue())
    cut = MultiCut("a", 0, 1, [0, 1], recording=Recording.from_file(tmp_path / "a.wav"))
    wave = LhotseCut(json.dumps(cut.to_dict()), 1.0).read(None, None)
    assert float(np.abs(wave.samples_S).max()) == pytest.approx(0.3, abs=0.01)


# --- names that repeat


def test_readings_of_one_sentence_are_not_one(tmp_path):
    """FLEURS numbers sentences; WebDataset's tars may all begin at 0."""
    table(
        tmp_path / "1/t.parquet",
        id=[7, 7],
        audio=[cell(), {"bytes": LOUDER, "path": "b.wav"}],
        text=["hi"] * 2,
    )
    for n, sound in enumerate((WAV, LOUDER)):
        (tmp_path / "2").mkdir(exist_ok=True)
        tar(tmp_path / f"2/{n}.tar", {"0.wav": sound, "0.txt": "hi"})
    for folder in (tmp_path / "1", tmp_path / "2"):
        items, _ = read(folder)
        assert len({item.id for item in items}) == len({item.recording for item in items}) == 2


def test_two_folders_of_one_name_and_a_duplicate_are_prepared(tmp_path):
    """Of two with one id the first was kept, and the store was compared with the sound of the second."""
    for n, sound in enumerate((WAV, LOUDER)):
        corpus(tmp_path / f"{n}/data", {"a.wav": sound, "a.txt": "hi"})
    store = tmp_path / "store"
    options = ["--codec", "toy", "--validation", "0", "--test", "0"]
    main([str(tmp_path / "0/data"), str(tmp_path / "1/data"), "--out", str(store), *options])
    assert len(list(StoreReader(store).utterances("train"))) == 2


def test_a_store_is_compared_with_the_sound_it_holds(tmp_path):
    for name, sound in (("a.wav", WAV), ("b.wav", LOUDER)):
        (tmp_path / name).write_bytes(sound)
    items = [Item(id="x", audio=tmp_path / name, text="hi") for name in ("a.wav", "b.wav")]
    rule = SplitRule(validation_fraction=0, test_fraction=0)
    report = prepare(
        items, tmp_path / "store", ToyCodec(), PrepareOptions(split=rule, max_failed_fraction=0.5)
    )
    assert [row["reason"] for row in report.rejected] == ["duplicate id"]
