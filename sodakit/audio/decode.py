"""A sound file of any format, opened: what it promises, and its samples in blocks.

soundfile decodes, PyAV what soundfile cannot (aac, mp4, webm). What both believe or leave out in silence is asked
about here: whether the length in the header is counted or guessed, whether another sound follows, whether the bytes are
all there.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile

from sodakit.audio import mpeg, ogg
from sodakit.audio.containers import ContainerSound, open_container
from sodakit.audio.flac import FlacCheck, check_single, flac_check
from sodakit.audio.headers import check_promised_bytes, container_of, kind_of
from sodakit.errors import AudioError

BLOCK_VALUES = 1 << 20
"""Values decoded at once, all channels together."""
MAX_VALUES_PER_S = 64 * 48_000
"""Channels times samples per second: 64 channels at 48 kHz, 16 at 192 kHz. More is no recording of speech, and a few
bytes of it can fill a memory."""
MIN_RATE_HZ = 1000
"""At less than this there is nothing to understand, and a short file would last for hours."""
UNKNOWN_FRAMES = 1 << 62
LENGTH_SLACK = 4096
"""Samples by which a counted length may fall short: encoders count their padding differently."""
CONTAINER_SLACK_S = 0.25
"""The same of containers, which count time."""

RUN_UP = 20 * 1152
"""Samples decoded before the first one that is wanted: frames of mp3 and Vorbis need those before them, of mp3 up to
nine."""

_BESIDE = ("._", ".AppleDouble/")
"""Where libsndfile looks for the other half of a sound (Sound Designer II) that it does not know: in the folder in which
the program was started, for an open file has no folder."""

DECODER_ERRORS = (soundfile.SoundFileError, RuntimeError, OSError, TypeError, ValueError, ZeroDivisionError)
"""What soundfile raises at damaged files."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says; for formats whose headers guess, what was counted."""

    duration_s: float
    sample_rate_hz: int
    channels: int


class OpenSound(ABC):
    """A sound file that is open."""

    info: AudioInfo
    num_samples: int
    """By its header."""
    slack_samples: int = LENGTH_SLACK

    @abstractmethod
    def blocks(self, start: int, stop: int | None) -> Iterator[np.ndarray]:
        """float32 samples_SC from sample `start` to `stop`; None is the end of the file, whatever the header says.

        Raises:
            AudioError: damaged.
        """


@contextmanager
def open_sound(handle: BinaryIO, name: str) -> Iterator[OpenSound]:
    """A sound file by its content.

    Raises:
        AudioError: empty, no sound, shorter than its header says, without a length, of an odd shape, or aac, mp4 or
            webm without PyAV to read it.
    """
    handle.seek(0)
    if not handle.read(1):
        raise AudioError(f"{name} has 0 bytes.")
    with ExitStack() as stack:
        container = container_of(handle)
        sound: OpenSound
        if container:
            sound = _Container(stack.enter_context(open_container(handle, container, name)), name)
        else:
            check_promised_bytes(handle, name)
            sound = _open_plain(handle, name, stack)
        _check_shape(sound.info, name)
        yield sound


def _open_plain(handle: BinaryIO, name: str, stack: ExitStack) -> OpenSound:
    """What libsndfile reads, with what it is not told by the file itself."""
    kind = kind_of(handle)
    if kind == "ogg":
        parts = [_open_file(part, name, stack) for part in ogg.links(handle, name)]
        return parts[0] if len(parts) == 1 else _Chain(parts, name)
    if kind == "mp3":
        return _open_file(mpeg.tagged(mpeg.counted(handle, name)), name, stack)
    if kind is None and (beside := next((path for path in _BESIDE if os.path.lexists(path)), None)):
        raise AudioError(
            f"{name} is no kind of sound that is known, and what the folder in which this was started holds as "
            f"{beside!r} would be taken for a part of it. Remove that, or start elsewhere."
        )
    check = flac_check(handle)
    if check is not None:
        check.check_size(handle, name)
    return _open_file(handle, name, stack, check)


def _open_file(handle: BinaryIO, name: str, stack: ExitStack, check: FlacCheck | None = None) -> "_File":
    handle.seek(0)
    try:
        file = stack.enter_context(_Straight(handle))
        file.frames / file.samplerate
    except DECODER_ERRORS as error:
        raise AudioError(unreadable(name, error, kind_of(handle))) from error
    if file.frames >= UNKNOWN_FRAMES:
        # libsndfile says the largest number there is, and can then neither seek nor read through soundfile.
        raise AudioError(
            f"{name} does not say how long it is: it was written into a pipe. Write it again into a file, for "
            "example with `flac --force -d` and `flac`."
        )
    if file.frames <= 0:
        raise AudioError(f"{name} holds no samples.")
    return _File(file, handle, name, check)


class _Straight(soundfile.SoundFile):
    """Read without a seek to where it is after every block: in mp3 that spoils the samples that follow."""

    def seekable(self) -> bool:
        """Not by soundfile; `seek` works."""
        return False


