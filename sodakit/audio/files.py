"""Sound files: read, probe, resample, write.

Whatever reads a sound, whole, in part or in blocks, from a path or from an upload, reads it here; soxr resamples.
"""

import base64
import io
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from sodakit.audio.decode import AudioInfo, OpenSound, open_sound
from sodakit.audio.downmix import downmix
from sodakit.audio.levels import check_samples
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, TooLong
from sodakit.files import atomic_path, not_a_file
from sodakit.units import shortened

RESAMPLER = "soxr HQ"
"""Recorded with codes, because codes depend on it."""
_QUALITY = RESAMPLER.split()[1]

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif", ".au", ".w64", ".caf"})


Source = Path | str | BinaryIO
"""A file's name, or the file."""


def probe(source: Source, name: str = "") -> AudioInfo:
    """Length, rate and channels, without decoding.

    The length is counted where a header would only guess it: in an mp3 without a count of its frames, in several mp3 or
    ogg files joined. It may still promise more than can be decoded: `read_part` tells.

    Args:
        source: a file's path, or a sound file opened for reading in binary.
        name: what errors call it; default: the path.
    Raises:
        AudioError: missing, empty, not a sound file, shorter than its header says, of an odd rate or number of channels,
            or aac, mp4 or webm without PyAV to read it.
    """
    with _opened(source, name) as (handle, name), open_sound(handle, name) as sound:
        return sound.info


def read_wave(
    source: Source, sample_rate_hz: int | None = None, name: str = "", longest_s: float | None = None
) -> Wave:
    """The sound in a file, downmixed to mono (`audio.downmix`), at `sample_rate_hz` (default: the file's own).

    Args:
        source: a file's path, or a sound file opened for reading in binary.
        sample_rate_hz: of the result.
        name: what errors call it; default: the path.
        longest_s: longer sounds are given up as soon as they are.
    Raises:
        AudioError: as `read_blocks`.
        TooLong: it lasts longer than `longest_s`.
    """
    waves = list(read_blocks(source, sample_rate_hz, name, longest_s))
    return Wave(np.concatenate([wave.samples_S for wave in waves]), waves[0].sample_rate_hz)


def read_part(
    source: Source, start_s: float | None = None, end_s: float | None = None, name: str = ""
) -> Wave:
    """The sound of a file from `start_s` to `end_s`, mono, at the file's rate; it may hold NaN.

    Memory follows the sound that is there, whatever length the header claims.

    Args:
        source: a file's path, or a sound file opened for reading in binary.
        start_s: default: the beginning.
        end_s: default: the end.
        name: what errors call it; default: the path.
    Raises:
        AudioError: as `probe`; or it breaks off before the end that its header promises.
    """
    with _opened(source, name) as (handle, name), open_sound(handle, name) as sound:
        rate_hz = sound.info.sample_rate_hz
        start = min(round((start_s or 0.0) * rate_hz), sound.num_samples)
        stop = None if end_s is None else max(start, min(round(end_s * rate_hz), sound.num_samples))
        blocks_S = downmix(_checked(sound, name, start, stop), rate_hz)
        samples_S = np.concatenate([np.zeros(0, np.float32), *blocks_S])
    return Wave(samples_S, rate_hz)


def read_blocks(
    source: Source, sample_rate_hz: int | None = None, name: str = "", longest_s: float | None = None
) -> Generator[Wave, None, None]:
    """The sound of a file in consecutive parts of about a second, mono: for those who need not hold all of it.

    Joined, they are what `read_wave` gives. Memory grows neither with the sound nor with its rate or its channels. The
    file is open until the last part, or until the iterator is closed.

    Args:
        source: a file's path, or a sound file opened for reading in binary.
        sample_rate_hz: of the parts; default: the file's own.
        name: what errors call it; default: the path.
        longest_s: give up sounds that last longer.
    Raises:
        AudioError: as `read_part`, that it breaks off after the last part; or it holds no samples, or NaN, infinite or
            absurdly large ones.
        TooLong: it lasts longer than `longest_s`; raised after the parts that do not.
    """
    with _opened(source, name) as (handle, name), open_sound(handle, name) as sound:
        rate_hz = sound.info.sample_rate_hz
        heard = _limited(downmix(_checked(sound, name, 0, None), rate_hz), rate_hz, name, longest_s)
        wanted_hz = sample_rate_hz or rate_hz
        for samples_S in _seconds(_resampled(heard, rate_hz, wanted_hz), wanted_hz):
            yield Wave(samples_S, wanted_hz)


