"""LibriSpeech as it is unpacked: a folder for each speaker and chapter, and a list of transcripts beside the sounds.

test-clean/1089/134686/1089-134686-0000.flac
test-clean/1089/134686/1089-134686.trans.txt        1089-134686-0000 HE HOPED THERE WOULD BE STEW FOR DINNER
"""

import re
from collections.abc import Iterator
from pathlib import Path

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.names import split_of
from sodakit.prepare.sources.rows import bad_row, has_rows, read_lines
from sodakit.prepare.sources.sounds import sounds_by_name, unlisted

ENDING = ".trans.txt"
NAME = re.compile(r"(?P<speaker>\d+)-\d+-\d+")
"""1089-134686-0000: speaker, chapter, utterance. Names of another form tell no speaker and no language."""


def transcript_lists(folder: Path) -> list[Path]:
    """The lists of transcripts below a folder, which may be the corpus, a part of it, a speaker's folder or a chapter's."""
    found = (path for path in folder.rglob(f"*{ENDING}") if not path.name.startswith("."))
    return sorted(path for path in found if has_rows(path))


def read_librispeech(folder: Path | str, source: str) -> Iterator[Item]:
    """The items of all lists below a folder; a chapter is one recording.

    A line without its sound gives an item whose file is missing; a sound without its line, one with a problem.
    `fields["split"]` is what the folder above the speaker's begins with: train, validation (dev) or test.
    """
    folder = Path(folder)
    sounds = sounds_by_name(folder)
    listed = set()
    for path in transcript_lists(folder):
        fields = split_of(path.resolve().parent.parent.parent.name)
        for number, line in read_lines(path):
            if line is None:
                yield bad_row(path, number, source, "not UTF-8")
                continue
            name, _, text = line.strip().partition(" ")
            place, known = path.parent / name, NAME.fullmatch(name)
            listed.add(place)
            yield Item(
                id=f"{source}/{name}",
                recording=f"{source}/{path.name.removesuffix(ENDING)}",
                audio=sounds.get(place, path.parent / f"{name}.flac"),
                text=text.strip(),
                speaker=known["speaker"] if known else "",
                language="en" if known else "",
                source=source,
                fields=fields,
            )
    yield from unlisted(folder, sounds, listed, source, f"a line in SPEAKER-CHAPTER{ENDING} beside it")
