"""What a run reads: stores, how each is written as documents, and in which shares."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from sodakit.bounds import Bounded, Bounds, Count, Positive
from sodakit.errors import ConfigError, nearest

Order = Literal["audio_first", "text_first", "both"]
Composition = Literal["semantic", "semantic_acoustic", "semantic_acoustic_text"]


SpanKind = Literal["none", "poisson", "alternate", "fixed", "independent"]


@dataclass(frozen=True, kw_only=True)
class InterleaveConfig(Bounded):
    """Words of utterances drawn as text or as speech, anew in each epoch; the store knows when they are said."""

    spans: SpanKind = "none"
    """`poisson`: spans of speech of a Poisson number of words, at least 1 (Zeng et al. 2024), in text of such spans too;
    `alternate`: numbers drawn evenly from two ranges; `fixed`: always so many; `independent`: each word by itself; `none`:
    utterances whole."""
    speech_share: Annotated[float, Bounds(above=0, below=1)] = 0.3
    """Share of the words that are speech; not of `alternate`, whose ranges decide it."""
    mean_words: Annotated[float, Bounds(least=1, most=1000)] = 10.0
    """Words of a span of speech: the mean of `poisson`, all of `fixed`."""
    text_words: tuple[Count, Count] = (10, 30)
    """Fewest and most words of a span of text, of `alternate`."""
    speech_words: tuple[Count, Count] = (5, 15)
    """Fewest and most words of a span of speech, of `alternate`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        used = {
            "none": (),
            "poisson": ("speech_share", "mean_words"),
            "alternate": ("text_words", "speech_words"),
            "fixed": ("speech_share", "mean_words"),
            "independent": ("speech_share",),
        }[self.spans]
        for field in fields(self):
            if field.name not in ("spans", *used) and getattr(self, field.name) != field.default:
                raise ConfigError(
                    f"interleave.{field.name} has no effect on spans={self.spans!r}. Leave it out."
                )
        for name in ("text_words", "speech_words"):
            fewest, most = getattr(self, name)
            if fewest > most or most > 1000:
                raise ConfigError(
                    f"interleave.{name}={fewest, most}; needed: the fewest, then the most, up to 1000."
                )
        if self.spans in ("poisson", "fixed") and self.mean_text_words < 1:
            raise ConfigError(
                f"interleave.speech_share={self.speech_share:g} with spans of {self.mean_words:g} words leaves "
                f"{self.mean_text_words:.2f} words of text between two; needed: at least 1. Use a smaller share or longer spans."
            )
        if self.spans == "fixed" and self.mean_words % 1:
            raise ConfigError(
                f"interleave.mean_words={self.mean_words:g}; needed for fixed spans: a whole number."
            )

    @property
    def mean_text_words(self) -> float:
        """Words of a span of text that make the share of speech what it is to be."""
        return self.mean_words * (1 - self.speech_share) / self.speech_share


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
    interleave: InterleaveConfig = InterleaveConfig()
    """Change between text and speech within utterances, at words. Utterances whose words have no times are written whole, in
    `order`; where that is `both`, either way is as likely."""
    num_bos: Count = 1
    """BOS at the beginning of a document. The released suite was most likely trained with 2; prompts have one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interleave.spans != "none" and not self.has_text:
            raise ConfigError(
                f"composition={self.composition!r} has no text to interleave with speech. Leave it out; for codebook 0 alone "
                "set num_codebooks=1."
            )
        if self.interleave.spans != "none" and self.task:
            raise ConfigError(
                f"interleave has no effect on documents of task={self.task!r}. Leave one of them out."
            )

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
