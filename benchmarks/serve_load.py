"""A server under load: many clients at once on loopback, some slow, some leaving, some killed.

    python benchmarks/serve_load.py --model runs/demo/model --clients 50 --seconds 120
    python benchmarks/serve_load.py --seconds 20                     a small random model, no checkpoint needed

Starts a server of its own in another process. Each client asks again and again: mostly for speech, sometimes for a
transcript; turned away with 429, it waits as long as it is told to. Beside them come readers that take the sound
slowly, clients that leave in the middle, and clients whose connection is cut. Prints what was answered, how evenly the
clients were served, the memory of the server over time, and what is left in it at the end. Exit status 1: a request
failed other than by 429, or something was left running.
"""

import argparse
import asyncio
import io
import json
import random
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import soundfile

SAY = {"model": "whisper-1", "input": "Please open the door.", "response_format": "pcm", "max_s": 2.0}
SETTLE_S = 20.0


@dataclass
class Tally:
    """What the clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    served: Counter[int] = field(default_factory=Counter)
    """Answers in full, by client."""
    first_byte_s: list[float] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    """Clients that went away on purpose, by manner."""


@dataclass(frozen=True)
class Load:
    """Everything measured."""

    tally: Tally
    memory_mib: list[float]
    """Resident memory of the server, once a second."""
    left_running: dict[str, int]
    """The server's own count of requests at the end."""

    @property
    def failed(self) -> int:
        """Answers other than success and a clean 429."""
        return sum(n for status, n in self.tally.statuses.items() if status not in ("200", "429"))

    @property
    def memory_growth_mib(self) -> float:
        """The last third of the time against the middle third: the first one fills caches."""
        third = len(self.memory_mib) // 3
        if not third:
            return float("nan")
        return statistics.median(self.memory_mib[-third:]) - statistics.median(
            self.memory_mib[third : 2 * third]
        )


def tone(duration_s: float = 1.0, rate_hz: int = 16_000) -> bytes:
    """A wav file to transcribe."""
    buffer = io.BytesIO()
    time_S = np.arange(round(duration_s * rate_hz)) / rate_hz
    soundfile.write(buffer, 0.3 * np.sin(2764 * time_S), rate_hz, format="WAV")
    return buffer.getvalue()


async def ask(client: httpx.AsyncClient, number: int, tally: Tally, rng: random.Random) -> None:
    """One request, to its end."""
    start_s = time.perf_counter()
    try:
        if rng.random() < 0.15:
            form = {"files": {"file": ("a.wav", tone())}, "data": {"model": SAY["model"]}}
            response = await client.post("/v1/audio/transcriptions", **form)
        else:
            async with client.stream("POST", "/v1/audio/speech", json={**SAY, "seed": number}) as response:
                async for _ in response.aiter_bytes():
                    if response.status_code == 200 and start_s:
                        tally.first_byte_s.append(time.perf_counter() - start_s)
                        start_s = 0.0
    except httpx.HTTPError as error:
        tally.statuses[type(error).__name__] += 1
        return
    tally.statuses[str(response.status_code)] += 1
    if response.status_code == 200:
        tally.served[number] += 1
    else:
        await asyncio.sleep(float(response.headers.get("retry-after", 1)) * (0.5 + rng.random()))


async def patient(address: str, number: int, until_s: float, tally: Tally) -> None:
    """A client that asks again and again."""
    rng = random.Random(number)
    async with httpx.AsyncClient(base_url=address, timeout=120) as client:
        while time.monotonic() < until_s:
            await ask(client, number, tally, rng)


async def rude(address: str, number: int, until_s: float, tally: Tally) -> None:
    """A client that reads a little every second, leaves in the middle, or has its connection cut."""
    rng = random.Random(1000 + number)
    host, port = address.removeprefix("http://").split(":")
    body = json.dumps({**SAY, "seed": number}).encode()
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    while time.monotonic() < until_s:
        manner = rng.choice(["slow", "leaves", "killed"])
        reader, writer = await asyncio.open_connection(host, int(port), limit=2048)
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        for _ in range(3 if manner == "slow" else 1):
            await reader.read(512)
            await asyncio.sleep(0.5 + rng.random())
        if manner == "killed":  # no farewell: what the system does for a process that dies
            taken = writer.get_extra_info("socket")
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        tally.left[manner] += 1


def resident_mib(pid: int) -> float:
    """Memory of a process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


async def watch(pid: int, until_s: float, memory_mib: list[float]) -> None:
    """Note the server's memory once a second."""
    while time.monotonic() < until_s:
        memory_mib.append(resident_mib(pid))
        await asyncio.sleep(1)


