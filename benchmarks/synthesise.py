"""`sodakit synthesise` against a plain loop over the same engine: one process that says a text and writes it, again and again.

    python benchmarks/synthesise.py --texts $DATA/tts_sentences/vctk_unique_sentences.jsonl.gz --voices seen --lines 2000

Both write the same sounds as 16-bit FLAC. The processes of an engine of its own (espeak-ng, flite) are part of both.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import soundfile

from sodakit.prepare.synthesis import Line, SynthesisConfig, plan_shards, read_texts, synthesise
from sodakit.voices.contract import Voice
from sodakit.voices.engines import Synthesizer
from sodakit.voices.names import find_voices


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--voices", nargs="+", required=True)
    parser.add_argument("--lines", type=int, default=500)
    parser.add_argument("--longest", type=int, default=60, help="characters of a text at most")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    words = parser.parse_args()
    lines = [line for line in read_texts(words.texts, "en") if len(line.text) <= words.longest][: words.lines]
    voices, config = find_voices(words.voices), SynthesisConfig(workers=words.workers)
    ratios = []
    for _ in range(words.rounds):
        with tempfile.TemporaryDirectory() as folder:
            before_s = cpu_s()
            plain_s = plain(lines, voices, Path(folder))
            plain_cpu_s = cpu_s() - before_s
        with tempfile.TemporaryDirectory() as folder:
            begun_s, before_s = time.monotonic(), cpu_s()
            made = synthesise(lines, voices, Path(folder) / "corpus", config)
            ours_s, ours_cpu_s = time.monotonic() - begun_s, cpu_s() - before_s
        ratios.append(plain_s / ours_s)
        print(
            f"CPU: plain loop {plain_cpu_s:.1f} s, synthesise {ours_cpu_s:.1f} s; "
            f"{words.workers * plain_cpu_s / ours_cpu_s:.2f} times where every process has a core"
        )
        speech = f"{made.duration_s / ours_s:.1f} times real time"
        print(
            f"{made.said} texts: plain loop {plain_s:.1f} s, synthesise {ours_s:.1f} s ({speech}), {ratios[-1]:.2f} times"
        )
    print(f"median {statistics.median(ratios):.2f} times with {words.workers} processes")


def cpu_s() -> float:
    """Of this process and those it started and that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def plain(lines: Sequence[Line], voices: Sequence[Voice], out: Path) -> float:
    """Seconds that the loop takes, for the same texts by the same voices."""
    shards = plan_shards(lines, voices, replace(SynthesisConfig(), shard_lines=len(lines)))
    begun_s = time.monotonic()
    for shard in shards:
        with Synthesizer() as synthesizer:
            for place, line in shard.lines:
                wave = synthesizer.speak(line.text, shard.voice).wave
                soundfile.write(out / f"{place}.flac", wave.samples_S, wave.sample_rate_hz, "PCM_16")
    return time.monotonic() - begun_s


if __name__ == "__main__":
    main()
