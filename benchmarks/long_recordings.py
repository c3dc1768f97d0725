"""Recordings of hours through the commands that hear them: memory at the peak, and time.

    python benchmarks/long_recordings.py --hours 3                 about six minutes on one core
    python benchmarks/long_recordings.py --hours 3 --commands transcribe

Speech of the built-in voices is said, prepared with the toy codec and learnt by a nano model for a few steps, so that
its transcripts end by themselves; the same sentences again and again make the recording (16 kHz, FLAC). Each command is
a process of its own. Exit status 1: one held more than --most-mib.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.audio.writing import write_blocks
from sodakit.codec.toy import ToyCodec
from sodakit.data.config import DataConfig, SourceConfig
from sodakit.data.language import open_language
from sodakit.model.config import model_size
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import prepare
from sodakit.train.config import ScheduleConfig, TrainConfig
from sodakit.train.trainer import train
from sodakit.voices.engines import Synthesizer
from sodakit.voices.names import find_voices

RATE_HZ = 16_000
SENTENCES = (
    "Please open the door of the kitchen.",
    "Turn off the lamp in the garden.",
    "Close the window, it is cold.",
    "The radio is on again today.",
)


def speech() -> list[tuple[str, Wave]]:
    """Sentences as two voices say them."""
    with Synthesizer(0) as synthesizer:
        said = [
            (text, synthesizer.speak(text, v).wave)
            for v in find_voices(("anna", "frank"))
            for text in SENTENCES
        ]
    return [(text, resample(wave, RATE_HZ)) for text, wave in said]


def taught(folder: Path, said: list[tuple[str, Wave]], steps: int) -> Path:
    """A nano model that has heard them for a few steps."""
    items = [Item(id=f"{n}", wave=wave, text=text, source="said") for n, (text, wave) in enumerate(said * 4)]
    options = PrepareOptions(split=SplitRule(validation_fraction=0, test_fraction=0), text_vocab_size=300)
    prepare(items, folder / "store", ToyCodec(), options)
    _, vocabulary = open_language(folder / "store")
    config = TrainConfig(
        model=model_size("nano", vocabulary.size, context=1024),
        data=DataConfig(sources=(SourceConfig(store=str(folder / "store")),), context=512, batch_rows=4),
        steps=steps,
        schedule=ScheduleConfig(peak_lr=1e-2),
        precision="float32",
    )
    train(config, folder / "run")
    return folder / "run"


def recording(path: Path, said: list[tuple[str, Wave]], hours: float) -> Path:
    """The sentences with pauses, again and again."""

    def blocks() -> Iterator[Wave]:
        pause, written_s, number = Wave(np.zeros(RATE_HZ // 2, np.float32), RATE_HZ), 0.0, 0
        while written_s < hours * 3600:
            for wave in (said[number % len(said)][1], pause):
                yield wave
                written_s += wave.duration_s
            number += 1

    write_blocks(path, blocks(), RATE_HZ)
    return path


def measured(words: list[str]) -> tuple[float, float]:
    """Seconds and MiB at the peak of a command; what it prints is dropped."""
    begun_s, most_kib = time.monotonic(), 0
    with subprocess.Popen(
        [sys.executable, "-m", "sodakit", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            # Not by the usage of children: theirs begins with the memory of this process.
            with suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
                most_kib = max(most_kib, *map(int, re.findall(r"VmHWM:\s+(\d+)", status)), 0)
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"sodakit {' '.join(words)} ended with status {process.returncode}")
    return time.monotonic() - begun_s, most_kib / 1024


def main() -> None:
    """Make the recording, hear it, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = ["transcribe", "encode", "continue"]
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--commands", nargs="+", choices=commands, default=commands)
    parser.add_argument("--steps", type=int, default=60, help="of training")
    parser.add_argument("--most-mib", type=float, default=1000.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, said = Path(temporary), speech()
        model = taught(folder, said, options.steps)
        short = recording(folder / "short.flac", said, 1 / 60)
        long = recording(folder / "long.flac", said, options.hours)
        print(f"command      a minute of sound   {options.hours:g} h of sound")
        most = 0.0
        for command in options.commands:
            rows = []
            for sound in (short, long):
                words = {
                    "transcribe": ["transcribe", str(sound), "--model", str(model), "--codec", "toy"],
                    "encode": ["codec", "encode", str(sound), "--codec", "toy", "--out", str(folder / "a.npy")],
                    "continue": ["continue", str(sound), "--model", str(model), "--codec", "toy", "--max-s", "1", "--out", str(folder / "b.wav")],
                }[command]  # fmt: skip
                rows.append(measured(words))
            print(
                f"{command:10}   {rows[0][1]:.0f} MiB, {rows[0][0]:.0f} s   {rows[1][1]:.0f} MiB, {rows[1][0]:.0f} s",
                flush=True,
            )
            most = max(most, rows[1][1])
    sys.exit(most > options.most_mib)


if __name__ == "__main__":
    main()
