"""How items become a store."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from sodakit.bounds import Bounded, Bounds, Count, Positive, Share
from sodakit.config import to_plain
from sodakit.prepare.checks import Limits
from sodakit.prepare.cleaning import CleaningRules
from sodakit.prepare.quality import QualityRules
from sodakit.prepare.splits import SplitRule


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(Bounded):
    """How items become a store. Only `workers`, `engine`, `verify_items`, `max_failed_fraction` and `fresh` may differ
    between two runs into the same folder."""

    limits: Limits = field(default_factory=Limits)
    """What an utterance may be."""
    cleaning: CleaningRules = field(default_factory=CleaningRules)
    """What is left out for what the others are like."""
    quality: QualityRules = field(default_factory=QualityRules)
    """What is measured of each sound, and how good it must be."""
    split: SplitRule = field(default_factory=SplitRule)
    """Which recordings are held out."""
    transcriber: str | None = None
    """Name and fingerprint of the recogniser that wrote the transcripts nobody had supplied; None where none did."""
    text_vocab_size: Annotated[int, Bounds(least=1, most=10_000_000)] = 512
    """Ids of the tokenizer trained on the transcripts, where none is given."""
    shard_duration_s: Positive | None = None
    """Sound in one shard; what a killed job loses. Default: a 16th of the job, between a minute and an hour, so that
    a short job has shards for every worker."""
    batch_duration_s: Positive = 120.0
    """Sound in one batch of the codec, padding included."""
    workers: Count = 1
    """Processes that encode. 1 encodes in this one. The result is the same."""
    engine: Literal["processes", "ray"] = "processes"
    """Who runs the workers: processes of this machine, or a Ray cluster. The result is the same."""
    verify_items: int = 4
    """Utterances of each split that are encoded again and decoded before the store is sealed."""
    max_failed_fraction: Share = 0.2
    """Stop when more than this share of the items cannot be used."""
    fresh: bool = False
    """Delete what an earlier run left in the folder, and start over."""

    def describe(self) -> dict[str, Any]:
        """The options that decide the result, as JSON."""
        return {
            **to_plain(self.limits),
            **to_plain(self.cleaning),
            **to_plain(self.quality),
            **{f"split.{name}": value for name, value in self.split.describe().items()},
            "transcriber": self.transcriber,
            "text_vocab_size": self.text_vocab_size,
            "shard_duration_s": self.shard_duration_s,
            "batch_duration_s": self.batch_duration_s,
        }
