"""The ablations of a study: which tokens a document holds, how much plain text, which recordings, which learning rate.

The first three are the paper's in small, runs of one shape and budget; learning rates are tried at the sweep's lowest
budget. Each is one run, named for what differs in it; names are folders of the study.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sodakit.data.config import Order, ViewConfig
from sodakit.recipes.study import StudyStores, study_rule, study_run
from sodakit.scaling.design import point_at
from sodakit.scaling.point import DesignPoint
from sodakit.train.config import TrainConfig

BUDGET, WIDTH = 3e13, 128
"""Training FLOPs and width of every ablation at equal tokens."""
SEEDS = (0, 1)
TEXT_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
LR_FACTORS = (0.5, 2.0)
"""Of the rule's learning rate, at the lowest budget: whether the sweep's optimum is one of tuning."""
_TYPE2: Order = "audio_first"
"""The paper derives S and S+A from audio-first documents."""
SEMANTIC_SHARE = 1 / 8
"""One codebook of eight: tokens of S for the audio of one token of S+A."""


@dataclass(frozen=True)
class Ablation:
    """One run, and what is different in it."""

    point: DesignPoint
    view: ViewConfig = ViewConfig()
    real_share: float = 0.05
    text_share: float = 0.0

    def config(self, stores: StudyStores) -> TrainConfig:
        """The complete run."""
        return study_run(
            self.point, stores, view=self.view, real_share=self.real_share, text_share=self.text_share
        )


def ablations(vocab_size: int) -> Mapping[str, Ablation]:
    """Name → run, for every seed."""
    found: dict[str, Ablation] = {}
    for seed in SEEDS:
        base = point_at(BUDGET, WIDTH, study_rule(vocab_size), seed=seed)
        assert base is not None
        found |= {f"{name}_s{seed}": run for name, run in _of_seed(base).items()}
    return found | _learning_rates(vocab_size)


def _of_seed(base: DesignPoint) -> dict[str, Ablation]:
    semantic = ViewConfig(order=_TYPE2, composition="semantic")
    acoustic = ViewConfig(order=_TYPE2, composition="semantic_acoustic")
    everything = ViewConfig(order=_TYPE2)
    runs = {
        "tokens_s": Ablation(base, semantic),
        "tokens_sa": Ablation(base, acoustic),
        "tokens_sat": Ablation(base, everything),
        "audio_s": Ablation(_same_audio(base), semantic),
        "source_made": Ablation(base, real_share=0.0),
        "source_real": Ablation(base, real_share=1.0),
        "source_half": Ablation(base, real_share=0.5),
    }
    return runs | {
        f"text_{share:.0%}".replace("%", "pc"): Ablation(base, text_share=share) for share in TEXT_SHARES
    }


def _same_audio(base: DesignPoint) -> DesignPoint:
    """The audio of S+A in S: fewer rows as far as there are some, then fewer steps; the smaller batch's learning rate."""
    rows = max(round(base.batch_rows * SEMANTIC_SHARE), 1)
    steps = round(base.tokens * SEMANTIC_SHARE / (rows * base.context))
    return replace(base, batch_rows=rows, steps=steps, peak_lr=base.peak_lr * (rows / base.batch_rows) ** 0.5)


def _learning_rates(vocab_size: int) -> dict[str, Ablation]:
    found = {}
    for width in (80, 192):
        point = point_at(1e13, width, study_rule(vocab_size))
        assert point is not None
        for factor in LR_FACTORS:
            found[f"lr_x{factor:g}_d{width}"] = Ablation(replace(point, peak_lr=factor * point.peak_lr))
    return found
