"""Sound files: read, probe, resample, write.

soundfile decodes, PyAV what soundfile cannot (aac, mp4, webm), and soxr resamples; none is rewritten here.
"""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from sodakit.audio.containers import container_blocks, probe_container
from sodakit.audio.headers import check_promised_bytes, container_of, has_exact_length
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError
from sodakit.files import atomic_path

RESAMPLER = "soxr HQ"
"""Recorded with codes, because codes depend on it."""

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif", ".au", ".w64", ".caf"})


Source = Path | str | BinaryIO
"""A file's name, or the file."""

BLOCK_VALUES = 1 << 20
"""Values decoded at once, all channels together."""

UNKNOWN_FRAMES = 1 << 62

LENGTH_SLACK = 4096
"""Samples by which a counted length may fall short: encoders count their padding differently."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says."""

    duration_s: float
    sample_rate_hz: int
    channels: int


def probe(source: Source, name: str = "") -> AudioInfo:
    """Length, rate and channels from the header, without decoding.

    Args:
        source: a file's path, or a sound file opened for reading in binary.
        name: what errors call it; default: the path.
    Raises:
        AudioError: missing, empty, not a sound file, shorter than its header says, or aac, mp4 or webm without
            PyAV to read it.
    """
    with _opened(source, name) as (handle, name):
        return _probe(handle, name)


def read_wave(path: Path | str, sample_rate_hz: int | None = None) -> Wave:
    """The sound in a file, downmixed to mono, at `sample_rate_hz` (default: the file's own).

    Raises:
        AudioError: missing, empty, not a sound file, damaged, or holding NaN or infinite samples.
    """
    wave = read_part(path)
    if len(wave.samples_S) == 0:
        raise AudioError(f"{path} holds no samples.")
    if not np.isfinite(wave.samples_S).all():
        raise AudioError(f"{path} holds NaN or infinite samples.")
    return resample(wave, sample_rate_hz or wave.sample_rate_hz)


def read_part(
    source: Source, start_s: float | None = None, end_s: float | None = None, name: str = ""
) -> Wave:
    """The sound of a file from `start_s` to `end_s`, mono, at the file's rate.

    Memory follows the sound that is there, whatever length the header claims.

    Args:
        source: a file's path, or a sound file opened for reading in binary.
        start_s: default: the beginning.
        end_s: default: the end.
        name: what errors call it; default: the path.
    Raises:
        AudioError: as `probe`; or it breaks off before the end that its header promises.
    """
    with _opened(source, name) as (handle, name):
        info = _probe(handle, name)
        rate_hz = info.sample_rate_hz
        length = round(info.duration_s * rate_hz)
        start = min(round((start_s or 0.0) * rate_hz), length)
        stop = length if end_s is None else min(round(end_s * rate_hz), length)
        samples_S = np.concatenate([np.zeros(0, np.float32), *_blocks(handle, name, start, stop)])
        _check_length(handle, name, len(samples_S), stop - start, rate_hz)
    return Wave(samples_S, rate_hz)


def read_blocks(source: Source, name: str = "") -> Iterator[Wave]:
    """The sound of a file in consecutive parts of at least a second, mono: for those who need not hold all of it.

    Args:
        source: a file's path, or a sound file opened for reading in binary.
        name: what errors call it; default: the path.
    Raises:
        AudioError: as `read_part`; that it breaks off, after the last part.
    """
    with _opened(source, name) as (handle, name):
        info = _probe(handle, name)
        rate_hz, length = info.sample_rate_hz, round(info.duration_s * info.sample_rate_hz)
        gathered, num_gathered, num_read = [np.zeros(0, np.float32)], 0, 0
        for block_S in _blocks(handle, name, 0, length):
            gathered.append(block_S)
            num_gathered += len(block_S)
            if num_gathered >= rate_hz:
                yield Wave(np.concatenate(gathered), rate_hz)
                num_read += num_gathered
                gathered, num_gathered = [np.zeros(0, np.float32)], 0
        yield Wave(np.concatenate(gathered), rate_hz)
        _check_length(handle, name, num_read + num_gathered, length, rate_hz)


def resample(wave: Wave, sample_rate_hz: int) -> Wave:
    """The same sound at another rate (soxr, HQ)."""
    if wave.sample_rate_hz == sample_rate_hz:
        return wave
    return Wave(
        soxr.resample(wave.samples_S, wave.sample_rate_hz, sample_rate_hz, quality="HQ"), sample_rate_hz
    )


