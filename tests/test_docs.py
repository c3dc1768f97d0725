"""What the pages tell a reader to run does what they say."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from string import Template

import numpy as np
import pytest

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.recipes import study
from tests.test_help import WORDS, Understood, module_of, stop

ROOT = Path(__file__).parents[1]


def commands(page: str) -> Iterator[list[str]]:
    """The words of every `sodakit` command in the blocks of a page, its variables filled in as a shell does."""
    values: dict[str, str] = {}
    for line in "".join(re.findall(r"```\n(.*?)```", page, re.DOTALL)).splitlines():
        words = shlex.split(Template(line).substitute(values), comments=True)
        if all(re.fullmatch(r"[A-Z]+=.*", word) for word in words):
            values |= dict(word.split("=", 1) for word in words)
        elif words[0] in ("sodakit", "torchrun"):
            yield words[words.index("sodakit") :]


def test_every_command_of_the_readme_is_understood_as_it_is_pasted(monkeypatch):
    found = list(commands((ROOT / "README.md").read_text(encoding="utf-8")))
    assert len(found) > 15
    for _, verb, *words in found:
        module = module_of(verb)
        if verb in WORDS:
            monkeypatch.setattr(WORDS[verb][words[0]], "run", stop)
        else:
            read = module.read_options
            monkeypatch.setattr(module, "read_options", lambda *given, read=read: stop(read(*given)))
        with pytest.raises(Understood):
            module.main(words)
        monkeypatch.undo()


def sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wave(path, Wave(0.1 * np.sin(np.arange(8_000) / 10).astype(np.float32), 16_000))


def unpacked(data: Path) -> None:
    """The public corpora of docs/data.md as they are unpacked, a few clips each."""
    for part, name in (("train-clean-100", "103-1240"), ("test-other", "1688-142285")):
        place = data / "LibriSpeech" / part / name.replace("-", "/")
        sound(place / f"{name}-0000.flac")
        (place / f"{name}.trans.txt").write_text(f"{name}-0000 CHAPTER ONE\n")
    (data / "librispeech_clean100").symlink_to("LibriSpeech/train-clean-100")
    (data / "librispeech_test_other").symlink_to("LibriSpeech/test-other")
    sound(data / "ljspeech/wavs/LJ001-0001.wav")
    (data / "ljspeech/metadata.csv").write_text("LJ001-0001|in 1455|in fourteen fifty-five\n")
    sound(data / "fsdd/recordings/7_george_0.wav")
    sound(data / "wakewords/audio/smart_mirror/1.wav")
    sound(data / "vctk/wav48_silence_trimmed/p225/p225_001_mic1.flac")
    sound(data / "vctk/wav48_silence_trimmed/p315/p315_001_mic1.flac")  # whose texts were lost
    (data / "vctk/txt/p225").mkdir(parents=True)
    (data / "vctk/txt/p225/p225_001.txt").write_text("Please call Stella.\n")
    (data / "gutenberg").mkdir()
    (data / "gutenberg/a_book.txt").write_text("\n\n".join(["It was the best of times. " * 6] * 3))


def test_the_page_on_data_makes_what_the_study_reads(tmp_path, monkeypatch):
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    unpacked(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    items = list(study.real_items(tmp_path))
    assert all(item.audio.is_file() and item.problem is None for item in items)
    assert {item.source: item.text for item in items} == {
        "librispeech_clean100": "CHAPTER ONE",
        "librispeech_test_other": "CHAPTER ONE",
        "ljspeech": "in fourteen fifty-five",
        "vctk": "Please call Stella.",
        "wakewords": "smart mirror",
        "fsdd": "seven",
    }
    held_out = [item for item in items if study._real_split(item) == "validation"]
    assert [item.speaker for item in held_out] == ["1688"]
    read = {sentence for part in study.sentence_parts(tmp_path) for r in part for sentence in r.sentences}
    assert read == {"in fourteen fifty-five", "Please call Stella."}
    assert len(list(study.book_items(tmp_path / "books_en"))) == 3
    for name in (*study.REAL_TRAIN, study.REAL_HELD_OUT, *study.SENTENCES):
        assert name.rsplit("/")[-1] in page
