"""Whether transformers computes the same from an exported folder as we do."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from sodakit.checkpoint.contents import model_from_weights
from sodakit.checkpoint.hf import import_hf
from sodakit.errors import CheckpointError
from sodakit.files import read_json
from sodakit.model.frame.network import FrameTransformer
from sodakit.model.transformer import Transformer
from sodakit.tokens.vocabulary import Vocabulary

PARITY_TOLERANCE = 2e-3
"""Largest difference of a float32 logit from transformers', as a share of the largest logit."""
_POSITIONS = 64


@torch.no_grad()
def check_parity(folder: Path, vocabulary: Vocabulary) -> float:
    """How far transformers' float32 logits of the folder's model are from ours, over the largest logit.

    Raises:
        CheckpointError: farther than `PARITY_TOLERANCE`: transformers would compute something else.
    """
    config, weights = import_hf(folder)
    ours = model_from_weights(config, {n: w.float() for n, w in weights.items()}, str(folder)).eval()
    if isinstance(ours, FrameTransformer):
        difference = _of_frames(ours, folder, vocabulary)
    else:
        difference = _of_tokens(ours, folder, vocabulary)
    if not difference <= PARITY_TOLERANCE:
        raise CheckpointError(
            f"transformers computes other logits from {folder} ({difference:.2g} of the largest apart; at most "
            f"{PARITY_TOLERANCE:g} is rounding). Nothing was exported; please report it with the model's config."
        )
    return difference


def _of_tokens(ours: Transformer, folder: Path, vocabulary: Vocabulary) -> float:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    tokens = min(_POSITIONS, ours.config.context)
    ids_BT = torch.randint(vocabulary.size, (1, tokens), generator=torch.Generator().manual_seed(0))
    ids_BT[0, 0] = vocabulary.bos
    return _apart(ours.logits(ours(ids_BT)), theirs(ids_BT).logits)


def _of_frames(ours: FrameTransformer, folder: Path, vocabulary: Vocabulary) -> float:
    """Over a row of text that turns into frames, with every frame's codes known."""
    config, depth = ours.frame, ours.depth
    assert depth is not None
    positions, books = min(_POSITIONS, config.context), config.num_codebooks
    generator = torch.Generator().manual_seed(0)
    first = positions // 4
    ids_PW = torch.full((positions, books), -1)
    ids_PW[:first, 0] = torch.randint(vocabulary.text_size, (first,), generator=generator)
    codes_PK = torch.randint(config.codebook_size, (positions - first, books), generator=generator)
    ids_PW[first:] = config.audio_base + codes_PK + torch.arange(books) * config.codebook_size
    x_PD = ours(ids_PW[None])[0]
    frame_codes = ids_PW[first:] - config.audio_base
    x_FSD = depth(x_PD[first - 1 : -1], frame_codes)
    ours_codes = torch.stack([x_FSD[:, k - 1] @ depth.head_of(k).T for k in range(1, books)], 1)
    their_first, their_codes = _published(folder, ids_PW, first)
    return max(_apart(ours.logits(x_PD), their_first), _apart(ours_codes, their_codes))


def _published(folder: Path, ids_PW: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Scores of first ids and of codes, by two of transformers' Qwen3 from the folder's own files.

    Args:
        ids_PW: a row of positions, K ids wide, -1 where an id is absent.
        first: the position of the first frame; all after it are frames.
    Returns:
        Scores of the id (of a frame, its first) that follows each position, (P, ids below audio and one codebook), and
        of each frame's codes after its first, (F, K - 1, codebook_size).
    """
    plain = read_json(folder / "config.json")
    named = {name: weight.float() for name, weight in load_file(folder / "model.safetensors").items()}
    backbone, inside = _qwen3(plain, named, "backbone"), _qwen3(plain, named, "depth")
    slots = plain["num_codebooks"] - 1
    e_PWD = backbone.embed_tokens(ids_PW.clamp(min=0)) * (ids_PW >= 0)[..., None]
    h_PD = backbone(inputs_embeds=e_PWD.sum(1)[None]).last_hidden_state[0]
    e_FKD = inside.embed_tokens(ids_PW[first:] - plain["audio_id_lo"])
    if plain["depth_fed"] == "sum":
        e_FKD = e_FKD.cumsum(1)
    late = int(plain["depth_conditioning"] == "shifted")
    fed_FSD = torch.zeros_like(e_FKD[:, 1:])
    fed_FSD[:, late:] = e_FKD[:, : slots - late]
    base_FD = h_PD[first - 1 : -1] @ named["bd_proj.weight"].T
    y_FSD = inside(inputs_embeds=base_FD[:, None] + fed_FSD).last_hidden_state
    codes = [y_FSD[:, s] @ named[f"acoustic_heads.{s}.weight"].T for s in range(slots)]
    return h_PD @ named["unified_head.weight"].T, torch.stack(codes, 1)


def _qwen3(plain: dict[str, Any], named: dict[str, Tensor], part: str) -> Any:
    """One of the two decoders, with its weights."""
    from transformers import Qwen3Config, Qwen3Model

    words = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
    )
    shape = {word: plain[word] for word in words}
    shape |= {"head_dim": plain["hidden_size"] // plain["num_attention_heads"]}
    if part == "depth":
        of_depth = ("hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "head_dim")
        shape = {
            word: plain[f"depth_{theirs}"]
            for word, theirs in zip((*words, "head_dim"), of_depth, strict=True)
        }
    config = Qwen3Config(
        **shape,
        vocab_size=len(named[f"{part}.embed_tokens.weight"]),
        max_position_embeddings=plain["max_position_embeddings"],
        rms_norm_eps=plain["rms_norm_eps"],
        rope_parameters={"rope_theta": plain["rope_theta"], **plain["rope_scaling"]},
        attention_bias=False,
    )
    model = Qwen3Model(config).eval()
    own = {name.removeprefix(f"{part}."): w for name, w in named.items() if name.startswith(f"{part}.")}
    model.load_state_dict(own)
    return model


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())
