"""Any folder or file as items: what lies in it says which layout it has."""

from collections.abc import Callable, Iterator
from pathlib import Path

from sodakit.codec.contract import CodecSpec
from sodakit.errors import ConfigError
from sodakit.log import say
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.kaldi import read_kaldi
from sodakit.prepare.sources.lhotse_sets import is_lhotse, lhotse_files, read_lhotse, read_lhotse_folder
from sodakit.prepare.sources.librispeech import read_librispeech, transcript_lists
from sodakit.prepare.sources.ljspeech import read_ljspeech
from sodakit.prepare.sources.manifest import read_manifest
from sodakit.prepare.sources.mls import read_mls, split_folders
from sodakit.prepare.sources.pairs import audio_files, read_pairs
from sodakit.prepare.sources.rows import COMPRESSED, named
from sodakit.prepare.sources.tables import read_sound_table, read_text_table, sound_column, table_schema
from sodakit.prepare.sources.texts import read_row_files, read_text_files, text_files
from sodakit.prepare.sources.translations import MANIFEST, covost_files, read_cvss, read_pair_manifest
from sodakit.prepare.sources.webdataset import read_webdataset
from sodakit.prepare.sources.written import is_written, read_written

Reader = Callable[[Path, str, CodecSpec | None], Iterator[Item]]


def open_folder(
    folder: Path | str, source: str | None = None, codec: CodecSpec | None = None
) -> Iterator[Item]:
    """The items of a folder or file in any known layout; says which.

    Args:
        folder: the corpus; or one `.jsonl`, `.tar` or `.parquet` file of it.
        source: name of the corpus; default: the folder's.
        codec: whose codes are in it, where it holds codes instead of sound.
    Raises:
        ConfigError: no such folder, or nothing in it that is known.
    """
    folder = Path(folder)
    if folder.is_file():
        return _open_file(folder, source or folder.resolve().parent.name, codec)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; needed: one with recordings. Check the path.")
    for name, is_there, read in LAYOUTS:
        if is_there(folder):
            say(f"{folder}: {name}")
            return read(folder, source or folder.resolve().name, codec)
    known = "; ".join(name for name, _, _ in LAYOUTS)
    raise ConfigError(f"{folder} has no known layout; needed one of: {known}. Write a manifest.jsonl for it.")


def _open_file(path: Path, source: str, codec: CodecSpec | None) -> Iterator[Item]:
    if path.name.endswith(tuple(f".jsonl{packed}" for packed in COMPRESSED)):
        return read_lhotse(path, source) if is_lhotse(path) else read_manifest(path, source)
    if path.suffix == ".tar":
        return read_webdataset(path, source)
    if path.suffix == ".parquet":
        return _tables([path], source, codec)
    raise ConfigError(f"{path} is no known kind of file; needed: .jsonl, .tar, .parquet, or a folder.")


def _read_tars(folder: Path, source: str, codec: CodecSpec | None) -> Iterator[Item]:
    for path in sorted(folder.rglob("*.tar")):
        yield from read_webdataset(path, source)


def _tables(paths: list[Path], source: str, codec: CodecSpec | None) -> Iterator[Item]:
    met: dict[str, str] = {}
    for path in paths:
        schema = table_schema(path)
        if sound_column(schema) is not None:
            yield from read_sound_table(path, source)
        elif is_written(path):
            yield from read_written(path, source, codec, met)
        else:
            yield from read_text_table(path, source)


def _plain(read: Callable[[Path, str], Iterator[Item]]) -> Reader:
    return lambda folder, source, codec: read(folder, source)


LAYOUTS: tuple[tuple[str, Callable[[Path], object], Reader], ...] = (
    (
        "manifest.jsonl",
        lambda f: (f / "manifest.jsonl").is_file(),
        lambda f, source, codec: read_manifest(f / "manifest.jsonl", source),
    ),
    ("translations.jsonl", lambda f: (f / MANIFEST).is_file(), _plain(read_pair_manifest)),
    ("CVSS with CoVoST 2", covost_files, _plain(read_cvss)),
    ("metadata.csv (LJSpeech)", lambda f: (f / "metadata.csv").is_file(), _plain(read_ljspeech)),
    ("wav.scp (Kaldi)", lambda f: (f / "wav.scp").is_file(), _plain(read_kaldi)),
    ("cuts or recordings of lhotse", lhotse_files, _plain(read_lhotse_folder)),
    (".trans.txt beside sound files (LibriSpeech)", transcript_lists, _plain(read_librispeech)),
    ("transcripts.txt and audio/ (MLS)", split_folders, _plain(read_mls)),
    (".tar (WebDataset, Emilia)", lambda f: any(f.rglob("*.tar")), _read_tars),
    (
        ".parquet (Hugging Face hub)",
        lambda f: any(f.rglob("*.parquet")),
        lambda f, source, codec: _tables(sorted(f.rglob("*.parquet")), source, codec),
    ),
    ("sound files with .txt beside them", audio_files, _plain(read_pairs)),
    (".jsonl rows of text", lambda f: named(f, ".jsonl"), _plain(read_row_files)),
    ("text files", text_files, _plain(read_text_files)),
)
"""Name, how to tell, how to read; the first that is there counts."""
