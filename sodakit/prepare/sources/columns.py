"""What tables, manifests and side files call things: one vocabulary for every reader."""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

NAMES: dict[str, tuple[str, ...]] = {
    "audio": (
        "audio", "audio_filepath", "audio_file", "audio_path", "wav", "wav_path", "wav_file", "wav_filename",
        "path", "file_name", "filename", "file_path", "filepath", "file", "sound", "sound_path", "clip",
        "vocal_path", "audio_file_path", "audio_name", "wav_name", "speech", "mp3", "flac",
    ),
    "text": (
        "text", "sentence", "transcript", "transcription", "normalized_text", "normalised_text", "text_normalized",
        "normalized_transcription", "normalized", "normalised", "raw_text", "raw_transcription", "orig_text",
        "original_text", "transcript_text", "utterance_text", "target_text", "words_text", "txt",
    ),
    "id": ("id", "utt_id", "utterance_id", "utt", "key", "__key__", "segment_id"),
    "recording": ("recording", "recording_id", "session", "session_id", "video_id"),
    "speaker": ("speaker", "speaker_id", "speaker_name", "client_id", "spk", "spk_id", "speakerid", "spkid"),
    "language": ("language", "lang", "locale", "language_code", "lang_code"),
    "licence": ("licence", "license"),
    "start_s": ("start_s", "start", "offset", "start_time", "begin", "begin_time", "start_sec"),
    "end_s": ("end_s", "end", "end_time", "stop", "end_sec"),
    "duration_s": ("duration_s", "duration", "audio_duration", "length_s", "duration_sec", "dur"),
}  # fmt: skip
"""What each field may be called, the likeliest first. Capitals, spaces and hyphens do not matter."""

_KNOWN = {
    name: (field, place) for field, names in reversed(NAMES.items()) for place, name in enumerate(names)
}


@lru_cache(maxsize=4096)
def _known(column: str) -> tuple[str, int] | None:
    return _KNOWN.get(re.sub(r"[\s\-]+", "_", column.strip().lstrip("\ufeff").lower()))


def field_of(column: str) -> str | None:
    """The field that a column of this name holds; None where the name is not known."""
    known = _known(column)
    return known[0] if known else None


def fields_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a row under the names of `NAMES`: of several columns for one, the likeliest that is not empty."""
    found: dict[str, tuple[int, Any]] = {}
    for column, value in row.items():
        known = _known(column) if isinstance(column, str) and value is not None else None
        if known is None:
            continue
        field, place = known
        # An empty value stands back for a full one, and is still there if there is no other.
        place += 1000 * (value == "")
        if field not in found or place < found[field][0]:
            found[field] = place, value
    return {field: value for field, (_, value) in found.items()}


def find_field(row: Mapping[str, Any], field: str) -> Any:
    """The value of one field under any of its names; None where it has none."""
    return fields_of(row).get(field)


def word_of(fields: Mapping[str, Any], field: str, default: str = "") -> str:
    """A field as a word; a number is one too. `default` where it has none.

    Raises:
        ValueError: something else, such as a list.
    """
    value = fields.get(field)
    if value is None or value == "":
        return default
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{field} is {value!r:.80}; needed: a string")
    return str(value)


def words_for(field: str) -> str:
    """The first names of a field, for people."""
    return ", ".join(NAMES[field][:4])


def seconds(value: object) -> float | None:
    """A time in seconds, or None where there is none.

    Raises:
        ValueError: something that is no finite number.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is no time in seconds")
    try:
        time_s = float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{str(value)[:40]!r} is no time in seconds ({error})") from error
    if not math.isfinite(time_s):
        raise ValueError(f"{value!r} is no time in seconds; needed: a finite number")
    return time_s


def times_of(fields: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Where a row's utterance begins and ends in its file; None for the file's own beginning and end.

    A duration without a start is the length of the file and cuts nothing.

    Raises:
        ValueError: a time that is no finite number, or an end before its start.
    """
    start_s, end_s = seconds(fields.get("start_s")), seconds(fields.get("end_s"))
    duration_s = seconds(fields.get("duration_s"))
    if duration_s is not None and duration_s < 0:
        raise ValueError(f"a duration of {duration_s:g} s")
    if start_s is not None and end_s is None and duration_s is not None:
        end_s = start_s + duration_s
    if end_s is not None and end_s < (start_s or 0.0):
        raise ValueError(f"it ends at {end_s:g} s, before it begins")
    return start_s, end_s
