"""Whether transformers computes the same from an exported folder as we do."""

from pathlib import Path

import torch

from sodakit.checkpoint.contents import model_from_weights
from sodakit.checkpoint.hf import import_hf
from sodakit.errors import CheckpointError
from sodakit.tokens.vocabulary import Vocabulary

PARITY_TOLERANCE = 2e-3
"""Largest difference of a float32 logit from transformers', as a share of the largest logit."""


@torch.no_grad()
def check_parity(folder: Path, vocabulary: Vocabulary) -> float:
    """How far transformers' float32 logits of the folder's model are from ours, over the largest logit.

    Raises:
        CheckpointError: farther than `PARITY_TOLERANCE`: transformers would compute something else.
    """
    from transformers import AutoModelForCausalLM

    config, weights = import_hf(folder)
    ours = model_from_weights(config, {n: w.float() for n, w in weights.items()}, str(folder)).eval()
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    tokens = min(64, config.context)
    generator = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(vocabulary.size, (1, tokens), generator=generator)
    ids_BT[0, 0] = vocabulary.bos
    a, b = ours.logits(ours(ids_BT)), theirs(ids_BT).logits
    difference = float((a - b).abs().max() / b.abs().max())
    if not difference <= PARITY_TOLERANCE:
        raise CheckpointError(
            f"transformers computes other logits from {folder} ({difference:.2g} of the largest apart; at most "
            f"{PARITY_TOLERANCE:g} is rounding). Nothing was exported; please report it with the model's config."
        )
    return difference
