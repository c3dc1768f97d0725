"""Sound files: read, probe, resample, write. soundfile decodes and soxr resamples; neither is rewritten here."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from sodakit.audio.wave import Wave
from sodakit.errors import AudioError
from sodakit.files import atomic_path

RESAMPLER = "soxr HQ"
"""Recorded with codes, because codes depend on it."""

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif", ".au", ".w64", ".caf"})


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says."""

    duration_s: float
    sample_rate_hz: int
    channels: int


def probe(path: Path | str) -> AudioInfo:
    """Length, rate and channels from the header, without decoding.

    Raises:
        AudioError: missing, empty, or not a sound file.
    """
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise AudioError(_unreadable(path, error)) from error
    if info.frames <= 0:
        raise AudioError(f"{path} holds no samples.")
    return AudioInfo(info.frames / info.samplerate, info.samplerate, info.channels)


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


def read_part(path: Path | str, start_s: float | None = None, end_s: float | None = None) -> Wave:
    """The sound of a file from `start_s` to `end_s`, mono, at the file's rate. Only that part is decoded.

    Raises:
        AudioError: not a sound file, or it breaks off before the end that its header promises.
    """
    info = probe(path)
    rate_hz = info.sample_rate_hz
    length = round(info.duration_s * rate_hz)
    start = min(round((start_s or 0.0) * rate_hz), length)
    stop = length if end_s is None else min(round(end_s * rate_hz), length)
    try:
        samples_SC, _ = soundfile.read(str(path), start=start, stop=stop, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, OSError, ValueError) as error:
        raise AudioError(
            f"{path} opens but cannot be decoded ({str(error).splitlines()[0]}). "
            "It is damaged: fetch it again, or leave it out."
        ) from error
    # Headers of compressed formats estimate the length; half of it missing is no estimate.
    if len(samples_SC) < (stop - start) / 2:
        raise AudioError(
            f"{path} breaks off after {len(samples_SC) / rate_hz:.2f} s; its header promises "
            f"{(stop - start) / rate_hz:.2f} s. It is damaged: fetch it again, or leave it out."
        )
    return Wave(samples_SC.mean(axis=1), rate_hz)


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


def _unreadable(path: Path | str, error: Exception) -> str:
    if not Path(path).exists():
        return f"{path} does not exist."
    return (
        f"{path} cannot be decoded ({str(error).splitlines()[0]}). "
        "Readable formats: wav, flac, mp3, ogg, opus, aiff; convert others, for example with ffmpeg."
    )
