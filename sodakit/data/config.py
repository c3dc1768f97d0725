"""What a run reads: stores, how each is written as documents, and in which shares."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from sodakit.bounds import Bounded, Bounds, Count, Positive
from sodakit.errors import ConfigError, nearest

Order = Literal["audio_first", "text_first", "both"]
Composition = Literal["semantic", "semantic_acoustic", "semantic_acoustic_text"]


@dataclass(frozen=True, kw_only=True)
class ViewConfig(Bounded):
    """How the utterances of a store are written as documents."""

    order: Order = "both"
    """Speech before its transcript, after it, or every recording once each way (the recipe)."""
    composition: Composition = "semantic_acoustic_text"
    """Which tokens a document holds: S, S+A or S+A+T in the paper's ablation."""
    num_codebooks: Count | None = None
    """Use the first few codebooks only; None for all of the store."""
    task: str = ""
    """Write pairs of utterances as documents of this task instead, packed whole into windows (`tokens/tasks.py`); the
    other fields do not apply."""
    utterances_per_document: Count | None = None
    """Cut long recordings into documents of at most this many utterances; None for whole recordings."""
    num_bos: Count = 1
    """BOS at the beginning of a document. The released suite was most likely trained with 2; prompts have one."""

    @property
    def has_text(self) -> bool:
        """Whether transcripts are written."""
        return self.composition == "semantic_acoustic_text"


@dataclass(frozen=True, kw_only=True)
class SourceConfig(Bounded):
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
    max_epochs: Positive | None = None
    """Passes after which it ends and the others share its place; None: it starts over as often as needed."""

    @property
    def title(self) -> str:
        """Its name, or that of its folder."""
        return self.name or Path(self.store).name


@dataclass(frozen=True, kw_only=True)
class PhaseConfig(Bounded):
    """Other weights from some step on, such as the cooldown mix of an annealing phase."""

    from_step: int
    """First step with these weights."""
    weights: dict[str, float]
    """Weight of each source by name; a source that is not named is left out."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(Bounded):
    """What a run reads."""

    sources: tuple[SourceConfig, ...]
    """The mixture."""
    context: Annotated[int, Bounds(least=2)] = 4096
    """T: tokens in a row."""
    batch_rows: Annotated[int, Bounds(least=1, most=10_000_000)] = 8
    """B: rows in a step, over all ranks."""
    seed: int = 0
    """Keys every shuffle."""
    phases: tuple[PhaseConfig, ...] = ()
    """Changes of the mixture, in the order of their steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sources:
            raise ConfigError("sources is empty; needed: at least one store.")
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
