"""What is known of a pair besides its sides: pairs as they lie, as they are built and as they are scored share it."""

from dataclasses import dataclass, fields
from typing import Any, Literal

Group = Literal["pair", "voice_then_id", "subtype_then_type"]
"""Over what answers are averaged first; see `Policy.group`."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Names and groups of one comparison."""

    id: str
    """Of the pair; shared by the same pair in several voices."""
    part: str = ""
    """Which part of the benchmark; accuracies are given for each."""
    voice: str = ""
    """Who speaks it."""
    type: str = ""
    """Phenomenon, for averages over phenomena."""
    subtype: str = ""
    """Paradigm within the phenomenon."""
    frequency: int | None = None
    """How often a word occurs in the training text of its benchmark; 0 is out of vocabulary."""
    source: str = ""
    """What it was made from; pairs of one source are resampled together. Empty if it stands alone."""

    def labels(self) -> dict[str, Any]:
        """These fields alone, by name."""
        return {field.name: getattr(self, field.name) for field in fields(Labels)}


@dataclass(frozen=True, kw_only=True)
class Question(Labels):
    """One comparison: an item that should score higher than others."""

    right: str
    """Name of the item that should win."""
    wrong: tuple[str, ...]
    """Names of those it should beat."""

    @property
    def cluster(self) -> str:
        """The source, or the pair itself."""
        return self.source or f"{self.part}/{self.type}/{self.subtype}/{self.id}"
