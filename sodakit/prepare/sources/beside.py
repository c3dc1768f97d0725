"""The transcript of a sound in a file beside it: one utterance, or one for each time that the file tells."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sodakit.errors import ConfigError
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.columns import fields_of, word_of
from sodakit.prepare.sources.corpus import Corpus, ending_of
from sodakit.prepare.sources.rows import MAX_LINE_BYTES, open_packed
from sodakit.prepare.sources.transcripts import (
    BROKEN,
    Transcript,
    is_timed_whole,
    is_untimed,
    joined,
    parse_transcript,
)
from sodakit.tokens.words import shifted


def with_transcript(item: Item, corpus: Corpus) -> Iterator[Item]:
    """The item with what the files beside its sound say; the item itself where there are none.

    A transcript with times gives an item for each utterance, all of one recording. A damaged file is the item's
    problem.
    """
    assert item.audio is not None
    found = corpus.beside(item.audio)
    for place, path in enumerate(found):
        try:
            _check_alone(path, found[place + 1 :], item.audio)
            transcript = read_transcript(path)
        except ValueError as error:
            corpus.use([path])
            yield replace(item, problem=f"{path.name}: {error}", reason=BROKEN)
            return
        if transcript is not None and transcript.utterances:
            corpus.use([path])
            corpus.has_transcripts = True
            yield from utterances(item, _with_times(transcript, found[place + 1 :], corpus))
            return
        corpus.leave(path, "no transcript in it")
        if transcript is not None:
            (item,) = utterances(item, transcript)
    yield item


def _with_times(transcript: Transcript, others: list[Path], corpus: Corpus) -> Transcript:
    """The transcript of a whole sound, with the times of its words where a later file beside it tells them.

    A file that cannot be read has none: the text does without.
    """
    for path in others if is_untimed(transcript) else ():
        try:
            told = read_transcript(path)
        except ValueError as error:
            corpus.leave(path, str(error))
            continue
        if told is not None and is_timed_whole(told):
            corpus.use([path])
            return joined(transcript, told)
    return transcript


def _check_alone(path: Path, others: list[Path], sound: Path) -> None:
    """Raise where another file of the same kind has as good a claim: talk.de.vtt and talk.en.vtt.

    Raises:
        ValueError: there is one.
    """
    ending = ending_of(path) or ""
    rivals = [p.name for p in others if ending_of(p) == ending]
    if rivals and len(path.name) != len(sound.stem) + len(ending):
        raise ValueError(
            f"{', '.join(rivals)} may be its transcript too; keep one, or call it {sound.stem}{ending}"
        )


def read_transcript(path: Path) -> Transcript | None:
    """What a file beside a sound says; None if it is no transcript.

    Raises:
        ValueError: damaged.
    """
    try:
        with open_packed(path) as handle:
            content = handle.read(MAX_LINE_BYTES + 1)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    if len(content) > MAX_LINE_BYTES:
        raise ValueError(f"longer than {MAX_LINE_BYTES} bytes; cut it into several files")
    # TIMIT puts sample numbers before the words, and phones and words with theirs beside.
    labels = {path.with_suffix(suffix) for suffix in (".PHN", ".phn", ".WRD", ".wrd")}
    return parse_transcript(ending_of(path) or "", content, any(p.is_file() for p in labels))


def utterances(item: Item, transcript: Transcript) -> Iterator[Item]:
    """An item for each utterance of a transcript; a part of the sound where it has times."""
    about = fields_of(transcript.fields)
    try:
        named: dict[str, Any] = {
            name: getattr(item, name) or word_of(about, name) for name in ("speaker", "language", "licence")
        }
    except ValueError as error:
        yield replace(item, problem=f"what is said of it: {error}", reason=BROKEN)
        return
    item = replace(
        item,
        **named,
        fields={**transcript.fields, **item.fields},
    )
    if not transcript.utterances:
        yield item
    for part in transcript.utterances:
        speaker = part.speaker or item.speaker
        words = shifted(part.words, item.start_s or 0.0)
        if part.start_s is None and part.end_s is None:
            told: dict[str, Any] = {"words": words, "words_source": part.words_source} if words else {}
            yield replace(item, text=part.text, speaker=speaker, **told)
            continue
        start_s = (item.start_s or 0.0) + (part.start_s or 0.0)
        end_s = None if part.end_s is None else (item.start_s or 0.0) + part.end_s
        name = f"{item.id}:{start_s:.3f}-{'' if end_s is None else format(end_s, '.3f')}"
        yield replace(
            item,
            id=name,
            start_s=start_s,
            end_s=end_s,
            text=part.text,
            speaker=speaker,
            words=words,
            words_source=part.words_source,
        )
