"""Which model a result is of: its weights, its precision, and what turns sounds and texts into its ids."""

from typing import Any

import torch

from sodakit.audio.files import RESAMPLER
from sodakit.files import digest
from sodakit.generate.speech_model import SpeechModel
from sodakit.model.any_config import family_of
from sodakit.model.families import pattern_of
from sodakit.model.transformer import Transformer


def model_fingerprint(model: Transformer) -> str:
    """Digest of a model's shape and weights."""
    parts: list[bytes | str] = [repr(model.config)]
    for name, weight in model.state_dict().items():
        parts += [name, weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()]
    return digest(*parts)


def weights_provenance(model: Transformer) -> dict[str, Any]:
    """JSON-ready: fingerprint, family and precision of the weights, for results that need no sound."""
    delays = pattern_of(model.config).delays or ()
    late = f"codebooks late by {', '.join(map(str, delays))} frames: sums over a document compare, single codes do not"
    return {
        "model": model_fingerprint(model),
        "family": family_of(model.config),
        "precision": str(next(model.parameters()).dtype).removeprefix("torch."),
        **({"order_of_codes": late} if any(delays) else {}),
    }


def model_provenance(model: SpeechModel) -> dict[str, Any]:
    """JSON-ready: everything of a speech model that a score of sounds depends on."""
    spec = model.codec.spec
    return weights_provenance(model.model) | {
        "vocabulary": model.vocabulary.fingerprint,
        "codec": {"name": spec.name, "fingerprint": spec.fingerprint, "num_codebooks": spec.num_codebooks},
        "resampler": RESAMPLER,
    }
