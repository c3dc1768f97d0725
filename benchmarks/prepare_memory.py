"""Peak memory of `prepare` on hours of generated audio, and CPU seconds with one worker and with two.

    python benchmarks/prepare_memory.py --hours 20 --workers 2
    python benchmarks/prepare_memory.py --hours 1 --codec mini --workers 2

Ten files of random tones are used again and again under other names, so that hours of sound need little disk: reading,
decoding, encoding and writing are those of as many different files. Peak memory is that of this process plus, for each
worker, the largest peak of any (an upper limit: their peaks need not coincide, and they share the pages of libraries).
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.codec.load import load_codec
from sodakit.codec.toy import ToyCodec
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.stages import prepare

CLIP_S, RATE_HZ, FILES = 30.0, 24_000, 10


def make_items(folder: Path, hours: float) -> list[Item]:
    """Clips of 30 seconds that come to `hours`."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(FILES):
        notes_hz = rng.uniform(100, 4000, round(CLIP_S / 0.1))
        phase_S = np.cumsum(np.repeat(notes_hz, RATE_HZ // 10)) / RATE_HZ
        noise_S = 0.01 * rng.standard_normal(len(phase_S))
        paths.append(folder / f"{number}.flac")
        write_wave(paths[-1], Wave((0.3 * np.sin(2 * np.pi * phase_S) + noise_S).astype(np.float32), RATE_HZ))
    return [
        Item(id=f"clip-{n}", audio=paths[n % FILES], text=f"clip number {n}", source="generated")
        for n in range(round(hours * 3600 / CLIP_S))
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=20.0)
    parser.add_argument("--codec", default="toy")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    # The toy on Mimi's clock, so that the store is as large as a real one.
    codec = ToyCodec(8, 32, RATE_HZ, 1920) if options.codec == "toy" else load_codec(options.codec)
    with tempfile.TemporaryDirectory() as name:
        items = make_items(Path(name), options.hours)
        start_s = time.perf_counter()
        prepare(items, Path(name) / "store", codec, PrepareOptions(workers=options.workers))
        elapsed_s = time.perf_counter() - start_s
    here, there = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    peak_kib = here.ru_maxrss + (options.workers if options.workers > 1 else 0) * there.ru_maxrss
    row = {
        "codec": options.codec,
        "hours": options.hours,
        "workers": options.workers,
        "peak_mib": round(peak_kib / 1024),
        "peak_mib_main": round(here.ru_maxrss / 1024),
        "peak_mib_largest_worker": round(there.ru_maxrss / 1024),
        "cpu_s": round(here.ru_utime + here.ru_stime + there.ru_utime + there.ru_stime, 1),
        "wall_s": round(elapsed_s, 1),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
