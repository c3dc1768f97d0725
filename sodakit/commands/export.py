"""`sodakit export`: a model as a Hugging Face folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sodakit.commands.options import read_options, refuse_unused
from sodakit.errors import ConfigError
from sodakit.log import say


@dataclass(frozen=True)
class Options:
    """Write a trained model as a Hugging Face folder: weights, tokenizer with markers and audio, model card.

    A flat model becomes a Qwen3ForCausalLM, one of family depth the published SodaHierForCausalLM. Logits are compared
    with transformers' before the folder gets its name. With --small it stays a model of sodakit, in few bits, to be shipped.

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
    small: Literal["int8", "float16"] | None = None
    """Write a checkpoint of sodakit instead, its weights in so many bits, at most 24 MB."""
    about: Path | None = None
    """With --small: JSON with what the model says of itself: name, summary, can, cannot, languages, licence, attribution."""
    replay: tuple[Path, ...] = ()
    """With --small: stores that it was trained on. Losses are measured on the first that holds something out, and 20 minutes
    of them go along, for whoever adapts the model."""


def main(argv: list[str]) -> None:
    """Export as argv says."""
    options = read_options(Options, "export", argv)
    if options.small is not None:
        refuse_unused(options, ("dtype", "check", "audio_text"), "with --small")
        print(_small(options, options.small))
        return
    refuse_unused(options, ("about", "replay"), "without --small")
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


def _small(options: Options, stored: Literal["int8", "float16"]) -> Path:
    """Write the model in few bits; its folder."""
    from sodakit.checkpoint.about import About
    from sodakit.config import from_plain
    from sodakit.files import read_json
    from sodakit.recipes.ship import ship

    if options.about is None:
        raise ConfigError(
            "--small needs --about FILE: what is shipped says what it can do and what it cannot."
        )
    about = from_plain(About, read_json(options.about), str(options.about))
    made = ship(options.model, options.out, about, stored=stored, stores=options.replay)
    say(str(made))
    return made.folder
