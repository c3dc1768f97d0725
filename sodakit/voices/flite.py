"""flite's voices: the program, one process a text. It tells when each phone ends."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sodakit.audio.files import read_wave
from sodakit.errors import AudioError, ConfigError, nearest
from sodakit.files import digest
from sodakit.voices.contract import PhoneSpan, Speech

USABLE = ("slt", "rms", "awb", "kal16")
"""Those at 16 kHz, of the ones Debian's package has."""

_SECONDS_S = 120
_PHONE = re.compile(r"([a-z]+):(\d+\.\d+)")


@dataclass(frozen=True)
class FliteVoice:
    """A voice inside the program, or the path of a .flitevox file."""

    voice: str

    @property
    def name(self) -> str:
        """For example `flite-slt`."""
        return f"flite-{Path(self.voice).stem}"

    @property
    def engine(self) -> str:
        """flite."""
        return "flite"

    @property
    def languages(self) -> tuple[str, ...]:
        """English."""
        return ("en",)

    @property
    def licence(self) -> str:
        """Of the voices that come with the program."""
        return "BSD-like (CMU)" if self.voice in installed_voices() else "unknown"

    @property
    def fingerprint(self) -> str:
        """Of its name and the program's version."""
        return digest(self.voice, _run([_program(), "--version"]))

    def in_language(self, language: str) -> "FliteVoice":
        """Itself for English."""
        if language.split("-")[0] != "en":
            raise ConfigError(f"{self.name} speaks English, not {language!r}. Choose espeak or kokoro.")
        return self


class FliteEngine:
    """The program flite.

    Raises:
        ConfigError: it is not installed.
    """

    def __init__(self) -> None:
        _program()

    def speak_many(self, items: Iterable[tuple[str, FliteVoice]]) -> Iterator[Speech]:
        """The sound of each text, in order."""
        with tempfile.TemporaryDirectory() as folder:
            for text, voice in items:
                yield _speak(text, voice, Path(folder))

    def close(self) -> None:
        """Nothing runs between texts."""


def installed_voices() -> tuple[str, ...]:
    """The voices inside the program; empty where it is not installed."""
    program = shutil.which("flite")
    return () if program is None else _voices_of(program)


@cache
def _voices_of(program: str) -> tuple[str, ...]:
    """Asked once: each answer is a process."""
    return tuple(_run([program, "-lv"]).split(":")[-1].split())


def _speak(text: str, voice: FliteVoice, folder: Path) -> Speech:
    said, sound = folder / "text", folder / "sound.wav"
    # The program takes a text of one line, and knows no letter beyond Latin-1.
    said.write_text(" ".join(text.split()) + "\n", "utf-8")
    sound.unlink(missing_ok=True)
    if voice.voice not in installed_voices() and not Path(voice.voice).is_file():
        raise ConfigError(
            f"flite has no voice {voice.voice!r}.{nearest(voice.voice, installed_voices(), 'Voices')}"
        )
    told = _run([_program(), "-voice", voice.voice, "-psdur", "-f", str(said), "-o", str(sound)])
    if not re.search(r"[a-zA-Z0-9]", text) or not sound.is_file():
        raise AudioError(f"flite says nothing for {text[:60]!r}. Give it English words.")
    wave = read_wave(sound)
    phones, start_s = [], 0.0
    for phone, end in _PHONE.findall(told):
        end_s = min(float(end), wave.duration_s)
        # Times begin anew with each sentence of a text: those of several are not told.
        if end_s < start_s:
            return Speech(wave)
        phones.append(PhoneSpan(phone, start_s, end_s))
        start_s = end_s
    return Speech(wave, tuple(phones))


def _program() -> str:
    found = shutil.which("flite")
    if found is None:
        raise ConfigError("The voices of flite need the program flite. Install it: apt install flite")
    return found


def _run(words: list[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, timeout=_SECONDS_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise AudioError(f"flite did not answer within {_SECONDS_S} s. Give it shorter texts.") from error
    return done.stdout.decode("utf-8", "replace")
