from pathlib import Path

import pytest

from sodakit.codec.fit.sounds import read_sentences
from sodakit.errors import AudioError, ConfigError
from sodakit.eval.cases import cases_digest, original_of, read_recordings, read_voice_cases
from sodakit.prepare.leaks import read_evaluation
from sodakit.units import spread
from tests.eval.recordings import recordings_folder, voice_list
from tests.recordings import recordings


def test_a_released_list_has_four_columns_and_its_originals_in_a_folder(tmp_path: Path) -> None:
    recordings_folder(tmp_path)
    (tmp_path / "wavs").mkdir()
    (tmp_path / "audio" / "1.wav").rename(tmp_path / "wavs" / "u1.wav")
    (tmp_path / "meta.lst").write_text("u1|a dog|audio/0.wav|the cat sat\nu2||audio/0.wav|the mat\n")
    first, second = read_voice_cases(tmp_path)
    assert (first.prompt_text, first.text, second.prompt_text) == ("a dog", "the cat sat", "")
    assert original_of(first) is not None and original_of(second) is None
    (tmp_path / "meta.lst").write_text("u1|a dog|audio/0.wav\n")
    with pytest.raises(ConfigError, match="line 1, has 3 fields"):
        read_voice_cases(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_list(tmp_path: Path) -> None:
    recordings_folder(tmp_path)
    (tmp_path / "meta.lst").write_text("u1|a dog|audio/0.wav|the cat sat\n", encoding="utf-8-sig")
    assert [case.id for case in read_voice_cases(tmp_path)] == ["u1"]
    (tmp_path / "said.txt").write_text("the cat sat\n", encoding="utf-8-sig")
    assert [item.text for item in read_evaluation(tmp_path / "said.txt")] == ["the cat sat"]
    assert read_sentences(tmp_path / "said.txt") == ["the cat sat"]


def test_the_digest_follows_the_sound_of_a_prompt(tmp_path: Path) -> None:
    before = cases_digest(read_voice_cases(voice_list(tmp_path)))
    assert cases_digest(read_voice_cases(tmp_path)) == before
    (tmp_path / "audio" / "0.wav").write_bytes(b"other")
    assert cases_digest(read_voice_cases(tmp_path)) != before


def test_recordings_without_a_transcript_are_no_cases(tmp_path: Path) -> None:
    folder = recordings_folder(tmp_path)
    manifest = folder / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"the mat"', "null"))
    assert len(read_recordings(folder)) == 5
    assert [case.text for case in read_recordings(folder, limit=2)] == ["a dog ran home", "home"]


def test_what_is_no_case_is_named_and_what_cannot_be_read_is_a_case(tmp_path: Path) -> None:
    """A set that shrinks in silence has a better score than its model."""
    folder = recordings_folder(tmp_path)
    manifest = folder / "manifest.jsonl"
    whole = len(read_recordings(folder))
    lines = manifest.read_text().splitlines()
    lines[0] = lines[0].replace('"text": "', '"text": "   ", "was": "')
    lines[1] = lines[1][:-8]
    lines.append('{"audio": "missing.wav", "text": "nobody can read this"}')
    manifest.write_text("\n".join(lines) + "\n")
    cases = read_recordings(folder)
    assert len(cases) == whole - 2 + 1 and len(cases.skipped) == 2
    assert all(entry["id"] and entry["reason"] for entry in cases.skipped)
    unreadable = next(case for case in cases if "missing" in case.id)
    with pytest.raises(AudioError):
        unreadable.read()
    manifest.write_text('{"audio": "audio/0.wav", "text": null}\n')
    with pytest.raises(ConfigError, match="no transcript"):
        read_recordings(folder)


def test_a_name_that_stands_twice_in_a_list_is_refused(tmp_path: Path) -> None:
    recordings_folder(tmp_path)
    (tmp_path / "meta.lst").write_text("u1|a dog|audio/0.wav|the cat sat\n" * 2)
    with pytest.raises(ConfigError, match="u1 more than once"):
        read_voice_cases(tmp_path)


def test_a_limit_takes_both_ends() -> None:
    assert spread(list(range(10)), 4) == [0, 3, 6, 9]
    assert spread([1, 2], 5) == [1, 2]


def test_the_zero_shot_list_of_real_recordings_is_read() -> None:
    folder = recordings("tts_zero_shot")
    cases = read_voice_cases(folder)
    assert len(cases) == len((folder / "meta.lst").read_text().splitlines()) >= 20
    assert all(case.prompt and case.prompt.exists() and case.original for case in cases)
