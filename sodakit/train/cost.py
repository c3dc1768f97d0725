"""What a run will cost, before it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sodakit.ceilings import device_name, measured
from sodakit.data.language import open_language
from sodakit.data.loader import Loader
from sodakit.errors import ConfigError, nearest
from sodakit.hardware import GPUS, Gpu, device_named
from sodakit.model.accounting import (
    FRAMES_PER_S,
    TEXT_TOKENS_PER_AUDIO_S,
    cache_bytes,
    count_parameters,
    palm_flops_per_token,
    soda_training_flops,
    training_flops_per_token,
)
from sodakit.model.families import pattern_of
from sodakit.tokens.layouts.contract import ABSENT
from sodakit.tokens.vocabulary import soda_vocabulary
from sodakit.train.config import TrainConfig
from sodakit.train.memory import USABLE, MemoryPlan, plan_for
from sodakit.train.metrics import count_frames
from sodakit.units import format_bytes, format_count, format_duration, format_passes


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a run is to be costed on. Efficiency and price are assumptions, and printed as such."""

    gpu: Gpu = GPUS["H200"]
    num_gpus: int = 1
    mfu: float = 0.4
    """Share of the peak that the run will reach, in FLOPs as computed (causal)."""
    price_per_gpu_hour: float = 3.5
    """In dollars."""
    device_type: str = "cuda"
    """`cpu` for this machine's own processor."""

    @classmethod
    def named(cls, name: str, **more: object) -> "Machine":
        """A machine of GPUs by name; `here` is what this machine trains on, as it was measured.

        Raises:
            ConfigError: a GPU whose data sheet is not listed, or `here` where nothing was measured.
        """
        if name == "here":
            return cls(**_this_machine(), **more)  # type: ignore[arg-type]
        if name not in GPUS:
            raise ConfigError(f"No data sheet of a GPU {name!r}.{nearest(name, GPUS, 'GPUs')}")
        return cls(gpu=GPUS[name], **more)  # type: ignore[arg-type]


def _this_machine() -> dict[str, Any]:
    device = torch.device(device_named(None))
    ceilings = measured(device_name(device))
    if ceilings is None:
        raise ConfigError(
            "Nothing was measured on this machine. Run `sodakit doctor --bench` first, or name a GPU."
        )
    peak = max(ceilings.bfloat16_flops_per_s, ceilings.float32_flops_per_s)
    return {"gpu": Gpu(ceilings.device, peak, ceilings.memory_bytes), "device_type": device.type}


@dataclass(frozen=True)
class Diet:
    """What the rows of a run are made of."""

    attended_tokens: float
    """Mean length of the documents that positions attend within."""
    audio_share: float
    """Of all ids."""
    frames_per_position: float
    """Codec frames: how many positions a frame takes depends on the view, and on the family of the model."""
    tokens_per_position: float
    """Ids: text, markers and codes."""
    frame_positions: int
    """Positions of one frame of the first source."""
    frame_rate_hz: float
    passes: list[float]
    """Over each source; empty where it is not known."""
    is_measured: bool


def measure_diet(config: TrainConfig) -> Diet:
    """The diet of the first rows, or the published one where the stores are not here."""
    if not all((Path(s.store) / "store.json").exists() for s in config.data.sources):
        return _published_diet(config)
    store, vocabulary = open_language(config.data.sources[0].store)
    loader = Loader(config.data, vocabulary, pattern_of(config.model))
    rows = [loader.row(number) for number in range(min(64, 4 * config.data.batch_rows))]
    ids = np.concatenate([ids_PW for ids_PW, _ in rows])
    lengths = [length for _, row in rows for length in row]
    books = config.data.sources[0].view.num_codebooks or vocabulary.num_codebooks
    return Diet(
        attended_tokens=sum(n * n for n in lengths) / sum(lengths),
        audio_share=float(vocabulary.is_audio(ids[ids != ABSENT]).mean()),
        frames_per_position=count_frames(vocabulary, ids) / len(ids),
        tokens_per_position=float((ids != ABSENT).sum() / len(ids)),
        frame_positions=pattern_of(config.model).layout(vocabulary, books).frame_positions,
        frame_rate_hz=store.codec_spec.frame_rate_hz,
        passes=loader.epochs(config.steps - config.first_step),
        is_measured=True,
    )


def _published_diet(config: TrainConfig) -> Diet:
    shares = {s.store: s.weight for s in config.data.sources}
    speech = sum(w for name, w in shares.items() if "nemotron" not in name) / sum(shares.values())
    view = config.data.sources[0].view
    published = soda_vocabulary()
    frame_tokens = view.num_codebooks or published.num_codebooks
    if view.composition == "semantic":
        frame_tokens = len(published.semantic_codebooks)
    per_s = frame_tokens * FRAMES_PER_S
    text = TEXT_TOKENS_PER_AUDIO_S if view.has_text else 0.0
    frame_positions = pattern_of(config.model).layout(published, frame_tokens).frame_positions
    positions_per_s = FRAMES_PER_S * frame_positions + text
    # Weights are shares of the predictions; a frame may be one position and several of them.
    spoken = speech * positions_per_s / (per_s + text)
    frames = spoken / (spoken + 1 - speech) * FRAMES_PER_S / positions_per_s
    share = speech * per_s / (per_s + text)
    tokens = 1 + frames * (frame_tokens - frame_positions)
    return Diet(
        attended_tokens=config.data.context,
        audio_share=share,
        frames_per_position=frames,
        tokens_per_position=tokens,
        frame_positions=frame_positions,
        frame_rate_hz=FRAMES_PER_S,
        passes=[],
        is_measured=False,
    )


