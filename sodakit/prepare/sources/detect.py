"""Any folder or file as items: what lies in it says which layout it has."""

from collections.abc import Callable, Iterator
from pathlib import Path

from sodakit.codec.contract import CodecSpec
from sodakit.errors import ConfigError
from sodakit.log import say
from sodakit.prepare.recording import Item, told_apart
from sodakit.prepare.sources.corpus import Corpus
from sodakit.prepare.sources.kaldi import kaldi_files, read_kaldi
from sodakit.prepare.sources.lhotse_sets import is_lhotse, lhotse_files, read_lhotse, read_lhotse_folder
from sodakit.prepare.sources.librispeech import read_librispeech, transcript_lists
from sodakit.prepare.sources.lists import LIST_SUFFIXES, NoList
from sodakit.prepare.sources.loose import loose_files, read_list, read_loose
from sodakit.prepare.sources.manifest import read_manifest
from sodakit.prepare.sources.mls import mls_files, read_mls
from sodakit.prepare.sources.parquet import read_tables
from sodakit.prepare.sources.rows import ends_with, has_rows
from sodakit.prepare.sources.texts import read_row_files, read_text_files, row_files, text_files
from sodakit.prepare.sources.translations import MANIFEST, cvss_files, read_cvss, read_pair_manifest
from sodakit.prepare.sources.untranscribed import leave_out_untranscribed
from sodakit.prepare.sources.webdataset import read_webdataset

Files = Callable[[Corpus], list[Path]]
Reader = Callable[[Corpus], Iterator[Item]]


def open_folder(
    folder: Path | str,
    source: str | None = None,
    codec: CodecSpec | None = None,
    *,
    keep_untranscribed: bool = False,
) -> Iterator[Item]:
    """The items of a folder or file in any known layout; says which, and what became of its files.

    Args:
        folder: the corpus; or one list, `.jsonl`, `.tar` or `.parquet` file of it.
        source: name of the corpus; default: the folder's.
        codec: whose codes are in it, where it holds codes instead of sound.
        keep_untranscribed: keep sounds without a transcript although files lie beside them in which some may stand.
            Without it such a sound is an item with a problem.
    Raises:
        ConfigError: no such folder, or nothing in it that is known.
    """
    return iter(read_corpus(open_corpus(folder, source, codec), keep_untranscribed))


def open_corpus(folder: Path | str, source: str | None = None, codec: CodecSpec | None = None) -> Corpus:
    """A folder or file to be read.

    Raises:
        ConfigError: there is none.
    """
    folder = Path(folder)
    if folder.is_file():
        return Corpus(folder.parent, source or folder.resolve().parent.name, codec, only=folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; needed: one with recordings. Check the path.")
    return Corpus(folder, source or folder.resolve().name, codec)


def read_corpus(corpus: Corpus, keep_untranscribed: bool = False) -> list[Item]:
    """Its items, as `open_folder` gives them; `corpus.account` then says what became of its files.

    Raises:
        ConfigError: nothing in it is known.
    """
    name, read = ("", _read_file) if corpus.only else _layout(corpus)
    if name:
        say(f"{corpus.folder}: {name}")
    items = list(read(corpus))
    if not items and not corpus.only:
        raise _unknown(corpus)
    lists_alone = corpus.only is not None or name in LISTS_ALONE
    items = list(told_apart(leave_out_untranscribed(items, corpus, keep_untranscribed, lists_alone)))
    for sentence in corpus.account(items):
        say(sentence)
    return items


def _layout(corpus: Corpus) -> tuple[str, Reader]:
    for name, files, read in LAYOUTS:
        there = files(corpus)
        if there:
            if read is not read_loose:
                corpus.use(there)
            return name, read
    raise _unknown(corpus)


def _unknown(corpus: Corpus) -> ConfigError:
    known = "; ".join(name for name, _, _ in LAYOUTS)
    unread = corpus.unread()
    there = f" Not read: {corpus.describe(unread)}." if unread else ""
    return ConfigError(
        f"{corpus.folder} has no known layout; needed one of: {known}.{there} Write a manifest.jsonl for it."
    )


def _read_file(corpus: Corpus) -> Iterator[Item]:
    path = corpus.only
    assert path is not None
    corpus.use([path])
    if ends_with(path, ".jsonl", ".json"):
        return (
            read_lhotse(path, corpus.source)
            if is_lhotse(path)
            else read_manifest(path, corpus.source, corpus)
        )
    if path.suffix.lower() == ".tar":
        return read_webdataset(path, corpus.source, corpus)
    if path.suffix.lower() == ".parquet":
        return read_tables([path], corpus, sounds=False)
    if path.suffix.lower() in LIST_SUFFIXES:
        try:
            return iter(read_list(path, corpus))
        except NoList as why:
            raise ConfigError(f"{path} cannot be read as a list of sounds: {why}.") from why
    raise ConfigError(
        f"{path} is no known kind of file; needed: .jsonl, .json, .csv, .tsv, .list, .tar, .parquet, or a folder."
    )


def _plain(read: Callable[[Path, str], Iterator[Item]]) -> Reader:
    return lambda corpus: read(corpus.folder, corpus.source)


def _one(name: str) -> Files:
    return lambda corpus: [corpus.folder / name] if has_rows(corpus.folder / name) else []


MANIFEST_NAME = "manifest.jsonl"
LAYOUTS: tuple[tuple[str, Files, Reader], ...] = (
    (MANIFEST_NAME, _one(MANIFEST_NAME), lambda c: read_manifest(c.folder / MANIFEST_NAME, c.source, c)),
    (MANIFEST, _one(MANIFEST), _plain(read_pair_manifest)),
    ("CVSS with CoVoST 2", lambda c: cvss_files(c.folder), _plain(read_cvss)),
    ("wav.scp (Kaldi)", lambda c: kaldi_files(c.folder), _plain(read_kaldi)),
    ("cuts or recordings of lhotse", lambda c: lhotse_files(c.folder), _plain(read_lhotse_folder)),
    (
        ".trans.txt beside sound files (LibriSpeech)",
        lambda c: transcript_lists(c.folder),
        _plain(read_librispeech),
    ),
    ("transcripts.txt and audio/ (MLS)", lambda c: mls_files(c.folder), _plain(read_mls)),
    (
        "sound files with transcripts beside them, lists of them (.csv, .tsv, .list, .jsonl, .json), .tar (WebDataset, "
        "Emilia), .parquet (Hugging Face hub)",
        loose_files,
        read_loose,
    ),
    (".jsonl rows of text", lambda c: row_files(c.folder), _plain(read_row_files)),
    ("text files", lambda c: text_files(c.folder), _plain(read_text_files)),
)
"""Name, the files that tell and are read, how to read; the first that is there counts."""

LISTS_ALONE = (MANIFEST_NAME, MANIFEST, "cuts or recordings of lhotse")
"""Layouts whose lists say what the corpus is: sounds without a transcript are meant so."""
