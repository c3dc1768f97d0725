"""What is said in a sound and when, read from the files that programs write beside it.

a.srt, a.vtt                        subtitles: an utterance each; WebVTT may tell the time of each word
a.TextGrid                          Praat, the Montreal aligner: a tier of words, or of utterances by speaker
a.json                              {"text": …}; {"segments": [{"start", "end", "text", "words"}]} (Whisper);
                                    {"alignments": [["word", [0.1, 0.5], "SPEAKER_MAIN"]]} (moshi)
a.ctm                               a word a line: name, channel, start, duration, word, confidence
a.txt, a.lab, a.trn                 the words alone; or labels of Audacity: start, end and words, apart by tabs
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sodakit.files import parse_json
from sodakit.prepare.sources.columns import clock_s, fields_of, refuse_unknown_times, seconds, times_of
from sodakit.prepare.sources.rows import decode
from sodakit.prepare.sources.subtitles import Utterance, cues
from sodakit.prepare.sources.textgrid import tiers
from sodakit.voices.contract import WordSpan


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
ENDINGS = (*TIMED, *PLAIN, ".json", ".textgrid", ".ctm")
"""Everything that is read beside a sound, the first first."""
KINDS = {".vtt": "WebVTT", ".json": "JSON", ".textgrid": "TextGrid", ".ctm": "CTM"}
"""Those of them that may tell the times of words."""

_LABELS = re.compile(r"(\d+(\.\d+)?\s+\d+(\.\d+)?\s+\S+\s*)+")
_TIMIT = re.compile(r"\d+ \d+ (?=\D)")
_CUE_TIME = re.compile(r"^\s*(\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}\s*-->", re.MULTILINE)
_AUDACITY = re.compile(r"(\d+([.,]\d+)?|\\)\t\d+([.,]\d+)?\t.*")
_FILE_NAME = re.compile(r"\S*[/\\]\S+\.(txt|trn|lab|wav|flac)")
_PINYIN = re.compile(r"[a-züêv:]+[1-5]")
_PHONES = (
    "phone",
    "phon",
    "syll",
    "segment",
    "mau",
    "kan",
    "pitch",
    "tone",
    "point",
    "ipa",
    "pinyin",
    "romaji",
)
_ABOUT = ("note", "comment", "remark", "translat", "gloss", "meta", "event", "noise", "topic", "pos", "lemma")
"""What tiers are called that say something else than what is heard."""
_SAID = ("transcri", "text", "utteranc", "sentence")
"""What tiers are called beside which others tell no words."""


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
    found = _parsed(ending, text, sample_numbers)
    if found is None or not any(utterance.words for utterance in found.utterances):
        return found
    named = (replace(u, words_source=KINDS[ending]) if u.words else u for u in found.utterances)
    return replace(found, utterances=tuple(named))


def joined(known: Transcript, found: Transcript) -> Transcript:
    """What two files beside one sound say of it: the words of the first that has any, the fields of both.

    Where the first tells no times, those of the second count: an aligner writes them beside the text it was given.
    """
    utterances = known.utterances or found.utterances
    if known.utterances and is_untimed(known) and is_timed_whole(found):
        told = found.utterances[0]
        utterances = (replace(known.utterances[0], words=told.words, words_source=told.words_source),)
    return Transcript(utterances, {**found.fields, **known.fields})


def is_untimed(transcript: Transcript) -> bool:
    """Whether it is the text of a whole sound and tells no times."""
    return len(transcript.utterances) == 1 and _is_whole(transcript) and not transcript.utterances[0].words


def is_timed_whole(transcript: Transcript) -> bool:
    """Whether it is the text of a whole sound and tells when each word is said."""
    return len(transcript.utterances) == 1 and _is_whole(transcript) and bool(transcript.utterances[0].words)


def _is_whole(transcript: Transcript) -> bool:
    return all(u.start_s is None and u.end_s is None for u in transcript.utterances)


def _parsed(ending: str, text: str, sample_numbers: bool) -> Transcript | None:
    if ending in TIMED:
        return Transcript(tuple(cues(text)))
    if ending == ".textgrid":
        return _textgrid(text)
    if ending == ".json":
        return transcript_of(parse_json(text))
    if ending == ".ctm":
        words = [word for spoken in ctm_words(text.splitlines()).values() for word in spoken]
        return _of_words(words) if words else None
    if ending == ".lab" and _LABELS.fullmatch(text):
        return None  # phones with their times
    if _CUE_TIME.search(text):
        return Transcript(tuple(cues(text)))
    if text and all(map(_AUDACITY.fullmatch, text.splitlines())):
        return Transcript(tuple(_labels(text)))
    return Transcript(
        (Utterance(_words_alone(ending, _TIMIT.sub("", text, count=1) if sample_numbers else text)),)
    )


def _words_alone(ending: str, text: str) -> str:
    """The text of a file that holds a text and no more.

    Raises:
        ValueError: it holds the name of another file, or several lines in a `.trn`, of which only one is the text.
    """
    if text.startswith("version https://git-lfs"):
        raise ValueError("a pointer of Git LFS and no text. Fetch it: git lfs pull")
    if _FILE_NAME.fullmatch(text):
        raise ValueError(
            f"holds the name of a file, {text[:80]}, and no text. Copy that file here, or leave it out"
        )
    first, *others = text.splitlines() or [""]
    if ending == ".trn" and others:
        if not all(_PINYIN.fullmatch(word) for word in others[0].split()):
            raise ValueError(f"{1 + len(others)} lines; needed: one")
        return first.strip()  # as THCHS-30: characters, then their pinyin, then its parts
    return text


def _labels(text: str) -> Iterator[Utterance]:
    """The labels of Audacity; lines that begin with a backslash tell frequencies."""
    for line in text.splitlines():
        start, end, said = line.split("\t", 2)
        if start == "\\":
            continue
        start_s, end_s = clock_s(start), clock_s(end)
        if end_s <= start_s:
            raise ValueError(f"a label at {start} s that has no length; needed: where it ends")
        if said.strip():
            yield Utterance(said.strip(), start_s, end_s)


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
        words = [_word(row[0], row[1]) for row in map(_aligned, value["alignments"])]
        return replace(_of_words(words), fields=value)
    segments = value.get("segments")
    if isinstance(segments, list) and segments and all(isinstance(row, Mapping) for row in segments):
        said = tuple(_segment(row) for row in segments)
        if len(said) > 1 and any(part.start_s is None for part in said):
            raise ValueError(f"segments with {', '.join(map(str, segments[0]))}; needed: start, end and text")
        return Transcript(said, value)
    fields = fields_of(value)
    text = fields.get("text")
    if text is None:
        return Transcript((), value)
    if not isinstance(text, str):
        raise ValueError(f"text is {text!r:.80}; needed: a string")
    said_by = str(fields.get("speaker") or "")
    return Transcript((Utterance(text.strip(), speaker=said_by, words=words_of(value)),), value)


def _segment(row: Mapping[str, Any]) -> Utterance:
    fields = fields_of(row)
    text = fields.get("text")
    if not isinstance(text, str):
        raise ValueError(
            f"a segment with {', '.join(map(str, row)) or 'nothing'}; needed: start, end and text"
        )
    refuse_unknown_times(row)
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
        tuple(_word(w.get("word", w.get("text")), (w["start"], w["end"]), _confidence(w)) for w in timed),
    )


def words_of(row: Mapping[str, Any]) -> tuple[WordSpan, ...]:
    """The words with times that a row lists as `words` or `alignments`; () where it lists none, or words alone.

    Raises:
        ValueError: times that are none.
    """
    for name in ("words", "alignments"):
        listed = row.get(name)
        if not isinstance(listed, list) or not listed:
            continue
        if all(isinstance(w, Mapping) and {"start", "end"} <= w.keys() for w in listed):
            rows = ((w.get("word", w.get("text")), (w["start"], w["end"]), _confidence(w)) for w in listed)
            return tuple(_word(*word) for word in rows)
        if name == "alignments" and all(isinstance(w, list) for w in listed):
            return tuple(_word(w[0], w[1]) for w in map(_aligned, listed))
    return ()


def ctm_words(lines: Iterable[str]) -> dict[str, list[WordSpan]]:
    """The words of each recording that a CTM names, in order of time.

    Raises:
        ValueError: a line that is none of it.
    """
    found: dict[str, list[WordSpan]] = {}
    for line in lines:
        if not line.strip() or line.startswith(";;"):
            continue
        parts = line.split()
        try:
            start_s, duration_s = float(parts[2]), float(parts[3])
            sure = float(parts[5]) if len(parts) > 5 and parts[5] != "NA" else None
            end_s = round(start_s + duration_s, 6)
            word = _word(parts[4], (start_s, end_s), sure)
        except (IndexError, ValueError) as error:
            raise ValueError(
                f"{line[:80]!r} is no line of a CTM; needed: name channel start duration word"
            ) from error
        found.setdefault(parts[0], []).append(word)
    return {name: sorted(words, key=lambda word: word.start_s) for name, words in found.items()}


def _of_words(words: list[WordSpan]) -> Transcript:
    """A whole sound that is known word by word."""
    words = sorted(words, key=lambda word: word.start_s)
    return Transcript((Utterance(" ".join(word.word for word in words), words=tuple(words)),))


def _confidence(row: Mapping[str, Any]) -> float | None:
    """How sure a word is, by the names that recognisers give it."""
    for name in ("confidence", "probability", "score"):
        sure = row.get(name)
        if isinstance(sure, (int, float)) and not isinstance(sure, bool) and 0 <= sure <= 1:
            return float(sure)
    return None


def _aligned(row: Any) -> Sequence[Any]:
    if not isinstance(row, list) or len(row) < 2 or not isinstance(row[1], list) or len(row[1]) != 2:
        raise ValueError(f"{row!r:.80} in alignments; needed: [word, [start, end], speaker]")
    return row


def _word(text: object, times_s: Sequence[object], confidence: float | None = None) -> WordSpan:
    start_s, end_s = seconds(times_s[0]), seconds(times_s[1])
    if not isinstance(text, str) or start_s is None or end_s is None:
        raise ValueError(f"a word {text!r:.80} from {start_s} to {end_s}; needed: a text and two times")
    if end_s < start_s:
        raise ValueError(f"a word {text!r:.80} that ends at {end_s:g} s, before it begins")
    return WordSpan(text.strip(), start_s, end_s, confidence)


def _textgrid(text: str) -> Transcript | None:
    found_tiers = list(tiers(text))
    words = [
        (name, rows) for name, rows in found_tiers if "word" in name.lower() or name.lower().startswith("ort")
    ]
    if words:
        found = [WordSpan(said, start_s, end_s) for _, rows in words for start_s, end_s, said in rows]
        return _of_words(found)
    named = [(name, rows) for name, rows in found_tiers if any(part in name.lower() for part in _SAID)]
    said = [
        (n, rows)
        for n, rows in named or found_tiers
        if not any(part in n.lower() for part in _PHONES + _ABOUT)
    ]
    if not any(rows for _, rows in said):
        return None
    several = len(said) > 1
    parts = [
        Utterance(words, start_s, end_s, name if several else "")
        for name, rows in said
        for start_s, end_s, words in rows
    ]
    return Transcript(tuple(sorted(parts, key=lambda part: part.start_s or 0.0)))