@dataclass(frozen=True)
class Cost:
    """What a run takes."""

    config: TrainConfig
    machine: Machine
    diet: Diet
    plan: MemoryPlan

    @property
    def flops(self) -> float:
        """As computed: attention inside documents, half the square."""
        diet = self.diet
        per_position = training_flops_per_token(
            self.config.model, diet.attended_tokens, diet.frames_per_position
        )
        return per_position * self.config.positions

    @property
    def soda_flops(self) -> float:
        """As the paper counts."""
        return soda_training_flops(self.config.model, self.config.positions, self.config.data.context)

    @property
    def audio_hours(self) -> float:
        """Heard over the run, repetitions included."""
        return self.config.positions * self.diet.frames_per_position / self.diet.frame_rate_hz / 3600

    @property
    def duration_s(self) -> float:
        """At the machine's assumed efficiency."""
        return self.flops / (self.machine.gpu.peak_flops * self.machine.mfu * self.machine.num_gpus)

    @property
    def price(self) -> float:
        """In dollars."""
        return self.duration_s / 3600 * self.machine.num_gpus * self.machine.price_per_gpu_hour


def cost_of(config: TrainConfig, machine: Machine) -> Cost:
    """What a run takes on a machine."""
    ranks = machine.num_gpus
    shards = {"ddp": 1, "fsdp": ranks, "hsdp": config.parallel.shard_ranks or min(ranks, 8)}[
        config.parallel.kind
    ]
    kind = machine.device_type
    usable = USABLE[kind] * machine.gpu.memory_bytes
    plan = plan_for(config, usable, ranks=ranks, shards=shards, device_type=kind)
    return Cost(config, machine, measure_diet(config), plan)


def describe_cost(config: TrainConfig, machine: Machine | None = None) -> str:
    """Parameters by every convention, FLOPs, tokens, hours of audio, memory, time and price, as lines of text."""
    cost = cost_of(config, machine or Machine())
    lines = _model_lines(cost) | _machine_lines(cost)
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())


def _model_lines(cost: Cost) -> dict[str, str]:
    config, diet = cost.config, cost.diet
    count = count_parameters(config.model)
    palm = (
        palm_flops_per_token(config.model, config.data.context, diet.frames_per_position) * config.positions
    )
    passes = f", {format_passes(diet.passes)}" if diet.passes else ""
    tokens = round(config.positions * diet.tokens_per_position)
    at = f" at {format_count(config.positions)} positions" if tokens > config.positions else ""
    depth = count.depth_body + count.depth_tables
    inside = f", {format_count(depth)} of them inside frames" if depth else ""
    seconds = config.data.context / diet.frame_positions / diet.frame_rate_hz
    a_second = (
        f"; {cost.flops / (cost.audio_hours * 3600):.3g} for a second of audio" if cost.audio_hours else ""
    )
    basis = "measured on the first rows" if diet.is_measured else "assumed: published sources, full rows"
    decay = config.schedule.decay_fraction * config.steps
    warmup = config.schedule.warmup_fraction * config.steps
    return {
        "Parameters": f"{format_count(count.total)} in all{inside}; {format_count(count.non_embedding)} without embeddings, "
        f"{format_count(count.one_embedding)} with one, {format_count(count.two_embeddings)} with two, "
        f"{format_count(count.matmul)} in matrix products",
        "Tokens": f"{format_count(tokens)}{at} in {config.steps - config.first_step:,} steps of "
        f"{format_count(config.data.batch_positions)}{passes}",
        "Schedule": f"learning rate {config.schedule.peak_lr:.6g}, warm-up {int(warmup):,} steps, decay {int(decay):,}",
        "Audio": f"about {cost.audio_hours:,.1f} hours heard ({diet.audio_share:.0%} of the tokens; {basis})",
        "Compute": f"{cost.flops:.3g} FLOPs as computed (causal, documents of {diet.attended_tokens:.0f} tokens); "
        f"{palm:.3g} as PaLM counts; {cost.soda_flops:.3g} as the paper counts; "
        f"{6 * count.two_embeddings * config.positions:.3g} as 6ND with both embeddings{a_second}",
        "Context": f"{config.data.context:,} positions: {seconds:.0f} s of audio, whose cache takes "
        f"{format_bytes(cache_bytes(config.model, 1, config.data.context))} when the model speaks",
    }


def _machine_lines(cost: Cost) -> dict[str, str]:
    config, machine, plan = cost.config, cost.machine, cost.plan
    memory, gpu = plan.expected, machine.gpu
    usable = USABLE[machine.device_type]
    fits = memory.total_bytes <= usable * gpu.memory_bytes
    advice = "" if fits else f": more than {usable:.0%} of it, so use parallel.kind=fsdp and more GPUs"
    names = f"{machine.num_gpus} x {gpu.name}"
    speed = config.positions * cost.diet.tokens_per_position / cost.duration_s
    return {
        "Memory": f"about {format_bytes(memory.total_bytes)} of {format_bytes(gpu.memory_bytes)} per GPU "
        f"({plan.micro_rows} rows of {config.data.context} at a time{', activations computed again' if plan.recompute else ''}; "
        f"states {format_bytes(memory.states_bytes)}, activations {format_bytes(memory.activations_bytes)}, "
        f"logits {format_bytes(memory.logits_bytes)}){advice}",
        "Time": f"{format_duration(cost.duration_s)} on {names} at {format_count(speed)} tokens/s, if {machine.mfu:.0%} of "
        f"{gpu.peak_flops / 1e12:.0f} TFLOP/s is reached (causal FLOPs; an assumption)",
        "Price": f"{cost.price:,.0f} $ at {machine.price_per_gpu_hour:.2f} $ per GPU and hour (an assumption)",
    }
