"""What tables, manifests and side files call things: one vocabulary for every reader."""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

NAMES: dict[str, tuple[str, ...]] = {
    "audio": (
        "audio", "audio_filepath", "audio_file", "audio_path", "wav", "wav_path", "wav_file", "wav_filename",
        "path", "file_name", "filename", "file_path", "filepath", "file", "sound", "sound_path", "clip",
        "vocal_path", "audio_file_path", "audio_name", "wav_name", "speech", "mp3", "flac",
        "datei", "dateiname", "audiodatei", "fichier", "nom_fichier", "archivo", "nombre_archivo", "arquivo", "bestand",
        "plik", "файл", "аудио", "音频", "音频路径", "音频文件", "文件", "文件名", "路径", "音声", "音声ファイル", "ファイル", "ファイル名", "오디오",
        "파일", "파일명",
    ),
    "text": (
        "text", "sentence", "transcript", "transcription", "normalized_text", "normalised_text", "text_normalized",
        "normalized_transcription", "normalized", "normalised", "raw_text", "raw_transcription", "orig_text",
        "original_text", "transcript_text", "utterance_text", "target_text", "words_text", "txt",
        "transkript", "transkription", "satz", "texte", "phrase", "transcripción", "transcripcion", "texto", "frase",
        "transcrição", "transcricao", "trascrizione", "testo", "tekst", "текст", "транскрипция", "文本", "文字", "转录", "转写", "句子",
        "テキスト", "書き起こし", "文", "텍스트", "전사", "문장",
    ),
    "id": ("id", "utt_id", "utterance_id", "utt", "key", "__key__", "segment_id"),
    "recording": ("recording", "recording_id", "session", "session_id", "video_id"),
    "speaker": ("speaker", "speaker_id", "speaker_name", "client_id", "spk", "spk_id", "speakerid", "spkid",
        "sprecher", "locuteur", "locutrice", "hablante", "locutor", "falante", "parlante", "spreker", "диктор", "说话人", "话者", "話者", "화자",
    ),
    "language": ("language", "lang", "locale", "language_code", "lang_code"),
    "licence": ("licence", "license"),
    "start_s": ("start_s", "start", "offset", "start_time", "begin", "begin_time", "start_sec", "start_seconds", "onset"),
    "end_s": ("end_s", "end", "end_time", "stop", "end_sec", "end_seconds", "stop_time"),
    "duration_s": ("duration_s", "duration", "audio_duration", "length_s", "duration_sec", "duration_seconds", "dur"),
    "start_ms": ("start_ms", "start_time_ms", "begin_ms", "offset_ms", "start_msec"),
    "end_ms": ("end_ms", "end_time_ms", "stop_ms", "end_msec"),
    "duration_ms": ("duration_ms", "audio_duration_ms", "length_ms", "duration_msec", "dur_ms"),
}  # fmt: skip
"""What each field may be called, the likeliest first. Capitals, spaces and hyphens do not matter."""

_KNOWN = {
    name: (field, place) for field, names in reversed(NAMES.items()) for place, name in enumerate(names)
}


_BEGINS = re.compile(
    r"((audio|segment|utt(erance)?|clip|seg)[_ -])?(start|begin|onset|offset)([_ -]?(time|pos|position))?"
    r"[_ -]?(frames?|samples?|ticks?|us|ns|min|minutes?|hms|tc|timecode|timestamp)?"
)
"""What columns are called that say where an utterance begins in its recording."""


@lru_cache(maxsize=4096)
def _known(column: str) -> tuple[str, int] | None:
    name = re.sub(r"[\s\-]+", "_", unicodedata.normalize("NFC", column).strip().lstrip("\ufeff").lower())
    return _KNOWN.get(re.sub(r"_?[\[(](s|ms|sec|msec)[\])]$", r"_\1", name))  # duration[ms]


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
        time_s = clock_s(value) if isinstance(value, str) else float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{str(value)[:40]!r} is no time in seconds ({error})") from error
    if not math.isfinite(time_s):
        raise ValueError(f"{value!r} is no time in seconds; needed: a finite number")
    return time_s


def clock_s(time: str) -> float:
    """Seconds of a time as people write it: 12.5, 12,5, 1:02.5, 01:02:03,250.

    Raises:
        ValueError: something else; or 1,234, which may be a second or a thousand.
    """
    *clock, rest = time.strip().split(":")
    if not clock and re.fullmatch(r"[1-9]\d{0,2},\d{3}", rest):
        raise ValueError(f"may be {rest.replace(',', '.')} or {rest.replace(',', '')}; write it with a point")
    if clock and (len(clock) > 2 or not all(re.fullmatch(r"\d+", part) for part in (*clock, rest[:1]))):
        raise ValueError("needed: hours:minutes:seconds")
    said_s = float(rest.replace(",", ".") if rest.count(",") == 1 and "." not in rest else rest)
    for place, part in enumerate(reversed(clock), start=1):
        said_s += 60**place * int(part)
    return round(said_s, 6)


def times_of(fields: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Where a row's utterance begins and ends in its file; None for the file's own beginning and end.

    A duration without a start is the length of the file and cuts nothing.

    Raises:
        ValueError: a time that is no finite number, or an end before its start.
    """
    start_s, end_s, duration_s = (_time(fields, name) for name in ("start", "end", "duration"))
    if duration_s is not None and duration_s < 0:
        raise ValueError(f"a duration of {duration_s:g} s")
    if start_s is not None and end_s is None and duration_s is not None:
        end_s = start_s + duration_s
    if end_s is not None and end_s < (start_s or 0.0):
        raise ValueError(f"it ends at {end_s:g} s, before it begins")
    return start_s, end_s


def duration_of(fields: Mapping[str, Any]) -> float | None:
    """How long a row says that its sound is, in seconds.

    Raises:
        ValueError: something that is no finite number.
    """
    return _time(fields, "duration")


def _time(fields: Mapping[str, Any], name: str) -> float | None:
    time_s, time_ms = seconds(fields.get(f"{name}_s")), seconds(fields.get(f"{name}_ms"))
    return time_s if time_s is not None or time_ms is None else time_ms / 1000


def refuse_unknown_times(row: Iterable[object]) -> None:
    """Raise where a row has columns that seem to say where an utterance lies, in a unit that nobody knows.

    Without them a whole recording would go in with the words of a part of it.

    Raises:
        ValueError: it has.
    """
    columns = [str(column) for column in row]
    known = {field_of(column) for column in columns}
    if known & {"start_s", "start_ms"}:
        return
    strange = [
        column for column in columns if field_of(column) is None and _BEGINS.fullmatch(column.strip().lower())
    ]
    if strange:
        raise ValueError(
            f"{', '.join(strange)} may say where it begins; needed: start and end in seconds (start, end), or in "
            "thousandths (start_ms, end_ms)"
        )
