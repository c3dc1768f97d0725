"""The SODA suite, 135M to 4B, with the published settings (arXiv 2602.16687), also as models of frames; the preliminary
run; warm starts; the published model of frames."""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path

from sodakit.data.config import DataConfig
from sodakit.model.any_config import Family, family_config
from sodakit.model.config import MODEL_SIZES, model_size, soda_grid_shape
from sodakit.recipes.ingredients import LANGUAGES, MIXTURE, ingredients
from sodakit.scaling.design import SODA_RULE
from sodakit.tokens.vocabulary import qwen3x_vocabulary
from sodakit.train.config import LossConfig, OptimConfig, ScheduleConfig, TrainConfig

BATCH_ROWS = 512
CONTEXT = 4096
STEPS = 238_419
"""500B tokens in batches of 512 rows of 4,096."""
FRAME_CONTEXT = 1024
"""Positions in a row of frames, as published."""
HIER_EPOCH_STEPS, HIER_STEPS = 95_033, 52_346
"""An epoch of the published run of frames, which set its warm-up, and where its checkpoint ended."""
ANNEAL_FROM = 190_000
"""The step of the preliminary run at which the anneals leave it."""
LISTEN_EVERY_STEPS = 5_000
"""Between samples to be heard; a run whose codec is not at hand says so and goes on in silence."""
SODA_OPTIM = OptimConfig(beta1=0.98, beta2=0.98, eps=1e-16, weight_decay=0.033, clip_norm=1.0)
"""Of the suite and every ablation; only the IsoFLOP runs differ."""
TEXT_MODELS = {"soda_600m": "Qwen/Qwen3-0.6B-Base", "soda_1.7b": "Qwen/Qwen3-1.7B-Base"}
"""What the published warm starts began with."""


def suite(
    size: str, stores: Sequence[Path] = (), *, weights: Sequence[float] | None = None, seed: int = 0
) -> TrainConfig:
    """One model of the suite: 500B tokens, Warmup-Stable-Decay over 10 / 70 / 20 % of the steps.

    The learning rate is 0.003·√(512/256)·√(1024/width); the 135M is treated as if it were 1024 wide, as published.

    Args:
        size: `soda_135m`, `soda_600m`, `soda_1.7b` or `soda_4b`.
        stores: one store per source; four of them get the published shares (YODAS, Emilia-YODAS, Emilia, text).
        weights: token shares of the stores; by default those, or equal ones.
        seed: keys weights and order.
    """
    parts = ingredients(stores, MIXTURE, weights=weights)
    width = max(1024, MODEL_SIZES[size]["width"]) if size in MODEL_SIZES else 1024
    return TrainConfig(
        model=model_size(size, parts.vocabulary.size, context=CONTEXT),
        data=DataConfig(sources=parts.sources, context=CONTEXT, batch_rows=BATCH_ROWS, seed=seed),
        steps=STEPS,
        optim=SODA_OPTIM,
        schedule=ScheduleConfig(
            peak_lr=0.003 * sqrt(BATCH_ROWS / 256) * sqrt(1024 / width),
            warmup_fraction=0.1,
            decay_fraction=0.2,
        ),
        loss=LossConfig(z_loss=1e-4),
        micro_rows="auto",
        listen_every_steps=LISTEN_EVERY_STEPS,
        seed=seed,
    )


