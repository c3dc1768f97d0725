"""`sodakit scale study`: a whole scaling study, resumable, with a prediction written before its run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sodakit.bounds import Count, Positive
from sodakit.commands.options import ResumeOptions
from sodakit.log import say

if TYPE_CHECKING:
    from sodakit.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Study(ResumeOptions):
    """Stores, sweep, fit, a prediction, the run it is of, ablations, report. The same command goes on after a stop.

    Example: sodakit scale study --data $DATA --out runs/study
    """

    data: Path
    """Folder of recordings, sentences and books; which ones: docs/data.md."""
    out: Path = Path("runs/study")
    """Gets stores, runs, prediction.json, fit.json, sweep.csv, summary.json, report.html and two figures."""
    codec: str = "mini"
    """mini, toy, kyutai/mimi, or a folder."""
    voices: tuple[str, ...] = ("seen",)
    """Who speaks the sentences: `sodakit voices` lists the names."""
    device: str | None = None
    """cpu, cuda, …"""
    ablations: bool = True
    """Train them too."""
    more: Path | None = None
    """A design to add to the sweep at last, as `scale next OUT/sweep` writes it; prediction and sweep stay as they are."""
    flops_per_s: Positive = 3.0e11
    """Sustained speed, to estimate hours."""
    dry_run: bool = False
    """Make the stores, say what the study takes and how far it is, and stop."""
    parts: Count | None = None
    """Stores of made speech at most, to try things out in a folder of its own."""

    def run(self) -> None:
        from sodakit.codec.load import load_codec
        from sodakit.recipes import study, study_walk
        from sodakit.scaling.design_file import read_design
        from sodakit.scaling.run import progress
        from sodakit.train.trainer import train

        stores = study.study_stores(
            self.out / "stores", self.data, load_codec(self.codec), self.parts, self.voices
        )
        vocab_size = study.vocabulary_size(stores)
        points, beyond = study.study_design(vocab_size), study.predicted_point(vocab_size)
        print(study_walk.study_costs(vocab_size).table(self.flops_per_s))
        say(f"Sweep: {progress(self.out / 'sweep', points)}.")
        if self.dry_run:
            return

        def teach(config: "TrainConfig", folder: Path) -> Path:
            return train(config, folder, device=self.device, other_code=self.other_code)

        more = () if self.more is None else read_design(self.more)
        found = study_walk.walk(
            self.out, stores, points, beyond, teach, with_ablations=self.ablations, more=more
        )
        for loss, row in found["prediction"].items():
            low, high = row["run_95"]
            verdict = "inside" if row["inside"] else "OUTSIDE"
            say(
                f"{loss}: predicted {row['predicted']:.4f} ({low:.4f} to {high:.4f}), measured {row['measured']:.4f}: {verdict}"
            )
