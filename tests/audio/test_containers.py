"""Containers are decoded in a process of their own, which a damaged file may end."""

import io
import os
import signal
import threading

import numpy as np
import pytest

from sodakit.audio import containers
from sodakit.audio.files import probe, read_blocks, read_part
from sodakit.errors import AudioError
from tests.audio.joined import speechlike

av = pytest.importorskip("av")


def contained(format: str, codec: str, duration_s: float = 2.0, rate_hz: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            speechlike(duration_s, rate_hz)[None], format="fltp", layout="mono"
        )
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout="mono",
            rate=rate_hz,
            frame_size=1024 if codec == "aac" else 320,
        )
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.fixture
def aac() -> bytes:
    return contained("adts", "aac")


@pytest.fixture
def crashing(monkeypatch):
    """A child that dies at its second request, as one does in which ffmpeg crashes."""

    def arm(name: str) -> None:
        number = int(getattr(signal, name))
        plain = containers._Decoder.ask

        def ask(self, kind, handle, called, body=b""):
            if kind == b"D" and "crash" in called:
                os.kill(self._process.pid, number)
            return plain(self, kind, handle, called, body)

        monkeypatch.setattr(containers._Decoder, "ask", ask)

    return arm


def test_every_container_is_read_whole_and_in_part(aac):
    for data in (aac, contained("mp4", "aac"), contained("webm", "libopus", rate_hz=48_000)):
        whole = read_part(io.BytesIO(data))
        assert whole.duration_s == pytest.approx(2.0, abs=0.2)
        assert probe(io.BytesIO(data)).duration_s == pytest.approx(2.0, abs=0.2)
        part_S = read_part(io.BytesIO(data), 0.5, 1.0).samples_S
        np.testing.assert_array_equal(part_S, whole.cut(0.5, 1.0).samples_S)


@pytest.mark.parametrize("signal_name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGALRM"])
def test_a_crash_is_an_error_of_the_file_and_the_next_is_read(aac, crashing, signal_name):
    crashing(signal_name)
    wanted = signal_name if signal_name != "SIGALRM" else "more than 60 s"
    with pytest.raises(AudioError, match=rf"crash\.aac cannot be decoded .*{wanted}"):
        read_part(io.BytesIO(aac), name="crash.aac")
    assert read_part(io.BytesIO(aac)).duration_s == pytest.approx(2.0, abs=0.2)


def test_one_process_serves_many_files_and_no_dead_one_is_kept(aac, crashing):
    read_part(io.BytesIO(aac))
    first = containers._idle[-1]._process
    for _ in range(3):
        blocks = read_blocks(io.BytesIO(aac))
        next(blocks)
        blocks.close()  # given up half way
        with pytest.raises(AudioError, match="holds no samples"):
            read_part(io.BytesIO(aac[:7] + bytes(len(aac) - 7)))
        read_part(io.BytesIO(aac))
    assert containers._idle[-1]._process is first and first.poll() is None
    crashing("SIGKILL")
    with pytest.raises(AudioError):
        read_part(io.BytesIO(aac), name="crash.aac")
    assert first.returncode == -signal.SIGKILL, "it was waited for"
    assert all(decoder._process is not first for decoder in containers._idle)


def test_threads_read_side_by_side(aac):
    lengths = []

    def read():
        lengths.extend(len(read_part(io.BytesIO(aac)).samples_S) for _ in range(3))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(lengths) == 12 and len(set(lengths)) == 1
    assert len(containers._idle) <= containers._MAX_IDLE


def test_a_forked_process_does_not_talk_into_its_parents_decoder(aac):
    read_part(io.BytesIO(aac))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if len(read_part(io.BytesIO(aac)).samples_S) > 16_000 else 2
            containers._close_all()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert read_part(io.BytesIO(aac)).duration_s == pytest.approx(2.0, abs=0.2)


def test_a_codec_that_nobody_knows_is_named():
    webm = contained("webm", "libopus", rate_hz=48_000).replace(b"A_OPUS", b"A_NONE")
    with pytest.raises(AudioError, match="of a codec that is not known"):
        probe(io.BytesIO(webm))


def test_a_container_that_breaks_off_is_refused():
    webm = contained("webm", "libopus", 8.0, 48_000)
    with pytest.raises(AudioError, match=r"breaks off|damaged"):
        read_part(io.BytesIO(webm[: len(webm) // 2]))
