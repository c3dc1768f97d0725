"""Everything a training run is made of. A recipe is a function that returns a `TrainConfig`."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from sodakit.bounds import Bounded, Count, Positive, Share, ShareBelowOne
from sodakit.data.config import DataConfig, SourceConfig
from sodakit.errors import ConfigError
from sodakit.model.any_config import AnyConfig


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Bounded):
    """Cautious AdamW with AdamC decay, as SODA trains (arXiv 2602.16687), or one of its relatives."""

    kind: Literal["cautious_adamw", "adamw", "muon"] = "cautious_adamw"
    """`adamw` keeps every part of an update; `muon` orthogonalises those of the body's matrices, and treats the rest as
    `cautious_adamw` does."""
    beta1: ShareBelowOne = 0.98
    """Decay of the first moment."""
    beta2: ShareBelowOne = 0.98
    """Decay of the second moment."""
    eps: Positive = 1e-16
    """Added to the root of the second moment."""
    weight_decay: float = 0.033
    """Decoupled. Not on norms, biases and the input embedding."""
    decay_follows_lr: bool = True
    """AdamC: the decay is also times lr / peak_lr."""
    clip_norm: Positive = 1.0
    """Global gradient norm limit."""
    muon_momentum: ShareBelowOne = 0.95
    """Of `muon`'s matrices."""
    lr_factors: dict[str, float] = field(default_factory=dict)
    """Learning rate of some parameters, times the schedule's, by patterns of their names: `{"*norm*": 1, "blocks.*": 0.5}`. The first
    pattern that fits counts; 1 where none does. `@text` after a name means its rows for text: where training starts from a
    text model, `{"blocks.*": 0.1, "*@text": 0.1}` leaves the whole rate to the rows for markers and audio, which are new."""

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = {name: factor for name, factor in self.lr_factors.items() if not 0 < factor < inf}
        if wrong:
            raise ConfigError(f"optim.lr_factors={wrong}; needed: positive numbers.")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Bounded):
    """Warmup-Stable-Decay over the steps of the run."""

    peak_lr: Positive = 3e-3
    """Learning rate of the stable phase."""
    warmup_fraction: Share = 0.1
    """Share of the steps for the linear rise from 0."""
    decay_fraction: Share = 0.2
    """Share of the steps for the fall at the end."""
    decay_shape: Literal["linear", "cosine"] = "linear"
    """Form of the fall, which is over after the last step."""
    final_fraction: Share = 0.0
    """Where the fall ends, as a share of the peak."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ConfigError(
                f"schedule.warmup_fraction={self.warmup_fraction} and decay_fraction={self.decay_fraction}; "
                "needed: at most 1 together."
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig(Bounded):
    """Cross-entropy over all positions, uniform as in the recipe unless told otherwise."""

    z_loss: float = 1e-4
    """Weight of the squared log-partition."""
    recipe: Literal["uniform", "moshi", "moshi_means", "decay"] = "uniform"
    """Weights by name. `uniform`: every id alike. `moshi`: text, markers and semantic codes 100, acoustic ones 1. `decay`:
    likewise, but acoustic codebook k of n weighs 100^(1 - k/n). `moshi_means`: the mean over text and markers, plus the mean
    over codes, semantic ones 100 to 1, as Moshi's own code has it."""
    kind_weights: dict[str, float] = field(default_factory=dict)
    """Loss weight by kind of token (`text`, `markers`, `semantic`, `acoustic_1`, …); 1 where not named. The weighted
    mean is normalised by the total weight."""
    slot_softmax: bool = False
    """Normalise over the ids the frame grammar allows only. Much cheaper, but another loss than SODA's."""
    given_spans: int = 0
    """No loss on the first spans of each document: 1 confines it to the answer to a recording. See `scored.py`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind_weights and self.recipe != "uniform":
            raise ConfigError(
                f"loss.recipe={self.recipe} and loss.kind_weights={self.kind_weights}; needed: one of the two."
            )


@dataclass(frozen=True, kw_only=True)
class LoraConfig(Bounded):
    """Train small adapters beside the frozen matrices of every block (Hu et al. 2021, arXiv 2106.09685)."""

    rank: Count = 16
    """Width of an adapter."""
    alpha: Positive = 32.0
    """An adapter adds alpha / rank times its product."""


@dataclass(frozen=True, kw_only=True)
class ParallelConfig(Bounded):
    """How a run is laid over its ranks (torchrun says how many). Not part of a run's identity: any layout resumes it."""

    kind: Literal["ddp", "fsdp", "hsdp"] = "ddp"
    """`ddp`: every rank holds everything. `fsdp`: weights, gradients and moments are spread over all ranks. `hsdp`:
    spread over groups of `shard_ranks`, copied between groups."""
    shard_ranks: Count | None = None
    """Ranks of a group under `hsdp`; None for those of one machine (LOCAL_WORLD_SIZE)."""
    activation_checkpointing: bool | None = None
    """Compute activations again in the backward pass instead of keeping them; None: only where memory asks for it."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Bounded):
    """A complete run."""

    model: AnyConfig
    """Shape of the decoder."""
    data: DataConfig
    """What it reads."""
    steps: Count
    """Optimizer steps of the whole run; the schedule is laid over them."""
    optim: OptimConfig = OptimConfig()
    """How it learns."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How fast it learns when."""
    loss: LossConfig = LossConfig()
    """What it learns."""
    micro_rows: Count | Literal["auto"] | None = None
    """Rows through the model at a time on each rank; None for all of them, `auto` for as many as fit. No part of a
    run's identity."""
    parallel: ParallelConfig = ParallelConfig()
    """How it is laid over its ranks."""
    compile_blocks: bool | None = None
    """Let torch compile each block; None: on a GPU, where it fuses norms, rotations and SwiGLU."""
    attention: Literal["measured", "by_shape"] = "measured"
    """On a GPU in 16 bits: the kernel that is right and the fastest there, timed when the run starts; or torch's own for
    documents of unlike length, where it takes the shape. No part of a run's identity."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Compute precision; parameters and moments are float32."""
    fp8_from_width: Count | None = None
    """Multiply the blocks' matrices with both sides of at least this in 8-bit floats (`fp8.py`); None for none. Published
    gains begin at 2048, which means the 1.7B and the 4B."""
    seed: int = 0
    """Keys the initial weights."""
    lora: LoraConfig | None = None
    """Train adapters only; None for all weights."""
    init_from: str | None = None
    """Start from these weights: a checkpoint or run folder of ours, or a Qwen3 in Hugging Face layout (folder or hub id),
    whose text rows are kept and whose other rows are made anew."""
    first_step: int = 0
    """Where on the schedule the run begins: an anneal begins late. `steps` still says where it ends."""
    log_every_steps: Count = 10
    """Between lines of metrics.jsonl."""
    validate_every_steps: Count | None = None
    """Between validations; None for the end only."""
    validation_rows: Count = 16
    """Rows of each validation source."""
    validation: tuple[SourceConfig, ...] = ()
    """Sources to validate on; their weights are ignored."""
    listen_every_steps: Count | None = None
    """Between generated samples; None for none."""
    save_every_steps: Count = 500
    """Between checkpoints; the end always saves."""
    keep_checkpoints: Count = 2
    """Older ones are removed."""
    keep_steps: tuple[Count, ...] = ()
    """But never those of these steps, from which other runs begin; each a multiple of `save_every_steps`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.first_step < self.steps:
            raise ConfigError(
                f"first_step={self.first_step}; needed: at least 0 and less than steps={self.steps}."
            )
        missed = [step for step in self.keep_steps if step % self.save_every_steps]
        if missed:
            raise ConfigError(
                f"keep_steps={self.keep_steps}: {missed} are never saved with save_every_steps={self.save_every_steps}; "
                "needed: multiples of it."
            )
        if isinstance(self.micro_rows, int) and self.data.batch_rows % self.micro_rows:
            raise ConfigError(
                f"micro_rows={self.micro_rows} does not divide batch_rows={self.data.batch_rows}."
            )

        if self.parallel.kind != "ddp" and any("@" in name for name in self.optim.lr_factors):
            raise ConfigError(
                f"optim.lr_factors of rows with parallel.kind={self.parallel.kind}; needed: ddp, where every rank holds whole rows."
            )
        if self.fp8_from_width is not None and self.lora is not None:
            raise ConfigError(
                "fp8_from_width and lora together; adapters train beside matrices in full precision. Set one to null."
            )

    @property
    def positions(self) -> int:
        """Positions of the whole run."""
        return (self.steps - self.first_step) * self.data.batch_positions
