"""Whatever lies in a folder, together: lists of sounds, tars, tables, and sound files with their transcripts beside.

One stray file hides nothing: each kind that is there is read, and what is left over is named.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.beside import with_transcript
from sodakit.prepare.sources.corpus import ABOUT, Corpus, ending_of
from sodakit.prepare.sources.listed import listed_items, without_repeats
from sodakit.prepare.sources.lists import LIST_SUFFIXES, NoList, layout_of, list_rows
from sodakit.prepare.sources.manifest import json_rows, lists_sounds
from sodakit.prepare.sources.names import origin_of, split_at
from sodakit.prepare.sources.parquet import read_tables
from sodakit.prepare.sources.rows import ends_with, has_rows, read_lines
from sodakit.prepare.sources.webdataset import read_webdataset
from sodakit.store.schema import SPLITS

COMMON_VOICE = frozenset({"validated", "invalidated", "other", "reported", "clip_durations"})
"""Its lists beyond train, dev and test: larger ones of the same clips, and clips that listeners turned down."""


def loose_files(corpus: Corpus) -> list[Path]:
    """The files that may hold sounds or name them; [] where there is none."""
    return corpus.sounds or list(corpus.odd) or corpus.with_suffix(".tar", ".parquet") or _lists(corpus)


def read_loose(corpus: Corpus) -> Iterator[Item]:
    """The items of all lists, tars and tables of a folder, and of the sounds in none of them."""
    lists = _lists(corpus)
    rows = (item for path in lists for item in read_list(path, corpus))
    listed = list(without_repeats(rows, corpus))
    splits = split_lists(corpus)
    corpus.has_transcripts = (bool(lists) and not listed) or any(i.text or i.problem for i in listed)
    for item in listed:
        split = splits.get(item.audio) if item.audio is not None else None
        yield replace(item, fields={**item.fields, "split": split}) if split else item
    for path in corpus.with_suffix(".tar"):
        yield from read_webdataset(path, corpus.source, corpus)
    sounds = bool(listed or corpus.sounds or corpus.with_suffix(".tar"))
    named = {item.audio for item in listed}
    for item in read_tables(corpus.with_suffix(".parquet"), corpus, sounds):
        named.add(item.audio)
        yield item
    for path in corpus.sounds:
        if path not in named:
            for item in _sound(path, corpus):
                yield replace(item, fields={**item.fields, "split": splits[path]}) if path in splits else item
    for path, why in corpus.odd.items():
        if path not in named:
            name = path.relative_to(corpus.folder).as_posix()
            problem = f"{path.name} {why}; needed: a sound file"
            yield Item(
                id=f"{corpus.source}/{name}",
                audio=path,
                source=corpus.source,
                problem=problem,
                reason="no file",
            )


def split_lists(corpus: Corpus) -> dict[Path, str]:
    """The split of each sound that a list names which is called as one and holds names alone: `test.txt`,
    `validation_list.txt`. A sound in several is of the last of train, validation and test."""
    found: dict[Path, str] = {}
    for path in corpus.files:
        split = split_at(Path(path.name)).get("split")
        if (
            split is None
            or path in corpus.read
            or path.suffix.lower() not in LIST_SUFFIXES
            or not has_rows(path)
        ):
            continue
        names = [(line or "").strip() for _, line in read_lines(path)]
        sounds = [corpus.find_sound(name, path.parent, corpus.folder) for name in names]
        if all(sound is not None for sound in sounds):
            corpus.left.pop(path, None)
            corpus.use([path])
            for sound in sounds:
                assert sound is not None
                found[sound] = max(split, found.get(sound, split), key=SPLITS.index)
        elif any(sound is not None for sound in sounds):
            lost = sum(sound is None for sound in sounds)
            corpus.leave(path, f"{lost} of its {len(sounds)} lines name no sound that is there")
    return found


def _sound(path: Path, corpus: Corpus) -> Iterator[Item]:
    name = path.relative_to(corpus.folder).as_posix()
    origin = origin_of(path.stem)
    item = Item(
        id=f"{corpus.source}/{name}",
        recording=f"{corpus.source}/{origin.recording}" if origin.recording else "",
        audio=path,
        at_s=origin.at_s,
        speaker=origin.speaker,
        language=origin.language,
        source=corpus.source,
        fields=split_at(path.relative_to(corpus.folder), listed=False),
    )
    yield from with_transcript(item, corpus)


def read_list(path: Path, corpus: Corpus) -> list[Item]:
    """The items of one list of sounds: a manifest, or columns with or without a header.

    Raises:
        NoList: it is none.
    """
    if ends_with(path, ".jsonl", ".json"):
        return listed_items(path, json_rows(path), corpus)
    layout = layout_of(path, _names_sounds(path, corpus))
    return listed_items(path, list_rows(path, layout), corpus)


def _names_sounds(path: Path, corpus: Corpus) -> Callable[[str], bool]:
    return lambda cell: corpus.find_sound(cell, path.parent, corpus.folder) is not None


def _lists(corpus: Corpus) -> list[Path]:
    """The lists of sounds in a folder, those that name a split first; the others are noted with the reason."""
    found = []
    for path in corpus.files:
        if path in corpus.left or ABOUT.fullmatch(path.name):
            continue
        if ends_with(path, ".jsonl") or (path.suffix.lower() == ".json" and not _is_beside(path, corpus)):
            if not has_rows(path):
                corpus.leave(path, "empty")
            elif lists_sounds(path, corpus):
                found.append(path)
        elif path.suffix.lower() in LIST_SUFFIXES and not _is_beside(path, corpus):
            try:
                layout_of(path, _names_sounds(path, corpus))
                found.append(path)
            except NoList as why:
                if path.suffix.lower() != ".txt":
                    corpus.leave(path, str(why))
    found = _without_other_common_voice(found, corpus)
    return sorted(found, key=lambda path: (not split_at(corpus.inside(path)), path))


def _is_beside(path: Path, corpus: Corpus) -> bool:
    """Whether it lies beside a sound of its name."""
    ending = ending_of(path)
    return ending is not None and corpus.has_sound(path.name[: len(path.name) - len(ending)])


def _without_other_common_voice(found: list[Path], corpus: Corpus) -> list[Path]:
    kept = []
    for path in found:
        parts = {p.stem for p in found if p.parent == path.parent and p.suffix == ".tsv"}
        if path.suffix == ".tsv" and path.stem in COMMON_VOICE and parts & {"train", "dev", "test"}:
            corpus.leave(path, "train, dev and test of this folder are read")
        elif path.suffix == ".tsv" and path.stem in COMMON_VOICE - {"validated"} and "validated" in parts:
            corpus.leave(path, "validated.tsv of this folder is read")
        else:
            kept.append(path)
    return kept
