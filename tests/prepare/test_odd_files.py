"""What is called a sound or a list and is none: it is named and counted, nothing waits for it, and the rest is kept."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sodakit.codec.toy import ToyCodec
from sodakit.errors import ConfigError
from sodakit.eval.cases import read_recordings, read_voice_cases
from sodakit.files import not_a_file, read_json, read_json_lines
from sodakit.prepare.sources.corpus import Corpus
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.stages import prepare
from sodakit.store.reader import StoreReader
from tests.prepare.test_bad_input import OPTIONS, sound_bytes

pytestmark = pytest.mark.timeout(60)  # a reader that waits for a pipe is stopped


def odd_things(folder: Path) -> dict[str, str]:
    """A name of each kind of thing that is no file, and what is said of it."""
    folder.mkdir(exist_ok=True)
    os.mkfifo(folder / "pipe.wav")
    (folder / "folder.wav").mkdir()
    (folder / "nothing.wav").symlink_to(folder / "nowhere.wav")
    (folder / "device.wav").symlink_to("/dev/zero")
    (folder / "circle.wav").symlink_to(folder / "circle.wav")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.wav"))
    return {
        "pipe.wav": "is a pipe", "folder.wav": "is a folder", "nothing.wav": "is a link to nothing",
        "device.wav": "is a device", "circle.wav": "cannot be opened", "socket.wav": "is a socket",
    }  # fmt: skip


def test_things_called_like_sounds_are_quarantined_each_with_what_it_is(tmp_path):
    odd = odd_things(tmp_path / "c")
    (tmp_path / "c" / "good.wav").write_bytes(sound_bytes())
    (tmp_path / "c" / "good.txt").write_text("a good one")
    report = prepare(open_folder(tmp_path / "c", "c"), tmp_path / "out", ToyCodec(), OPTIONS)
    rows = {row["id"].removeprefix("c/"): row for row in report.rejected}
    assert set(rows) == set(odd) and {row["reason"] for row in rows.values()} == {"no file"}
    for name, words in odd.items():
        assert f"{name} {words}" in rows[name]["detail"]
    assert [u.text for u in StoreReader(tmp_path / "out").utterances("train")] == ["a good one"]


def test_a_folder_of_such_things_alone_is_refused_by_their_names(tmp_path):
    odd = odd_things(tmp_path / "c")
    items = list(open_folder(tmp_path / "c", "c"))
    assert {item.id.removeprefix("c/") for item in items} == set(odd) and all(item.problem for item in items)


def test_a_folder_that_may_not_be_listed_is_told_and_the_rest_is_kept(tmp_path, monkeypatch):
    """Whatever it is called; root may list all, so the right is taken away by hand."""
    for name in ("private", "private.wav"):
        (tmp_path / "c" / name).mkdir(parents=True)
        (tmp_path / "c" / name / "inside.wav").write_bytes(sound_bytes())
    (tmp_path / "c" / "good.wav").write_bytes(sound_bytes())
    for listing in ("listdir", "scandir"):
        monkeypatch.setattr(os, listing, _without(getattr(os, listing), "private"))
    corpus = Corpus(tmp_path / "c", "c")
    assert [path.name for path in corpus.sounds] == ["good.wav"]
    told = {note.split(" cannot be listed")[0] for note in corpus.notes}
    assert told == {str(tmp_path / "c" / name) for name in ("private", "private.wav")}


def _without(listing, word: str):
    def listed(place="."):
        if Path(place).name.startswith(word):
            raise PermissionError(13, "Permission denied", str(place))
        return listing(place)

    return listed


def test_rows_that_name_such_things_say_what_they_are(tmp_path):
    odd = odd_things(tmp_path / "c") | {
        "none.wav": "does not exist",
        "x" * 5000 + ".wav": "File name too long",
    }
    (tmp_path / "c" / "good.wav").write_bytes(sound_bytes())
    rows = [{"audio": name, "text": "words"} for name in ("good.wav", *odd, "/dev/zero")]
    rows.append({"file": "pipe.txt"})
    os.mkfifo(tmp_path / "c" / "pipe.txt")
    (tmp_path / "c" / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = prepare(open_folder(tmp_path / "c", "c"), tmp_path / "out", ToyCodec(), OPTIONS)
    details = {row["id"].removeprefix("c/"): row["detail"] for row in report.rejected}
    assert len(details) == len(odd) + 2
    for name, words in odd.items():
        assert words in details[name], name
    assert "/dev/zero is a device" in details["/dev/zero"]
    assert any("pipe.txt is a pipe" in detail for detail in details.values())
    assert all(len(detail) < 500 for detail in details.values())
    assert [u.text for u in StoreReader(tmp_path / "out").utterances("train")] == ["words"]


def test_lists_and_descriptions_that_are_no_files_are_refused_without_waiting(tmp_path):
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    for read in (open_folder, read_json, read_json_lines, read_voice_cases):
        with pytest.raises(ConfigError, match=r"pipe\.jsonl is (a pipe|no folder)"):
            read(pipe)
    with pytest.raises(ConfigError, match="is a folder"):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nothing.json")
    assert not_a_file(__file__) is None and "null byte" in not_a_file("a\0b")


def test_recordings_of_an_evaluation_that_say_the_same_twice_are_counted_once(tmp_path):
    odd = odd_things(tmp_path / "c")
    (tmp_path / "c" / "good.wav").write_bytes(sound_bytes())
    rows = [{"audio": name, "text": "words"} for name in ("good.wav", "good.wav", *odd)]
    rows += [{"audio": "good.wav", "text": "other words"}, {"audio": "good.wav", "text": ""}]
    (tmp_path / "c" / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cases = read_recordings(tmp_path / "c")
    assert {case.id for case in cases} == {"c/good.wav", "c/good.wav#3", *(f"c/{name}" for name in odd)}
    skipped = {entry["id"]: entry["reason"] for entry in cases.skipped}
    assert "c/good.wav says" in skipped["c/good.wav#2"] and skipped["c/good.wav#4"] == "no transcript"


@pytest.mark.parametrize(
    ("column", "kind"),
    [("audio", pa.int64()), ("wav", pa.float64()), ("path", pa.bool_()), ("sound", pa.null())],
)
def test_a_table_whose_sounds_are_numbers_is_no_table_of_texts(tmp_path, column, kind):
    table = pa.table({column: pa.array([None, None], kind), "text": ["one", "two"]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=f"a.parquet has no column of sound files.* {column} is {kind}"):
        list(open_folder(tmp_path, "h"))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_names_of_sounds_in_any_type_of_words_are_followed(tmp_path, kind):
    (tmp_path / "a.wav").write_bytes(sound_bytes())
    table = pa.table({"audio": pa.array(["a.wav"]).cast(kind), "text": ["one"]})
    pq.write_table(table, tmp_path / "a.parquet")
    (item,) = open_folder(tmp_path, "h")
    assert item.audio == tmp_path / "a.wav" and item.text == "one"


def test_fields_that_are_no_words_are_bad_rows_and_numbers_are_words(tmp_path):
    (tmp_path / "a.wav").write_bytes(sound_bytes())
    strange = [
        {"speaker": {"name": "p"}},
        {"language": ["en"]},
        {"id": {"n": 1}},
        {"licence": True},
        {"recording": [1]},
    ]
    rows = [{"audio": "a.wav", "text": "words"} | more for more in ({"speaker": 7, "split": 7}, *strange)]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    good, *bad = open_folder(tmp_path, "m")
    assert good.speaker == "7" and good.problem is None
    for item, more in zip(bad, strange, strict=True):
        assert f"{next(iter(more))} is " in item.problem and "needed: a string" in item.problem
    (tmp_path / "manifest.jsonl").unlink()
    (tmp_path / "a.json").write_text('{"text": "words", "speaker": {"name": "p"}}')
    (item,) = open_folder(tmp_path, "m")
    assert "speaker is {'name': 'p'}" in item.problem


def test_a_split_that_names_none_is_said_and_drawn(tmp_path, capsys):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.wav").write_bytes(sound_bytes())
    (tmp_path / "c" / "manifest.jsonl").write_text('{"audio": "a.wav", "text": "words", "split": 7}\n')
    prepare(open_folder(tmp_path / "c", "c"), tmp_path / "out", ToyCodec(), OPTIONS)
    assert "'7' (1), which name no split: drawn" in capsys.readouterr().err


def test_a_transcript_called_like_its_sound_with_its_ending_is_no_list_of_sounds(tmp_path):
    """`b.wav.txt` says "words of b", and `words.wav` is a sound: a line of a list would begin so, too."""
    for name in ("words.wav", "b.wav"):
        (tmp_path / name).write_bytes(sound_bytes())
        (tmp_path / f"{name}.txt").write_text(f"words of {name}")
    items = {item.id: item.text for item in open_folder(tmp_path, "c")}
    assert items == {"c/words.wav": "words of words.wav", "c/b.wav": "words of b.wav"}


def test_more_to_verify_than_there_is_verifies_all(tmp_path):
    (tmp_path / "c").mkdir()
    for name in ("a", "b"):
        (tmp_path / "c" / f"{name}.wav").write_bytes(sound_bytes())
    options = replace(OPTIONS, verify_items=2**62)
    prepare(open_folder(tmp_path / "c", "c"), tmp_path / "out", ToyCodec(), options)
    assert len(read_json(tmp_path / "out/verify.json")) == 2
