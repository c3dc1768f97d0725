"""What a model says of itself, in `about.json` of its checkpoint: who it is, what it can do and what it cannot."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sodakit.config import from_plain, to_plain
from sodakit.errors import CheckpointError, ConfigError
from sodakit.files import read_json, write_json

ABOUT = "about.json"


@dataclass(frozen=True, kw_only=True)
class About:
    """A model's own card, short enough to be said by the commands that use it."""

    name: str
    """What it is called."""
    summary: str = ""
    """What it is, in a line: parameters, hours of training."""
    can: tuple[str, ...] = ()
    """What it can do, a sentence each, with measured figures where there are some."""
    cannot: tuple[str, ...] = ()
    """What it cannot do, or does badly."""
    languages: tuple[str, ...] = ()
    """ISO 639 codes of what it was trained on; empty where nobody says."""
    licence: str = ""
    """Of the weights."""
    attribution: tuple[str, ...] = ()
    """Whose recordings and texts it was trained on, and under which licence."""
    adapted_from: str = ""
    """The model that it was adapted from, to the voice or words of somebody; empty for none."""
    consent: str | None = None
    """Of an adapted model: a note of who agreed to the use of the voice, and how; None where nothing is stated."""
    measured: dict[str, Any] = field(default_factory=dict)
    """What was measured of these weights: how they are stored, and what that costs."""

    def introduction(self) -> str:
        """What a command says of the model that answers."""
        who = f"{self.name} answers" + (f" ({self.summary})" if self.summary else "")
        can = f" It can: {' '.join(self.can)}" if self.can else ""
        cannot = f" It cannot: {' '.join(self.cannot)}" if self.cannot else ""
        return f"{who}.{can}{cannot}"


def write_about(folder: Path, about: About) -> None:
    """Write the file."""
    write_json(folder / ABOUT, to_plain(about))


def read_about(folder: Path) -> About | None:
    """What the checkpoint in `folder` says of itself; None where it says nothing.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / ABOUT
    if not path.exists():
        return None
    try:
        return from_plain(About, read_json(path), ABOUT)
    except ConfigError as error:
        raise CheckpointError(f"{path} cannot be read: {error} Copy it again, or delete it.") from error
