"""Speech as the bytes of a sound file, while it is being made."""

import io
import struct
from typing import Any

import numpy as np
import soundfile

from sodakit.serve.aac import AacFile
from sodakit.serve.problems import Problem
from sodakit.serve.tempo import Tempo

CONTENT_TYPES = {
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
}
"""Formats of speech, and what they are called in HTTP."""

_ENCODINGS = {"flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS")}
# At a variable rate players take the length from the first frame, which has been sent before the length is known.
_SETTINGS: dict[str, dict[str, Any]] = {"mp3": {"bitrate_mode": "CONSTANT", "compression_level": 0.3}}


class SoundWriter:
    """Samples in, bytes of one sound file out, as soon as the format allows."""

    def __init__(self, kind: str, sample_rate_hz: int, speed: float = 1.0, origin: str = "") -> None:
        """
        Args:
            kind: a row of `CONTENT_TYPES`.
            sample_rate_hz: of the samples.
            speed: of the sound.
            origin: what the file says of where it comes from; pcm has no place for it.
        Raises:
            Problem: the format cannot hold such sound, or needs a package that is not here.
        """
        self.kind = kind
        self._tempo = Tempo(sample_rate_hz, speed)
        self._buffer = io.BytesIO()
        self._sent = 0
        self._file: soundfile.SoundFile | AacFile | None = None
        if kind in _ENCODINGS:
            container, encoding = _ENCODINGS[kind]
            try:
                file = soundfile.SoundFile(
                    self._buffer,
                    "w",
                    sample_rate_hz,
                    1,
                    encoding,
                    format=container,
                    **_SETTINGS.get(kind, {}),
                )
            except (soundfile.SoundFileError, RuntimeError) as error:
                raise Problem(
                    400,
                    f"{kind} cannot hold sound at {sample_rate_hz} Hz. Ask for wav, flac or pcm.",
                    code="unsupported_format",
                    param="response_format",
                ) from error
            if origin:
                file.comment = origin
            self._file = file
        elif kind == "aac":
            self._file = AacFile(self._buffer, sample_rate_hz, origin)
        elif kind == "wav":
            self._buffer.write(_wav_header(sample_rate_hz, origin))

    def write(self, samples_S: np.ndarray) -> bytes:
        """The bytes ready after these samples; FLAC is kept to the end, see `finish`."""
        self._write(self._tempo.write(samples_S))
        return b"" if self.kind == "flac" else self._ready()

    def _write(self, samples_S: np.ndarray) -> None:
        if not len(samples_S):
            return
        if self._file is not None:
            self._file.write(np.clip(samples_S, -1, 1))
        else:
            self._buffer.seek(0, io.SEEK_END)
            self._buffer.write(pcm_bytes(samples_S))

    def finish(self) -> bytes:
        """The last bytes. FLAC comes whole: without its length in the header, many programs cannot read it."""
        self._write(self._tempo.finish())
        if self._file is not None:
            self._file.close()
        return self._ready()

    def _ready(self) -> bytes:
        # Encoders go back at the end and write the length into the header; that part has been sent, with the length
        # marked as unknown, so only what is new goes out.
        new = bytes(self._buffer.getbuffer()[self._sent :])
        self._sent += len(new)
        if self._file is None:
            self._buffer, self._sent = io.BytesIO(), 0
        return new


def pcm_bytes(samples_S: np.ndarray) -> bytes:
    """16-bit little-endian samples."""
    return np.rint(np.clip(samples_S, -1, 1) * 32767).astype("<i2").tobytes()


def _wav_header(rate_hz: int, origin: str) -> bytes:
    # A length of 2^32 - 1 is how streams say that it is unknown; every player takes it.
    unknown = 0xFFFFFFFF
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    if origin:
        comment = origin.encode() + b"\0" * (
            2 - len(origin) % 2
        )  # ends with a zero; chunks have even lengths
        form += struct.pack("<4sI4s4sI", b"LIST", 12 + len(comment), b"INFO", b"ICMT", len(comment)) + comment
    return struct.pack("<4sI4s", b"RIFF", unknown, b"WAVE") + form + struct.pack("<4sI", b"data", unknown)
