"""The LJSpeech layout: `metadata.csv` with `id|text|normalised text`, and `wavs/id.wav`."""

import re
from collections.abc import Iterator
from pathlib import Path

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.rows import bad_row, read_lines

CHAPTER = re.compile(r"(LJ\d{3})-\d{4}")
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")


def read_ljspeech(folder: Path | str, source: str, language: str = "", speaker: str = "") -> Iterator[Item]:
    """The items of `metadata.csv`. LJSpeech's own chapters are recordings; elsewhere each file is one.

    The normalised text (third column) is taken where there is one. A fourth column, as some
    corpora of this layout have it, is the speaker.
    """
    folder = Path(folder)
    path = folder / "metadata.csv"
    for number, line in read_lines(path):
        columns = (line or "").split("|")
        if len(columns) < 2 or not columns[0].strip():
            problem = "not UTF-8" if line is None else "needed: id|text or id|text|normalised text"
            yield bad_row(path, number, source, problem)
            continue
        name = columns[0].strip()
        texts = [text.strip() for text in columns[1:3] if text.strip()]
        chapter = CHAPTER.fullmatch(name)
        yield Item(
            id=f"{source}/{name}",
            recording=f"{source}/{chapter[1] if chapter else name}",
            audio=_find_audio(folder, name),
            text=texts[-1] if texts else None,
            speaker=columns[3].strip() if len(columns) > 3 else speaker or ("LJ" if chapter else ""),
            language=language or ("en" if chapter else ""),
            source=source,
        )


def _find_audio(folder: Path, name: str) -> Path:
    stem = folder / "wavs" / Path(name).name
    candidates = [folder / name, folder / "wavs" / name, *(stem.with_name(stem.name + s) for s in SUFFIXES)]
    return next((path for path in candidates if path.is_file()), stem.with_name(stem.name + SUFFIXES[0]))
