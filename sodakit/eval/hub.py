"""Who a judge is: its name and fingerprint, and which weights one from the Hugging Face hub, or from a folder, has."""

from pathlib import Path
from typing import Any, Protocol

import torch

from sodakit.files import digest


class Named(Protocol):
    """Every judge: of words, of voices, of texts."""

    @property
    def name(self) -> str:
        """What a table calls it."""

    @property
    def fingerprint(self) -> str:
        """Digest of everything its scores depend on."""


def named(judge: Named) -> dict[str, str]:
    """How a result names a judge."""
    return {"name": judge.name, "fingerprint": judge.fingerprint}


def revision_of(model: torch.nn.Module, config: Any) -> str:
    """The commit on the hub, or a digest of the weights where they come from a folder."""
    commit: str | None = getattr(config, "_commit_hash", None)
    return commit or digest(*(v.float().numpy().tobytes() for v in model.state_dict().values()))


def shown_name(model_id: str, revision: str) -> str:
    """For example `openai/whisper-large-v3@06f233fe06e7`."""
    # A folder is named, not located: a report holds nothing of the machine it was made on.
    shown = Path(model_id).name if Path(model_id).exists() else model_id
    return f"{shown}@{revision[:12]}"
