"""The model card of an export: what it is, how it was trained, how it is used. Facts only; what is not known is left out."""

from dataclasses import replace

import torch

import sodakit
from sodakit.checkpoint.contents import Checkpoint
from sodakit.checkpoint.soda_hier import departs_from_published
from sodakit.model.accounting import count_parameters
from sodakit.model.any_config import AnyConfig
from sodakit.model.frame.config import FrameConfig
from sodakit.model.layers import rotary_frequencies
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.units import format_count

_USE = """
## Use

```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.bfloat16)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)          # puts BOS first by itself
ids = tokenizer("<|text_start|>Good morning.<|text_end|><|audio_start|>", return_tensors="pt").input_ids
out = model.generate(ids, max_new_tokens=1000)              # ends at <|audio_end|>
```

Audio is one token per code, frame by frame. STRINGS
"""
_WITH_SODAKIT = """
With the package it was trained with:

```
sodakit import FOLDER --out model
sodakit speak "Good morning." --model model
```
"""
_USE_FRAMES = """
## Use

Config and weights are those of `SodaHierForCausalLM`; its code comes with the published checkpoints
(`configuration_soda_hier.py`, `modeling_soda_hier.py`) and is not part of this folder. The tokenizer is the flat models':
one token per code, frame by frame.
"""
_OTHERWISE = """
**The published code would compute other scores of the codes after the first.** It feeds the depth decoder the last code
alone, one code late; this model was trained otherwise (see the table), and says so in `depth_conditioning` and
`depth_fed` of its config, which that code does not read.
"""

_STRINGS = {
    "private": "In the tokenizer, code c of codebook k is the character U+F0000 + SIZE k + c, of the private-use planes "
    "that no text holds. The public data sets write it as U+E000 + SIZE k + c: add 0xE2000 to each.",
    "published": "In the tokenizer, code c of codebook k is the character U+E000 + SIZE k + c, as in the public data sets. "
    "**Ordinary text holds some of these**: full-width punctuation, ligatures, variation selectors after emoji, the "
    "byte-order mark. The tokenizer reads them as audio. Encode text from users with `text_tokenizer.json`.",
}
_UNSCALED = """
## llama.cpp

This model scales its rotary positions as Llama 3 does. llama.cpp computes them for Qwen3 **without that scaling**
(AFFECTED), so it would compute other scores. Use transformers or vLLM, or train with `model.rope_scaling=null`.
"""


def model_card(
    checkpoint: Checkpoint, vocabulary: Vocabulary, dtype: torch.dtype, audio_text: str = "private"
) -> str:
    """The card of an exported checkpoint, in Markdown with the hub's header."""
    header = (
        "---\nlibrary_name: transformers\npipeline_tag: text-to-speech\ntags: [audio, speech, sodakit]\n---\n"
    )
    strings = _STRINGS[audio_text].replace("SIZE", str(vocabulary.codebook_size))
    config = checkpoint.model_config
    affected = scaled_frequencies(config)
    unscaled = _UNSCALED.replace("AFFECTED", affected) if affected else ""
    rows = "\n".join(f"| {name} | {value} |" for name, value in _facts(checkpoint, vocabulary, dtype).items())
    return (
        f"{header}\n# {checkpoint.run_name}\n\nA decoder that predicts the next token over interleaved text, semantic and "
        f"acoustic tokens.\n\n| | |\n| --- | --- |\n{rows}\n"
        + _use(checkpoint.model_config, strings)
        + unscaled
    )


def _use(config: AnyConfig, strings: str) -> str:
    if not isinstance(config, FrameConfig):
        return _USE.replace("STRINGS", strings) + _WITH_SODAKIT
    return (
        _USE_FRAMES
        + (_OTHERWISE if departs_from_published(config) else "")
        + f"\n{strings}\n"
        + _WITH_SODAKIT
    )


def scaled_frequencies(config: AnyConfig) -> str:
    """How many rotary frequencies llama.cpp computes otherwise, in words; empty if none, or for what it cannot read."""
    if isinstance(config, FrameConfig):
        return ""
    model = config
    differ = rotary_frequencies(model) != rotary_frequencies(replace(model, rope_scaling=None))
    return f"{int(differ.sum())} of {len(differ)} frequencies differ" if differ.any() else ""


def _facts(checkpoint: Checkpoint, vocabulary: Vocabulary, dtype: torch.dtype) -> dict[str, str]:
    config = checkpoint.model_config
    count, shape = count_parameters(config), config.backbone
    layers = f"{shape.layers} layers of width {shape.width}, {shape.heads} heads ({shape.kv_heads} for keys) of {shape.head_width}, feed-forward {shape.ffn_width}"
    facts = {
        "Architecture": f"Qwen3ForCausalLM: {layers}",
        "Parameters": f"{format_count(count.total)}; {format_count(count.non_embedding)} without embeddings",
        "Weights": str(dtype).removeprefix("torch."),
        "Context": f"{config.context:,} positions",
        "Vocabulary": f"{vocabulary.size:,} ids: {vocabulary.text_size:,} of text, 4 markers, "
        f"{vocabulary.num_codebooks} codebooks of {vocabulary.codebook_size:,} from id {vocabulary.audio_base:,}",
    }
    if isinstance(config, FrameConfig) and config.depth:
        depth = config.depth
        facts["Architecture"] = f"SodaHierForCausalLM: a backbone with one position a frame, of {layers}"
        facts["Depth decoder"] = (
            f"{depth.layers} layers of width {depth.width}, {depth.heads} heads ({depth.kv_heads} for keys) of "
            f"{depth.head_width}, feed-forward {depth.ffn_width}; conditioning {depth.conditioning}, fed the {depth.fed}"
        )
    codec = checkpoint.codec
    if codec is not None:
        rate_hz = codec["sample_rate_hz"] / codec["frame_samples"]
        facts["Codec"] = (
            f"{codec['name']} ({codec['fingerprint']}): {codec['sample_rate_hz']:,} Hz, {rate_hz:g} frames a second"
        )
    return facts | _training_facts(checkpoint) | {"Exported by": f"sodakit {sodakit.__version__}"}


def _training_facts(checkpoint: Checkpoint) -> dict[str, str]:
    run, state = checkpoint.config, checkpoint.state
    if not run:
        return {}
    data, optim, schedule = run["data"], run["optim"], run["schedule"]
    batch_positions = data["batch_rows"] * data["context"]
    steps = state["step"] - run.get("first_step", 0)
    sources = ", ".join(
        f"{s['store'].rstrip('/').rsplit('/', 1)[-1]} ({s['weight']:g})" for s in data["sources"]
    )
    loss = run["loss"]
    departures = [f"loss weights {loss['kind_weights']}"] if loss["kind_weights"] else []
    departures += ["softmax over legal ids only"] if loss["slot_softmax"] else []
    return {
        "Trained": f"{steps:,} of {run['steps'] - run.get('first_step', 0):,} steps of {format_count(batch_positions)} positions: "
        f"{format_count(steps * batch_positions)} positions",
        "Data (weights)": sources,
        "Optimizer": f"{optim.get('kind', 'cautious_adamw')}, peak learning rate {schedule['peak_lr']:g}, betas {optim['beta1']:g} / "
        f"{optim['beta2']:g}, decay {optim['weight_decay']:g}, z-loss {loss['z_loss']:g}",
        **({"Departures from the SODA recipe": "; ".join(departures)} if departures else {}),
        **({"Started from": run["init_from"]} if run.get("init_from") else {}),
        "Seed": str(run["seed"]),
    }
