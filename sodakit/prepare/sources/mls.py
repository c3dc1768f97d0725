"""Multilingual LibriSpeech as it is unpacked: transcripts of a whole split, and sounds by speaker and book.

mls_german/test/transcripts.txt                         1171_1285_000000 <tab> die thüre ging auf
mls_german/test/segments.txt                            1171_1285_000000 <tab> http://…/kapitel_01.mp3 <tab> 12.5 <tab> 27.1
mls_german/test/audio/1171/1285/1171_1285_000000.flac   or .opus
"""

from collections.abc import Iterator
from pathlib import Path

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.columns import seconds
from sodakit.prepare.sources.names import split_of
from sodakit.prepare.sources.rows import bad_row, has_rows, read_lines
from sodakit.prepare.sources.sounds import sounds_by_name, unlisted

LISTS, SEGMENTS = "transcripts.txt", "segments.txt"
LANGUAGES = {
    "dutch": "nl", "english": "en", "french": "fr", "german": "de",
    "italian": "it", "polish": "pl", "portuguese": "pt", "spanish": "es",
}  # fmt: skip
"""Languages of the corpus, as its folders are called: mls_german, mls_german_opus."""

Cut = tuple[str, float | None]
"""The recording that an utterance was cut from, and where it began there."""


def split_folders(folder: Path) -> list[Path]:
    """The folders with `transcripts.txt` and `audio/`: the folder itself, or those below it."""
    return sorted(p.parent for p in folder.rglob(LISTS) if (p.parent / "audio").is_dir() and has_rows(p))


def mls_files(folder: Path) -> list[Path]:
    """The lists of its splits."""
    files = [split / name for split in split_folders(folder) for name in (LISTS, SEGMENTS)]
    return [path for path in files if path.is_file()]


def read_mls(folder: Path | str, source: str) -> Iterator[Item]:
    """The items of all splits below a folder, which may be the corpus, a language or a split.

    An utterance belongs to the recording of LibriVox that `segments.txt` says, or else to its speaker and book. A line
    without its sound gives an item whose file is missing; a sound without its line, one with a problem.
    `fields["split"]`: train, validation (dev) or test.
    """
    folder = Path(folder)
    sounds = sounds_by_name(folder)
    listed = set()
    for split in split_folders(folder):
        _, words, *_ = [*split.resolve().parent.name.split("_"), ""]
        cuts = _cuts(split / SEGMENTS)
        for number, line in read_lines(split / LISTS):
            name, tab, text = (line or "").partition("\t")
            speaker, _, rest = name.partition("_")
            book, _, count = rest.partition("_")
            if not (tab and speaker and book and count) or "/" in name:
                problem = "not UTF-8" if line is None else "needed: SPEAKER_BOOK_NUMBER, a tab, and the text"
                yield bad_row(split / LISTS, number, source, problem)
                continue
            place = split / "audio" / speaker / book / name
            listed.add(place)
            recording, at_s = cuts.get(name, ("", None))
            yield Item(
                id=f"{source}/{name}",
                recording=f"{source}/{speaker}_{book}" + (f"/{recording}" if recording else ""),
                audio=sounds.get(place, place.with_name(f"{name}.flac")),
                at_s=at_s,
                text=text.strip(),
                speaker=speaker,
                language=LANGUAGES.get(words, ""),
                source=source,
                fields=split_of(split.resolve().name),
            )
    yield from unlisted(folder, sounds, listed, source, f"a line in {LISTS} of its split")


def _cuts(path: Path) -> dict[str, Cut]:
    """By utterance; {} where there is no such file. A line that is none of its kind tells nothing."""
    found: dict[str, Cut] = {}
    for _, line in read_lines(path) if path.is_file() else ():
        columns = (line or "").split("\t")
        if len(columns) == 4:
            found[columns[0]] = columns[1].rsplit("/", 1)[-1], _start_s(columns[2])
    return found


def _start_s(value: str) -> float | None:
    try:
        return seconds(value.strip())
    except ValueError:
        return None
