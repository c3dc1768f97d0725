"""Any folder as items: what lies in it says which layout it has."""

from collections.abc import Callable, Iterator
from pathlib import Path

from sodakit.errors import ConfigError
from sodakit.log import say
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.kaldi import read_kaldi
from sodakit.prepare.sources.ljspeech import read_ljspeech
from sodakit.prepare.sources.manifest import read_manifest
from sodakit.prepare.sources.pairs import audio_files, read_pairs, read_texts
from sodakit.prepare.sources.translations import MANIFEST, covost_files, read_cvss, read_pair_manifest

LAYOUTS: tuple[tuple[str, Callable[[Path], bool], Callable[[Path, str], Iterator[Item]]], ...] = (
    (
        "manifest.jsonl",
        lambda f: (f / "manifest.jsonl").is_file(),
        lambda f, s: read_manifest(f / "manifest.jsonl", s),
    ),
    ("translations.jsonl", lambda f: (f / MANIFEST).is_file(), read_pair_manifest),
    ("CVSS with CoVoST 2", lambda f: bool(covost_files(f)), read_cvss),
    ("metadata.csv (LJSpeech)", lambda f: (f / "metadata.csv").is_file(), read_ljspeech),
    ("wav.scp (Kaldi)", lambda f: (f / "wav.scp").is_file(), read_kaldi),
    ("sound files with .txt beside them", lambda f: bool(audio_files(f)), read_pairs),
    ("text files", lambda f: any(f.rglob("*.txt")), read_texts),
)
"""Name, how to tell, how to read; the first that is there counts."""


def open_folder(folder: Path | str, source: str | None = None) -> Iterator[Item]:
    """The items of a folder in any known layout; says which.

    Args:
        folder: the corpus; or a `.jsonl` file, which is read as a manifest.
        source: name of the corpus; default: the folder's.
    Raises:
        ConfigError: no such folder, or nothing in it that is known.
    """
    folder = Path(folder)
    if folder.is_file() and folder.suffix == ".jsonl":
        return read_manifest(folder, source or folder.resolve().parent.name)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; needed: one with recordings. Check the path.")
    for name, is_there, read in LAYOUTS:
        if is_there(folder):
            say(f"{folder}: {name}")
            return read(folder, source or folder.resolve().name)
    known = "; ".join(name for name, _, _ in LAYOUTS)
    raise ConfigError(f"{folder} has no known layout; needed one of: {known}. Write a manifest.jsonl for it.")
