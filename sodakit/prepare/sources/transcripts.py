"""What is said in a sound and when, read from the files that programs write beside it.

a.srt, a.vtt                        subtitles: an utterance each
a.TextGrid                          Praat, the Montreal aligner: a tier of words, or of utterances by speaker
a.json                              {"text": …}; {"segments": [{"start", "end", "text", "words"}]} (Whisper);
                                    {"alignments": [["word", [0.1, 0.5], "SPEAKER_MAIN"]]} (moshi)
a.txt, a.lab, a.trn                 the words alone
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sodakit.files import parse_json
from sodakit.prepare.sources.columns import fields_of, seconds, times_of
from sodakit.prepare.sources.rows import decode
from sodakit.prepare.sources.textgrid import tiers


@dataclass(frozen=True)
class Word:
    """A word and when it is said."""

    text: str
    start_s: float
    end_s: float
    speaker: str = ""


@dataclass(frozen=True)
class Utterance:
    """What is said in a stretch of a sound."""

    text: str
    start_s: float | None = None
    """None: from the beginning of the sound."""
    end_s: float | None = None
    """None: to its end."""
    speaker: str = ""
    words: tuple[Word, ...] = field(default=(), repr=False)
    """Where the file tells their times."""


@dataclass(frozen=True)
class Transcript:
    """All that a file beside a sound says of it."""

    utterances: tuple[Utterance, ...]
    """In time order; one without times is the whole sound."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else it says, by the file's own names."""


BROKEN = "bad transcript file"
"""What the quarantine counts a damaged file beside a sound as."""

PLAIN = (".normalized.txt", ".txt", ".lab", ".trn", ".original.txt")
"""Endings of files with the words alone; where several lie beside a sound, the first is taken."""
TIMED = (".srt", ".vtt")
ENDINGS = (*TIMED, *PLAIN, ".json", ".textgrid")
"""Everything that is read beside a sound, the first first."""

_LABELS = re.compile(r"(\d+(\.\d+)?\s+\d+(\.\d+)?\s+\S+\s*)+")
_TIMIT = re.compile(r"\d+ \d+ (?=\D)")
_CUE = re.compile(
    r"(?P<start>(\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})\s*-->\s*(?P<end>(\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}).*"
)
_MARKUP = re.compile(r"</?[^<>\n]*>|\{\\[^{}\n]*\}")
_PHONES = ("phone", "phon", "syll", "segment", "mau", "kan", "pitch", "tone", "point")
"""What tiers without words are called."""
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")


def parse_transcript(ending: str, content: bytes, sample_numbers: bool = False) -> Transcript | None:
    """What a file of one of the `ENDINGS` says; None if it is something else than a transcript.

    Args:
        ending: which of them.
        content: the file.
        sample_numbers: the text begins with two sample numbers, as in TIMIT.
    Raises:
        ValueError: it is damaged.
    """
    try:
        text = decode(content)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text ({error.reason} at byte {error.start})") from error
    if ending in TIMED:
        return Transcript(tuple(_cues(text)))
    if ending == ".textgrid":
        return _textgrid(text)
    if ending == ".json":
        return transcript_of(parse_json(text))
    if ending == ".lab" and _LABELS.fullmatch(text):
        return None  # phones with their times
    return Transcript((Utterance(_TIMIT.sub("", text, count=1) if sample_numbers else text),))


def transcript_of(value: Any) -> Transcript | None:
    """What JSON beside a sound says, without utterances where it says nothing of words; None if it is no object.

    Raises:
        ValueError: times or texts that are none.
    """
    if isinstance(value, list) and all(isinstance(row, Mapping) for row in value):
        value = {"segments": value}
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get("alignments"), list):
        words = tuple(_word(row[0], row[1], row[2:]) for row in map(_aligned, value["alignments"]))
        words = tuple(sorted(words, key=lambda word: word.start_s))
        return Transcript((Utterance(" ".join(word.text for word in words), words=words),), value)
    segments = value.get("segments")
    if isinstance(segments, list) and segments and all(isinstance(row, Mapping) for row in segments):
        return Transcript(tuple(_segment(row) for row in segments), value)
    fields = fields_of(value)
    text = fields.get("text")
    if text is None:
        return Transcript((), value)
    if not isinstance(text, str):
        raise ValueError(f"text is {text!r:.80}; needed: a string")
    return Transcript((Utterance(text.strip(), speaker=str(fields.get("speaker") or "")),), value)


