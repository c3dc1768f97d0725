"""Wherever a corpus keeps its transcripts, they are found; what is not read is named, and its sound stays out."""

import io
import json
import tarfile
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sodakit.commands.prepare import main
from sodakit.errors import ConfigError
from sodakit.prepare.checks import Limits, check_item
from sodakit.prepare.sources.detect import open_corpus, open_folder, read_corpus
from sodakit.prepare.sources.transcripts import parse_transcript
from tests.prepare.layouts import add_member
from tests.prepare.test_bad_input import sound_bytes

WAV = sound_bytes()
SRT = "1\n00:00:00,000 --> 00:00:00,200\n<i>Good evening.</i>\n\n2\n00:00:00,200 --> 00:00:00,500\nThe news\nat ten.\n"
VTT = "WEBVTT\n\nNOTE by hand\n\n00:00.000 --> 00:00.250 align:start\n<v Ann>Tea &amp; milk</v>\n"
LONG_GRID = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.1
            text = ""
        intervals [2]:
            xmin = 0.1
            xmax = 0.3
            text = "say ""ah"""
        intervals [3]:
            xmin = 0.3
            xmax = 0.5
            text = "2"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "AA1"
'''
SHORT_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

0
0.5
<exists>
2
"IntervalTier"
"ann"
0
0.5
1
0
0.25
"hello"
"IntervalTier"
"bob"
0
0.5
1
0.25
0.5
"hi"
"""


def corpus(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def said(folder: Path) -> list[str | None]:
    items = list(open_folder(folder, "c"))
    assert all(item.problem is None for item in items), items
    return [item.text for item in items]


ROWS = ["Close the door, please.", "Open it."]
CSV = 'file_name,transcription\nd/a.wav,"Close the door, please."\nd/b.wav,Open it.\n'
LISTS = {
    "Hugging Face, csv": {"metadata.csv": CSV},
    "a byte-order mark": {"metadata.csv": "\ufeff" + CSV},
    "a header with capitals and spaces": {
        "list.csv": CSV.replace("file_name,transcription", "File Name,Transcript")
    },
    "semicolons, from a spreadsheet": {
        "list.csv": "path;text;speaker\nd/a.wav;Close the door, please.;p1\nd/b.wav;Open it.;p1\n"
    },
    "Coqui": {
        "metadata.csv": "audio_file|text|speaker_name\nd/a.wav|Close the door, please.|p1\nd/b.wav|Open it.|p1\n"
    },
    "Coqui, a file for training and one for evaluation": {
        "metadata_train.csv": "audio_file|text|speaker_name\nd/a.wav|Close the door, please.|p1\n",
        "metadata_eval.csv": "audio_file|text|speaker_name\nd/b.wav|Open it.|p1\n",
        "metadata.csv": "audio_file|text|speaker_name\nd/a.wav|Close the door, please.|p1\nd/b.wav|Open it.|p1\n",
    },
    "tabs and quotation marks that open nothing": {
        "train.tsv": "client_id\tpath\tsentence\nc\td/a.wav\tClose the door, please.\nc\td/b.wav\tOpen it.\n"
    },
    "GPT-SoVITS": {"train.list": "d/a.wav|p1|EN|Close the door, please.\nd/b.wav|p1|en|Open it.\n"},
    "VITS": {"filelist.txt": "d/a.wav|p1|Close the door, please.\nd/b.wav|p1|Open it.\n"},
    "VITS, one speaker": {"train.txt": "d/a.wav|Close the door, please.\nd/b.wav|Open it.\n"},
    "LJSpeech": {"metadata.csv": "a|Close the door, please.|Close the door, please.\nb|Open it.|Open it.\n"},
    "Hugging Face, jsonl": {
        "d/metadata.jsonl": '{"file_name": "a.wav", "text": "Close the door, please."}\n{"file_name": "b.wav", "text": "Open it."}\n'
    },
    "NeMo": {
        "test_manifest.json": '{"audio_filepath": "d/a.wav", "duration": 0.5, "text": "Close the door, please."}\n{"audio_filepath": "d/b.wav", "text": "Open it."}\n'
    },
    "one list of objects": {
        "data.json": json.dumps(
            [{"wav": "d/a.wav", "sentence": ROWS[0]}, {"wav": "d/b.wav", "sentence": ROWS[1]}]
        )
    },
    "a name for a sound": {
        "rows.jsonl": '{"id": "d/a", "text": "Close the door, please."}\n{"id": "d/b", "text": "Open it."}\n'
    },
    "parquet with names of files": {},
    "a name, a space, the text": {"transcript.txt": "a Close the door, please.\nb Open it.\n"},
    "a name, a colon, the text": {"transcript_utf8.txt": "a:Close the door, please.\nb:Open it.\n"},
    "UTF-16 from a spreadsheet": {
        "list.tsv": CSV.replace('"', "")
        .replace(".wav,", ".wav\t")
        .replace("name,", "name\t")
        .encode("utf-16")
    },
    "folders of another machine": {
        "l.list": "/home/u/d/a.wav|p1|en|Close the door, please.\nC:\\u\\d\\b.wav|p1|en|Open it.\n"
    },
    "backslashes": {"l.list": "d\\a.wav|p1|en|Close the door, please.\nd\\b.wav|p1|en|Open it.\n"},
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_sounds_are_read_by_their_headers_or_what_their_cells_show(tmp_path, name):
    wavs = "wavs" if name == "LJSpeech" or name.startswith("a name, a") else "d"
    corpus(tmp_path, {f"{wavs}/a.wav": WAV, f"{wavs}/b.wav": WAV, **LISTS[name]})
    if name.startswith("parquet"):
        rows = [{"path": f"d/{n}.wav", "text": text} for n, text in zip("ab", ROWS, strict=True)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert sorted(said(tmp_path)) == ROWS
    items = list(open_folder(tmp_path, "c"))
    assert all(item.audio.is_file() for item in items) and len({item.id for item in items}) == 2
    assert {item.speaker for item in items} in ({""}, {"p1"}, {"c"})


BESIDE = {
    "a.lab": ("Good evening.", ["Good evening."]),
    "a.trn": ("Good evening.", ["Good evening."]),
    "a.TXT": ("\ufeffGood evening.", ["Good evening."]),
    "a.txt": ("Good evening.".encode("utf-16"), ["Good evening."]),
    "a.normalized.txt": ("Good evening.", ["Good evening."]),
    "a.wav.txt": ("Good evening.", ["Good evening."]),
    "a.srt": (SRT, ["Good evening.", "The news at ten."]),
    "a.en.srt": (SRT.replace("\n", "\r\n"), ["Good evening.", "The news at ten."]),
    "a.vtt": (VTT, ["Tea & milk"]),
    "a.TextGrid": (LONG_GRID, ['say "ah" 2']),
    "a.textgrid": (SHORT_GRID, ["hello", "hi"]),
    "a.json": ('{"text": " Good evening.", "speaker": "p1", "language": "en"}', ["Good evening."]),
    "txt/a.txt": ("Good evening.", ["Good evening."]),
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_transcript_beside_a_sound_is_read_whatever_its_kind(tmp_path, name):
    content, texts = BESIDE[name]
    assert said(corpus(tmp_path, {"a.wav" if "/" not in name else "wav/a.wav": WAV, name: content})) == texts


def test_subtitles_cut_the_recording_and_keep_who_speaks(tmp_path):
    first, second = open_folder(corpus(tmp_path, {"a.wav": WAV, "a.srt": SRT}), "c")
    assert (first.start_s, first.end_s, second.start_s, second.end_s) == (0.0, 0.2, 0.2, 0.5)
    assert first.recording == second.recording == "c/a.wav" and first.id != second.id
    (tmp_path / "a.srt").unlink()
    (ann,) = open_folder(corpus(tmp_path, {"a.vtt": VTT}), "c")
    assert (ann.speaker, ann.text) == ("Ann", "Tea & milk")


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (".textgrid", LONG_GRID),
        (".json", '{"alignments": [["2", [0.3, 0.5], "A"], ["say \\"ah\\"", [0.1, 0.3], "A"]]}'),
        (
            ".json",
            '{"text": "x", "segments": [{"start": 0.1, "end": 0.5, "text": "say \\"ah\\" 2", "words": '
            '[{"word": " say \\"ah\\"", "start": 0.1, "end": 0.3}, {"word": " 2", "start": 0.3, "end": 0.5}]}]}',
        ),
    ],
)
def test_words_come_with_their_times(ending, content):
    (utterance,) = parse_transcript(ending, content.encode()).utterances
    assert [(word.word, word.start_s, word.end_s) for word in utterance.words] == [
        ('say "ah"', 0.1, 0.3),
        ("2", 0.3, 0.5),
    ]
    assert utterance.text == 'say "ah" 2'


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.srt", "1\n00:00:0x,000 --> 00:00:01,000\nhello\n", "no time of a subtitle"),
        ("a.srt", "1\n00:00:02,000 --> 00:00:01,000\nhello\n", "ends before it begins"),
        ("a.TextGrid", LONG_GRID[:400], "breaks off"),
        ("a.json", "{broken", "not JSON"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", '{"alignments": [["hello", [NaN, 1], "A"]]}', "finite"),
        ("a.json", '{"segments": [{"start": 0, "end": 1}]}', "needed: start, end and text"),
        ("a.json", '{"text": 5}', "needed: a string"),
        ("a.lab", b"\xff\xfa", "not UTF-8"),
    ],
)
def test_a_damaged_transcript_is_the_problem_of_its_sound(tmp_path, name, content, problem):
    corpus(tmp_path, {"a.wav": WAV, "b.wav": WAV, "b.txt": "fine", name: content})
    bad, good = open_folder(tmp_path, "c")
    assert problem in bad.problem and name in bad.problem and bad.id == "c/a.wav"
    assert (good.text, good.problem) == ("fine", None)


def test_trees_of_texts_that_mirror_the_sounds_are_found(tmp_path):
    files: dict[str, bytes | str] = {}
    for speaker in ("p225", "p226"):
        for mic in (1, 2):
            files[f"wav48/{speaker}/{speaker}_001_mic{mic}.wav"] = WAV
        files[f"txt/{speaker}/{speaker}_001.txt"] = f"I am {speaker}."
    items = list(open_folder(corpus(tmp_path, {**files, "speaker-info.txt": "ID AGE\n225 23"}), "v"))
    assert [(i.text, i.speaker, i.language) for i in items] == [
        (f"I am {s}.", s, "en") for s in ("p225", "p225", "p226", "p226")
    ]


def test_libritts_emilia_and_timit_lie_as_they_are_unpacked(tmp_path):
    name = "train-clean-100/19/198/19_198_000000_000000"
    corpus(
        tmp_path / "tts",
        {f"{name}.wav": WAV, f"{name}.normalized.txt": "Doctor No.", f"{name}.original.txt": "Dr. No."},
    )
    (tts,) = open_folder(tmp_path / "tts", "t")
    assert (tts.text, tts.speaker, tts.recording, tts.fields["split"]) == (
        "Doctor No.",
        "19",
        "t/19_198",
        "train",
    )
    row = '{"id": "x", "wav": "EN/x.mp3", "text": " And so on.", "speaker": "s1", "language": "en", "duration": 0.5}'
    corpus(tmp_path / "emilia", {"EN_B00000_S00040_W000004.wav": WAV, "EN_B00000_S00040_W000004.json": row})
    (emilia,) = open_folder(tmp_path / "emilia", "e")
    assert (emilia.text, emilia.speaker, emilia.recording) == ("And so on.", "s1", "e/EN_B00000_S00040")
    corpus(
        tmp_path / "timit",
        {"SA1.WAV": WAV, "SA1.TXT": "0 46797 She had 3 suits.", "SA1.PHN": "0 9 h#", "SA1.WRD": "0 9 she"},
    )
    assert said(tmp_path / "timit") == ["She had 3 suits."]


@pytest.mark.parametrize("disk", ["NFC", "NFD"])
def test_accents_composed_or_not_are_one_name(tmp_path, disk):
    on_disk, in_list = (
        unicodedata.normalize(form, "é") for form in (disk, "NFC" if disk == "NFD" else "NFD")
    )
    corpus(
        tmp_path / "list", {f"{on_disk}.wav": WAV, "metadata.csv": f"file_name,text\n{in_list}.wav,here\n"}
    )
    corpus(tmp_path / "beside", {f"{on_disk}.wav": WAV, f"{in_list}.txt": "here"})
    for name in ("list", "beside"):
        (item,) = open_folder(tmp_path / name, "c")
        assert item.text == "here" and item.audio.is_file()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list.csv", "file_name,who\na.wav,alma\n", "columns file_name, who; none is a transcript"),
        ("list.csv", "utterance,words\na.wav,alma\nb.wav,bert\n", "columns utterance, words; call them"),
        ("list.csv", "path,text,text\na.wav,x,y\n", "text is there twice"),
        ("list.csv", "text,label\nhello,3\n", "columns text, label; none names a sound"),
        (
            "list.list",
            "a.wav|alma speaks|x y|Close.\nb.wav|bert speaks|z|Open.\n",
            "and 4 columns such as 'a.wav | alma",
        ),
        ("rows.jsonl", "", "rows.jsonl (empty)"),
        ("a.docx", "PK", "a.docx"),
        ("text", "a hello there", "not read: text"),
        ("transcripts.zip", "PK", "transcripts.zip"),
        ("a.eaf", "<xml/>", "a.eaf"),
    ],
)
def test_what_is_not_read_is_named_and_its_sound_stays_out(tmp_path, name, content, said):
    corpus(tmp_path, {"a.wav": WAV, "b.wav": WAV, name: content, "README.txt": "about"})
    given = open_corpus(tmp_path, "c")
    items = read_corpus(given)
    sentences = "\n".join(given.account(items))
    assert "0 of 2 sounds with a transcript" in sentences and said in sentences and "README" not in sentences
    assert [item.reason for item in items] == ["no transcript"] * 2
    assert all(said in item.problem and "--keep-untranscribed" in item.problem for item in items)
    kept = list(open_folder(tmp_path, "c", keep_untranscribed=True))
    assert [(item.text, item.problem) for item in kept] == [(None, None)] * 2


def test_a_manifest_whose_texts_have_an_unknown_name_is_not_taken_for_sound_alone(tmp_path):
    row = '{"audio": "a.wav", "what_is_said": "close the door"}\n'
    (item,) = open_folder(corpus(tmp_path, {"a.wav": WAV, "manifest.jsonl": row}), "c")
    assert "not read: columns what_is_said of manifest.jsonl" in item.problem


@pytest.mark.parametrize(
    "files",
    [{"a.txt": ""}, {"list.csv": "path,text\na.wav,\n"}, {"a.srt": "1\n"}, {"list.csv": "path,text\n"}],
)
def test_a_transcript_without_words_is_none(tmp_path, files):
    (item,) = open_folder(corpus(tmp_path, {"a.wav": WAV, **files}), "c")
    assert item.reason in ("empty transcript", "no transcript") and item.problem


def test_of_subtitles_in_two_languages_none_is_guessed(tmp_path):
    files = {"talk.wav": WAV, "talk.en.srt": SRT, "talk.de.srt": SRT.replace("Good evening", "Guten Abend")}
    (item,) = open_folder(corpus(tmp_path, files), "c")
    assert "talk.de.srt: talk.en.srt may be its transcript too" in item.problem
    first, _ = open_folder(corpus(tmp_path, {"talk.srt": SRT}), "c")
    assert first.text == "Good evening."


def test_a_broken_table_among_recordings_is_a_row_of_the_quarantine(tmp_path):
    bad, good = open_folder(corpus(tmp_path, {"a.wav": WAV, "a.txt": "hi", "x.parquet": b"PAR1"}), "c")
    assert "no complete parquet file" in bad.problem and good.text == "hi"


def test_sound_alone_is_a_corpus_too(tmp_path):
    corpus(tmp_path, {"a.wav": WAV, "LICENSE.txt": "CC0", "cover.png": b"x"})
    assert said(tmp_path) == [None]


def test_one_file_that_was_named_is_read_like_its_folder(tmp_path):
    corpus(tmp_path, {"a.wav": WAV, "list.csv": "path,text\na.wav,hello\n", "odd.csv": "x,y\n1,2\n"})
    (item,) = open_folder(tmp_path / "list.csv", "c")
    assert (item.text, item.audio) == ("hello", tmp_path / "a.wav")
    with pytest.raises(ConfigError, match=r"odd\.csv cannot be read as a list of sounds"):
        list(open_folder(tmp_path / "odd.csv"))


@pytest.mark.parametrize(
    "stray",
    [
        "stray.tar",
        "stray.parquet",
        "manifest.jsonl",
        "metadata.csv",
        "wav.scp",
        "translations.jsonl",
        "x.trans.txt",
        "transcripts.txt",
        "cuts.jsonl",
    ],
)
def test_a_stray_file_hides_no_recordings(tmp_path, stray):
    corpus(tmp_path, {"a.wav": WAV, "a.txt": "hello", stray: b""})
    (tmp_path / "audio").mkdir()
    if stray == "stray.tar":
        with tarfile.open(tmp_path / stray, "w") as tar:
            add_member(tar, "notes/plan.md", b"no sound")
    elif stray == "stray.parquet":
        pq.write_table(pa.table({"text": ["a document"], "n": [1]}), tmp_path / stray)
    assert said(tmp_path) == ["hello"]


def test_common_voice_leaves_out_what_listeners_turned_down(tmp_path):
    header = "client_id\tpath\tsentence\tlocale\n"
    rows = {name: f'c{name}\t{name}.wav\tIt is "{name}.\ten\n' for name in ("train", "dev", "test", "bad")}
    files = {f"en/{name}.tsv": header + rows[name] for name in ("train", "dev", "test")}
    files |= {"en/validated.tsv": header + "".join(rows.values()), "en/invalidated.tsv": header + rows["bad"]}
    corpus(tmp_path, files | {f"en/clips/{name}.wav": WAV for name in ("train", "dev", "test")})
    items = list(open_folder(tmp_path, "cv"))
    assert sorted((i.text, i.fields["split"], i.language, i.speaker) for i in items) == [
        ('It is "dev.', "validation", "en", "cdev"),
        ('It is "test.', "test", "en", "ctest"),
        ('It is "train.', "train", "en", "ctrain"),
    ]


# --- rows


def test_two_rows_of_one_file_are_two_utterances(tmp_path):
    rows = "path,text\na.wav,first\na.wav,second\n"
    first, second = open_folder(corpus(tmp_path, {"a.wav": WAV, "list.csv": rows}), "c")
    assert first.id != second.id and [first.text, second.text] == ["first", "second"]


def test_a_row_without_sound_in_a_manifest_of_sounds_is_no_text_document(tmp_path):
    rows = '{"audio": "a.wav", "text": "hello"}\n{"text": "lost its sound"}\n'
    good, bad = open_folder(corpus(tmp_path, {"a.wav": WAV, "manifest.jsonl": rows}), "c")
    assert good.problem is None and "manifest.jsonl, line 2" in bad.problem and "without sound" in bad.problem


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"audio": "a.wav", "duration": NaN}', "finite"),
        ('{"audio": "a.wav", "start": 0, "duration": Infinity}', "finite"),
        ('{"audio": "a.wav", "duration": -1}', "a duration of -1 s"),
        ('{"audio": "a.wav", "start": 2, "end": 1}', "before it begins"),
        ('{"audio": "a.wav", "duration": "long"}', "no time in seconds"),
        ('{"audio": ' + "[" * 100_000, "nested too deeply"),
        ('{"audio": "a.wav", "duration": ' + "9" * 5000 + "}", ""),
    ],
)
def test_times_that_are_none_and_json_that_is_none_are_problems_of_their_row(tmp_path, row, problem):
    rows = '{"audio": "a.wav", "text": "good"}\n' + row + "\n"
    good, bad = open_folder(corpus(tmp_path, {"a.wav": WAV, "manifest.jsonl": rows}), "c")
    assert (
        good.problem is None and bad.problem.startswith("manifest.jsonl, line 2: ") and problem in bad.problem
    )


def test_a_long_cell_is_read_and_a_path_to_a_page_is_no_sound(tmp_path):
    rows = "path,text\na.wav," + "la " * 70_000 + "\n"
    (item,) = open_folder(corpus(tmp_path / "long", {"a.wav": WAV, "list.csv": rows}), "c")
    assert len(item.text) > 200_000
    page = '{"path": "pages/a.html", "text": "a document"}\n'
    (item,) = open_folder(corpus(tmp_path / "page", {"t.jsonl": page}), "c")
    assert item.is_text and item.problem is None


def test_an_open_quotation_mark_swallows_no_rows_unsaid(tmp_path):
    rows = 'path,text\na.wav,fine\na.wav,"never closed\na.wav,lost\n'
    good, bad = open_folder(corpus(tmp_path, {"a.wav": WAV, "list.csv": rows}), "c")
    assert good.text == "fine" and "lines 3 to 4 are left out" in bad.problem


def test_a_text_with_the_delimiter_in_it_is_never_cut_short(tmp_path):
    rows = "path,text\na.wav,Hello, world\n"
    bad, lost = open_folder(corpus(tmp_path, {"a.wav": WAV, "list.csv": rows}), "c")
    assert "3 columns; needed: path, text" in bad.problem and lost.reason == "no transcript"


# --- tars and tables


def tar(folder: Path, members: dict[str, bytes | str]) -> Path:
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "s.tar", "w") as out:
        for name, content in members.items():
            add_member(out, name, content.encode() if isinstance(content, str) else content)
    return folder


@pytest.mark.parametrize("key", ["transcription", "sentence", "transcript", "Text"])
def test_a_tar_may_call_its_fields_by_any_known_name(tmp_path, key):
    row = json.dumps({key: "Close.", "speaker_id": "p1", "lang": "en"})
    (item,) = open_folder(tar(tmp_path, {"a.wav": WAV, "a.json": row}), "c")
    assert (item.text, item.speaker, item.language) == ("Close.", "p1", "en")


def test_names_with_dots_in_a_tar_keep_their_samples(tmp_path):
    members = {"t/talk_22.05_a.wav": WAV, "t/talk_22.05_a.json": '{"text": "one"}', "t/talk_22.05_b.wav": WAV}
    members |= {
        "t/talk_22.05_b.txt": "two",
        "c.audio.wav": WAV,
        "c.text.txt": "three",
        "e.SRT": SRT,
        "e.WAV": WAV,
    }
    items = list(open_folder(tar(tmp_path, members), "c"))
    assert [(i.id, i.text) for i in items] == [
        ("c/c", "three"),
        ("c/e:0.000-0.200", "Good evening."),
        ("c/e:0.200-0.500", "The news at ten."),
        ("c/t/talk_22.05_a", "one"),
        ("c/t/talk_22.05_b", "two"),
    ]


@pytest.mark.parametrize("broken", ["{", '{"text": 3}', "[1]", "[" * 100_000])
def test_a_sample_with_broken_text_is_left_out_and_named(tmp_path, broken):
    members = {"a.wav": WAV, "a.json": broken, "b.wav": WAV, "b.json": '{"text": "good"}'}
    bad, good = open_folder(tar(tmp_path, members), "c")
    assert bad.id == "c/a" and "a.json" in bad.problem and good.text == "good"


def test_members_that_nobody_reads_are_counted(tmp_path, capsys):
    list(open_folder(tar(tmp_path, {"a.wav": WAV, "a.txt": "x", "a.npy": b"1", "b.npy": b"2"}), "c"))
    assert "2 members with .npy of s.tar" in capsys.readouterr().err


def test_a_table_of_plain_bytes_is_sound_and_never_its_text_alone(tmp_path):
    rows = [{"wav": WAV, "transcription": "Close."}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (item,) = open_folder(tmp_path, "c")
    assert item.text == "Close." and item.sound_duration_s() == 0.5
    rows = [{"audio": {"array": [0.1, 0.2], "sampling_rate": 16000}, "text": "Close."}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="no column of sound files; it has audio, text"):
        list(open_folder(tmp_path, "c"))


@pytest.mark.parametrize(
    "row",
    [
        {"array": [0.1, 0.2], "sampling_rate": 16000, "text": "Close."},
        {"waveform": [0.1, 0.2], "text": "Close."},
        {"blob": b"x", "picture": b"y", "text": "Close."},
        {"text": b"Close."},
    ],
)
def test_a_table_with_sound_in_another_form_is_refused_and_never_its_text_alone(tmp_path, row):
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"no column of sound files; it has"):
        list(open_folder(tmp_path, "c"))


def test_texts_of_unknown_names_in_tables_and_tars_keep_their_sound_out(tmp_path):
    rows = [{"audio": {"bytes": WAV, "path": "a.wav"}, "what_is_said": "close the door"}]
    (tmp_path / "table").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table/a.parquet")
    tar(tmp_path / "members", {"a.wav": WAV, "a.stm": "a 1 s 0 0.2 close"})
    tar(tmp_path / "broken", {"a.wav": WAV, "a.json": "{", "b.wav": WAV})
    for name, said in (
        ("table", "what_is_said"),
        ("members", "1 members with .stm"),
        ("broken", "transcripts"),
    ):
        item = list(open_folder(tmp_path / name, "c"))[-1]
        assert item.reason == "no transcript" and said in item.problem


@pytest.mark.parametrize("name", ["transcription", "sentence", "Transcript", "normalized_text"])
def test_a_table_may_call_its_columns_by_any_known_name(tmp_path, name):
    rows = [{"audio": {"bytes": WAV, "path": "a.wav"}, name: "Close.", "file": "x/a.wav"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train-00000.parquet")
    (item,) = open_folder(tmp_path, "c")
    assert (item.text, item.id, item.fields["split"]) == ("Close.", "c/a", "train")


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "a.parquet"])
def test_a_file_that_was_cut_off_is_named_in_one_line(tmp_path, name):
    import gzip

    if name.endswith("gz"):
        content = gzip.compress(b'{"text": "hello"}\n' * 1000)
    else:
        sink = io.BytesIO()
        pq.write_table(pa.table({"text": ["hello"] * 1000}), sink)
        content = sink.getvalue()
    for damaged in (content[: len(content) // 2], content[:20] + b"\xff" * 20 + content[40:]):
        corpus(tmp_path, {name: damaged})
        with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
            list(open_folder(tmp_path, "c"))


# --- the command


def test_a_wrong_duration_in_a_list_is_another_sounds_row(tmp_path):
    rows = "path,text,duration\na.wav,right,0.7\nb.wav,wrong,60\n"
    items = list(open_folder(corpus(tmp_path, {"a.wav": WAV, "b.wav": WAV, "list.csv": rows}), "c"))
    found = [check_item(item, Limits())[1] for item in items]
    assert found[0] is None and found[1].reason == "wrong duration" and "60 s" in found[1].detail
    assert check_item(items[1], Limits(max_duration_error_s=60))[1] is None


def test_plan_and_summary_say_how_many_sounds_have_a_transcript_and_what_was_not_read(tmp_path, capsys):
    files = (
        {f"{n}.wav": WAV for n in range(6)} | {f"{n}.txt": "hello" for n in range(5)} | {"notes.docx": b"PK"}
    )
    words = [str(corpus(tmp_path / "in", files)), "--out", str(tmp_path / "out"), "--codec", "toy"]
    main([*words, "--validation", "0", "--test", "0"])
    printed = capsys.readouterr().err.replace("\n", " ")
    before, _, after = printed.partition("Verified")
    assert "5 of 6 sounds with a transcript" in printed and "5 of 5 sounds with a transcript" in after
    for part in (before, after):
        assert "not read: notes.docx" in part
    assert "no transcript: 1" in after
    main([*words, "--validation", "0", "--test", "0", "--keep-untranscribed", "--fresh"])
    assert "5 of 6 sounds with a transcript; left out: none" in capsys.readouterr().err.replace("\n", " ")
