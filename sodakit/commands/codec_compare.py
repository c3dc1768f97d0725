"""`sodakit codec compare`: any codecs on any recordings, side by side on one page."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from sodakit.bounds import Count
from sodakit.commands.options import MosOptions, ResumeOptions
from sodakit.errors import ConfigError
from sodakit.log import say
from sodakit.units import format_count, format_duration

if TYPE_CHECKING:
    from sodakit.codec.contract import Codec
    from sodakit.eval.codec_compare import Compared
    from sodakit.eval.copies import SoundSet
    from sodakit.eval.phones import Labelled
    from sodakit.recipes.codec_model import ModelBudget


@dataclass(frozen=True, kw_only=True)
class Compare(ResumeOptions, MosOptions):
    """Measure several codecs on the same recordings and write one page. Run it again and only what is missing is measured.

    Example: sodakit codec compare mini kyutai/mimi facebook/encodec_24khz@4 --data recordings/ --out runs/codecs
    """

    codecs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Names, hub ids or folders; NAME@K for the first K codebooks."""
    out: Path
    """Folder for a folder of each codec, codecs.json and codecs.html."""
    data: tuple[Path, ...] = ()
    """Folders of recordings, in any layout that `sodakit prepare` reads."""
    clips: Count = 20
    """Clips from each folder and from the voices."""
    voices: tuple[str, ...] = ("unseen",)
    """Who speaks those: `sodakit voices` lists the names. Default: four that no codec has heard."""
    judge: str | None = None
    """Who writes down originals and copies: `small` (a recogniser taught on the spot, where words are few; the default
    where --judges has none), `none`, Whisper or Wav2Vec2 by hub id or folder, Whisper also as faster-whisper has it, or a judge's .safetensors."""
    model_flops: float = 0.0
    """Also train a small language model on each codec's codes, for so many FLOPs, and tell its loss per second of sound:
    1e13 is some minutes on a CPU. 0: none."""
    model_data: tuple[Path, ...] = ()
    """Folders of recordings it is trained on, a tenth held out. Default: --data."""
    model_size: str = "tiny"
    """Its body: nano, tiny, demo, small, …"""
    device: str = "cpu"
    """Where the codecs run, and the models are trained."""
    dry_run: bool = False
    """Print what would be measured and what it costs, and stop."""

    def run(self) -> None:
        from sodakit.align.phones import label_sets
        from sodakit.eval.codec_compare import (
            as_text,
            compare_page,
            keep_originals,
            open_compared,
            save_compared,
        )
        from sodakit.files import write_json

        if not self.codecs:
            raise ConfigError("No codec to compare. Name one or more: mini, a hub id, a folder.")
        if self.model_flops < 0 or self.model_flops != self.model_flops:
            raise ConfigError(f"--model-flops {self.model_flops}; needed: 0 or more.")
        codecs = [_opened(name, self.device) for name in self.codecs]
        if self.dry_run:
            print(self._cost(codecs))
            return
        asked = self._asked()
        found = {folder: open_compared(folder, asked) for folder, _ in self._folders(codecs)}
        missing = [(folder, codec) for folder, codec in self._folders(codecs) if found[folder] is None]
        for folder, kept in found.items():
            if kept is not None:
                say(f"{folder}: measured before.")
        sets = self._sets() if missing else []
        recorded: tuple[list[Labelled], str] = [], ""
        if missing:
            keep_originals(self.out, sets)
            recorded = label_sets(sets[1:], self.judge_language)
        begun_s = time.monotonic()
        for number, (folder, codec) in enumerate(missing):
            left = (time.monotonic() - begun_s) / number * (len(missing) - number) if number else None
            eta = "" if left is None else f", about {format_duration(left)} left"
            say(f"— {codec.spec.name}@{codec.spec.num_codebooks}: codec {number + 1} of {len(missing)}{eta}")
            found[folder] = compared = self._measured(folder, codec, sets, *recorded)
            save_compared(compared, asked)
            done = [compared for compared in found.values() if compared]
            compare_page(done, self.out).write(self.out / "codecs.html")
        done = [compared for compared in found.values() if compared]
        print(as_text(done))
        write_json(self.out / "codecs.json", [{"report": c.report, "model": c.model} for c in done])
        compare_page(done, self.out).write(self.out / "codecs.html")
        say(f"{self.out}: codecs.json, codecs.html")

    def _folders(self, codecs: Sequence["Codec"]) -> list[tuple[Path, "Codec"]]:
        """Each codec with its folder; the same one twice counts once."""
        folders = {
            self.out / f"{c.spec.name.replace('/', '--')}@{c.spec.num_codebooks}-{c.spec.fingerprint[:8]}": c
            for c in codecs
        }
        return list(folders.items())

    def _asked(self) -> dict[str, Any]:
        """What makes two measurements the same."""
        return {
            "data": [str(folder.resolve()) for folder in self.data],
            "clips": self.clips,
            "voices": list(self.voices),
            "judges": [
                str(value) for value in (self.judge, self.judge_revision, self.judge_language, self.judges,
                                         self.speaker_judge, self.speaker_judge_revision, self.mos_judge)
            ],
            "model": [self.model_flops, self.model_size, [str(f.resolve()) for f in self.model_data]],
        }  # fmt: skip

    def _sets(self) -> list["SoundSet"]:
        from sodakit.eval.copies import folder_set, voices_set
        from sodakit.voices.names import find_voices

        judge = None if self.judge in ("small", "none") else self.named_recogniser()
        teach = judge is None and self.judge != "none"
        sets = [voices_set(self.clips, judge, teach, find_voices(self.voices))]
        return sets + [folder_set(folder, self.clips, judge, teach) for folder in self.data]

    def _measured(
        self,
        folder: Path,
        codec: "Codec",
        sets: Sequence["SoundSet"],
        recorded: Sequence["Labelled"],
        words_by: str,
    ) -> "Compared":
        from sodakit.eval.codec_compare import Compared, keep_heard
        from sodakit.eval.codecs import measure_codec
        from sodakit.recipes.codec_model import model_sees

        model = None
        # First, because a stopped run is resumed, and the rest is short.
        if budget := self._budget():
            model = model_sees(codec, self._items(), folder / "model", budget, other_code=self.other_code)
        report, copies = measure_codec(
            codec,
            sets,
            self.speakers(),
            phone_sentences=10 * self.clips,
            mos=self.mos(),
            recorded=recorded,
            words_by=words_by,
        )
        keep_heard(folder, copies)
        return Compared(folder, report.plain(), model)

    def _budget(self) -> "ModelBudget | None":
        from sodakit.recipes.codec_model import ModelBudget

        if not self.model_flops:
            return None
        return ModelBudget(flops=self.model_flops, size=self.model_size, device=self.device)

    def _items(self) -> list[Any]:
        from sodakit.prepare.sources.detect import open_folder

        folders = self.model_data or self.data
        if not folders:
            raise ConfigError("--model-flops needs recordings. Name folders with --model-data or --data.")
        items = [item for folder in folders for item in open_folder(folder, keep_untranscribed=True)]
        return [item for item in items if item.problem is None and not item.is_text]

    def _cost(self, codecs: Sequence["Codec"]) -> str:
        """What a run would do, and how much of it."""
        import torch

        from sodakit.ceilings import device_name, measured
        from sodakit.eval.codec_compare import open_compared
        from sodakit.hardware import device_named

        asked = self._asked()
        lines = []
        for folder, codec in self._folders(codecs):
            spec = codec.spec
            tokens = spec.frame_rate_hz * spec.num_codebooks
            state = "measured before" if open_compared(folder, asked) else "to be measured"
            lines.append(
                f"{spec.name}: {spec.sample_rate_hz} Hz, {spec.frame_rate_hz:.4g} frames/s, "
                f"{spec.codebooks_shown}, {tokens:.4g} tokens/s, {spec.bitrate_bps:.0f} bit/s, look-ahead "
                f"{codec.lookahead_frames / spec.frame_rate_hz:.2f} s; {state}"
            )
        clips = self.clips * (1 + len(self.data))
        lines.append(
            f"Copies: at most {clips} clips of {1 + len(self.data)} sets through each codec, {10 * self.clips} sentences for its "
            "codebooks, 45 passes over 10 s for its speed"
        )
        if budget := self._budget():
            total = budget.flops * len(self._folders(codecs))
            ceilings = measured(device_name(torch.device(device_named(budget.device))))
            time_told = "run `sodakit doctor --bench` to have it in minutes"
            if ceilings is not None:
                time_told = f"at least {format_duration(total / ceilings.float32_flops_per_s)}"
            lines.append(
                f"Model: {budget.size}, {format_count(budget.flops)} FLOPs for each codec, {total:.2g} in all ({time_told}), "
                f"on {len(self._items())} items, each encoded once by each codec"
            )
        return "\n".join(lines)


def _opened(name: str, device: str) -> "Codec":
    """The codec of a name, or of NAME@K its first K codebooks.

    Raises:
        ConfigError: K is no number.
    """
    from sodakit.codec.load import load_codec

    # A folder may have an @ in its name.
    base, at, books = name.rpartition("@")
    if not at or Path(name).is_dir():
        return load_codec(name, device=device)
    if not books.isdigit():
        raise ConfigError(f"{name!r}: {books!r} is no number of codebooks. Write NAME@K, as mini@4.")
    return load_codec(base, num_codebooks=int(books), device=device)
