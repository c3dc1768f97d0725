"""What clients send and get, in the shapes of OpenAI's API with a few fields of our own."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sodakit.generate.defaults import SPEECH
from sodakit.generate.long_form import Segment
from sodakit.generate.sampling import Sampling
from sodakit.voices.contract import WordSpan

SoundFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
TextFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
Temperature = Field(SPEECH.temperature, ge=0, le=2)
TopP = Field(SPEECH.top_p, gt=0, le=1)
Seed = Field(0, ge=0, lt=2**62)


SLOWEST_SPEED, FASTEST_SPEED = 0.25, 4.0


def check_letters(text: str) -> str:
    """The text, if it can be written down.

    Raises:
        ValueError: it holds half of a surrogate pair, which JSON can spell and Unicode does not know.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} is half of a surrogate pair; needed: Unicode text"
        ) from None
    return text


class Wanted(BaseModel):
    """What a client sends as JSON: null is the default, and every text can be written down."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def null_is_absent(cls, values: Any) -> Any:
        """OpenAI takes null for whatever may be left out."""
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value is not None}

    @field_validator("*", mode="before")
    @classmethod
    def letters(cls, value: Any) -> Any:
        """Raise for text that no tokenizer takes."""
        return check_letters(value) if isinstance(value, str) else value


class SpeechRequest(Wanted):
    """Text to speak."""

    model: str
    input: str
    voice: str = "default"
    response_format: SoundFormat = "mp3"
    speed: float = 1.0
    """Times as fast as the model speaks, its pitch kept. Seconds elsewhere are those at speed 1."""
    instructions: str | None = None
    """Taken and not followed: the model knows no instructions."""
    stream_format: Literal["audio", "sse"] = "audio"
    seed: int = Seed
    temperature: float = Temperature
    top_p: float = TopP
    max_s: float | None = Field(None, gt=0)
    codes: bool = False
    """With `sse`: send the codes of every chunk too."""

    @field_validator("voice", mode="before")
    @classmethod
    def name_of_voice(cls, value: Any) -> Any:
        """A voice is given by name, or as {"id": name}."""
        return value.get("id") if isinstance(value, dict) else value

    @field_validator("speed")
    @classmethod
    def possible(cls, value: float) -> float:
        """The speed, if it is one."""
        if not SLOWEST_SPEED <= value <= FASTEST_SPEED:
            raise ValueError(f"{value:g}; needed: {SLOWEST_SPEED:g} to {FASTEST_SPEED:g}")
        return value

    @property
    def unused(self) -> set[str]:
        """Fields that were sent and change nothing."""
        return {*(self.model_extra or {}), *(["instructions"] if self.instructions else [])}

    @property
    def sampling(self) -> Sampling:
        """How codes are chosen."""
        return Sampling(temperature=self.temperature, top_p=self.top_p)


Times = Literal["segment", "word", "line"]
"""What is given with its times: pieces of the recording, words, or words in lines of subtitles."""


def verbose(
    segments: list[Segment], duration_s: float, words: Sequence[WordSpan] | None = None
) -> dict[str, Any]:
    """A transcript with its times. Those of segments are those of the pieces the recording was cut into."""
    timed = {} if words is None else {"words": [_word(word) for word in words]}
    return {
        "task": "transcribe",
        "language": "unknown",
        "duration": round(duration_s, 3),
        "text": joined(segments),
        "segments": [
            {
                "id": number,
                "seek": 0,
                "start": round(s.start_s, 3),
                "end": round(s.end_s, 3),
                "text": s.text,
                "tokens": s.ids_T.tolist(),
            }
            for number, s in enumerate(segments)
        ],
        "usage": {"type": "duration", "seconds": round(duration_s)},
    } | timed


def _word(word: WordSpan) -> dict[str, Any]:
    return {"word": word.word, "start": round(word.start_s, 3), "end": round(word.end_s, 3)}


class Cue(Protocol):
    """What a subtitle shows, and when."""

    @property
    def start_s(self) -> float:
        """When it appears."""

    @property
    def end_s(self) -> float:
        """When it goes."""

    @property
    def text(self) -> str:
        """What it says."""


def joined(segments: list[Segment]) -> str:
    """The whole transcript."""
    return " ".join(s.text for s in segments if s.text)


def subtitles(segments: Sequence[Cue], kind: Literal["srt", "vtt"]) -> str:
    """The transcript as SubRip or WebVTT."""
    comma = "," if kind == "srt" else "."
    blocks = [
        f"{number}\n{_clock(s.start_s, comma)} --> {_clock(s.end_s, comma)}\n{s.text}\n"
        for number, s in enumerate(segments, start=1)
    ]
    return ("WEBVTT\n\n" if kind == "vtt" else "") + "\n".join(blocks)


def _clock(time_s: float, comma: str) -> str:
    total_ms = round(time_s * 1000)
    seconds = total_ms // 1000
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{comma}{total_ms % 1000:03d}"
