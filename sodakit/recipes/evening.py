"""Two and a half hours on two cores: a model worth listening to, of made voices, recordings and plain text.

    sodakit train --recipe evening --data STORE STORE … --out runs/evening

As the paper mixes, 5 % of the tokens are plain text; as the demo trains, with its departures for small budgets.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sodakit.data.config import DataConfig, SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.errors import ConfigError
from sodakit.hardware import has_fast_bfloat16
from sodakit.model.config import model_size
from sodakit.recipes.demo import LOSS, ROWS, SHARES
from sodakit.store.reader import StoreReader
from sodakit.train.config import OptimConfig, ScheduleConfig, TrainConfig

TEXT_SHARE = 0.05
"""Of the tokens, where a store of plain text is given."""
BATCH_ROWS = 4
STEPS = 7000
"""57 million tokens."""


def evening(stores: Sequence[Path]) -> TrainConfig:
    """A 7.6M-parameter body on stores of speech and of plain text.

    Speech stores are weighted by the square root of their hours, so that an hour of recordings is heard among many of
    made voices; each is seen in the views of the demo.

    Args:
        stores: with one tokenizer and codec. Those without sound are plain text.
    Raises:
        ConfigError: none of them holds speech.
    """
    speech, sources = mixed("evening", stores, lambda store: SHARES)
    vocabulary = open_language(speech[0])[1]
    return TrainConfig(
        model=replace(
            model_size("demo", vocabulary.size, context=ROWS["flat"][0]),
            layers=6, width=320, heads=5, kv_heads=5, ffn_width=896,
        ),
        data=DataConfig(sources=sources, context=ROWS["flat"][0], batch_rows=BATCH_ROWS),
        steps=STEPS,
        precision="bfloat16" if has_fast_bfloat16() else "float32",
        optim=OptimConfig(beta1=0.95, beta2=0.98, weight_decay=0.1),
        schedule=ScheduleConfig(peak_lr=3e-3, warmup_fraction=0.03, decay_fraction=0.3),
        loss=LOSS,
        validation=tuple(
            SourceConfig(store=str(s), split="validation")
            for s in speech
            if "validation" in StoreReader(s).splits
        ),
        validate_every_steps=STEPS // 20,
        listen_every_steps=STEPS // 7,
        save_every_steps=STEPS // 20,
        keep_checkpoints=1,
    )  # fmt: skip


def mixed(
    recipe: str, stores: Sequence[Path], views_of: Callable[[Path], Iterable[tuple[ViewConfig, float]]]
) -> tuple[list[Path], tuple[SourceConfig, ...]]:
    """The stores of speech among the stores, and all as sources: speech by the root of its hours, a share of plain text.

    Args:
        recipe: what errors call it.
        stores: with one tokenizer and codec. Those without sound are plain text.
        views_of: how a store of speech is written, and the share of its tokens for each way.
    Raises:
        ConfigError: none of them holds speech.
    """
    frames = {store: _frames(store) for store in stores}
    speech, texts = [s for s in stores if frames[s]], [s for s in stores if not frames[s]]
    if not speech:
        raise ConfigError(
            f"The recipe {recipe} needs at least one store of speech. Give --data stores of both."
        )
    text_share = TEXT_SHARE if texts else 0.0
    roots = {store: frames[store] ** 0.5 for store in speech}
    sources = [
        SourceConfig(
            store=str(s), weight=(1 - text_share) * share * roots[s] / sum(roots.values()), view=view
        )
        for s in speech
        for view, share in views_of(s)
    ] + [SourceConfig(store=str(s), weight=text_share / len(texts)) for s in texts]
    return speech, tuple(sources)


def _frames(store: Path) -> int:
    return int(StoreReader(store).description["splits"].get("train", {}).get("frames", 0))
