"""Sentences in the built-in voices are read by both evaluations, are the same every time, and refuse what is no use."""

import gzip
import json
from pathlib import Path

import pytest

from sodakit.commands.eval import main
from sodakit.errors import ConfigError
from sodakit.eval.cases import read_recordings, read_voice_cases
from sodakit.eval.spoken_cases import SpokenCasesConfig, read_sentences, write_spoken_cases
from sodakit.files import read_json
from sodakit.store.reader import StoreReader
from sodakit.voices.catalogue import SEEN_VOICES, UNSEEN_VOICES
from tests.stores import small_store

SENTENCES = [f"The {thing} is on the table." for thing in ("lamp", "radio", "cup", "book", "map", "key")]
LONG = " ".join(SENTENCES)


def test_a_folder_is_read_as_recordings_and_as_voice_cases(tmp_path: Path) -> None:
    config = SpokenCasesConfig(count=5, max_s=3.0, sample_rate_hz=8000)
    assert write_spoken_cases([LONG, *SENTENCES], tmp_path / "b", config, SEEN_VOICES[:2]) == 5
    recordings, voices = read_recordings(tmp_path / "b"), read_voice_cases(tmp_path / "b")
    assert len(recordings) == len(voices) == 5 and {r.text for r in recordings} < set(SENTENCES)
    assert {r.speaker for r in recordings} == {"anna", "bella"}
    by_sound = {case.original: case for case in voices}
    for recording in recordings:
        case = by_sound[recording.item.audio]
        assert case.speaker == recording.speaker
        assert 0 < recording.read().duration_s <= 3.0
        assert case.text == recording.text != case.prompt_text
        assert case.prompt is not None and case.original is not None and case.prompt != case.original
        others = {r.speaker for r in recordings if r.text == case.prompt_text}
        assert others == {recording.speaker}


def test_the_same_sentences_and_seed_give_the_same_sound(tmp_path: Path) -> None:
    def digest(name: str, seed: int) -> str:
        config = SpokenCasesConfig(count=4, seed=seed, sample_rate_hz=8000)
        write_spoken_cases(SENTENCES, tmp_path / name, config, UNSEEN_VOICES[:2])
        return str(read_json(tmp_path / name / "build.json")["digest"])

    assert digest("a", 0) == digest("b", 0) != digest("c", 1)


def test_sentences_come_from_lines_json_lines_and_the_held_out_splits_of_a_store(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("One | two.\n\nThree.\nThree.\n")
    assert read_sentences(tmp_path / "lines.txt") == ["One two.", "Three."]
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as rows:
        rows.write("\n".join(json.dumps({"text": t}) for t in ("Four.", None)))
    assert read_sentences(tmp_path / "rows.jsonl.gz") == ["Four."]
    store = small_store(tmp_path / "store")
    reader = StoreReader(store)
    held_out = {u.text for split in ("validation", "test") for u in reader.utterances(split) if u.text}
    assert set(read_sentences(store)) == held_out


def test_nothing_to_say_is_an_error_that_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_sentences(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ConfigError, match="not one sentence"):
        read_sentences(tmp_path / "empty.txt")
    with pytest.raises(ConfigError, match="no voice has two"):
        write_spoken_cases(SENTENCES, tmp_path / "b", SpokenCasesConfig(max_s=0.1), SEEN_VOICES)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="something else"):
        write_spoken_cases(SENTENCES, tmp_path / "mine", SpokenCasesConfig(), SEEN_VOICES)
    with pytest.raises(ConfigError, match="count=1"):
        SpokenCasesConfig(count=1)


def test_the_command_takes_voices_that_nothing_was_trained_on(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("\n".join(SENTENCES))
    words = ["--texts", str(tmp_path / "lines.txt"), "--out", str(tmp_path / "b"), "--voices", "unseen"]
    main(["sentences", *words, "--count", "6"])
    heard = {r.speaker for r in read_recordings(tmp_path / "b")}
    assert heard == {v.name for v in UNSEEN_VOICES}


def test_each_language_has_its_own_sentences_in_voices_that_speak_it(tmp_path: Path) -> None:
    words = ["sentences", "--language", "de", "--count", "3", "--voices", "anna", "frank", "--out"]
    main([*words, str(tmp_path / "de")])
    found = read_recordings(tmp_path / "de", language="de")
    assert len(found) == 3 and {r.language for r in found} == {"de"}
    assert all(any(word in r.text for word in (" das ", " die ", " den ")) for r in found)
    with pytest.raises(ConfigError, match=r"in de, not es"):
        read_recordings(tmp_path / "de", language="es")
    with pytest.raises(ConfigError, match=r"No sentences in 'ru'.*--texts FILE"):
        main(["sentences", "--language", "ru", "--out", str(tmp_path / "ru")])


def test_sentences_that_name_another_language_are_left_out(tmp_path: Path) -> None:
    rows = [{"text": "Hola.", "language": "es-MX"}, {"text": "Hello.", "language": "en"}, {"text": "Sí."}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_sentences(tmp_path / "rows.jsonl", "es") == ["Hola.", "Sí."]
    (tmp_path / "named.jsonl").write_text("\n".join(map(json.dumps, rows[:2])))
    with pytest.raises(ConfigError, match="not one sentence in fr"):
        read_sentences(tmp_path / "named.jsonl", "fr")
