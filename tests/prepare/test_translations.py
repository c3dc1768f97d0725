"""Pairs from their layouts: a manifest, and CVSS with CoVoST 2 as they are published."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from sodakit.codec.toy import ToyCodec
from sodakit.data.language import open_language
from sodakit.data.pairs import PairView
from sodakit.errors import ConfigError
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import prepare

SENTENCES = {"train": ('Dijo: "Hola', "He said hello"), "dev": ("Adiós", "Goodbye"), "test": ("Sí", "Yes")}


def tone(path, rate_hz: int, duration_s: float, format: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time_s = np.arange(int(rate_hz * duration_s)) / rate_hz
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 220 * time_s), rate_hz, format=format)


def cvss_folder(folder):
    """One clip a split: mp3 at 48 kHz from Common Voice, wav at 24 kHz from CVSS-T, tables of both, all as published."""
    for number, (split, (sentence, translation)) in enumerate(SENTENCES.items()):
        clip = f"common_voice_es_{number}.mp3"
        tone(folder / "clips" / clip, 48_000, 1.0, "MP3")
        tone(folder / "cvss_t_es_en_v1.0" / split / f"{clip}.wav", 24_000, 0.8, "WAV")
        (folder / f"covost_v2.es_en.{split}.tsv").write_text(
            "path\tsentence\ttranslation\tclient_id\n"
            f"{clip}\t{sentence}\t{translation}.\tspeaker{number}\n"
            f"common_voice_es_9{number}.mp3\tno spoken translation\tnone\tspeaker{number}\n",
            encoding="utf-8-sig",  # as a spreadsheet saves it
        )
        (folder / "cvss_t_es_en_v1.0" / f"{split}.tsv").write_text(
            f"{clip}\t{translation.lower()}\n", encoding="utf-8"
        )
    return folder


def test_the_published_layout_of_cvss_and_covost_becomes_pairs_in_their_splits(tmp_path):
    items = list(open_folder(cvss_folder(tmp_path / "corpus"), "cvss"))
    assert [(i.language, i.text, i.fields["split"]) for i in items[:2]] == [
        ("es", "Adiós", "validation"),
        ("en", "goodbye", "validation"),
    ]
    assert {i.text for i in items if i.language == "es"} == {s for s, _ in SENTENCES.values()}
    assert items[0].speaker == items[1].speaker == "speaker1"
    prepare(
        items,
        tmp_path / "store",
        ToyCodec(),
        PrepareOptions(split=SplitRule(by_field="split"), text_vocab_size=300),
    )
    reader, vocabulary = open_language(tmp_path / "store")
    for split in ("train", "validation", "test"):
        view = PairView(reader, split, "s2st", vocabulary)
        source, target = (view.utterances[n] for n in view.pairs[0])
        assert (source.language, target.language, len(view)) == ("es", "en", 1)
        assert source.codes_KF.shape[1] > target.codes_KF.shape[1]


def test_broken_lines_of_covost_are_named_and_the_rest_is_kept(tmp_path):
    folder = cvss_folder(tmp_path / "corpus")
    table = folder / "covost_v2.es_en.dev.tsv"
    whole = sum(1 for _ in open_folder(folder, "cvss"))
    table.write_bytes(table.read_bytes() + b"\n\xff\xfe broken\nonly_a_path.mp3\n")
    items = list(open_folder(folder, "cvss"))
    wrong = [item.problem for item in items if item.problem]
    assert len(items) == whole + 2 and "not UTF-8" in wrong[0] and "no sentence" in wrong[1]
    table.write_text("file\twords\na.mp3\thola\n")
    with pytest.raises(ConfigError, match="has no column path, sentence; it has file, words"):
        list(open_folder(folder, "cvss"))


def test_a_manifest_of_pairs_gives_two_items_each_and_names_a_bad_line(tmp_path):
    tone(tmp_path / "a.wav", 16_000, 0.5, "WAV")
    shutil.copy(tmp_path / "a.wav", tmp_path / "b.wav")
    good = {"id": "7", "source_audio": "a.wav", "source_text": "hola", "source_language": "es", "target_audio": "b.wav",
            "target_text": "hello", "target_language": "en", "speaker": "p1"}  # fmt: skip
    bad = {k: v for k, v in good.items() if k != "target_audio"}
    (tmp_path / "translations.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n{{broken\n")
    items = list(open_folder(tmp_path, "mine"))
    assert [i.id for i in items[:2]] == ["mine/7/source", "mine/7/target"]
    assert items[0].recording == items[1].recording and items[0].speaker == "p1"
    assert "target_audio" in items[2].problem and "line 3" in items[3].problem
