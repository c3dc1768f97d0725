"""What every recipe asks of its stores: the vocabulary, and the sources with their shares of the tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sodakit.data.config import SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.errors import ConfigError
from sodakit.tokens.vocabulary import Vocabulary, soda_vocabulary

TEXT = "nemotron-hq-actual"
"""The published source of plain text."""
MIXTURE = {"yodas-en": 0.5164, "emilia-yodas-en": 0.2878, "emilia-en": 0.1459, TEXT: 0.05}
"""The final mixture: 5 % text, 95 % speech in proportion 131 : 73 : 37."""
COOLDOWN = {
    "peoples-speech-clean": 0.035, "common-voice-17-en": 0.01, "librispeech": 0.005, "libritts-r": 0.003,
    "yodas-en": 0.05, TEXT: 0.05, "mls-en": 0.205, "emilia-en": 0.642,
}  # fmt: skip
"""The cool-down mixture of the 135M."""
LANGUAGES = {
    "yodas-en": 0.3557, "yodas-es": 0.0738, "yodas-fr": 0.0350, "yodas-de": 0.0232,
    "yodas-th": 0.00097, "yodas-hi": 0.00078, "yodas-ar": 0.00059, "yodas-zh": 0.00050,
}  # fmt: skip
"""The preliminary run's eight languages by their size; not normalised, as published."""


@dataclass(frozen=True)
class Ingredients:
    """Sources with weights, and the vocabulary they are written in."""

    sources: tuple[SourceConfig, ...]
    vocabulary: Vocabulary


def ingredients(
    stores: Sequence[Path],
    shares: dict[str, float],
    *,
    weights: Sequence[float] | None = None,
    view: ViewConfig | None = None,
) -> Ingredients:
    """The stores as sources. With the published shares the published text is plain text, written once a pass.

    Without stores the published ones stand in by name and the vocabulary is the published one: such a config can be
    printed and costed, not trained.

    Args:
        stores: as many as `shares`, in its order, to have its weights; else equal weights unless given.
        shares: the published sources and their shares of the tokens.
        weights: token shares of the stores, in place of the published ones.
    Raises:
        ConfigError: as many weights as stores are needed.
    """
    view = view or ViewConfig()
    names = [str(store) for store in stores] or list(shares)
    published = list(shares) if weights is None and len(names) == len(shares) else [""] * len(names)
    if weights is None:
        weights = list(shares.values()) if len(names) == len(shares) else [1.0] * len(names)
    if len(weights) != len(names):
        raise ConfigError(f"{len(weights)} weights for {len(names)} stores. Give one for each.")
    sources = tuple(
        # In both orders plain text would be two equal documents.
        SourceConfig(
            store=name, weight=weight, view=replace(view, order="audio_first") if known == TEXT else view
        )
        for name, known, weight in zip(names, published, weights, strict=True)
    )
    vocabulary = open_language(stores[0])[1] if stores else soda_vocabulary()
    return Ingredients(sources, vocabulary)