def _segment(row: Mapping[str, Any]) -> Utterance:
    fields = fields_of(row)
    text = fields.get("text")
    if not isinstance(text, str):
        raise ValueError(
            f"a segment with {', '.join(map(str, row)) or 'nothing'}; needed: start, end and text"
        )
    start_s, end_s = times_of(fields)
    words = row.get("words") or []
    if not isinstance(words, list):
        raise ValueError(f"words of a segment are {words!r:.80}; needed: a list")
    timed = [w for w in words if isinstance(w, Mapping) and {"start", "end"} <= w.keys()]
    return Utterance(
        text.strip(),
        start_s,
        end_s,
        str(fields.get("speaker") or ""),
        tuple(_word(w.get("word", w.get("text")), (w["start"], w["end"]), ()) for w in timed),
    )


def _aligned(row: Any) -> Sequence[Any]:
    if not isinstance(row, list) or len(row) < 2 or not isinstance(row[1], list) or len(row[1]) != 2:
        raise ValueError(f"{row!r:.80} in alignments; needed: [word, [start, end], speaker]")
    return row


def _word(text: object, times_s: Sequence[object], speaker: Sequence[object]) -> Word:
    start_s, end_s = seconds(times_s[0]), seconds(times_s[1])
    if not isinstance(text, str) or start_s is None or end_s is None:
        raise ValueError(f"a word {text!r:.80} from {start_s} to {end_s}; needed: a text and two times")
    return Word(text.strip(), start_s, end_s, str(speaker[0]) if speaker else "")


def _cues(text: str) -> Iterator[Utterance]:
    """The cues of subtitles. Those of a block without a time, such as notes and styles, are no speech."""
    for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.strip().split("\n")
        place = next((n for n, line in enumerate(lines) if "-->" in line), None)
        if place is None:
            continue
        cue = _CUE.fullmatch(lines[place].strip())
        if cue is None:
            raise ValueError(
                f"{lines[place][:80]!r} is no time of a subtitle; needed: 00:00:01,500 --> 00:00:03,000"
            )
        said = " ".join(lines[place + 1 :])
        voice = _VOICE.search(said)
        words = " ".join(html.unescape(_MARKUP.sub("", said)).split())
        start_s, end_s = _clock_s(cue["start"]), _clock_s(cue["end"])
        if end_s < start_s:
            raise ValueError(f"{lines[place][:80]!r} ends before it begins")
        if words:
            yield Utterance(words, start_s, end_s, voice[1].strip() if voice else "")


def _clock_s(clock: str) -> float:
    *hours, minutes, rest = clock.replace(",", ".").split(":")
    return round(3600 * int(hours[0] if hours else 0) + 60 * int(minutes) + float(rest), 3)


def _textgrid(text: str) -> Transcript | None:
    found_tiers = list(tiers(text))
    words = [
        (name, rows) for name, rows in found_tiers if "word" in name.lower() or name.lower().startswith("ort")
    ]
    if words:
        found = [
            Word(said, start_s, end_s, name.partition(" - ")[0] if " - " in name else "")
            for name, rows in words
            for start_s, end_s, said in rows
        ]
        found.sort(key=lambda word: word.start_s)
        return Transcript((Utterance(" ".join(word.text for word in found), words=tuple(found)),))
    said = [(name, rows) for name, rows in found_tiers if not any(part in name.lower() for part in _PHONES)]
    if not any(rows for _, rows in said):
        return None
    several = len(said) > 1
    parts = [
        Utterance(words, start_s, end_s, name if several else "")
        for name, rows in said
        for start_s, end_s, words in rows
    ]
    return Transcript(tuple(sorted(parts, key=lambda part: part.start_s or 0.0)))
