"""Which weights a judge from the Hugging Face hub, or from a folder, has."""

from typing import Any

import torch

from sodakit.files import digest


def revision_of(model: torch.nn.Module, config: Any) -> str:
    """The commit on the hub, or a digest of the weights where they come from a folder."""
    commit: str | None = getattr(config, "_commit_hash", None)
    return commit or digest(*(v.float().numpy().tobytes() for v in model.state_dict().values()))
