"""Voices to speak with: uploaded once, used by name."""

import logging
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError, SodakitError, first_line
from sodakit.files import digest
from sodakit.generate.long_form import voice_spans
from sodakit.generate.speech_model import SpeechModel, VoiceSample, consent_state
from sodakit.generate.voice_file import KeptVoice, read_voice, write_voice
from sodakit.serve.problems import Problem, not_stored
from sodakit.tokens.documents import Span

logger = logging.getLogger("sodakit.serve")

DEFAULT = "default"
STOCK = ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse")  # fmt: skip
"""Names that OpenAI's clients know. Here each is whatever voice the model picks from a seed of its own."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")


@dataclass(frozen=True)
class Voice:
    """A voice on the shelf."""

    name: str
    text: str
    duration_s: float
    created: int
    """Seconds since 1970."""
    spans: tuple[Span, ...] = field(repr=False)
    """The sample as it stands in prompts."""
    consent: str | None = field(default=None, repr=False)
    """A note of who agreed to its use."""

    def to_plain(self) -> dict[str, Any]:
        """What clients are told."""
        return {
            "id": self.name,
            "object": "audio.voice",
            "name": self.name,
            "text": self.text,
            "duration_s": round(self.duration_s, 3),
            "created_at": self.created,
            "consent": consent_state(self.consent),
        }


class Voices:
    """The shelf. With a folder, voices outlive the server: a sound and a JSON file each, named by digest."""

    def __init__(self, model: SpeechModel, most: int, folder: Path | None = None) -> None:
        self._model, self._most, self._folder = model, most, folder
        self._voices: dict[str, Voice] = {}
        self._lock = threading.Lock()
        if folder:
            self._read_all(folder)

    def _read_all(self, folder: Path) -> None:
        """Put the folder's voices on the shelf; one that cannot be read is named and skipped."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"voices={folder} cannot be made ({error.strerror}). Name another folder."
            ) from error
        for path in sorted(folder.glob("*.json")):
            try:
                voice = self._read(path)
            except (OSError, ValueError, KeyError, TypeError, RecursionError, SodakitError) as error:
                reason = first_line(error)
                logger.warning(
                    "Skipped the voice in %s: %s Upload it again, or delete the file.", path, reason
                )
            else:
                self._voices[voice.name] = voice

    def _read(self, path: Path) -> Voice:
        kept = read_voice(path)
        self.check_name(kept.name)
        return self._voice(kept.name, kept.sample, kept.created)

    def add(self, name: str, sample: VoiceSample) -> Voice:
        """Put a voice on the shelf, in place of one of the same name.

        Raises:
            Problem: a name that is none, or a full shelf.
        """
        self.check_name(name)
        voice = self._voice(name, sample, int(time.time()))
        with self._lock:
            if name not in self._voices and len(self._voices) >= self._most:
                raise Problem(
                    409,
                    f"{self._most} voices are kept already, the most allowed here. Delete one.",
                    code="too_many_voices",
                )
            # On disk first: what is listed outlives the server.
            if self._folder:
                self._write(voice, sample)
            self._voices[name] = voice
        return voice

    def remove(self, name: str) -> None:
        """Take a voice off the shelf.

        Raises:
            Problem: there is none of that name.
        """
        with self._lock:
            if name not in self._voices:
                raise self._unknown(name)
            if self._folder:
                for suffix in (".json", ".flac"):
                    self._path(name, suffix).unlink(missing_ok=True)
            del self._voices[name]

    def all(self) -> list[Voice]:
        """Every voice, oldest first."""
        with self._lock:
            return sorted(self._voices.values(), key=lambda v: v.created)

    def find(self, name: str) -> tuple[tuple[Span, ...], int, str | None]:
        """The spans to put before a text, what to add to the seed, and the note of consent.

        Raises:
            Problem: no voice of that name.
        """
        with self._lock:
            if name in self._voices:
                return self._voices[name].spans, 0, self._voices[name].consent
        if name == DEFAULT:
            return (), 0, None
        if name in STOCK:
            return (), 1_000_003 * (1 + STOCK.index(name)), None
        raise self._unknown(name)

    def check_name(self, name: str) -> None:
        """Raise unless `name` can name a voice.

        Raises:
            Problem: it cannot.
        """
        if not _NAME.fullmatch(name) or name == DEFAULT or name in STOCK:
            raise Problem(
                400,
                f"{name[:80]!r} cannot name a voice; needed: 1 to 64 letters, digits, spaces, dots, dashes or "
                "underscores, and not one of the built-in names.",
                code="invalid_voice_name",
                param="name",
            )

    def _voice(self, name: str, sample: VoiceSample, created: int) -> Voice:
        spans = voice_spans(self._model, sample)
        return Voice(name, sample.text, sample.wave.duration_s, created, spans, sample.consent)

    def _write(self, voice: Voice, sample: VoiceSample) -> None:
        try:
            write_voice(self._path(voice.name, ".json"), KeptVoice(voice.name, sample, voice.created))
        except (OSError, RuntimeError) as error:
            if voice.name not in self._voices:  # a sound alone would lie there for ever
                self._path(voice.name, ".flac").unlink(missing_ok=True)
            raise not_stored("The voice", error) from error

    def _path(self, name: str, suffix: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{digest(name)}{suffix}"

    def _unknown(self, name: str) -> Problem:
        known = [v.name for v in self._voices.values()]
        return Problem(
            404,
            f"No voice {name[:80]!r}. Here are: {', '.join([DEFAULT, *known[:20]])}. "
            "Upload one: POST /v1/audio/voices.",
            code="voice_not_found",
            param="voice",
        )


def check_sample(wave: Wave, longest_s: float) -> None:
    """Raise if a voice sample is too long.

    Raises:
        Problem: longer than `longest_s`.
    """
    if wave.duration_s > longest_s:
        raise Problem(
            400,
            f"The voice sample lasts {wave.duration_s:.1f} s; at most {longest_s:.1f} s fit before a text here. Cut it.",
            code="voice_too_long",
            param="file",
        )
