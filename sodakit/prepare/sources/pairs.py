"""A folder of sound files, at any depth, with the text of `a/b.wav` in `a/b.txt` where there is any."""

from collections.abc import Container, Iterator, Mapping
from pathlib import Path

from sodakit.audio.files import AUDIO_SUFFIXES
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.rows import read_document

SOUND_SUFFIXES = AUDIO_SUFFIXES | {".aac", ".m4a", ".mp4", ".webm", ".wma", ".amr", ".sph"}
"""Those that cannot be decoded too (or only with PyAV): they belong in the quarantine, not out of sight."""


def read_pairs(folder: Path | str, source: str) -> Iterator[Item]:
    """The items of a folder of sound files, sorted by name. Sound without text is an item without text."""
    folder = Path(folder)
    for path in audio_files(folder):
        name = path.relative_to(folder).as_posix()
        transcript = path.with_suffix(".txt")
        text, problem = read_document(transcript) if transcript.is_file() else (None, None)
        yield Item(id=f"{source}/{name}", audio=path, text=text, problem=problem, source=source)


def audio_files(folder: Path) -> list[Path]:
    """Every sound file below a folder, sorted; hidden ones left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SOUND_SUFFIXES)
    return sorted(path for path in found if not path.name.startswith("."))


def sounds_by_name(folder: Path) -> dict[Path, Path]:
    """Every sound file below a folder by its path without the suffix; of two formats of one name, the first."""
    found: dict[Path, Path] = {}
    for path in audio_files(folder):
        found.setdefault(path.parent / path.stem, path)
    return found


def unlisted(
    folder: Path, sounds: Mapping[Path, Path], listed: Container[Path], source: str, needed: str
) -> Iterator[Item]:
    """Items with a problem for the sounds that a corpus with lists of transcripts has no line for.

    Args:
        sounds: as `sounds_by_name` finds them.
        listed: the names among them that have a line.
        needed: what is missing, for whoever reads the quarantine.
    """
    for place, path in sounds.items():
        if place not in listed:
            name = path.relative_to(folder).as_posix()
            problem = f"{name} has no transcript; needed: {needed}"
            yield Item(id=f"{source}/{name}", source=source, problem=problem, reason="not in the transcripts")
