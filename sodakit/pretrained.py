"""Models of Hugging Face transformers, by hub id or folder: codecs, teachers, judges. Loaded whole or not at all, and known
by their content."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sodakit.errors import ConfigError, SodakitError, first_line
from sodakit.files import digest
from sodakit.tensors import broken_weight

_NEVER_USED = "masked_spec_embed"
"""A weight that speech encoders use in training only."""


@dataclass(frozen=True)
class Pretrained:
    """Where a model lies, and what a message says if it does not."""

    source: str
    """Hub id, or folder made by `save_pretrained`."""
    kind: str
    """What it should be, as "a speech recogniser"."""
    needed: str = "a folder made by save_pretrained, or a Hugging Face id and a network"
    """What would do, as "the hub id or folder of …"."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    error: type[SodakitError] = ConfigError
    """What is raised."""

    def part(self, loader: Any) -> Any:
        """A config, tokenizer, processor or feature extractor, by transformers' class for it.

        Raises:
            SodakitError: as `error` says, where it cannot be loaded.
        """
        return self._load(loader)

    def model(self, model_class: Any, device: str = "cpu") -> Any:
        """The model of that class as float32, ready to be used and not to be trained.

        Raises:
            SodakitError: as `error` says, where it cannot be loaded, or lacks weights: transformers would draw them at
                random.
        """
        model, told = self._load(model_class, dtype=torch.float32, output_loading_info=True)
        missing = sorted(name for name in told["missing_keys"] if not name.endswith(_NEVER_USED))
        if missing:
            raise self.error(
                f"{self.source!r} lacks {len(missing)} weights of {self.kind}, {missing[0]} among them. "
                f"Download it again, or give {self.needed}."
            )
        # Statistics of training may be zero throughout.
        if broken := broken_weight(model.state_dict(), begin_at_zero=("",)):
            raise self.error(f"{self.source!r}: {broken}, so it is not {self.kind}. Download it again.")
        return model.eval().requires_grad_(False).to(device)

    def _load(self, loader: Any, **options: Any) -> Any:
        try:
            return loader.from_pretrained(self.source, revision=self.revision, **options)
        # What a damaged config makes of a network may be any error of anybody's.
        except Exception as error:
            raise self.error(
                f"{self.source!r} does not load as {self.kind} ({first_line(error)}). Needed: {self.needed}."
            ) from error


def weights_digests(model: Any) -> list[str]:
    """Digests of a model's tensors, sorted: by content and not by name, since transformers renamed the weights between
    versions, and codes did not change."""
    return sorted(digest(t.detach().cpu().float().numpy().tobytes()) for t in model.state_dict().values())


def revision_of(model: Any) -> str:
    """The commit on the hub, or a digest of the weights where they come from a folder."""
    commit: str | None = getattr(model.config, "_commit_hash", None)
    return commit or digest(*(v.cpu().float().numpy().tobytes() for v in model.state_dict().values()))


def shown_name(model_id: str, revision: str) -> str:
    """For example `openai/whisper-large-v3@06f233fe06e7`."""
    # A folder is named, not located: a report holds nothing of the machine it was made on.
    shown = Path(model_id).name if Path(model_id).exists() else model_id
    return f"{shown}@{revision[:12]}"
