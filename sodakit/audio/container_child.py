"""The process in which containers are decoded. A damaged file may end it, and no other; `containers.py` starts it.

It is run by its path and imports nothing of the package, so it starts in a tenth of a second. Messages both ways are a
letter, a length and so many bytes. It opens no file: it asks for the bytes it wants.

    asked    O {demuxer, size}: open    D: decode    N: next block    S: stop, or close    B bytes
    answers  I {duration_s, rate_hz, channels, exact}    S rate, channels and planes of float32    E {text}    D: done
             R offset, count: wants bytes
"""

import json
import os
import signal
import struct
import sys
from collections.abc import Iterator
from typing import Any

WORK_LIMIT_S = 60
"""Longest work on one answer: ffmpeg can go round in circles in a damaged file."""
MEMORY_LIMIT_BYTES = 4 << 30
BLOCK_SAMPLES = 1 << 16
MAX_READ_FACTOR, MAX_READ_BASE = 64, 1 << 28
"""More bytes than this, times and plus its size, are not read of a file: its index leads in circles."""

HEADER = struct.Struct("<cI")
SAMPLES = struct.Struct("<II")
WANTED = struct.Struct("<QI")


class NoSound(Exception):
    """What is wrong with a file, in words."""


class Pipe:
    """The two ends that lead to the process that asks."""

    def __init__(self) -> None:
        self._in, self._out = sys.stdin.buffer, sys.stdout.buffer

    def send(self, kind: bytes, *parts: bytes) -> None:
        """Waiting for the other side is no work, so the clock stands still."""
        _alarm(0)
        self._out.write(HEADER.pack(kind, sum(map(len, parts))))
        for part in parts:
            self._out.write(part)
        self._out.flush()
        _alarm(WORK_LIMIT_S)

    def receive(self) -> tuple[bytes, bytes]:
        _alarm(0)
        head = self._in.read(HEADER.size)
        if len(head) < HEADER.size:
            os._exit(0)  # whoever asked is gone
        kind, length = HEADER.unpack(head)
        body = self._in.read(length)
        _alarm(WORK_LIMIT_S)
        return kind, body


class Asked:
    """A file whose bytes the other side has."""

    def __init__(self, pipe: Pipe, size: int) -> None:
        self._pipe, self._size, self._place = pipe, size, 0
        self._left = MAX_READ_BASE + MAX_READ_FACTOR * size

    def read(self, count: int) -> bytes:
        count = max(0, min(count, self._size - self._place))
        self._left -= count
        if self._left < 0:
            raise OSError("its index leads in circles")
        if not count:
            return b""
        self._pipe.send(b"R", WANTED.pack(self._place, count))
        data = self._pipe.receive()[1]
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, (0, self._place, self._size)[whence] + offset)
        return self._place

    def tell(self) -> int:
        return self._place


def main() -> None:
    _limit()
    import av

    av.logging.set_level(None)
    pipe = Pipe()
    while True:
        kind, body = pipe.receive()
        if kind != b"O":
            continue  # a stop that came after the end
        try:
            _serve(av, pipe, json.loads(body))
        except MemoryError:
            pipe.send(b"E", b'{"text": "it asks for more memory than a sound needs"}')
        except Exception as error:  # PyAV raises whatever its inner objects raise
            # ffmpeg's errors put a number before, and the name of a file that has none after what they say.
            text = (str(getattr(error, "strerror", "") or error).splitlines() or [""])[0] or type(
                error
            ).__name__
            if not isinstance(error, NoSound):
                text = f"cannot be decoded ({text}). It is damaged: fetch it again, or leave it out."
            pipe.send(b"E", json.dumps({"text": text}).encode())


def _serve(av: Any, pipe: Pipe, asked: dict[str, Any]) -> None:
    file = Asked(pipe, asked["size"])
    with _open(av, file, asked["demuxer"]) as container:
        pipe.send(b"I", json.dumps(_info(container)).encode())
    if pipe.receive()[0] != b"D":
        return
    file.seek(0)  # counting may have read to the end
    with _open(av, file, asked["demuxer"]) as container:
        for rate_hz, planes in _blocks(av, container):
            pipe.send(b"S", SAMPLES.pack(rate_hz, len(planes)), *planes)
            if pipe.receive()[0] != b"N":
                return
    pipe.send(b"D")


def _open(av: Any, file: Asked, demuxer: str) -> Any:
    # The demuxer is named and never guessed: ffmpeg's guesses include playlists that open other files.
    return av.open(file, "r", format=demuxer, metadata_errors="ignore")


def _info(container: Any) -> dict[str, Any]:
    stream = next(iter(container.streams.audio), None)
    if stream is None:
        raise NoSound("holds no sound, only other streams. Leave it out.")
    if len(container.streams.audio) > 1:
        raise NoSound(
            f"holds {len(container.streams.audio)} sounds side by side, of which only the first would be read. Keep one, "
            "for example with `ffmpeg -map 0:a:0`."
        )
    if stream.codec_context is None:
        raise NoSound("holds sound of a codec that is not known here. Convert it, for example with ffmpeg.")
    duration_s = _promised_s(container, stream)
    if duration_s is None:
        counts = (packet.duration or 0 for packet in container.demux(stream))
        duration_s = float(sum(counts) * (stream.time_base or 0))
    if duration_s <= 0 or not stream.rate:
        raise NoSound("holds no samples.")
    return {"duration_s": duration_s, "rate_hz": stream.rate, "channels": stream.channels}


def _promised_s(container: Any, stream: Any) -> float | None:
    """Length by the header; None where there is none (aac), and ffmpeg would guess from the bit rate."""
    if container.format.name == "aac":
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else float(container.duration / 1e6)


def _blocks(av: Any, container: Any) -> Iterator[tuple[int, list[bytes]]]:
    """Samples per second and the planes of float32 of each block, a plane per channel."""
    # Planar float, so that every codec's frames look alike; the rate stays as it is.
    resampler = av.AudioResampler(format="fltp")
    waiting: list[list[bytes]] = []
    num_waiting = rate_hz = 0
    for frame in container.decode(container.streams.audio[0]):
        for part in resampler.resample(frame):
            planes = [bytes(memoryview(plane)[: 4 * part.samples]) for plane in part.planes]
            if rate_hz not in (0, part.sample_rate) or len(planes) != len((waiting or [planes])[0]):
                raise ValueError("its rate or its channels change on the way")
            if any(len(plane) != 4 * part.samples for plane in planes):
                raise ValueError("a frame is shorter than it says")
            rate_hz = part.sample_rate
            waiting.append(planes)
            num_waiting += part.samples
        if num_waiting >= BLOCK_SAMPLES:
            yield rate_hz, [b"".join(planes) for planes in zip(*waiting, strict=True)]
            waiting, num_waiting = [], 0
    if waiting:
        yield rate_hz, [b"".join(planes) for planes in zip(*waiting, strict=True)]


def _alarm(seconds: int) -> None:
    """End this process after so many seconds; 0 stops the clock. The system's clock: it counts inside ffmpeg too."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def _limit() -> None:
    try:
        import resource
    except ImportError:
        return  # no such limits on this system
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    # Ctrl-C goes to every process of the terminal: whoever asks decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
