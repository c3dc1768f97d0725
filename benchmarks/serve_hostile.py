"""A server and clients that mean no good, or too many that mean well; and one ordinary client beside them.

    python benchmarks/serve_hostile.py                              all of it, a small random model, about four minutes
    python benchmarks/serve_hostile.py --loads halves slow --seconds 10 --model runs/demo/model

Loopback only. For each load a fresh server in another process, and beside it a client at an address of its own
(127.0.0.2) that asks for a second of speech again and again, alone and beside the load in turn, --rounds times, so that
what else the machine does falls on both:

    uploads   60 recordings of ten minutes (48 kHz FLAC) at once, again and again
    bomb      four uploads at once of a FLAC of 1 MB: 8 channels, 192 kHz, ten minutes of silence
    halves    330 connections that send half a request and wait; closed, they come again
    slow      100 clients that ask for long speech and read 200 bytes a second

Prints the answers, the server's memory over idle at its peak, and the ordinary client's latency alone and beside the
load (median and worst). Exit status 1: memory beyond --most-mib, latency beyond --most-times, or the ordinary client
got anything but an answer.
"""

import argparse
import asyncio
import io
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import soundfile
from serve_load import resident_mib, start

NEIGHBOUR = "127.0.0.2"
ALONE_S = 6.0
"""How long the ordinary client is alone before and after each round."""
HALF = (
    b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: HOST\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    b"Content-Length: 500000\r\n\r\n--x\r\nContent-Disposition: form-data; name=model\r\n\r\nti",
    b"POST /v1/audio/speech HTTP/1.1\r\nHost: HOST\r\nContent-",
    b"",
)


@dataclass
class Result:
    """What one load did."""

    answers: Counter[str]
    """What its clients got."""
    peak_mib: float
    """The server's memory over idle."""
    alone_s: list[float]
    beside_s: list[float]
    """Latency of the ordinary client: whole answers."""
    failed: Counter[str]
    """What else it got."""

    @property
    def times(self) -> float:
        """Median latency beside the load over that alone."""
        return statistics.median(self.beside_s or [float("inf")]) / statistics.median(self.alone_s)


def flac(duration_s: float, rate_hz: int, channels: int, level: float) -> bytes:
    """A recording, written in blocks: tones that come and go, or silence."""
    buffer = io.BytesIO()
    time_S = np.arange(rate_hz) / rate_hz
    block_S = level * np.sin(2 * np.pi * 220 * time_S) * np.sin(2 * np.pi * 2 * time_S)
    with soundfile.SoundFile(buffer, "w", rate_hz, channels, "PCM_16", format="FLAC") as file:
        for _ in range(round(duration_s)):
            file.write(np.repeat(block_S[:, None], channels, axis=1))
    return buffer.getvalue()


async def until(end_s: float, count: int, client: Callable[[int], Awaitable[None]]) -> None:
    """Many clients, each again and again until the end."""

    async def again(number: int) -> None:
        while time.monotonic() < end_s:
            try:
                await asyncio.wait_for(client(number), max(0.01, end_s - time.monotonic()))
            except TimeoutError:
                return

    await asyncio.gather(*(again(number) for number in range(count)))


async def send_uploads(address: str, end_s: float, answers: Counter[str], count: int, data: bytes) -> None:
    """Transcriptions at once."""
    async with httpx.AsyncClient(base_url=address, timeout=600, limits=httpx.Limits()) as client:

        async def upload(_: int) -> None:
            form = {"files": {"file": ("a.flac", data)}, "data": {"model": "whisper-1"}}
            try:
                answer = await client.post("/v1/audio/transcriptions", **form)
                answers[str(answer.status_code)] += 1
                await asyncio.sleep(0.0 if answer.status_code == 200 else 1.0)
            except httpx.HTTPError as error:
                answers[type(error).__name__] += 1

        await until(end_s, count, upload)


async def hold_halves(address: str, end_s: float, answers: Counter[str], count: int) -> None:
    """Half requests, held for as long as the server lets them."""
    host, port = address.removeprefix("http://").split(":")

    async def half(number: int) -> None:
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(HALF[number % len(HALF)].replace(b"HOST", f"{host}:{port}".encode()))
            data = await reader.read(4096)
            answers[data.split()[1].decode() if data else "closed"] += 1
            writer.close()
        except OSError as error:
            answers[type(error).__name__] += 1
        await asyncio.sleep(1)

    await until(end_s, count, half)


