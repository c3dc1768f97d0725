"""AAC as it is made: PyAV encodes it, an optional package."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from sodakit.serve.problems import Problem

if TYPE_CHECKING:
    import av

BITS_PER_S = 64_000


class AacFile:
    """Samples in, ADTS frames into a buffer."""

    def __init__(self, buffer: io.BytesIO, sample_rate_hz: int, origin: str = "") -> None:
        av = import_av("response_format=aac", "response_format", "Ask for mp3, opus, flac, wav or pcm.")
        self._frame, self._rate_hz, self._place = av.AudioFrame, sample_rate_hz, 0
        options = {"flush_packets": "1", "write_id3v2": str(int(bool(origin)))}
        self._container: Any = av.open(buffer, "w", format="adts", options=options)
        if origin:
            self._container.metadata["comment"] = origin
        if sample_rate_hz not in (av.codec.Codec("aac", "w").audio_rates or ()):
            raise Problem(
                400,
                f"aac cannot hold sound at {sample_rate_hz} Hz. Ask for wav, flac or pcm.",
                code="unsupported_format",
                param="response_format",
            )
        self._stream = self._container.add_stream("aac", rate=sample_rate_hz, layout="mono")
        self._stream.bit_rate = BITS_PER_S

    def write(self, samples_S: np.ndarray) -> None:
        """Encode more; the last part of a frame waits for the rest."""
        frame = as_frame(self._frame, samples_S, self._rate_hz, self._place)
        self._place += len(samples_S)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Encode what waits, and end."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


def as_frame(frame_type: Any, samples_S: np.ndarray, rate_hz: int, place: int) -> "av.AudioFrame":
    """Samples as PyAV takes them: mono floats, `place` samples after the beginning."""
    frame = frame_type.from_ndarray(
        np.ascontiguousarray(samples_S, np.float32)[None], format="fltp", layout="mono"
    )
    frame.sample_rate, frame.pts = rate_hz, place
    return frame


def import_av(purpose: str, param: str, instead: str) -> Any:
    """PyAV.

    Raises:
        Problem: 400, it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise Problem(
            400,
            f"{purpose} needs the package 'av', which this server does not have "
            f"(pip install 'sodakit[containers]'). {instead}",
            code="not_supported",
            param=param,
        ) from error
    return av
