"""Sound in and out: uploads decoded within limits, speech encoded while it is being made."""

import io
import struct
from typing import Any

import numpy as np
import soundfile

from sodakit.audio.wave import Wave
from sodakit.serve.problems import Problem

CONTENT_TYPES = {
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
}
"""Formats of speech, and what they are called in HTTP."""

MAX_CHANNELS = 8
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 192_000
_BLOCK_SAMPLES = 1 << 16
_ENCODINGS = {"flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS")}
# At a variable rate players take the length from the first frame, which has been sent before the length is known.
_SETTINGS: dict[str, dict[str, Any]] = {"mp3": {"bitrate_mode": "CONSTANT", "compression_level": 0.3}}


def decode_upload(data: bytes, longest_s: float, param: str = "file") -> Wave:
    """The sound in uploaded bytes, mono, at its own rate.

    It is read in blocks and given up as soon as it is too long: what its header promises does not matter.

    Raises:
        Problem: 400 not sound, damaged, empty or of an odd shape; 413 longer than `longest_s`.
    """
    if not data:
        raise Problem(400, "The upload is empty. Send a sound file.", code="empty_file", param=param)
    blocks, length = [], 0
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate_hz = file.samplerate
            if file.channels > MAX_CHANNELS or not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
                raise Problem(
                    400,
                    f"{file.channels} channels at {rate_hz} Hz; needed: at most {MAX_CHANNELS} channels and "
                    f"{MIN_RATE_HZ} to {MAX_RATE_HZ} Hz. Convert the recording.",
                    code="unsupported_format",
                    param=param,
                )
            while len(block_SC := file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)):
                blocks.append(block_SC.mean(axis=1))
                length += len(block_SC)
                if length > longest_s * rate_hz:
                    raise Problem(
                        413,
                        f"The recording is longer than {longest_s:g} s, the most allowed here. Cut it.",
                        code="recording_too_long",
                        param=param,
                    )
    except (soundfile.SoundFileError, RuntimeError, OSError, ValueError) as error:
        if isinstance(error, Problem):
            raise
        raise Problem(
            400,
            f"The upload cannot be decoded ({(str(error).splitlines() or ['no reason given'])[0]}). "
            "Readable: wav, flac, mp3, ogg, opus, aiff.",
            code="unreadable_audio",
            param=param,
        ) from error
    if not length:
        raise Problem(400, "The recording holds no samples.", code="empty_file", param=param)
    samples_S = np.concatenate(blocks)
    if not np.isfinite(samples_S).all():
        raise Problem(
            400, "The recording holds NaN or infinite samples.", code="unreadable_audio", param=param
        )
    return Wave(np.clip(samples_S, -1, 1), rate_hz)


class SoundWriter:
    """Samples in, bytes of one sound file out, as soon as the format allows."""

    def __init__(self, kind: str, sample_rate_hz: int) -> None:
        self.kind = kind
        self._rate_hz = sample_rate_hz
        self._buffer = io.BytesIO()
        self._sent = 0
        self._file: soundfile.SoundFile | None = None
        if kind in _ENCODINGS:
            container, encoding = _ENCODINGS[kind]
            try:
                self._file = soundfile.SoundFile(
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
        elif kind == "wav":
            self._buffer.write(_wav_header(sample_rate_hz))

    def write(self, samples_S: np.ndarray) -> bytes:
        """The bytes ready after these samples; FLAC is kept to the end, see `finish`."""
        if self._file is not None:
            self._file.write(np.clip(samples_S, -1, 1))
            if self.kind == "flac":
                return b""
        else:
            self._buffer.seek(0, io.SEEK_END)
            self._buffer.write(pcm_bytes(samples_S))
        return self._ready()

    def finish(self) -> bytes:
        """The last bytes. FLAC comes whole: without its length in the header, many programs cannot read it."""
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


def _wav_header(rate_hz: int) -> bytes:
    # A length of 2^32 - 1 is how streams say that it is unknown; every player takes it.
    unknown = 0xFFFFFFFF
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", unknown, b"WAVE") + form + struct.pack("<4sI", b"data", unknown)