class _File(OpenSound):
    """A file that libsndfile reads."""

    def __init__(
        self, file: soundfile.SoundFile, handle: BinaryIO, name: str, check: FlacCheck | None
    ) -> None:
        self._file, self._handle, self._name, self._check = file, handle, name, check
        self.num_samples = file.frames
        self.info = AudioInfo(self.num_samples / file.samplerate, file.samplerate, file.channels)

    def blocks(self, start: int, stop: int | None) -> Iterator[np.ndarray]:
        # Only of a whole flac can the checksum be checked.
        check = self._check if (start, stop) == (0, None) else None
        stop = self.num_samples if stop is None else stop
        found = 0
        try:
            place = self._seek(start)
            while place < stop:
                count = min(stop - place, max(1, BLOCK_VALUES // self.info.channels))
                block_SC = self._file.read(count, dtype="int32" if check else "float32", always_2d=True)
                yield (check.floats(block_SC) if check else block_SC)[max(0, start - place) :]
                place += count
                found += len(block_SC)
                if len(block_SC) < count:
                    break
        except DECODER_ERRORS as error:
            if isinstance(error, AudioError):
                raise
            raise AudioError(
                f"{self._name} opens but cannot be decoded ({first_line(error)}). "
                "It is damaged: fetch it again, or leave it out."
            ) from error
        # Of a sound that breaks off the reader says where.
        if check and found >= self.num_samples - self.slack_samples:
            check.check(self._handle, self._name)
            check_single(self._handle, self._name)

    def _seek(self, start: int) -> int:
        """Where reading begins: a little before `start`, or at the beginning if the codec cannot seek (GSM)."""
        if start <= RUN_UP:
            return 0  # some codecs fail even at a seek to where they are
        try:
            return int(self._file.seek(start - RUN_UP))
        except DECODER_ERRORS:
            return 0


class _Chain(OpenSound):
    """Several sounds in a row in one file."""

    def __init__(self, parts: list[_File], name: str) -> None:
        rates = {(part.info.sample_rate_hz, part.info.channels) for part in parts}
        if len(rates) > 1:
            shapes = ", ".join(f"{channels} channels at {rate} Hz" for rate, channels in sorted(rates))
            raise AudioError(f"{name} is several sounds joined: {shapes}. Cut them apart, or convert it.")
        self._parts, self.num_samples = parts, sum(part.num_samples for part in parts)
        rate_hz = parts[0].info.sample_rate_hz
        self.info = AudioInfo(self.num_samples / rate_hz, rate_hz, parts[0].info.channels)
        self.slack_samples = LENGTH_SLACK * len(parts)

    def blocks(self, start: int, stop: int | None) -> Iterator[np.ndarray]:
        place = 0
        for part in self._parts:
            end = part.num_samples if stop is None else min(stop - place, part.num_samples)
            if start - place < end:
                yield from part.blocks(max(0, start - place), None if end == part.num_samples else end)
            place += part.num_samples


class _Container(OpenSound):
    """A container, which is decoded from its beginning."""

    def __init__(self, container: ContainerSound, name: str) -> None:
        self._container, self._name = container, name
        self.info = AudioInfo(container.duration_s, container.sample_rate_hz, container.channels)
        self.num_samples = round(container.duration_s * container.sample_rate_hz)
        self.slack_samples = max(LENGTH_SLACK, round(CONTAINER_SLACK_S * container.sample_rate_hz))

    def blocks(self, start: int, stop: int | None) -> Iterator[np.ndarray]:
        place = 0
        for block_SC in self._container.blocks():
            yield block_SC[max(0, start - place) : None if stop is None else max(0, stop - place)]
            place += len(block_SC)
            if stop is not None and place >= stop:
                return
        if place > self.num_samples + self.slack_samples:
            rate_hz = self.info.sample_rate_hz
            raise AudioError(
                f"{self._name} has a wrong length: its header promises {self.num_samples / rate_hz:.2f} s, "
                f"{place / rate_hz:.2f} s are there. It is damaged: fetch it again, or leave it out."
            )


def _check_shape(info: AudioInfo, name: str) -> None:
    if info.channels * info.sample_rate_hz > MAX_VALUES_PER_S or info.sample_rate_hz < MIN_RATE_HZ:
        raise AudioError(
            f"{name} has {info.channels} channels at {info.sample_rate_hz} Hz; needed: at least {MIN_RATE_HZ} Hz, and "
            f"channels times Hz at most {MAX_VALUES_PER_S}. Is that its real rate? Convert it, or leave it out."
        )


def unreadable(name: str, error: Exception, kind: str | None) -> str:
    """What to say of a file that is no sound, or of a kind that is not read."""
    known = f"It is {kind}. " if kind else ""
    return (
        f"{name} cannot be decoded ({first_line(error)}). {known}"
        "Readable formats: wav, flac, mp3, ogg, opus, aiff, and with the extra 'containers' aac, mp4 and webm; "
        "convert others, for example with ffmpeg."
    )


def first_line(error: Exception) -> str:
    """A library's message in one line."""
    text = getattr(error, "error_string", "") or str(error)
    return next(iter(text.splitlines()), type(error).__name__)
