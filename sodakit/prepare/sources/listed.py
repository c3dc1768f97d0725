"""Rows of a list, a manifest or a table as items: which sound, which part of it, what is said, and by whom."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.beside import with_transcript
from sodakit.prepare.sources.columns import (
    duration_of,
    field_of,
    fields_of,
    refuse_unknown_times,
    times_of,
    word_of,
)
from sodakit.prepare.sources.corpus import SOUND_SUFFIXES, Corpus
from sodakit.prepare.sources.names import Origin, origin_of, split_at
from sodakit.prepare.sources.rows import bad_row, read_document
from sodakit.prepare.sources.transcripts import words_of
from sodakit.voices.contract import WordSpan

TEXT_FILE = re.compile(r".+\.txt(\.gz|\.zstd?)?")
"""A `file` of a manifest that holds a text."""

ANY_FILE = frozenset({"path", "file", "file_name", "filename", "file_path", "filepath"})
"""Columns that name files of any kind."""


def listed_items(
    path: Path, rows: Iterable[tuple[int, Mapping[str, Any] | str]], corpus: Corpus
) -> list[Item]:
    """The items of a list. A row that cannot be used gives one with a `problem`.

    Two rows of one file without names of their own are two utterances. In a list of sounds, a row without one is a
    mistake and no text document.

    Args:
        path: the list; sounds are looked for beside it and in the corpus.
        rows: line numbers, and what each line says or what is wrong with it.
        corpus: what it belongs to.
    """
    corpus.use([path])
    found: list[Item] = []
    numbers = []
    names: Counter[str] = Counter()
    for number, row in rows:
        try:
            if isinstance(row, str):
                raise ValueError(row)
            items = list(_items(path, number, row, corpus, names))
        except ValueError as error:
            items = [bad_row(path, number, corpus.source, str(error))]
        found += items
        numbers += [number] * len(items)
    if all(item.is_text for item in found):
        return found
    note_unread_columns(path, found, corpus)
    problem = "a text without sound in a list of sounds; needed: the sound, or a list of texts of its own"
    return [
        bad_row(path, number, corpus.source, problem) if item.is_text and item.problem is None else item
        for number, item in zip(numbers, found, strict=True)
    ]


def _items(
    path: Path, number: int, row: Mapping[str, Any], corpus: Corpus, names: Counter[str]
) -> Iterator[Item]:
    fields = fields_of(row)
    audio, text = _audio(row, fields), fields.get("text")
    if "text" not in fields and TEXT_FILE.fullmatch(audio or ""):
        yield _text_file(path, row, fields, corpus)
        return
    if text is not None and not isinstance(text, str):
        raise ValueError(f"text is {text!r:.80}; needed: a string")
    if not audio and (text is None or fields.get("audio") == "" or _is_null_sound(row)):
        audio = _sound_of_id(fields, path, corpus)
        if audio is None:
            raise ValueError(
                f"no sound file among {', '.join(map(str, row))}; needed: 'audio', or 'text' alone"
            )
    elif not audio and "id" in fields:
        audio = _sound_of_id(fields, path, corpus)
    yield from _utterances(path, number, row, fields, audio, corpus, names)


def _is_null_sound(row: Mapping[str, Any]) -> bool:
    return any(value is None and "audio" in fields_of({column: ""}) for column, value in row.items())


def _audio(row: Mapping[str, Any], fields: Mapping[str, Any]) -> str | None:
    audio = fields.get("audio")
    if isinstance(audio, Mapping):
        audio = audio.get("path")
    if audio is not None and not isinstance(audio, str):
        raise ValueError(f"audio is {audio!r:.80}; needed: a string")
    if not audio or "text" not in fields or Path(audio).suffix.lower() in ("", *SOUND_SUFFIXES):
        return audio or None
    # A `path` to a page or a book is where a text comes from, and no sound.
    elsewhere = any(value == audio and column.lower() in ANY_FILE for column, value in row.items())
    return None if elsewhere else audio


def _sound_of_id(fields: Mapping[str, Any], path: Path, corpus: Corpus) -> str | None:
    name = str(fields.get("id") or "")
    return name if name and corpus.find_sound(name, path.parent, corpus.folder) else None


def _utterances(
    path: Path,
    number: int,
    row: Mapping[str, Any],
    fields: Mapping[str, Any],
    audio: str | None,
    corpus: Corpus,
    names: Counter[str],
) -> Iterator[Item]:
    if audio is not None:
        refuse_unknown_times(row)
    start_s, end_s = times_of(fields)
    name = audio if audio is not None else f"{path.name}:{number}"
    origin = origin_of(Path(name).stem) if audio is not None else Origin()
    cut = (
        ""
        if start_s is None and end_s is None
        else f":{start_s or 0:.3f}-{'' if end_s is None else format(end_s, '.3f')}"
    )
    own = word_of(fields, "id")
    if not own:
        names[name + cut] += 1
        own = name + cut + (f"#{names[name + cut]}" if names[name + cut] > 1 else "")
    sound = None
    if audio is not None:
        sound = corpus.find_sound(audio, path.parent, corpus.folder) or path.parent / audio
    words = _words(path, number, row, corpus)
    item = Item(
        id=f"{corpus.source}/{own}",
        recording=f"{corpus.source}/{word_of(fields, 'recording', origin.recording or name)}",
        audio=sound,
        start_s=start_s,
        end_s=end_s,
        told_duration_s=duration_of(fields) if start_s is None and end_s is None else None,
        text=fields.get("text"),
        speaker=word_of(fields, "speaker", origin.speaker),
        language=word_of(fields, "language", origin.language),
        source=corpus.source,
        licence=word_of(fields, "licence"),
        words=words,
        words_source=str(row.get("words_source") or row.get("engine") or "list") if words else "",
        fields=split_at(corpus.inside(path)) | dict(row),
    )
    if item.audio is None or (item.text or "").strip():
        yield item
    else:
        yield from with_transcript(item, corpus)


def _words(path: Path, number: int, row: Mapping[str, Any], corpus: Corpus) -> tuple[WordSpan, ...]:
    """Its words with their times. Where those are none the row does without, and that is said."""
    try:
        return words_of(row)
    except ValueError as error:
        corpus.note(f"{path.name}, line {number}: {error}; its words have no times")
        return ()


def _text_file(path: Path, row: Mapping[str, Any], fields: Mapping[str, Any], corpus: Corpus) -> Item:
    name = str(fields["audio"])
    text, problem = read_document(path.parent / name)
    corpus.use([path.parent / name])
    return Item(
        id=f"{corpus.source}/{name}",
        text=text,
        problem=problem,
        language=str(fields.get("language") or ""),
        source=corpus.source,
        licence=str(fields.get("licence") or ""),
        fields=row,
    )


def note_unread_columns(path: Path, items: list[Item], corpus: Corpus) -> None:
    """Where no row has a transcript, note the columns of unknown names: those with several words may be one."""
    if any(item.text for item in items):
        return
    columns = _texts_unread(items, words=2)
    if columns:
        corpus.leave_part(f"columns {', '.join(columns)} of {path.name} (call the one with texts `text`)")
    elif others := _texts_unread(items, words=1):
        corpus.note(f"{path}: columns {', '.join(others)} are taken for no transcript")


def _texts_unread(items: list[Item], words: int) -> list[str]:
    """Columns of unknown names in which half of the rows hold so many words."""
    counts = Counter(
        str(column)
        for item in items
        for column, value in item.fields.items()
        if isinstance(value, str) and len(value.split()) >= words and field_of(str(column)) is None
    )
    return [column for column, count in counts.items() if 2 * count >= len(items)]


def without_repeats(items: Iterable[Item], corpus: Corpus) -> Iterator[Item]:
    """The items but for those that an earlier list had alike: the same part of the same sound with the same text."""
    seen: set[object] = set()
    repeats = 0
    for item in items:
        what = (item.audio, item.start_s, item.end_s, item.text)
        if item.problem is None and item.audio is not None and what in seen:
            repeats += 1
            continue
        seen.add(what)
        yield item
    if repeats:
        corpus.note(f"{corpus.name}: {repeats} rows say what an earlier row said, counted once")
