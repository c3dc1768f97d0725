"""The sound files of a corpus with lists of transcripts, by name, and those that no list names."""

from collections.abc import Container, Iterator, Mapping
from pathlib import Path

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.corpus import SOUND_SUFFIXES


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
