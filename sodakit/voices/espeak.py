"""Text to sound with phone and word times, by espeak-ng in a process of its own.

espeak-ng is a formant synthesiser: hundreds of times faster than real time, the same samples on every run, and it
says which phone sounds when. It is GPL-3 and never enters this process; see `worker.py`.
"""

import importlib.util
import json
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError, MissingExtra
from sodakit.files import digest
from sodakit.voices.contract import PhoneSpan, Speech, WordSpan

# Requests in flight stay well under the 64 KiB of a pipe, so writing never waits for a worker that waits for us.
_MAX_IN_FLIGHT_BYTES = 16_384

LANGUAGE_NAMES = {"en": "en-us", "zh": "cmn", "zh-CN": "cmn", "sv-SE": "sv", "no": "nb"}
"""What espeak-ng calls a language, where it is not the code."""

_WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True, kw_only=True)
class EspeakVoice:
    """How espeak-ng should speak."""

    name: str
    """Our name for it: the speaker in a store."""
    language: str = "en-us"
    """espeak-ng language, for example `en-us`, `en-gb-x-rp`, `es`."""
    variant: str = "f2"
    """espeak-ng voice variant (a speaker); empty for the language's own voice."""
    pitch: int = 50
    """Base pitch, 0 to 99."""
    pitch_range: int = 50
    """Liveliness of the melody, 0 (monotone) to 99."""
    speed_wpm: int = 165
    """Words per minute, 80 to 450."""

    def __post_init__(self) -> None:
        for field, low, high in (("pitch", 0, 99), ("pitch_range", 0, 99), ("speed_wpm", 80, 450)):
            value = getattr(self, field)
            if not low <= value <= high:
                raise ConfigError(f"Voice {self.name}: {field}={value}; use {low} to {high}.")

    @property
    def engine(self) -> str:
        """espeak-ng."""
        return "espeak-ng"

    @property
    def languages(self) -> tuple[str, ...]:
        """The one it is set to; `in_language` gives the others."""
        code = self.language.split("-")[0]
        return ({"cmn": "zh", "nb": "no"}.get(code, code),)

    @property
    def licence(self) -> str:
        """Nobody's: espeak-ng is GPL-3, what it says is not."""
        return "synthetic"

    @property
    def fingerprint(self) -> str:
        """Of its settings."""
        return digest(repr(self))

    def in_language(self, language: str) -> "EspeakVoice":
        """espeak-ng's variants keep their timbre across languages; an English voice keeps its own accent."""
        if language == "en" and self.language.startswith("en"):
            return self
        return replace(self, language=LANGUAGE_NAMES.get(language, language))

    @property
    def espeak_name(self) -> str:
        """The name espeak-ng knows: `en-us+f2`."""
        return f"{self.language}+{self.variant}" if self.variant else self.language


