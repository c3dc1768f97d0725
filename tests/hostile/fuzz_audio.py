"""Damaged sounds of every format that is read, for as long as you like; run by hand.

    python -m tests.hostile.fuzz_audio --minutes 10 --keep /tmp/fuzz

A child process reads mutated files one after the other, so that a crash of the reader is found and counted and ends
nothing else. What crashed it, hung it or raised something other than an AudioError is kept with its seed and its bytes.
Status 1 if there was any.
"""

import argparse
import io
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from sodakit.audio.files import probe, read_blocks, read_part
from sodakit.errors import AudioError
from tests.audio.joined import encoded, speechlike, vbr_mp3, without_info

HANG_S = 120
"""A reader that takes longer ends its process, like one that crashes."""
PLAIN = (
    "WAV",
    "AIFF",
    "FLAC",
    "AU",
    "CAF",
    "W64",
    "RF64",
    "VOC",
    "PAF",
    "SVX",
    "NIST",
    "IRCAM",
    "AVR",
    "MAT5",
)


def originals() -> dict[str, bytes]:
    """A small file of each format, by name."""
    mono, stereo = speechlike(1.0), np.stack([speechlike(1.0), -0.5 * speechlike(1.0, seed=1)], 1)
    found = {kind.lower(): encoded(mono if kind == "SVX" else stereo, kind, "PCM_16") for kind in PLAIN}
    for subtype in ("GSM610", "IMA_ADPCM", "MS_ADPCM", "ULAW", "FLOAT", "PCM_24"):
        found[f"wav-{subtype}"] = encoded(mono, "WAV", subtype)
    found |= {"vorbis": encoded(stereo, "OGG", "VORBIS"), "opus": encoded(mono, "OGG", "OPUS")}
    found["vorbis-joined"] = found["vorbis"] * 2
    found |= {"mp3": vbr_mp3(1.0), "mp3-bare": without_info(vbr_mp3(1.0)), "mp3-joined": vbr_mp3(1.0) * 2}
    try:
        from tests.audio.test_containers import contained
    except ImportError:  # pytest's way of saying that PyAV is absent
        return found
    found |= {"aac": contained("adts", "aac", 1.0), "mp4": contained("mp4", "aac", 1.0)}
    return found | {"webm": contained("webm", "libopus", 1.0, 48_000)}


def mutated(seed: int, files: dict[str, bytes]) -> tuple[str, bytes]:
    """A file's name and its bytes, damaged in one of the usual ways. The seed says all."""
    random = np.random.default_rng(seed)
    name = list(files)[int(random.integers(len(files)))]
    data = bytearray(files[name])
    # Headers are where damage hurts most.
    reach = len(data) if random.random() < 0.5 else min(len(data), 128)
    for _ in range(int(random.integers(1, 4))):
        place, way = int(random.integers(reach)), int(random.integers(7))
        if way == 0:
            data[place] ^= 1 << int(random.integers(8))
        elif way == 1:
            data[place] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF]))
        elif way == 2:
            data[place : place + 4] = bytes(random.integers(0, 256, 4, dtype=np.uint8))
        elif way == 3:
            data[place : place + 4] = int(random.choice([0, 1, 2**31 - 1, 2**32 - 1])).to_bytes(4, "little")
        elif way == 4:
            del data[place : place + int(random.integers(1, 400))]
        elif way == 5:
            data[place:place] = data[: int(random.integers(1, 400))]
        else:
            del data[max(16, place) :]
        reach = min(reach, len(data))
        if reach == 0:
            break
    return name, bytes(data)


def read(data: bytes) -> str:
    """What comes of reading it in every way: `read`, or the first word of a clear error; other errors are raised."""
    try:
        probe(io.BytesIO(data))
        read_part(io.BytesIO(data), 0.2, 0.5)
        for _ in read_blocks(io.BytesIO(data), 24_000, longest_s=60.0):
            pass
    except AudioError as error:
        return type(error).__name__
    return "read"


def work(first: int, last: int) -> None:
    """Read the files of these seeds, each said before and after."""
    files = originals()
    for seed in range(first, last):
        name, data = mutated(seed, files)
        print(f"> {seed} {name}", flush=True)
        signal.alarm(HANG_S)
        try:
            outcome = read(data)
        except Exception as error:
            outcome = f"RAISED {type(error).__name__}: {str(error).splitlines()[:1]}"
        print(f"< {seed} {outcome}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (minutes)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), help="folder for what failed")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(*options.worker)
        return 0
    end, seed, counts, failures, files = (
        time.monotonic() + 60 * options.minutes,
        options.seed,
        Counter(),
        0,
        originals(),
    )
    while time.monotonic() < end:
        command = [
            sys.executable,
            "-m",
            "tests.hostile.fuzz_audio",
            "--worker",
            str(seed),
            str(seed + 100_000),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            begun = None
            for line in child.stdout:
                mark, number, what = line.rstrip("\n").split(" ", 2)
                if mark == ">":
                    begun = (int(number), what)
                    continue
                seed, begun_name, begun = int(number) + 1, begun[1] if begun else "", None
                counts[begun_name, what.split()[0]] += 1
                if what.startswith("RAISED"):
                    failures += 1
                    _keep(options.keep, int(number), files, what)
                if time.monotonic() > end:
                    child.kill()
                    break
            status = child.wait()
        if begun is not None and time.monotonic() < end:
            failures += 1
            counts[begun[1], "CRASHED"] += 1
            _keep(options.keep, begun[0], files, f"ended with status {status}")
            seed = begun[0] + 1
    for (name, what), count in sorted(counts.items()):
        print(f"{name:16s} {what:12s} {count}")
    print(f"{sum(counts.values())} files, seeds {options.seed} to {seed - 1}, {failures} failures")
    return 1 if failures else 0


def _keep(folder: Path, seed: int, files: dict[str, bytes], what: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name, data = mutated(seed, files)
    (folder / f"{seed}.{name}").write_bytes(data)
    with open(folder / "failures.txt", "a", encoding="utf-8") as handle:
        handle.write(f"{seed} {name}: {what}\n")
    print(f"seed {seed} ({name}): {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
