"""A Kaldi data folder: `wav.scp`, and where there are any `segments`, `text`, `utt2spk`, `utt2lang`, `ctm`."""

from collections.abc import Iterator
from pathlib import Path

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.columns import seconds
from sodakit.prepare.sources.rows import bad_row, has_rows, read_lines
from sodakit.prepare.sources.transcripts import ctm_words
from sodakit.tokens.words import shifted
from sodakit.voices.contract import WordSpan

TABLES = ("wav.scp", "segments", "text", "utt2spk", "utt2lang")
CTM = "ctm"
"""Words and their times, by utterance, or by recording in its own time."""
OTHERS = (
    CTM,
    "spk2utt",
    "spk2gender",
    "utt2dur",
    "reco2dur",
    "utt2num_frames",
    "feats.scp",
    "cmvn.scp",
    "vad.scp",
)
"""Tables that Kaldi makes of those, or of the sound."""


def kaldi_files(folder: Path) -> list[Path]:
    """Its tables; [] where `wav.scp` is not there or empty."""
    files = [folder / name for name in (*TABLES, *OTHERS) if (folder / name).is_file()]
    return files if has_rows(folder / "wav.scp") else []


def read_kaldi(folder: Path | str, source: str) -> Iterator[Item]:
    """The items of a Kaldi folder, one for each segment, or for each recording where there are no segments.

    Commands in `wav.scp` (`sph2pipe … |`) are never run: such a recording goes to quarantine, as do lines of `text`
    without an utterance.
    """
    folder = Path(folder)
    bad: list[Item] = []
    texts, speakers, languages = (_table(folder / name, source, bad) for name in TABLES[2:])
    timed = _timed(folder / CTM, source, bad)
    sounds = _sounds(folder, source, bad)
    yield from bad
    named = set()
    for segment in _segments(folder, source) if (folder / "segments").is_file() else _whole(sounds):
        if isinstance(segment, Item):
            yield segment
            continue
        name, recording, start_s, end_s = segment
        named.add(name)
        audio = sounds.get(recording, f"{recording} is not in wav.scp")
        words = shifted(timed.get(name, ()), start_s or 0.0) if name in timed else timed.get(recording, ())
        yield Item(
            id=f"{source}/{name}",
            recording=f"{source}/{recording}",
            audio=audio if isinstance(audio, Path) else None,
            problem=audio if isinstance(audio, str) else None,
            start_s=start_s,
            end_s=end_s,
            text=texts.get(name),
            words=tuple(words),
            words_source="CTM" if words else "",
            speaker=speakers.get(name, ""),
            language=languages.get(name, ""),
            source=source,
        )
    for name in sorted(texts.keys() - named):
        problem = f"text has a line for {name}, and neither segments nor wav.scp names it"
        yield Item(id=f"{source}/text:{name}", source=source, problem=problem)


Segment = tuple[str, str, float | None, float | None]


def _table(path: Path, source: str, bad: list[Item]) -> dict[str, str]:
    """The first word of each line, and the rest of it. Lines nobody can read go to `bad`."""
    found: dict[str, str] = {}
    for number, line in read_lines(path) if path.is_file() else ():
        if line is None:
            bad.append(bad_row(path, number, source, "not UTF-8"))
            continue
        name, *rest = line.strip().split(maxsplit=1)
        found[name] = rest[0] if rest else ""
    return found


def _timed(path: Path, source: str, bad: list[Item]) -> dict[str, list[WordSpan]]:
    """The words of a CTM. One that cannot be read goes to `bad`; the utterances do without."""
    try:
        return ctm_words(line or "" for _, line in read_lines(path)) if path.is_file() else {}
    except ValueError as error:
        bad.append(bad_row(path, 0, source, str(error)))
        return {}


def _sounds(folder: Path, source: str, bad: list[Item]) -> dict[str, Path | str]:
    """File of each recording, or why it has none. Lines nobody can use go to `bad`."""
    sounds: dict[str, Path | str] = {}
    path = folder / "wav.scp"
    for number, line in read_lines(path):
        words = (line or "").strip().split(maxsplit=1)
        if len(words) != 2:
            bad.append(bad_row(path, number, source, "needed: a recording's name and its file"))
        elif words[1].rstrip().endswith("|") or words[1].lstrip().startswith("|"):
            sounds[words[0]] = (
                f"wav.scp has a command for {words[0]} ({words[1]}); needed: a file. "
                "Commands are not run: make the files first, for example with `wav-copy`."
            )
        else:
            sounds[words[0]] = folder / words[1]
    return sounds


def _segments(folder: Path, source: str) -> Iterator[Segment | Item]:
    path = folder / "segments"
    for number, line in read_lines(path):
        try:
            name, recording, start, end = (line or "").split()
            start_s, end_s = seconds(start), seconds(end)
            # Kaldi writes -1 for "to the end".
            yield name, recording, start_s, None if (end_s or 0.0) < 0 else end_s
        except ValueError:
            yield bad_row(path, number, source, "needed: utterance, recording, start and end in seconds")


def _whole(sounds: dict[str, Path | str]) -> Iterator[Segment | Item]:
    for name in sounds:
        yield name, name, None, None