def suite_by_family(family: Family, size: str, stores: Sequence[Path] = (), *, seed: int = 0) -> TrainConfig:
    """A model of the suite as a backbone over frames: same settings, about as much audio in a step.

    Of 1,024 positions about 600 are frames, 49 seconds, where 4,096 of the flat model hold 38: so there are three
    quarters as many rows.

    Args:
        family: `depth`, with a decoder of half the width and four layers inside each frame, or `delay`.
    """
    flat = suite(size, stores, seed=seed)
    vocabulary = ingredients(stores, MIXTURE).vocabulary
    backbone = replace(flat.model.backbone, context=FRAME_CONTEXT)
    return replace(
        flat,
        model=family_config(family, backbone, vocabulary),
        data=replace(flat.data, context=FRAME_CONTEXT, batch_rows=BATCH_ROWS * 3 // 4),
    )


def soda_hier(stores: Sequence[Path] = (), *, seed: int = 0) -> TrainConfig:
    """The published 1.1B of frames: backbone 1536 x 15, depth decoder 1152 x 4, weights of the loss that decay.

    Its depth decoder is fed as published: one code late, and the last code alone. `model.depth.conditioning=exact
    model.depth.fed=sum` is the exact chain. The published checkpoint left a run of 95,033 steps, an epoch, at step 42,346
    and decayed over 10,000; these are the settings of both parts as one.

    Source: experiments/audio/exp_hero.py of the authors' branch.
    """
    parts = ingredients(stores, MIXTURE)
    rows, width, depth = 240, 1536, 1152
    shape = soda_grid_shape(width, parts.vocabulary.size, context=FRAME_CONTEXT)
    inside = {
        "width": depth,
        "layers": 4,
        "heads": depth // 128,
        "kv_heads": depth // 128,
        "head_width": 128,
        "ffn_width": 4 * depth,
        "conditioning": "shifted",
        "fed": "last",
    }
    return TrainConfig(
        model=family_config("depth", shape, parts.vocabulary, **inside),
        data=DataConfig(sources=parts.sources, context=FRAME_CONTEXT, batch_rows=rows, seed=seed),
        steps=HIER_STEPS,
        optim=OptimConfig(
            beta1=0.95,
            beta2=0.98 ** (rows / SODA_RULE.beta2_reference_rows),
            eps=1e-15,
            weight_decay=0.1,
            clip_norm=1.0,
        ),
        schedule=ScheduleConfig(
            peak_lr=SODA_RULE.lr.scale * sqrt(rows) / width,
            warmup_fraction=0.1 * HIER_EPOCH_STEPS / HIER_STEPS,
            decay_fraction=10_000 / HIER_STEPS,
        ),
        loss=LossConfig(z_loss=1e-4, recipe="decay"),
        micro_rows="auto",
        listen_every_steps=LISTEN_EVERY_STEPS,
        seed=seed,
    )


def prelim(stores: Sequence[Path] = (), *, seed: int = 0) -> TrainConfig:
    """The preliminary multilingual 600M: eight languages of YODAS by their size, no text, heads of 64 (a bug, kept).

    The stored config says batch 2,048 and learning rate 0.003; the step numbers of what was made from it (190,000 to
    238,000) say batch 512, which is what this is, with the learning rate that goes with it.
    """
    parts = ingredients(stores, LANGUAGES)
    base = suite("soda_prelim", stores, seed=seed)
    return replace(base, data=replace(base.data, sources=parts.sources), keep_steps=(ANNEAL_FROM,))


def warm_start(
    size: str, stores: Sequence[Path] = (), *, init_from: str | None = None, seed: int = 0
) -> TrainConfig:
    """A model of the suite that begins as a text model: same recipe and learning rate, as published.

    The stores must be written with that model's tokenizer, made ready by `tokens.text.extended_tokenizer`: its
    end-of-text renamed, a BOS appended. Rows of markers and audio are new; rotations and norms are the text model's.
    (The published BOS is 151,670, which leaves one id after Qwen3's last one out; ours is that one.)

    Args:
        size: `soda_600m` or `soda_1.7b`.
        init_from: a Qwen3 in Hugging Face layout; by default the published one.
    """
    base = suite(size, stores, seed=seed)
    model = replace(base.model.backbone, rope_theta=1_000_000.0, rope_scaling=None, norm_eps=1e-6)
    if not stores:
        model = replace(model, vocab_size=qwen3x_vocabulary().size)
    return replace(base, model=model, init_from=init_from or TEXT_MODELS[size])