class EspeakEngine:
    """A running espeak-ng. Use it in a `with` block, or `close()` it.

    Raises:
        MissingExtra: the package espeakng-loader is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("espeakng_loader") is None:
            raise MissingExtra("espeakng-loader", "voices", "The built-in speech synthesiser")
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def speak(self, text: str, voice: EspeakVoice) -> Speech:
        """The sound of `text` in `voice`.

        Raises:
            ConfigError: espeak-ng has no such voice.
            AudioError: nothing to say, or the worker died.
        """
        return next(self.speak_many([(text, voice)]))

    def clauses(self, text: str, language: str) -> list[tuple[str, str]]:
        """Each clause of `text` in IPA, with the mark that ends it ('' for none): what other engines read.

        Raises:
            ConfigError: espeak-ng has no such language.
        """
        fields = {"text": text, "voice": LANGUAGE_NAMES.get(language, language), "task": "phonemes"}
        self._send(json.dumps(fields).encode() + b"\n")
        header, _ = self._answer()
        return [(ipa, mark) for ipa, mark in header["clauses"]]

    def speak_many(self, items: Iterable[tuple[str, EspeakVoice]]) -> Iterator[Speech]:
        """The sound of each text in its voice, in order; the worker speaks ahead while the caller works."""
        waiting: deque[tuple[str, int]] = deque()
        in_flight_bytes = 0
        try:
            for text, voice in items:
                request = _request(text, voice)
                while waiting and in_flight_bytes + len(request) > _MAX_IN_FLIGHT_BYTES:
                    text_of_oldest, size = waiting.popleft()
                    in_flight_bytes -= size
                    yield self._receive(text_of_oldest)
                try:
                    self._send(request)
                except AudioError:  # it died of a text before this one: which, its answer says
                    while waiting:
                        yield self._receive(waiting.popleft()[0])
                    raise
                waiting.append((text, len(request)))
                in_flight_bytes += len(request)
            while waiting:
                yield self._receive(waiting.popleft()[0])
        finally:
            # The caller stopped early: answers on their way must not be taken for those to its next request.
            for _ in waiting:
                self._read_answer()

    def close(self) -> None:
        """End the worker."""
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            # What a dead worker did not read cannot be flushed.
            with suppress(BrokenPipeError):
                _pipe(pipe).close()

    def __enter__(self) -> "EspeakEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, request: bytes) -> None:
        try:
            stdin = _pipe(self._process.stdin)
            stdin.write(request)
            stdin.flush()
        except BrokenPipeError as error:
            raise AudioError(_died(self._process)) from error

    def _read_answer(self) -> tuple[dict[str, Any], bytes] | None:
        """The header and the sound of the next answer; None if the worker died."""
        stdout = _pipe(self._process.stdout)
        line = stdout.readline()
        if not line:
            return None
        header = json.loads(line)
        return header, stdout.read(2 * header.get("num_samples", 0))

    def _answer(self) -> tuple[dict[str, Any], bytes]:
        answer = self._read_answer()
        if answer is None:
            raise AudioError(_died(self._process))
        header, sound = answer
        if "error" in header:
            raise ConfigError(
                f"{header['error']} Voices: an espeak-ng language and variant, as en-us and f2."
            )
        return header, sound

    def _receive(self, text: str) -> Speech:
        header, sound = self._answer()
        wave = Wave(np.frombuffer(sound, "<i2").astype(np.float32) / 32768, header["sample_rate_hz"])
        phones = _spans(header["phones"], wave)
        if all(span.is_pause for span in phones):
            raise AudioError(f"espeak-ng says nothing for {text[:60]!r}. Give it words.")
        return Speech(wave, phones, _words(text, header["words"], phones, wave.sample_rate_hz))


def _request(text: str, voice: EspeakVoice) -> bytes:
    fields: dict[str, Any] = {"text": text, "voice": voice.espeak_name, "pitch": voice.pitch}
    fields |= {"pitch_range": voice.pitch_range, "speed_wpm": voice.speed_wpm}
    return json.dumps(fields).encode() + b"\n"


def _spans(phones: list[tuple[str, int]], wave: Wave) -> tuple[PhoneSpan, ...]:
    if not phones or phones[0][1] > 0:
        phones = [("_", 0), *phones]
    starts_s = [min(start / wave.sample_rate_hz, wave.duration_s) for _, start in phones] + [wave.duration_s]
    return tuple(
        PhoneSpan(phone or "_", starts_s[i], max(starts_s[i], starts_s[i + 1]))
        for i, (phone, _) in enumerate(phones)
    )


_MARKS = re.compile(r"^[^\w]+|[^\w]+$")


def _words(
    text: str, found: list[tuple[int, int, int]], phones: tuple[PhoneSpan, ...], rate_hz: int
) -> tuple[WordSpan, ...]:
    """Words from (first character, characters, first sample); a word ends with its last phone before the next one."""
    # A number is one written word and several spoken ones, each at a place inside it.
    firsts: list[tuple[int, int, int]] = []
    for row in found:
        if not firsts or row[0] >= firsts[-1][0] + firsts[-1][1]:
            firsts.append(row)
    starts_s = [sample / rate_hz for _, _, sample in firsts]
    words = []
    for n, (place, length, _) in enumerate(firsts):
        until_s = starts_s[n + 1] if n + 1 < len(firsts) else float("inf")
        own = [p for p in phones if starts_s[n] - 1e-6 <= p.start_s < until_s - 1e-6 and not p.is_pause]
        word = _MARKS.sub("", text[place : place + length])
        if word and own:
            words.append(WordSpan(word, own[0].start_s, own[-1].end_s))
    return tuple(words)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "Popen was given PIPE"
    return pipe


def _died(process: subprocess.Popen[bytes]) -> str:
    process.wait()
    return f"The espeak-ng process ended with status {process.poll()}. Run `python -m sodakit.voices.worker` to see why."
