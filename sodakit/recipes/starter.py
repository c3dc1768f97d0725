"""The model that is simply there: open English from voices that read real text, recordings and plain text, on a CPU.

    sodakit train --recipe starter --data STORE STORE … --dry-run        # parameters, FLOPs, hours; steps=N for another budget
    sodakit train --recipe starter --data STORE STORE … --out runs/starter

The same command resumes, so it trains in stretches. How its corpora are made: docs/studies/starter.md.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sodakit.data.config import DataConfig, InterleaveConfig, SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.errors import ConfigError
from sodakit.hardware import has_fast_bfloat16
from sodakit.model.any_config import Family, family_config
from sodakit.model.config import model_size
from sodakit.recipes.demo import LOSS, ROWS, SHARES
from sodakit.recipes.evening import mixed
from sodakit.store.reader import StoreReader
from sodakit.train.config import OptimConfig, ScheduleConfig, TrainConfig

FAMILY: Family = "depth"
BATCH_ROWS = 8
"""Rows of 512 positions: about four minutes of speech in a step."""
STEPS = 20_000
"""82 million positions, about 1,250 hours heard."""
STRETCH = 500
"""Steps between checkpoints: what a stop in disorder loses."""
INTERLEAVED_SHARE = 0.2
"""Of the tokens of speech whose times of words are known, in `starter_words`."""
INTERLEAVED = ViewConfig(interleave=InterleaveConfig(spans="poisson"))


def starter(stores: Sequence[Path], *, interleaved: bool = False) -> TrainConfig:
    """A model of frames of about 16 million parameters, on stores of speech and of plain text.

    Speech stores are weighted by the square root of their hours, so that an hour of people is heard among many of synthetic
    voices; each is seen in the views of the demo. 5 % of the tokens are plain text.

    Args:
        stores: with one tokenizer and codec. Those without sound are plain text.
        interleaved: also write the utterances whose words have times with words now as text, now as speech.
    Raises:
        ConfigError: none of them holds speech, or none has times of words where they are interleaved.
    """
    timed = {store for store in stores if interleaved and _has_times(store)}
    if interleaved and not timed:
        raise ConfigError(
            f"None of {', '.join(map(str, stores))} has times of words. Prepare speech that has them, or take the recipe "
            "starter."
        )
    speech, sources = mixed("starter", stores, lambda store: _views(store in timed))
    vocabulary = open_language(speech[0])[1]
    context = ROWS[FAMILY][0]
    shape = replace(
        model_size("demo", vocabulary.size, context=context),
        layers=8, width=320, heads=5, kv_heads=5, ffn_width=896,
    )  # fmt: skip
    return TrainConfig(
        model=family_config(FAMILY, shape, vocabulary),
        data=DataConfig(sources=sources, context=context, batch_rows=BATCH_ROWS),
        steps=STEPS,
        precision="bfloat16" if has_fast_bfloat16() else "float32",
        optim=OptimConfig(beta1=0.95, beta2=0.98, weight_decay=0.1),
        schedule=ScheduleConfig(peak_lr=2e-3, warmup_fraction=0.02, decay_fraction=0.25),
        loss=LOSS,
        validation=tuple(
            SourceConfig(store=str(s), split="validation")
            for s in speech
            if "validation" in StoreReader(s).splits
        ),
        validate_every_steps=STRETCH,
        listen_every_steps=4 * STRETCH,
        save_every_steps=STRETCH,
        keep_checkpoints=1,
        keep_steps=tuple(range(10 * STRETCH, STEPS, 10 * STRETCH)),
    )


def _views(is_timed: bool) -> list[tuple[ViewConfig, float]]:
    """The ways a store is written, and the share of its tokens for each."""
    share = INTERLEAVED_SHARE if is_timed else 0.0
    views = [(view, (1 - share) * part) for view, part in SHARES]
    return [*views, (INTERLEAVED, share)] if share else views


def _has_times(store: Path) -> bool:
    """Whether some training utterance has words with times."""
    reader = StoreReader(store)
    shards = reader.shard_words("train") if "train" in reader.splits else []
    return any(bool(np.isfinite(words.start_s).any()) for words in shards)
