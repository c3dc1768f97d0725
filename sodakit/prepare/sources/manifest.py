"""A folder with `manifest.jsonl`: one JSON object a line, one utterance each.

{"audio": "audio/a.wav", "text": "hello", "speaker": "p1", "language": "en"}
{"audio_filepath": "b.flac", "offset": 1.5, "duration": 2.0, "text": "a part of a file"}
{"text": "a document without sound"}
{"file": "books/c.txt.gz"}
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.rows import bad_row, read_document, read_lines, seconds

ALIASES = {
    "audio": ("audio", "audio_filepath", "wav", "path", "file_name"),
    "text": ("text", "sentence", "transcript", "transcription"),
    "id": ("id", "utt_id", "utterance_id"),
    "recording": ("recording", "recording_id", "session"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "language": ("language", "lang", "locale"),
    "licence": ("licence", "license"),
    "start_s": ("start_s", "start", "offset"),
    "end_s": ("end_s", "end"),
}
"""What each field may be called; the first that is there and not null counts."""

TEXT_FILE = re.compile(r".+\.txt(\.gz|\.zstd?)?")
"""A `file` of a manifest that holds a text."""


def read_manifest(path: Path | str, source: str) -> Iterator[Item]:
    """The items of a manifest. A line that cannot be read gives an item with a `problem`.

    Args:
        path: the manifest; sound files are looked for beside it.
        source: name of the corpus, the first part of every id.
    """
    path = Path(path)
    for number, line in read_lines(path):
        try:
            yield _item(path, number, _object(line), source)
        except ValueError as error:
            yield bad_row(path, number, source, str(error))


def _object(line: str | None) -> dict[str, Any]:
    if line is None:
        raise ValueError("not UTF-8")
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg}, column {error.colno})") from error
    if not isinstance(row, dict):
        raise ValueError(f"a JSON {type(row).__name__}; needed: an object")
    return row


def _item(path: Path, number: int, row: Mapping[str, Any], source: str) -> Item:
    audio, text = find_field(row, "audio"), find_field(row, "text")
    if audio is None and text is None and TEXT_FILE.fullmatch(str(row.get("file"))):
        return _text_file(path, row, source)
    for name, value in (("audio", audio), ("text", text)):
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name} is {value!r}; needed: a string")
    if not audio and (text is None or any(name in row for name in ALIASES["audio"])):
        raise ValueError(f"no sound file among {', '.join(row)}; needed: 'audio', or 'text' alone")
    start_s, end_s = _times(row)
    name = audio if audio is not None else f"{path.name}:{number}"
    cut = "" if start_s is None else f":{start_s:.3f}-{'' if end_s is None else format(end_s, '.3f')}"
    return Item(
        id=f"{source}/{find_field(row, 'id') or name + cut}",
        recording=f"{source}/{find_field(row, 'recording') or name}",
        audio=None if audio is None else path.parent / audio,
        start_s=start_s,
        end_s=end_s,
        text=text,
        speaker=str(find_field(row, "speaker") or ""),
        language=str(find_field(row, "language") or ""),
        source=source,
        licence=str(find_field(row, "licence") or ""),
        fields=row,
    )


def _text_file(path: Path, row: Mapping[str, Any], source: str) -> Item:
    text, problem = read_document(path.parent / row["file"])
    return Item(
        id=f"{source}/{row['file']}",
        text=text,
        problem=problem,
        language=str(find_field(row, "language") or ""),
        source=source,
        licence=str(find_field(row, "licence") or ""),
        fields=row,
    )


def _times(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    start_s, end_s = seconds(find_field(row, "start_s")), seconds(find_field(row, "end_s"))
    if start_s is not None and end_s is None:
        # `duration` alone is the length of the file; with a start it is that of the part.
        duration_s = seconds(row.get("duration_s", row.get("duration")))
        end_s = None if duration_s is None else start_s + duration_s
    return start_s, end_s


def find_field(row: Mapping[str, Any], field: str) -> Any:
    """The value of a field under any of its names in `ALIASES`; None where it has none."""
    return next((row[name] for name in ALIASES[field] if row.get(name) is not None), None)
