"""What a run reads: stores, how each is written as documents, and in which shares."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sodakit.errors import ConfigError, nearest

Order = Literal["audio_first", "text_first", "both"]
Composition = Literal["semantic", "semantic_acoustic", "semantic_acoustic_text"]


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How the utterances of a store are written as documents."""

    order: Order = "both"
    """Speech before its transcript, after it, or every recording once each way (the recipe)."""
    composition: Composition = "semantic_acoustic_text"
    """Which tokens a document holds: S, S+A or S+A+T in the paper's ablation."""
    num_codebooks: int | None = None
    """Use the first few codebooks only; None for all of the store."""
    task: str = ""
    """Write pairs of utterances as documents of this task instead, packed whole into windows (`tokens/tasks.py`); the
    other fields do not apply."""
    utterances_per_document: int | None = None
    """Cut long recordings into documents of at most this many utterances; None for whole recordings."""
    num_bos: int = 1
    """BOS at the beginning of a document. The released suite was most likely trained with 2; prompts have one."""

    def __post_init__(self) -> None:
        if self.num_codebooks is not None and self.num_codebooks < 1:
            raise ConfigError(f"num_codebooks={self.num_codebooks}; needed: at least 1, or null for all.")
        if self.num_bos < 1:
            raise ConfigError(f"num_bos={self.num_bos}; needed: at least 1, or 2 as the released suite.")
        if self.utterances_per_document is not None and self.utterances_per_document < 1:
            raise ConfigError(
                f"utterances_per_document={self.utterances_per_document}; needed: at least 1, or null."
            )

    @property
    def has_text(self) -> bool:
        """Whether transcripts are written."""
        return self.composition == "semantic_acoustic_text"


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One ingredient of the mixture: a store, seen in one way."""

    store: str
    """Folder of the store."""
    weight: float = 1.0
    """Share of the tokens, relative to the other sources."""
    view: ViewConfig = ViewConfig()
    """How its utterances are written as documents."""
    split: str = "train"
    """Which split."""
    name: str = ""
    """What phases and reports call it; default: the name of the store's folder."""
    max_epochs: float | None = None
    """Passes after which it ends and the others share its place; None: it starts over as often as needed."""

    def __post_init__(self) -> None:
        if self.max_epochs is not None and self.max_epochs <= 0:
            raise ConfigError(f"max_epochs={self.max_epochs}; needed: more than 0, or null for no limit.")

    @property
    def title(self) -> str:
        """Its name, or that of its folder."""
        return self.name or Path(self.store).name


@dataclass(frozen=True, kw_only=True)
class PhaseConfig:
    """Other weights from some step on, such as the cooldown mix of an annealing phase."""

    from_step: int
    """First step with these weights."""
    weights: dict[str, float]
    """Weight of each source by name; a source that is not named is left out."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a run reads."""

    sources: tuple[SourceConfig, ...]
    """The mixture."""
    context: int = 4096
    """T: tokens in a row."""
    batch_rows: int = 8
    """B: rows in a step, over all ranks."""
    seed: int = 0
    """Keys every shuffle."""
    phases: tuple[PhaseConfig, ...] = ()
    """Changes of the mixture, in the order of their steps."""

    def __post_init__(self) -> None:
        if self.context < 2 or self.batch_rows < 1 or not self.sources:
            raise ConfigError(
                f"context={self.context}, batch_rows={self.batch_rows}, {len(self.sources)} sources; "
                "needed: at least 2, 1 and 1."
            )
        names = [source.title for source in self.sources]
        if self.phases and len(set(names)) < len(names):
            raise ConfigError(
                f"Sources {', '.join(names)} share a name; needed with phases: one each. Set `name`."
            )
        for phase in self.phases:
            for name in phase.weights:
                if name not in names:
                    hint = nearest(name, names, "Sources")
                    raise ConfigError(f"The phase from step {phase.from_step} weighs {name!r}.{hint}")

    @property
    def batch_positions(self) -> int:
        """Positions in a step, over all ranks. A frame takes one or several, by the family of the model."""
        return self.batch_rows * self.context
