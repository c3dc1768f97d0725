"""`sodakit codec`: train a codec, measure one or compare several, and turn sound into codes and back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from sodakit.bounds import Count, Positive
from sodakit.commands.codec_compare import Compare
from sodakit.commands.options import MosOptions, run_word
from sodakit.errors import CodecError
from sodakit.files import atomic_path
from sodakit.log import say


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train the mini codec; run it again after an interruption and it continues.

    Example: sodakit codec train --out out/mini --minutes 60 --start sodakit/codec/weights \\
        --text sentences.jsonl.gz --data LibriSpeech/train-clean-100
    """

    out: Path
    """Folder for the checkpoint and the codec; `load_codec(OUT)` loads it."""
    minutes: Positive = 40.0
    """Training time."""
    voices_hours: float = 3.0
    """Hours of synthetic speech to train on; 0 for none."""
    voices: tuple[str, ...] = ()
    """Who speaks it: `sodakit voices` lists the names. Default: ten of espeak-ng, and as many random ones."""
    text: tuple[Path, ...] = ()
    """Files of sentences to speak: .txt or .jsonl (field `text`), either with .gz."""
    data: tuple[Path, ...] = ()
    """Folders of recordings to train on."""
    start: Path | None = None
    """Folder of a mini codec whose weights to begin with, as far as they fit."""
    teacher: str | None = None
    """Hub id or folder of a speech encoder (WavLM, HuBERT, …) that codebook 0 learns from, beside the phones."""
    device: str = "cpu"
    """Where it is trained: cpu, cuda, …"""
    threads: Count = 2
    """CPU threads."""
    set: tuple[str, ...] = field(default=())
    """Other settings of the run, as name=value: batch_rows=16, network.code_width=32."""

    def run(self) -> None:
        from sodakit.codec.fit.config import FitConfig
        from sodakit.codec.fit.trainer import train
        from sodakit.config import override, parse_overrides

        config = FitConfig(
            out=self.out,
            minutes=self.minutes,
            voices_hours=self.voices_hours,
            voices=self.voices,
            text=self.text,
            data=self.data,
            start=self.start,
            teacher=self.teacher,
            device=self.device,
            threads=self.threads,
        )
        codec = train(override(config, parse_overrides(list(self.set))))
        say(f"{self.out}: {codec.spec.bitrate_bps / 1000:.2f} kbit/s, fingerprint {codec.spec.fingerprint}.")


@dataclass(frozen=True, kw_only=True)
class Eval(MosOptions):
    """Measure a codec: on recordings in DATA, and on synthetic voices that no codec has heard.

    With a judge that can tell when words are said, also what codes tell of the phones of recordings.

    Example: sodakit codec eval --data recordings/ --out runs/codec
    """

    codec: str = "mini"
    """Name or folder of the codec."""
    data: tuple[Path, ...] = ()
    """Folders of recordings, in any layout that `sodakit prepare` reads."""
    clips: Count = 20
    """Clips from each folder and from the voices."""
    voices: tuple[str, ...] = ("unseen",)
    """Who speaks those: `sodakit voices` lists the names. Default: four that no codec has heard."""
    judge: str | None = None
    """Who writes down originals and copies: `small` (a recogniser taught on the spot, where words are few; the default
    where --judges has none), `none`, Whisper or Wav2Vec2 by hub id or folder, Whisper also as faster-whisper has it, or a judge's .safetensors."""
    out: Path | None = None
    """Folder for codec.json and codec.html."""

    def run(self) -> None:
        from sodakit.align.phones import label_sets
        from sodakit.codec.load import load_codec
        from sodakit.eval.codecs import as_text, measure_codec, page
        from sodakit.eval.copies import folder_set, voices_set
        from sodakit.files import write_json
        from sodakit.voices.names import find_voices

        codec = load_codec(self.codec)
        judge = None if self.judge in ("small", "none") else self.named_recogniser()
        teach = judge is None and self.judge != "none"
        sets = [voices_set(self.clips, judge, teach, find_voices(self.voices))]
        sets += [folder_set(folder, self.clips, judge, teach) for folder in self.data]
        # The first set is of synthetic voices, whose phones are known without an aligner.
        recorded, words_by = label_sets(sets[1:], self.judge_language)
        report, copies = measure_codec(
            codec,
            sets,
            self.speakers(),
            phone_sentences=10 * self.clips,
            mos=self.mos(),
            recorded=recorded,
            words_by=words_by,
        )
        print(as_text(report))
        if self.out is not None:
            write_json(self.out / "codec.json", report.plain())
            page(report, sets, copies).write(self.out / "codec.html")
            say(f"{self.out}: codec.json, codec.html")


@dataclass(frozen=True, kw_only=True)
class Encode:
    """Write the codes of a sound file as a numpy array (K, F).

    Example: sodakit codec encode hello.wav --out hello.npy
    """

    sound: Annotated[Path, tyro.conf.Positional]
    """A sound file of any rate and length."""
    out: Path
    """Where the codes go: a .npy file."""
    codec: str = "mini"
    """Name or folder of the codec."""

    def run(self) -> None:
        from sodakit.audio.files import read_blocks
        from sodakit.codec.load import load_codec

        codec = load_codec(self.codec)
        waves = read_blocks(self.sound, codec.spec.sample_rate_hz)
        codes_KF = np.concatenate(list(codec.encode_blocks(wave.samples_S for wave in waves)), axis=1)
        with atomic_path(self.out) as temporary, open(temporary, "wb") as file:
            np.save(file, codes_KF)
        say(f"{self.out}: {codes_KF.shape[0]} codebooks, {codes_KF.shape[1]} frames.")


@dataclass(frozen=True, kw_only=True)
class Decode:
    """Write the sound of a numpy array of codes (K, F).

    Example: sodakit codec decode hello.npy --out copy.wav
    """

    codes: Annotated[Path, tyro.conf.Positional]
    """A .npy file that `sodakit codec encode` wrote."""
    out: Path
    """Where the sound goes: .wav or .flac."""
    codec: str = "mini"
    """Name or folder of the codec that made the codes."""

    def run(self) -> None:
        from sodakit.audio.files import write_wave
        from sodakit.audio.wave import Wave
        from sodakit.codec.load import load_codec

        codec = load_codec(self.codec)
        try:
            codes_KF = np.load(self.codes, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CodecError(
                f"{self.codes} holds no codes ({error}). Make it with: sodakit codec encode."
            ) from error
        wave = Wave(codec.decode(codes_KF), codec.spec.sample_rate_hz)
        write_wave(self.out, wave)
        say(f"{self.out}: {wave.duration_s:.2f} s.")


def main(argv: list[str]) -> None:
    """Run `sodakit codec` with these arguments."""
    run_word(
        {"train": Train, "eval": Eval, "compare": Compare, "encode": Encode, "decode": Decode},
        "codec",
        "Train a codec, measure one or compare several, and turn sound into codes and back.\n\n"
        "Example: sodakit codec eval --data recordings/",
        argv,
    )
