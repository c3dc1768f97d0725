"""Checkpoints of Hugging Face transformers, for codecs: loaded whole or not at all, and known by their content."""

from pathlib import Path
from typing import Any

import torch

from sodakit.errors import CodecError, first_line
from sodakit.files import digest
from sodakit.tensors import broken_weight

_NEVER_USED = "masked_spec_embed"
"""A weight that speech encoders use in training only."""


def pretrained(model_class: Any, source: str) -> Any:
    """The model of that class in a folder or under a hub id, as float32.

    Raises:
        CodecError: it cannot be loaded, or lacks weights: transformers would draw them at random.
    """
    try:
        model, told = model_class.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
    # What a damaged config makes of a network may be any error of anybody's.
    except Exception as error:
        raise CodecError(
            f"No {model_class.__name__} could be loaded from {source!r} ({first_line(error)}). "
            "Needed: a folder made by save_pretrained, or a Hugging Face id and a network."
        ) from error
    missing = sorted(name for name in told["missing_keys"] if not name.endswith(_NEVER_USED))
    if missing:
        raise CodecError(
            f"{source!r} lacks {len(missing)} weights of a {model_class.__name__}, {missing[0]} among them. "
            "Download it again."
        )
    # Statistics of training may be zero throughout.
    if broken := broken_weight(model.state_dict(), begin_at_zero=("",)):
        raise CodecError(f"{source!r}: {broken}, so it is no codec. Download it again.")
    return model


def weights_digests(model: Any) -> list[str]:
    """Digests of a model's tensors, sorted: by content and not by name, since transformers renamed the weights between
    versions, and codes did not change."""
    return sorted(digest(t.detach().cpu().float().numpy().tobytes()) for t in model.state_dict().values())


def revision_of(model: torch.nn.Module, config: Any) -> str:
    """The commit on the hub, or a digest of the weights where they come from a folder."""
    commit: str | None = getattr(config, "_commit_hash", None)
    return commit or digest(*(v.float().numpy().tobytes() for v in model.state_dict().values()))


def shown_name(model_id: str, revision: str) -> str:
    """For example `openai/whisper-large-v3@06f233fe06e7`."""
    # A folder is named, not located: a report holds nothing of the machine it was made on.
    shown = Path(model_id).name if Path(model_id).exists() else model_id
    return f"{shown}@{revision[:12]}"
