"""Sound in aac, mp4 and webm files, which libsndfile cannot read: decoded by PyAV, an optional package, in a process
of its own.

Damaged files make ffmpeg and its bindings crash. Such a crash is an error of that file: the process is started again
for the next one. It is kept from file to file, and each thread that reads has its own.
"""

import atexit
import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from sodakit.audio import container_child as child
from sodakit.errors import AudioError, MissingExtra

_MAX_IDLE = 4
"""Processes kept for the next file."""


class ContainerSound:
    """The first sound of an open container."""

    def __init__(self, decoder: "_Decoder", handle: BinaryIO, name: str, info: dict[str, float]) -> None:
        self._decoder, self._handle, self._name = decoder, handle, name
        self.duration_s, self.sample_rate_hz = float(info["duration_s"]), int(info["rate_hz"])
        self.channels = int(info["channels"])

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 samples_SC from the beginning to the end, block by block.

        Raises:
            AudioError: damaged.
        """
        request = b"D"
        while True:
            kind, body = self._decoder.ask(request, self._handle, self._name)
            if kind == b"D":
                return
            rate_hz, channels = child.SAMPLES.unpack_from(body)
            if (rate_hz, channels) != (self.sample_rate_hz, self.channels):
                raise AudioError(
                    f"{self._name} promises {self.channels} channels at {self.sample_rate_hz} Hz and holds {channels} "
                    f"at {rate_hz} Hz. It is damaged: fetch it again, or leave it out."
                )
            yield np.frombuffer(body, np.float32, offset=child.SAMPLES.size).reshape(channels, -1).T
            request = b"N"


@contextmanager
def open_container(handle: BinaryIO, demuxer: str, name: str) -> Iterator[ContainerSound]:
    """A container's first sound.

    Raises:
        AudioError: damaged, without sound, or PyAV is not installed.
    """
    _check_av(name)
    decoder = _take()
    try:
        size = handle.seek(0, 2)
        _, body = decoder.ask(b"O", handle, name, json.dumps({"demuxer": demuxer, "size": size}).encode())
        yield ContainerSound(decoder, handle, name, json.loads(body))
    finally:
        decoder.rest()
        _give_back(decoder)


class _Decoder:
    """A process that decodes containers."""

    def __init__(self) -> None:
        self.process_id = os.getpid()
        self._is_open = False
        """Whether a file is open in it."""
        self._is_answering = False
        """Whether it is in the middle of an answer: an exception left it there."""
        # By its path, and without the folder beside it on the search path, where `wave` is ours.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(child.__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    @property
    def is_whole(self) -> bool:
        """Whether it can be given another file."""
        return not self._is_answering and self._process.poll() is None

    def ask(self, kind: bytes, handle: BinaryIO, name: str, body: bytes = b"") -> tuple[bytes, bytes]:
        """Its answer; on the way, the bytes of the file that it wants.

        Raises:
            AudioError: the file cannot be decoded, or ended the process.
        """
        try:
            self._is_answering = self._is_open = True
            self._send(kind, body)
            while True:
                answer, found = self._receive()
                if answer == b"R":
                    place, count = child.WANTED.unpack(found)
                    handle.seek(place)
                    self._send(b"B", handle.read(count))
                    continue
                self._is_answering, self._is_open = False, answer not in (b"E", b"D")
                if answer == b"E":
                    raise AudioError(f"{name} {json.loads(found)['text']}")
                return answer, found
        except (EOFError, BrokenPipeError, struct.error) as error:
            raise AudioError(
                f"{name} cannot be decoded ({self._how_it_ended()}). It is damaged: fetch it again, or leave it out."
            ) from error

    def rest(self) -> None:
        """Leave the file that is open in it."""
        if self._is_answering:
            self._process.kill()
        elif self._is_open:
            self._is_open = False
            with suppress(BrokenPipeError):
                self._send(b"S", b"")

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self._process.kill()
        for pipe in (self._stdin, self._stdout):
            with suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()

    def _send(self, kind: bytes, body: bytes) -> None:
        self._stdin.write(child.HEADER.pack(kind, len(body)) + body)
        self._stdin.flush()

    def _receive(self) -> tuple[bytes, bytes]:
        head = self._stdout.read(child.HEADER.size)
        if len(head) < child.HEADER.size:
            raise EOFError
        kind, length = child.HEADER.unpack(head)
        body = self._stdout.read(length)
        if len(body) < length:
            raise EOFError
        return kind, body

    def _how_it_ended(self) -> str:
        self._process.kill()  # it has ended, or sends nonsense
        status = self._process.wait()
        if status == -getattr(signal, "SIGALRM", 0):
            return f"decoding one block of it took more than {child.WORK_LIMIT_S} s"
        return f"it crashed the decoder: {signal.Signals(-status).name if status < 0 else f'status {status}'}"

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None, "Popen was given PIPE"
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None, "Popen was given PIPE"
        return self._process.stdout


_idle: list[_Decoder] = []
_lock = threading.Lock()


def _take() -> _Decoder:
    with _lock:
        while _idle:
            decoder = _idle.pop()
            # A process that was forked from another shares its pipes, and must not talk into them.
            if decoder.process_id == os.getpid():
                if decoder.is_whole:
                    return decoder
                decoder.close()
    return _Decoder()


def _give_back(decoder: _Decoder) -> None:
    with _lock:
        if decoder.is_whole and len(_idle) < _MAX_IDLE:
            _idle.append(decoder)
            return
    decoder.close()


@atexit.register
def _close_all() -> None:
    for decoder in _idle:
        if decoder.process_id == os.getpid():
            decoder.close()


def _check_av(name: str) -> None:
    try:
        found = importlib.util.find_spec("av")
    except ValueError:  # it is marked as absent
        found = None
    if found is None:
        # An error of this sound, not of the job: the others beside it can be read.
        raise AudioError(str(MissingExtra("av", "containers", f"Decoding {name} (aac, mp4, webm)")))