async def read_slowly(address: str, end_s: float, answers: Counter[str], count: int) -> None:
    """Long speech, 200 bytes a second."""
    host, port = address.removeprefix("http://").split(":")
    body = b'{"model":"whisper-1","response_format":"pcm","max_s":60,"input":"%s"}' % (
        b"Please open the door of the house. " * 30
    )
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"

    async def slow(_: int) -> None:
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        taken.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(taken, (host, int(port)))
            await loop.sock_sendall(taken, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status = ""
            while data := await loop.sock_recv(taken, 200):
                status = status or data.split()[1].decode()
                answers[f"{status} begun"] += data.startswith(b"HTTP")
                await asyncio.sleep(1)
        except OSError as error:
            answers[type(error).__name__] += 1
        finally:
            taken.close()
        await asyncio.sleep(1)

    await until(end_s, count, slow)


def ask(address: str, seconds: float) -> int:
    """The ordinary client, in a process of its own: prints a latency, or what else it got, a line."""
    transport = httpx.HTTPTransport(local_address=NEIGHBOUR)
    body = {"model": "whisper-1", "input": "Please open the door.", "response_format": "pcm", "max_s": 1.0}
    end_s = time.monotonic() + seconds
    with httpx.Client(base_url=address, transport=transport, timeout=60) as client:
        while time.monotonic() < end_s:
            start_s = time.perf_counter()
            try:
                status = str(client.post("/v1/audio/speech", json=body).status_code)
            except httpx.HTTPError as error:
                status = type(error).__name__
            print(time.perf_counter() - start_s if status == "200" else status, flush=True)
            time.sleep(0.2)
    return 0


async def latencies(address: str, seconds: float) -> tuple[list[float], Counter[str]]:
    """What the ordinary client waited, and what else it got."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--ask", address, "--seconds", str(seconds), stdout=subprocess.PIPE
    )
    lines = (await process.communicate())[0].decode().split()
    found = [float(line) for line in lines if line[0].isdigit() and "." in line]
    return found, Counter(line for line in lines if not (line[0].isdigit() and "." in line))


async def peak(pid: int, end_s: float) -> float:
    """The most memory of a process, in MiB, looked at ten times a second."""
    most = 0.0
    while time.monotonic() < end_s:
        most = max(most, resident_mib(pid))
        await asyncio.sleep(0.1)
    return most


async def settled(address: str) -> None:
    """Wait until the server has let go of those who left."""
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        while (health := (await client.get("/health")).json())["active"] or health["waiting"]:
            await asyncio.sleep(0.2)


async def measure(address: str, pid: int, load: str, seconds: float, rounds: int) -> Result:
    """One load, and the ordinary client beside it and without it, in turn."""
    answers: Counter[str] = Counter()
    data = {"uploads": lambda: flac(600, 48_000, 1, 0.3), "bomb": lambda: flac(600, 192_000, 8, 0.0)}
    recording = data[load]() if load in data else b""
    await latencies(address, 2)
    alone_s, failed = await latencies(address, ALONE_S)
    result = Result(answers, 0.0, alone_s, [], failed)
    idle_mib = resident_mib(pid)
    for _ in range(rounds):
        end_s = time.monotonic() + seconds
        loads = {
            "uploads": lambda end_s: send_uploads(address, end_s, answers, 60, recording),
            "bomb": lambda end_s: send_uploads(address, end_s, answers, 4, recording),
            "halves": lambda end_s: hold_halves(address, end_s, answers, 330),
            "slow": lambda end_s: read_slowly(address, end_s, answers, 100),
        }
        _, most_mib, (beside_s, more) = await asyncio.gather(
            loads[load](end_s), peak(pid, end_s), latencies(address, seconds - 1)
        )
        result.peak_mib = max(result.peak_mib, most_mib - idle_mib)
        result.beside_s += beside_s
        result.failed.update(more)
        await settled(address)
        alone_s, more = await latencies(address, ALONE_S)
        result.alone_s += alone_s
        result.failed.update(more)
    return result


def run(load: str, seconds: float, rounds: int, model: Path | None = None) -> Result:
    """Start a server, put the load on it, stop it."""
    process, address = start(model)
    try:
        return asyncio.run(measure(address, process.pid, load, seconds, rounds))
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Load and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    loads = ["uploads", "bomb", "halves", "slow"]
    parser.add_argument("--loads", nargs="+", choices=loads, default=loads)
    parser.add_argument("--seconds", type=float, default=15.0, help="of load in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, help="checkpoint or run folder; default: a small random model")
    parser.add_argument("--most-mib", type=float, default=500.0)
    parser.add_argument("--most-times", type=float, default=2.0)
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        sys.exit(ask(options.ask, options.seconds))
    broken = False
    print("load      memory over idle   ordinary client: alone, beside (worst), times   else   answers")
    for load in options.loads:
        r = run(load, options.seconds, options.rounds, options.model)
        alone_ms, beside_ms = (1000 * statistics.median(s or [float("nan")]) for s in (r.alone_s, r.beside_s))
        worst_ms = 1000 * max(r.beside_s, default=float("nan"))
        print(
            f"{load:8}  {r.peak_mib:8.0f} MiB   {alone_ms:.0f} ms, {beside_ms:.0f} ms ({worst_ms:.0f} ms), {r.times:.2f}   "
            f"{dict(r.failed)}   {dict(r.answers)}",
            flush=True,
        )
        broken |= r.peak_mib > options.most_mib or not r.times <= options.most_times or bool(r.failed)
    sys.exit(broken)


if __name__ == "__main__":
    main()
