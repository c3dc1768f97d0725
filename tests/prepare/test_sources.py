"""Each layout gives the items that lie in it; a broken row gives a problem and never an exception."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.files import read_json_lines
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.sources.names import recording_of
from tests.recordings import real_recordings


def sound(path: Path, duration_s: float = 0.5) -> Path:
    samples_S = 0.1 * np.sin(np.arange(round(16_000 * duration_s)) / 10).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wave(path, Wave(samples_S, 16_000))
    return path


def manifest(folder: Path, *rows: dict) -> Path:
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.mark.parametrize("audio", ["audio", "audio_filepath", "wav"])
@pytest.mark.parametrize("text", ["text", "sentence", "transcript"])
def test_a_manifest_may_call_its_fields_by_any_known_name(tmp_path, audio, text):
    sound(tmp_path / "a.wav")
    (item,) = open_folder(
        manifest(tmp_path, {audio: "a.wav", text: "früh", "speaker": 7, "extra": [1]}), "src"
    )
    assert (item.id, item.recording, item.text) == ("src/a.wav", "src/a.wav", "früh")
    assert (item.speaker, item.source, item.audio, item.problem) == ("7", "src", tmp_path / "a.wav", None)
    assert (item.start_s, item.end_s, item.fields["extra"]) == (None, None, [1])


def test_parts_of_one_file_are_one_recording_with_ids_of_their_own(tmp_path):
    rows = [{"audio": "a.wav", "offset": t, "duration": 0.25} for t in (0, 0.25)]
    first, second = open_folder(manifest(tmp_path, *rows), "src")
    assert (first.start_s, first.end_s, second.start_s, second.end_s) == (0, 0.25, 0.25, 0.5)
    assert first.recording == second.recording and first.id != second.id


def test_a_duration_alone_does_not_cut(tmp_path):
    (item,) = open_folder(manifest(tmp_path, {"audio": "a.wav", "duration_s": 3.0}))
    assert (item.start_s, item.end_s) == (None, None)


def test_a_manifest_row_of_text_alone_is_a_text_document(tmp_path):
    (item,) = open_folder(manifest(tmp_path, {"text": "only words"}))
    assert item.is_text and item.text == "only words" and item.problem is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{not json", "not JSON"),
        (b"[1, 2]", "needed: an object"),
        (b'{"audio": 3}', "needed: a string"),
        (b'{"audio": "a.wav", "text": ["x"]}', "needed: a string"),
        (b'{"audio": null, "text": "a"}', "no sound file"),
        (b'{"audio": "", "text": "a"}', "no sound file"),
        (b'{"speaker": "p1"}', "no sound file"),
        (b'{"audio": "a.wav", "start_s": "soon"}', "could not convert"),
        (b'{"audio": "a.wav", "end_s": true}', "no time in seconds"),
        (b'{"audio": "\xff.wav"}', "not UTF-8"),
    ],
)
def test_a_broken_manifest_line_becomes_a_problem_that_names_it(tmp_path, line, problem):
    (tmp_path / "manifest.jsonl").write_bytes(b'{"audio": "good.wav"}\n\n' + line + b"\n")
    good, bad = open_folder(tmp_path)
    assert good.problem is None
    assert bad.problem.startswith("manifest.jsonl, line 3: ") and problem in bad.problem


def test_ljspeech_takes_the_normalised_text_and_chapters_as_recordings(tmp_path):
    for name in ("LJ001-0001", "LJ001-0002", "mine"):
        sound(tmp_path / "wavs" / f"{name}.wav")
    lines = ["LJ001-0001|in 1455|in fourteen fifty-five", 'LJ001-0002|a "quote', "mine|hello||bob", "broken"]
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    first, second, mine, broken = open_folder(tmp_path, "src")
    assert (first.id, first.recording, first.text) == (
        "src/LJ001-0001",
        "src/LJ001",
        "in fourteen fifty-five",
    )
    assert (second.recording, second.text, second.speaker, second.language) == (
        "src/LJ001",
        'a "quote',
        "LJ",
        "en",
    )
    assert (mine.recording, mine.text, mine.speaker) == ("src/mine", "hello", "bob")
    assert mine.audio.is_file() and "1 columns; needed: audio" in broken.problem


def test_kaldi_joins_its_tables_and_runs_no_commands(tmp_path):
    (tmp_path / "wav.scp").write_text("r1 a.wav\nr2 sph2pipe -f wav b.sph |\nlonely\n")
    (tmp_path / "segments").write_text("u1 r1 0.0 1.5\nu2 r1 1.5 -1\nu3 r2 0 1\nu4 r9 0 1\nu5 r1 x 2\n")
    (tmp_path / "text").write_text("u1 hello there\nu2\n")
    (tmp_path / "utt2spk").write_text("u1 ann\n")
    items = {item.id: item for item in open_folder(tmp_path, "k")}
    one, two = items["k/u1"], items["k/u2"]
    assert (one.recording, one.audio, one.start_s, one.end_s) == ("k/r1", tmp_path / "a.wav", 0.0, 1.5)
    assert (one.text, one.speaker, two.text, two.end_s) == ("hello there", "ann", "", None)
    assert "Commands are not run" in items["k/u3"].problem
    assert "not in wav.scp" in items["k/u4"].problem
    assert items["k/segments:5"].problem and items["k/wav.scp:3"].problem


def test_kaldi_names_the_lines_of_text_that_have_no_sound_and_the_sounds_without_a_line(tmp_path):
    (tmp_path / "wav.scp").write_text("r1 a.wav\nr2 b.wav\n")
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfr1 hello\nr9 lost\nr2 \xff\n")
    (tmp_path / "spk2utt").write_text("s r1 r2\n")
    items = {item.id: item for item in open_folder(tmp_path, "k")}
    assert items["k/r1"].text == "hello" and items["k/r2"].reason == "no transcript"
    assert "neither segments nor wav.scp" in items["k/text:r9"].problem
    assert "text, line 3: not UTF-8" in items["k/text:3"].problem
    (tmp_path / "text").unlink()
    assert [item.problem for item in open_folder(tmp_path, "k")] == [None, None]


def test_kaldi_without_segments_has_one_item_for_each_recording(tmp_path):
    (tmp_path / "wav.scp").write_text("r1 a.wav\n")
    (item,) = open_folder(tmp_path, "k")
    assert (item.id, item.start_s, item.text) == ("k/r1", None, None)


def librispeech(root: Path) -> Path:
    """Two chapters of test-clean and one of train-clean-100, unpacked; a line without sound, a sound without line."""
    for part, speaker, chapter, texts in (
        ("test-clean", "1089", "134686", ["HE HOPED THERE WOULD BE STEW", "STUFF IT INTO YOU"]),
        ("test-clean", "121", "121726", ["ALSO A POPULAR CONTRIVANCE"]),
        ("train-clean-100", "103", "1240", ["CHAPTER ONE", "MISSUS RACHEL LYNDE IS SURPRISED"]),
    ):
        place = root / part / speaker / chapter
        names = [f"{speaker}-{chapter}-{number:04d}" for number in range(len(texts))]
        for name in names:
            sound(place / f"{name}.flac")
        lines = [f"{name} {text}\n" for name, text in zip(names, texts, strict=True)]
        (place / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    for name in ("README.TXT", "SPEAKERS.TXT"):
        (root / name).write_text("; ID | SEX | SUBSET\n")
    return root


def test_librispeech_is_read_from_its_root_a_part_or_a_speaker(tmp_path):
    root = librispeech(tmp_path / "LibriSpeech")
    items = {item.id: item for item in open_folder(root, "ls")}
    assert len(items) == 5 and all(item.audio.is_file() and not item.problem for item in items.values())
    one = items["ls/1089-134686-0001"]
    assert (one.recording, one.text, one.speaker) == ("ls/1089-134686", "STUFF IT INTO YOU", "1089")
    assert (one.language, one.fields, one.audio.suffix) == ("en", {"split": "test"}, ".flac")
    assert items["ls/103-1240-0000"].fields == {"split": "train"}
    assert [item.id for item in open_folder(root / "test-clean")] == [
        f"test-clean/{name}" for name in ("1089-134686-0000", "1089-134686-0001", "121-121726-0000")
    ]
    (alone,) = open_folder(root / "test-clean/121", "ls")
    assert alone == items["ls/121-121726-0000"]


def test_librispeech_names_the_lines_without_sound_and_the_sounds_without_line(tmp_path):
    chapter = librispeech(tmp_path / "LibriSpeech") / "test-clean/1089/134686"
    (chapter / "1089-134686-0000.flac").unlink()
    sound(chapter / "1089-134686-0007.flac")
    sound(chapter.parent / "134691/1089-134691-0000.flac")
    with open(chapter / "1089-134686.trans.txt", "ab") as lines:
        lines.write(b"1089-134686-0002 NO UTF-8 \xff\n")
    items = {item.id: item for item in open_folder(chapter.parent, "ls")}
    missing = items["ls/1089-134686-0000"]
    assert missing.problem is None and missing.audio == chapter / "1089-134686-0000.flac"
    assert "not UTF-8" in items["ls/1089-134686.trans.txt:3"].problem
    for name in ("134686/1089-134686-0007.flac", "134691/1089-134691-0000.flac"):
        stray = items[f"ls/{name}"]
        assert name in stray.problem and "needed: a line in" in stray.problem
        assert stray.reason == "not in the transcripts" and stray.audio is None
    assert len(items) == 5


@pytest.mark.parametrize("suffix", ["flac", "opus"])
def test_mls_is_read_from_its_root_or_a_split(tmp_path, suffix):
    split = tmp_path / "mls_german_opus/dev"
    for number in (0, 2, 3):
        path = sound(split / f"audio/1171/1285/1171_1285_{number:06d}.flac")
        path.rename(path.with_suffix(f".{suffix}"))
    rows = [
        "1171_1285_000000\tdie thüre",
        "1171_1285_000001\tgeht auf",
        "no line of it",
        "1171_1285_000002\tzu",
    ]
    (split / "transcripts.txt").write_text("\n".join(rows), encoding="utf-8")
    (split / "segments.txt").write_text("1171_1285_000000\thttp://archive.org/x/kapitel_01.mp3\t12.5\t27.1\n")
    items = {item.id: item for item in open_folder(tmp_path, "mls")}
    first, lost, last = (items[f"mls/1171_1285_{number:06d}"] for number in (0, 1, 2))
    assert (first.recording, first.begins_s, first.start_s) == ("mls/1171_1285/kapitel_01.mp3", 12.5, None)
    assert (first.text, first.speaker, first.language) == ("die thüre", "1171", "de")
    assert first.audio.suffix == f".{suffix}" and first.fields == {"split": "validation"}
    assert (last.recording, last.begins_s) == ("mls/1171_1285", 0.0)
    assert lost.problem is None and not lost.audio.is_file()
    assert "SPEAKER_BOOK_NUMBER" in items["mls/transcripts.txt:3"].problem
    (stray,) = [item for item in items.values() if item.reason == "not in the transcripts"]
    assert f"1171_1285_000003.{suffix}" in stray.problem and len(items) == 5
    assert {item.id for item in open_folder(split, "mls")} >= {first.id, lost.id, last.id}


def test_transcripts_are_found_at_any_depth_and_sound_without_is_kept_where_that_is_asked(tmp_path):
    sound(tmp_path / "x/b.wav")
    sound(tmp_path / "a.flac")
    (tmp_path / "x/b.txt").write_text("ça va\n", encoding="utf-8")
    (tmp_path / "c.mp3").write_bytes(b"x")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "d.webm").write_bytes(b"x")
    left_out = [i for i in open_folder(tmp_path, "p") if i.reason == "no transcript"]
    assert [i.id for i in left_out] == ["p/a.flac", "p/d.webm"]
    assert all("the corpus has transcripts" in i.problem for i in left_out)
    items = list(open_folder(tmp_path, "p", keep_untranscribed=True))
    assert [(i.id, i.text) for i in items if i.problem is None] == [
        ("p/a.flac", None),
        ("p/d.webm", None),
        ("p/x/b.wav", "ça va"),
    ]
    assert "not UTF-8" in items[1].problem


def test_a_folder_of_texts_gives_text_documents(tmp_path):
    (tmp_path / "one.txt").write_text("words")
    (item,) = open_folder(tmp_path, "t")
    assert item.is_text and item.text == "words"


def test_an_unknown_or_missing_folder_says_what_is_known(tmp_path):
    with pytest.raises(ConfigError, match=r"needed one of: manifest\.jsonl"):
        open_folder(tmp_path)
    with pytest.raises(ConfigError, match="is no folder"):
        open_folder(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("name", "count"), [("fsdd", 2000), ("ljspeech", 22), ("vctk", 20), ("ami_turns", 3)]
)
def test_real_manifests_give_every_row_without_a_problem(name, count):
    items = list(open_folder(real_recordings(name)))
    assert len(items) == count == len({item.id for item in items})
    assert all(item.problem is None and item.audio.is_file() and item.source == name for item in items)


def test_names_of_emilia_and_yodas_tell_the_recording():
    assert recording_of("EN_B00000_S00040_W000004") == ("EN_B00000_S00040", None)
    assert recording_of("EN_--0pg-PqN0o_W000000") == ("EN_--0pg-PqN0o", None)
    assert recording_of("a-b-_c9D-00012-00000158-00123456") == ("a-b-_c9D", 1.58)
    assert recording_of("LJ001-0001") == ("LJ001-0001", None)


def test_text_corpora_are_read_from_rows_tables_and_compressed_files(tmp_path):
    rows = [{"id": f"d{n}", "text": f"document {n}", "language": "en"} for n in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    layouts = {
        "plain/a.jsonl": lines,
        "gzip/a.jsonl.gz": gzip.compress(lines),
        "zstd/a.jsonl.zst": pa.compress(lines, "zstd", asbytes=True),
    }
    for name, content in layouts.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(content)
    (tmp_path / "table").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table/train.parquet")
    for folder in ("plain", "gzip", "zstd", "table"):
        found = [(i.id, i.text, i.language, i.is_text) for i in open_folder(tmp_path / folder, "t")]
        assert found == [(f"t/d{n}", f"document {n}", "en", True) for n in range(3)], folder


def test_licences_beside_texts_are_no_documents(tmp_path):
    for name in ("LICENSE.txt", "README.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"packed"))
    assert [i.text for i in open_folder(tmp_path, "t")] == ["packed", "b.txt"]


def test_a_manifest_of_compressed_books_gives_their_texts():
    folder = real_recordings("books_en")
    rows = {row["file"]: row for row in read_json_lines(folder / "manifest.jsonl")}
    items = list(open_folder(folder))
    assert len(items) == 55 and all(item.problem is None and item.is_text for item in items)
    for item in items:
        row = rows[item.id.removeprefix("books_en/")]
        assert abs(len(item.text) - row["chars"]) <= 2, "spaces around the whole are removed"