def write_wave(path: Path | str, wave: Wave) -> None:
    """Write 16-bit PCM in the format the suffix names (.wav, .flac), atomically.

    Raises:
        AudioError: another suffix.
    """
    suffix = Path(path).suffix.lstrip(".").upper()
    if suffix not in ("WAV", "FLAC"):
        raise AudioError(f"{path} names no format that is written here. Use .wav or .flac.")
    with atomic_path(path) as temporary:
        soundfile.write(
            str(temporary), np.clip(wave.samples_S, -1, 1), wave.sample_rate_hz, "PCM_16", format=suffix
        )


def data_uri(wave: Wave) -> str:
    """The sound as a `data:` address for an HTML audio element (16-bit FLAC: lossless, half the size of WAV)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(wave.samples_S, -1, 1), wave.sample_rate_hz, "PCM_16", format="FLAC")
    return "data:audio/flac;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@contextmanager
def _opened(source: Source, name: str) -> Iterator[tuple[BinaryIO, str]]:
    """The source as a file at its beginning, and its name."""
    if not isinstance(source, (str, Path)):
        source.seek(0)
        yield source, name or "the sound"
        return
    name = name or str(source)
    try:
        # Through a handle, not by name: libsndfile takes any file called .au for raw sound.
        handle = open(source, "rb")  # noqa: SIM115 - closed by the `with` below
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise AudioError(f"{name} does not exist." if missing else _unreadable(name, error)) from error
    with handle:
        yield handle, name


def _probe(handle: BinaryIO, name: str) -> AudioInfo:
    if not handle.read(1):
        raise AudioError(f"{name} has 0 bytes.")
    container = container_of(handle)
    if container:
        duration_s, rate_hz, channels = probe_container(handle, container, name)
        return AudioInfo(duration_s, rate_hz, channels)
    check_promised_bytes(handle, name)
    try:
        with soundfile.SoundFile(handle) as file:
            frames, info = (
                file.frames,
                AudioInfo(file.frames / file.samplerate, file.samplerate, file.channels),
            )
    except (soundfile.SoundFileError, RuntimeError, OSError, TypeError, ZeroDivisionError) as error:
        raise AudioError(_unreadable(name, error)) from error
    if frames >= UNKNOWN_FRAMES:
        # libsndfile says the largest number there is, and can then neither seek nor read through soundfile.
        raise AudioError(
            f"{name} does not say how long it is: it was written into a pipe. Write it again into a file, for "
            "example with `flac --force -d` and `flac`."
        )
    if info.duration_s <= 0:
        raise AudioError(f"{name} holds no samples.")
    return info


def _blocks(handle: BinaryIO, name: str, start: int, stop: int) -> Iterator[np.ndarray]:
    """float32 samples_S from `start` to `stop` in parts, the mean of all channels."""
    container = container_of(handle)
    if container:
        yield from container_blocks(handle, container, name, start, stop)
        return
    handle.seek(0)
    try:
        with soundfile.SoundFile(handle) as file:
            file.seek(start)
            while start < stop:
                count = min(stop - start, max(1, BLOCK_VALUES // file.channels))
                block_SC = file.read(count, dtype="float32", always_2d=True)
                yield block_SC.mean(axis=1)
                start += count
                if len(block_SC) < count:
                    break
    except (soundfile.SoundFileError, RuntimeError, OSError, ValueError) as error:
        raise AudioError(
            f"{name} opens but cannot be decoded ({_first_line(error)}). "
            "It is damaged: fetch it again, or leave it out."
        ) from error


def _check_length(handle: BinaryIO, name: str, found: int, promised: int, rate_hz: int) -> None:
    # A header that counts samples is taken at its word; one that estimates may be half wrong.
    exact = not container_of(handle) and has_exact_length(handle)
    if found < (promised - LENGTH_SLACK if exact else promised / 2):
        raise AudioError(
            f"{name} breaks off after {found / rate_hz:.2f} s; its header promises "
            f"{promised / rate_hz:.2f} s. It is damaged: fetch it again, or leave it out."
        )


def _unreadable(name: str, error: Exception) -> str:
    return (
        f"{name} cannot be decoded ({_first_line(error)}). "
        "Readable formats: wav, flac, mp3, ogg, opus, aiff, and with the extra 'containers' aac, mp4 and webm; "
        "convert others, for example with ffmpeg."
    )


def _first_line(error: Exception) -> str:
    text = getattr(error, "error_string", "") or str(error)
    return next(iter(text.splitlines()), type(error).__name__)
