"""A voice in a file: who it is, what is said in its sample, and who agreed to its use.

Two files of one name: `anna.json` with `name`, `text`, `created` (seconds since 1970) and `consent` (a note, or null), and
`anna.flac` with the sound. The command and the server write and read the same; files of before there were notes are read as
voices of which no consent is stated.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

from sodakit.audio.files import read_wave, write_wave
from sodakit.errors import AudioError
from sodakit.files import read_json, write_json
from sodakit.generate.speech_model import VoiceSample

SUFFIX = ".json"


@dataclass(frozen=True)
class KeptVoice:
    """A voice sample with a name."""

    name: str
    sample: VoiceSample = field(repr=False)
    created: int = field(default_factory=lambda: int(time.time()))
    """Seconds since 1970."""


def write_voice(path: Path, voice: KeptVoice) -> None:
    """Write `path` (.json) and the sound beside it. The sound comes first: a voice is listed by its .json.

    Raises:
        AudioError: another suffix.
    """
    if path.suffix != SUFFIX:
        raise AudioError(f"{path} names no voice's file. Use a name that ends in {SUFFIX}.")
    sample = voice.sample
    write_wave(path.with_suffix(".flac"), sample.wave)
    plain = {"name": voice.name, "text": sample.text, "created": voice.created, "consent": sample.consent}
    write_json(path, plain)


def read_voice(path: Path) -> KeptVoice:
    """The voice of a .json file.

    Raises:
        AudioError: it is none, or its sound cannot be read.
        ConfigError: no JSON.
    """
    try:
        plain = read_json(path)
    except OSError as error:
        raise AudioError(f"{path} cannot be read ({error.strerror}).") from error
    plain = plain if isinstance(plain, dict) else {}
    name, text, created = plain.get("name"), plain.get("text"), plain.get("created")
    consent = plain.get("consent")
    if not (
        isinstance(name, str)
        and isinstance(text, str)
        and isinstance(created, int)
        and isinstance(consent, str | None)
    ):
        raise AudioError(f"{path} is no voice's file: it holds no name, text and time.")
    return KeptVoice(name, VoiceSample(read_wave(path.with_suffix(".flac")), text, consent), created)
