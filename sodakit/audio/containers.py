"""Sound in aac, mp4 and webm files, which libsndfile cannot read: decoded by PyAV, an optional package.

The demuxer is named from the first bytes and never guessed: ffmpeg's guesses include playlists that open other files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from sodakit.errors import AudioError, MissingExtra

if TYPE_CHECKING:
    from av.container import InputContainer


def probe_container(handle: BinaryIO, demuxer: str, name: str) -> tuple[float, int, int]:
    """Seconds, samples per second and channels of the first sound in a container.

    Raises:
        AudioError: damaged, without sound, or PyAV is not installed.
    """
    with _open(handle, demuxer, name) as container:
        stream = container.streams.audio[0]
        duration_s = _promised_s(container)
        if duration_s is None:
            counts = (packet.duration or 0 for packet in container.demux(stream))
            duration_s = float(sum(counts) * (stream.time_base or 0))
        if duration_s <= 0 or not stream.rate:
            raise AudioError(f"{name} holds no samples.")
        return duration_s, stream.rate, stream.channels


def container_blocks(
    handle: BinaryIO, demuxer: str, name: str, start: int, stop: int
) -> Iterator[np.ndarray]:
    """float32 samples_S from `start` to `stop`, the mean of all channels, in the small parts that they are decoded in.

    It decodes from the beginning.

    Raises:
        AudioError: damaged, without sound, or PyAV is not installed.
    """
    with _open(handle, demuxer, name) as container:
        place = 0
        for samples_S in _decoded(container):
            if place >= stop:
                break
            yield samples_S[max(0, start - place) : stop - place]
            place += len(samples_S)


def _decoded(container: "InputContainer") -> Iterator[np.ndarray]:
    import av

    # Planar float, so that every codec's frames look alike; the rate stays as it is.
    resampler = av.AudioResampler(format="fltp")
    for frame in container.decode(container.streams.audio[0]):
        for part in resampler.resample(frame):
            yield part.to_ndarray().mean(axis=0, dtype=np.float32)


def _promised_s(container: "InputContainer") -> float | None:
    """Length by the header; None where there is none (aac), and ffmpeg would guess from the bit rate."""
    stream = container.streams.audio[0]
    if container.format.name == "aac":
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


@contextmanager
def _open(handle: BinaryIO, demuxer: str, name: str) -> Iterator["InputContainer"]:
    av = _import_av(name)
    handle.seek(0)
    try:
        with av.open(handle, "r", format=demuxer) as container:
            if not container.streams.audio:
                raise AudioError(f"{name} holds no sound, only other streams. Leave it out.")
            yield container
    except (av.FFmpegError, ValueError, IndexError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(
            f"{name} cannot be decoded ({error}). It is damaged: fetch it again, or leave it out."
        ) from error


def _import_av(name: str) -> Any:
    try:
        import av
    except ImportError as error:
        # An error of this sound, not of the job: the others beside it can be read.
        raise AudioError(
            str(MissingExtra("av", "containers", f"Decoding {name} (aac, mp4, webm)"))
        ) from error
    return av
