"""How many codes stay the same when a recording went through a lossy format, a telephone, a change of level or noise.

    python benchmarks/codec_damage.py --codecs mini out/mini --clips 10 \
        $DATA/librispeech_test_other $DATA/vctk $DATA/ljspeech

Per codec and damage: the share of frames whose code of codebook 0 is that of the recording itself, then of all other
codebooks. Formats are those of ffmpeg, which must be on the PATH; copies are laid over the original by their
cross-correlation, since some formats begin late.
"""

import argparse
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sodakit.audio.files import read_wave, resample, write_wave
from sodakit.audio.wave import Wave
from sodakit.codec.contract import Codec
from sodakit.codec.fit.damage import noisy
from sodakit.codec.load import load_codec
from sodakit.eval.copies import folder_set

MOST_LAG_S = 0.15


def coded(*options: str, suffix: str) -> Callable[[Wave], Wave]:
    """What ffmpeg makes of a sound with these options of its encoder, read again."""

    def copy(wave: Wave) -> Wave:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "a.wav", Path(folder) / f"b{suffix}"
            write_wave(source, wave)
            subprocess.run(["ffmpeg", "-v", "error", "-i", str(source), *options, str(target)], check=True)
            return read_wave(target)

    return copy


DAMAGES: dict[str, Callable[[Wave], Wave]] = {
    "mp3 64k": coded("-b:a", "64k", suffix=".mp3"),
    "opus 24k": coded("-c:a", "libopus", "-b:a", "24k", suffix=".ogg"),
    "aac, 6 kHz": coded("-c:a", "aac", "-b:a", "48k", "-cutoff", "6000", suffix=".m4a"),
    "telephone, 8 kHz": coded("-ar", "8000", "-c:a", "pcm_mulaw", suffix=".wav"),
    "-6 dB": lambda wave: Wave(wave.samples_S * 0.5, wave.sample_rate_hz),
    "noise, 30 dB": lambda wave: Wave(
        noisy(wave.samples_S, 30.0, np.random.default_rng(0)).astype(np.float32), wave.sample_rate_hz
    ),
}


def laid_over(copy: Wave, original: Wave) -> Wave:
    """The copy at the original's rate, moved to where it fits best, as long as the original."""
    samples_S = resample(copy, original.sample_rate_hz).samples_S
    count, most = len(original.samples_S), round(MOST_LAG_S * original.sample_rate_hz)
    size = 1 << (count + len(samples_S)).bit_length()
    spectra = np.fft.rfft(samples_S, size) * np.fft.rfft(original.samples_S, size).conj()
    fit_S = np.fft.irfft(spectra, size)
    lag = int(np.argmax(np.concatenate([fit_S[-most:], fit_S[: most + 1]]))) - most
    moved_S = samples_S[lag:] if lag >= 0 else np.pad(samples_S, (-lag, 0))
    return Wave(np.pad(moved_S[:count], (0, max(0, count - len(moved_S)))), original.sample_rate_hz)


def shares(codec: Codec, originals: list[Wave], copies: list[Wave]) -> tuple[float, float]:
    """Of codebook 0 and of the others: the share of frames with the same code."""
    first: list[np.ndarray] = []
    others: list[np.ndarray] = []
    for original, copy in zip(originals, copies, strict=True):
        same_KF = codec.encode(original.samples_S) == codec.encode(copy.samples_S)
        whole, *rest = codec.spec.in_time(same_KF)
        first.append(whole)
        others.append(np.concatenate([np.zeros(0, bool), *rest]))
    return float(np.concatenate(first).mean()), float(np.concatenate(others).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="folders of recordings")
    parser.add_argument("--codecs", nargs="+", default=["mini"], help="as `--codec` takes them")
    parser.add_argument("--clips", type=int, default=10, help="of each folder")
    options = parser.parse_args()
    print("| codec | recordings |", " | ".join(DAMAGES), "|")
    print("| --- " * (len(DAMAGES) + 2) + "|")
    for name in options.codecs:
        codec = load_codec(name)
        rate_hz = codec.spec.sample_rate_hz
        for folder in options.folders:
            chosen = folder_set(folder, options.clips, None).recordings
            originals = [resample(recording.wave, rate_hz) for recording in chosen]
            cells = []
            for damage in DAMAGES.values():
                # The format hears the recording at its own rate, as whoever made the file did.
                copies = [
                    laid_over(damage(recording.wave), original)
                    for recording, original in zip(chosen, originals, strict=True)
                ]
                first, others = shares(codec, originals, copies)
                cells.append(f"{first:.1%}, {others:.1%}")
            print(f"| {name} | {folder.name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