async def put_under_load(address: str, pid: int, clients: int, seconds: float, rude_clients: int) -> Load:
    """What happens to the server at `address`, whose process is `pid`."""
    tally, memory_mib, until_s = Tally(), [], time.monotonic() + seconds
    await asyncio.gather(
        watch(pid, until_s, memory_mib),
        *(patient(address, n, until_s, tally) for n in range(clients)),
        *(rude(address, n, until_s, tally) for n in range(rude_clients)),
    )
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        end_s = time.monotonic() + SETTLE_S
        while True:
            health = (await client.get("/health")).json()
            left = {name: health[name] for name in ("active", "waiting")}
            if not any(left.values()) or time.monotonic() > end_s:
                return Load(tally, memory_mib, left)
            await asyncio.sleep(0.2)


def serve_small(port: int) -> None:
    """A server with a small random model."""
    import uvicorn

    from sodakit.codec.load import load_codec
    from sodakit.generate.speech_model import SpeechModel
    from sodakit.model.config import model_size
    from sodakit.model.transformer import Transformer
    from sodakit.serve.app import build_app
    from sodakit.serve.connections import uvicorn_config
    from sodakit.serve.limits import Limits
    from sodakit.tokens.text import train_bpe
    from sodakit.tokens.vocabulary import Vocabulary

    tokenizer = train_bpe(["open the door", "close the window"], 280)
    codec, limits = load_codec("mini"), Limits(concurrent=3)
    vocabulary = Vocabulary.layout(
        text_size=tokenizer.size,
        bos=tokenizer.bos,
        eos=tokenizer.eos,
        num_codebooks=codec.spec.num_codebooks,
        codebook_size=codec.spec.codebook_size,
    )
    network = Transformer(model_size("nano", vocabulary.size, context=1000, init_std=0.2), seed=1)
    app = build_app(SpeechModel(network, vocabulary, tokenizer, codec), name="small", limits=limits)
    uvicorn.Server(uvicorn_config(app, limits, port=port, log_level="error")).run()


def start(model: Path | None) -> tuple[subprocess.Popen, str]:
    """A server in a process of its own, and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if model is None:
        command = [sys.executable, __file__, "--serve-small", str(port)]
    else:
        command = [sys.executable, "-m", "sodakit", "serve", str(model), "--port", str(port)]
    process, address = subprocess.Popen(command, stdout=subprocess.DEVNULL), f"http://127.0.0.1:{port}"
    end_s = time.monotonic() + 180
    while time.monotonic() < end_s and process.poll() is None:
        try:
            httpx.get(f"{address}/health")
            return process, address
        except httpx.TransportError:
            time.sleep(0.2)
    process.kill()
    raise RuntimeError(f"The server did not start: {' '.join(command)}")


def run(
    model: Path | None = None, *, clients: int = 50, seconds: float = 120.0, rude_clients: int = 6
) -> Load:
    """Start a server, put it under load, stop it."""
    process, address = start(model)
    try:
        return asyncio.run(put_under_load(address, process.pid, clients, seconds, rude_clients))
    finally:
        process.terminate()
        process.wait(timeout=30)


def show(load: Load, clients: int) -> None:
    """Print it."""
    tally = load.tally
    served = [tally.served[n] for n in range(clients)]
    firsts_ms = sorted(1000 * s for s in tally.first_byte_s) or [float("nan")]
    print("answers      ", dict(tally.statuses), " left on purpose", dict(tally.left))
    print(f"per client    {min(served)} to {max(served)} answers, median {statistics.median(served):g}")
    print(f"first bytes   median {statistics.median(firsts_ms):.0f} ms, slowest {firsts_ms[-1]:.0f} ms")
    memory = load.memory_mib or [float("nan")]
    print(
        f"memory        {memory[0]:.0f} MiB at first, {max(memory):.0f} at most, {memory[-1]:.0f} at last; "
        f"middle to last third {load.memory_growth_mib:+.1f} MiB"
    )
    print("left running ", load.left_running, " failed", load.failed)


def main() -> None:
    """Load and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="checkpoint or run folder; default: a small random model")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--rude", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--serve-small", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_small:
        return serve_small(options.serve_small)
    load = run(options.model, clients=options.clients, seconds=options.seconds, rude_clients=options.rude)
    show(load, options.clients)
    if load.failed or any(load.left_running.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