class Resampler:
    """Sound from one rate to another, part by part; the parts joined are those of `resample`."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream = None
        if from_hz != to_hz:
            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality=_QUALITY)

    def push(self, samples_S: np.ndarray, last: bool = False) -> np.ndarray:
        """The float32 samples_S that these release, at the other rate; all that are left with the last ones."""
        if self._stream is None:
            return samples_S
        return self._stream.resample_chunk(np.ascontiguousarray(samples_S, np.float32), last=last)


def resample(wave: Wave, sample_rate_hz: int) -> Wave:
    """The same sound at another rate (`RESAMPLER`)."""
    if wave.sample_rate_hz == sample_rate_hz:
        return wave
    samples_S = soxr.resample(wave.samples_S, wave.sample_rate_hz, sample_rate_hz, quality=_QUALITY)
    return Wave(samples_S, sample_rate_hz, wave.origin)


def write_wave(path: Path | str, wave: Wave) -> None:
    """Write 16-bit PCM in the format the suffix names (.wav, .flac), atomically; synthetic speech is marked as such.

    Raises:
        AudioError: another suffix.
    """
    suffix = Path(path).suffix.lstrip(".").upper()
    if suffix not in ("WAV", "FLAC"):
        raise AudioError(f"{path} names no format that is written here. Use .wav or .flac.")
    with atomic_path(path) as temporary:
        _write(str(temporary), wave, suffix)


def data_uri(wave: Wave) -> str:
    """The sound as a `data:` address for an HTML audio element (16-bit FLAC: lossless, half the size of WAV)."""
    buffer = io.BytesIO()
    _write(buffer, wave, "FLAC")
    return "data:audio/flac;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _write(target: str | BinaryIO, wave: Wave, kind: str) -> None:
    with soundfile.SoundFile(target, "w", wave.sample_rate_hz, 1, "PCM_16", format=kind) as file:
        if wave.origin:
            file.comment = wave.origin  # before the samples: a header is not written twice
        file.write(np.clip(wave.samples_S, -1, 1))


@contextmanager
def _opened(source: Source, name: str) -> Iterator[tuple[BinaryIO, str]]:
    """The source as a file at its beginning, and its name."""
    name = name or _called(source)
    if not isinstance(source, (str, Path)):
        source.seek(0)
        yield source, name
        return
    why = not_a_file(source)
    if why is not None:
        raise AudioError(f"{shortened(name)} {why}; needed: a sound file.")
    try:
        # Through a handle, not by name: libsndfile takes any file called .au for raw sound.
        handle = open(source, "rb")  # noqa: SIM115 - closed by the `with` below
    except (OSError, ValueError) as error:
        raise AudioError(f"{name} cannot be opened ({getattr(error, 'strerror', None) or error}).") from error
    with handle:
        yield handle, name


def _called(source: Source) -> str:
    return str(source) if isinstance(source, (str, Path)) else "the sound"


def _checked(sound: OpenSound, name: str, start: int, stop: int | None) -> Iterator[np.ndarray]:
    """The sound's blocks_SC; an error after the last where there are fewer than its header promises."""
    found, rate_hz = 0, sound.info.sample_rate_hz
    for block_SC in sound.blocks(start, stop):
        found += len(block_SC)
        yield block_SC
    promised = (sound.num_samples if stop is None else stop) - start
    if found < promised - sound.slack_samples:
        raise AudioError(
            f"{name} breaks off after {found / rate_hz:.2f} s; its header promises "
            f"{promised / rate_hz:.2f} s. It is damaged: fetch it again, or leave it out."
        )


def _limited(
    blocks_S: Iterable[np.ndarray], rate_hz: int, name: str, longest_s: float | None
) -> Iterator[np.ndarray]:
    """The blocks, as long as they are sound and not too much of it."""
    heard = 0
    for samples_S in blocks_S:
        check_samples(samples_S, name)
        heard += len(samples_S)
        if longest_s is not None and heard > longest_s * rate_hz:
            raise TooLong(f"{name} is longer than {longest_s:g} s, the most allowed here. Cut it.")
        yield samples_S
    if heard == 0:
        raise AudioError(f"{name} holds no samples.")


def _resampled(blocks_S: Iterable[np.ndarray], from_hz: int, to_hz: int) -> Iterator[np.ndarray]:
    resampler = Resampler(from_hz, to_hz)
    for samples_S in blocks_S:
        # A second at a time: at a low rate a block lasts for minutes, and would come out large.
        for start in range(0, len(samples_S), from_hz):
            yield resampler.push(samples_S[start : start + from_hz])
    yield resampler.push(np.zeros(0, np.float32), last=True)


def _seconds(blocks_S: Iterable[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
    """The blocks gathered to a second and more; the last may be shorter, or empty."""
    gathered, num_gathered = [np.zeros(0, np.float32)], 0
    for samples_S in blocks_S:
        gathered.append(samples_S)
        num_gathered += len(samples_S)
        if num_gathered >= rate_hz:
            yield np.concatenate(gathered)
            gathered, num_gathered = [np.zeros(0, np.float32)], 0
    yield np.concatenate(gathered)
