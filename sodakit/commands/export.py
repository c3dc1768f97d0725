"""`sodakit export`: a model as a Hugging Face folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sodakit.commands.options import read_options
from sodakit.log import say


@dataclass(frozen=True)
class Options:
    """Write a trained model as a Hugging Face folder: weights, tokenizer with markers and audio, model card.

    A flat model becomes a Qwen3ForCausalLM, one of family depth the published SodaHierForCausalLM. Logits are compared
    with transformers' before the folder gets its name.

    Example: sodakit export runs/mine --out export/mine
    """

    model: tyro.conf.Positional[Path]
    """Checkpoint, or run folder: its best checkpoint where it kept one, else its newest."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder to write."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Of the weights."""
    check: bool = True
    """Compare logits with transformers'."""
    audio_text: Literal["private", "published"] = "private"
    """Strings of codes in the tokenizer. private: characters that no text holds. published: as the public data sets write
    them (U+E000 and on), where text such as full-width punctuation is read as audio."""


def main(argv: list[str]) -> None:
    """Export as argv says."""
    options = read_options(Options, "export", argv)
    import torch

    from sodakit.checkpoint.card import scaled_frequencies
    from sodakit.checkpoint.hf_folder import export_folder
    from sodakit.checkpoint.load import load_checkpoint
    from sodakit.checkpoint.soda_hier import departs_from_published

    checkpoint = load_checkpoint(options.model)
    folder = export_folder(
        checkpoint,
        options.out,
        dtype=getattr(torch, options.dtype),
        check=options.check,
        audio_text=options.audio_text,
    )
    say("transformers computes the same logits from it." if options.check else "Logits were not compared.")
    config = checkpoint.model_config
    if departs_from_published(config):
        say(
            "The published soda_hier code would compute other scores from it: this depth decoder is fed otherwise than "
            "theirs. The model card says how; `sodakit import` reads it."
        )
    elif affected := scaled_frequencies(config):
        say(
            f"Not for llama.cpp: it computes the rotations of a Qwen3 without this model's scaling ({affected}). A model "
            "for GGUF is trained with model.rope_scaling=null."
        )
    print(folder)
