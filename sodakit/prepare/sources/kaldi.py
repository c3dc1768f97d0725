"""A Kaldi data folder: `wav.scp`, and where there are any `segments`, `text`, `utt2spk`, `utt2lang`."""

from collections.abc import Iterator
from pathlib import Path

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.rows import bad_row, has_rows, read_lines


def kaldi_files(folder: Path) -> list[Path]:
    """Its tables; [] where `wav.scp` is not there or empty."""
    names = ("wav.scp", "segments", "text", "utt2spk", "utt2lang")
    return (
        [folder / name for name in names if (folder / name).is_file()] if has_rows(folder / "wav.scp") else []
    )


def read_kaldi(folder: Path | str, source: str) -> Iterator[Item]:
    """The items of a Kaldi folder, one for each segment, or for each recording where there are no segments.

    Commands in `wav.scp` (`sph2pipe … |`) are never run: such a recording goes to quarantine.
    """
    folder = Path(folder)
    texts, speakers, languages = (_table(folder / name) for name in ("text", "utt2spk", "utt2lang"))
    sounds, bad = _sounds(folder, source)
    yield from bad
    segments = _segments(folder, source) if (folder / "segments").is_file() else _whole(sounds)
    for segment in segments:
        if isinstance(segment, Item):
            yield segment
            continue
        name, recording, start_s, end_s = segment
        audio = sounds.get(recording, f"{recording} is not in wav.scp")
        yield Item(
            id=f"{source}/{name}",
            recording=f"{source}/{recording}",
            audio=audio if isinstance(audio, Path) else None,
            problem=audio if isinstance(audio, str) else None,
            start_s=start_s,
            end_s=end_s,
            text=texts.get(name),
            speaker=speakers.get(name, ""),
            language=languages.get(name, ""),
            source=source,
        )


Segment = tuple[str, str, float | None, float | None]


def _table(path: Path) -> dict[str, str]:
    """The first word of each line, and the rest of it."""
    if not path.is_file():
        return {}
    rows = (line.strip().split(maxsplit=1) for _, line in read_lines(path) if line)
    return {row[0]: row[1] if len(row) > 1 else "" for row in rows}


def _sounds(folder: Path, source: str) -> tuple[dict[str, Path | str], list[Item]]:
    """File of each recording, or why it has none; and the lines nobody can use."""
    sounds: dict[str, Path | str] = {}
    bad = []
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
    return sounds, bad


def _segments(folder: Path, source: str) -> Iterator[Segment | Item]:
    path = folder / "segments"
    for number, line in read_lines(path):
        try:
            name, recording, start_s, end_s = (line or "").split()
            # Kaldi writes -1 for "to the end".
            yield name, recording, float(start_s), None if float(end_s) < 0 else float(end_s)
        except ValueError:
            yield bad_row(path, number, source, "needed: utterance, recording, start and end in seconds")


def _whole(sounds: dict[str, Path | str]) -> Iterator[Segment | Item]:
    for name in sounds:
        yield name, name, None, None
