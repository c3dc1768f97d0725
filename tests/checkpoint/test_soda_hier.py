"""The published layout of models of frames: what its authors' inputs give, and both ways bit for bit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3Model

from sodakit.checkpoint import parity
from sodakit.checkpoint.contents import Checkpoint
from sodakit.checkpoint.hf import export_hf, import_hf
from sodakit.checkpoint.hf_folder import export_folder, import_folder
from sodakit.checkpoint.load import load_checkpoint
from sodakit.checkpoint.parity import check_parity
from sodakit.checkpoint.soda_hier import config_from_hier, hier_config
from sodakit.commands.export import main as export_main
from sodakit.errors import CheckpointError
from sodakit.model.config import RopeScaling
from sodakit.model.frame.network import FrameTransformer
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.train.trainer import train
from tests.model.frame.test_frame import frame_model
from tests.stores import small_store
from tests.train.ranks import rank_config

ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    """A model of family depth trained for two steps."""
    root = tmp_path_factory.mktemp("trained")
    store = small_store(root / "store", recordings=30)
    config = rank_config(store, family="depth", steps=2, validation=())
    return load_checkpoint(train(config, root / "run", device="cpu"))


def published_folder(vocabulary: Vocabulary, folder: Path) -> tuple[Path, dict, Qwen3Model, Qwen3Model]:
    """A folder as its authors write it, of two of transformers' decoders, and the decoders."""
    torch.manual_seed(0)
    books, size = vocabulary.num_codebooks, vocabulary.codebook_size
    plain = {
        "model_type": "soda_hier",
        "vocab_size": vocabulary.size,
        "unified_vocab_size": vocabulary.audio_base + size,
        "num_codebooks": books,
        "codebook_size": size,
        "audio_id_lo": vocabulary.audio_base,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 3,
        "max_position_embeddings": 64,
        "depth_hidden_size": 32,
        "depth_intermediate_size": 64,
        "depth_num_layers": 2,
        "depth_num_heads": 2,
        "depth_num_kv_heads": 2,
        "depth_head_dim": 16,
        "rope_theta": 500_000.0,
        "rope_scaling": ROPE,
        "rms_norm_eps": 1e-5,
        "bos_token_id": vocabulary.bos,
    }
    rope = {"rope_theta": 500_000.0, **ROPE}
    both = {"rms_norm_eps": 1e-5, "rope_parameters": rope, "attention_bias": False, "initializer_range": 0.3}
    backbone = Qwen3Model(
        Qwen3Config(
            vocab_size=vocabulary.size,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=3,
            num_key_value_heads=3,
            head_dim=16,
            max_position_embeddings=64,
            **both,
        )
    ).eval()
    depth = Qwen3Model(
        Qwen3Config(
            vocab_size=books * size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=books,
            **both,
        )
    ).eval()
    weights = {
        **{f"backbone.{name}": w for name, w in backbone.state_dict().items()},
        **{f"depth.{name}": w for name, w in depth.state_dict().items()},
        "unified_head.weight": torch.randn(plain["unified_vocab_size"], 48),
        "bd_proj.weight": torch.randn(32, 48) / 7,
        **{f"acoustic_heads.{k}.weight": torch.randn(size, 32) for k in range(books - 1)},
    }
    folder.mkdir()
    save_file({n: w.contiguous() for n, w in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(plain))
    return folder, weights, backbone, depth


@pytest.fixture(scope="module")
def published(checkpoint, tmp_path_factory):
    vocabulary = Vocabulary.load(checkpoint.vocabulary_folder)
    made = published_folder(vocabulary, tmp_path_factory.mktemp("published") / "hier")
    # What says what ids mean is that of any export.
    exported = export_folder(checkpoint, tmp_path_factory.mktemp("hf") / "model", check=False)
    for file in exported.iterdir():
        if file.name not in ("config.json", "model.safetensors", "README.md"):
            shutil.copyfile(file, made[0] / file.name)
    return vocabulary, *made


@torch.no_grad()
def test_an_imported_folder_scores_as_its_authors_modules_do(published, tmp_path):
    """Text, then frames: each first id from the step before it, each code from the step and the codes up to the last but one."""
    vocabulary, folder, weights, backbone, depth = published
    books, size, low = vocabulary.num_codebooks, vocabulary.codebook_size, vocabulary.audio_base
    rng = np.random.default_rng(0)
    frames = [[low + k * size + int(rng.integers(size)) for k in range(books)] for _ in range(6)]
    steps = [[vocabulary.bos], [3], [5], *frames, [vocabulary.text_start], [7], *frames[::-1]]
    embedded = torch.stack([backbone.embed_tokens(torch.tensor(step)).sum(0) for step in steps])
    h_PD = backbone(inputs_embeds=embedded[None]).last_hidden_state[0]
    first = h_PD @ weights["unified_head.weight"].T
    codes = {}
    for p, step in enumerate(steps):
        if len(step) == 1:
            continue
        base = weights["bd_proj.weight"] @ h_PD[p - 1]
        fed = [base] + [base + depth.embed_tokens(torch.tensor(step[k] - low)) for k in range(books - 1)]
        y = depth(inputs_embeds=torch.stack(fed)[None]).last_hidden_state[0]
        for k in range(1, books):
            codes[p, k] = weights[f"acoustic_heads.{k - 1}.weight"] @ y[k - 1]
    model = load_checkpoint(import_folder(folder, tmp_path / "ours")).model()
    assert isinstance(model, FrameTransformer)
    ids_PW = torch.full((len(steps), books), -1)
    for p, step in enumerate(steps):
        ids_PW[p, : len(step)] = torch.tensor(step)
    x_PD = model(ids_PW[None])[0]
    torch.testing.assert_close(model.logits(x_PD), first, rtol=1e-4, atol=1e-4)
    for p, step in enumerate(steps):
        if len(step) > 1:
            inside = model.inside(x_PD[p - 1 : p])
            for k in range(1, books):
                inside.put(torch.tensor([step[k - 1]]))
                torch.testing.assert_close(inside.logits(k)[0], codes[p, k], rtol=1e-4, atol=1e-4)


def test_imported_exported_and_imported_again_is_the_same_bit_for_bit(published, tmp_path):
    _, folder, weights, *_ = published
    first = load_checkpoint(import_folder(folder, tmp_path / "a"))
    exported = export_folder(first, tmp_path / "hf", dtype=torch.float32)
    named = load_file(exported / "model.safetensors")
    assert named.keys() == weights.keys()
    assert all(torch.equal(named[name], weight) for name, weight in weights.items())
    second = load_checkpoint(import_folder(exported, tmp_path / "b"))
    assert second.model_config == first.model_config
    a, b = first.weights(), second.weights()
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_model_trained_here_goes_the_same_way_and_says_how_its_codes_are_fed(checkpoint, tmp_path, capsys):
    export_main([str(checkpoint.folder), "--out", str(tmp_path / "hf"), "--dtype", "float32"])
    assert "would compute other scores" in capsys.readouterr().err
    assert "would compute other scores" in (tmp_path / "hf/README.md").read_text()
    back = load_checkpoint(import_folder(tmp_path / "hf", tmp_path / "back"))
    assert back.model_config == checkpoint.model_config
    a, b = checkpoint.weights(), back.weights()
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("conditioning", ["exact", "shifted"])
@pytest.mark.parametrize("fed", ["sum", "last"])
def test_parity_is_checked_for_every_way_of_feeding_the_codes(conditioning, fed, tmp_path, monkeypatch):
    model = frame_model(
        {"conditioning": conditioning, "fed": fed, "delays": (0,) * 4}, width=64, heads=4, head_width=16
    ).float()
    vocabulary = Vocabulary.layout(text_size=20, bos=18, eos=19, num_codebooks=4, codebook_size=11)
    folder = export_hf(model, tmp_path / "hf")
    assert check_parity(folder, vocabulary) < 1e-4
    config, weights = import_hf(folder)
    other = replace(config.depth, conditioning={"exact": "shifted", "shifted": "exact"}[conditioning])
    monkeypatch.setattr(parity, "import_hf", lambda _: (replace(config, depth=other), weights))
    with pytest.raises(CheckpointError, match="other logits"):
        check_parity(folder, vocabulary)


def test_the_tied_head_of_a_model_is_written_out(tmp_path):
    model = frame_model({"delays": (0,) * 4}, width=64, head_width=16, tied_embeddings=True).float()
    config, weights = import_hf(export_hf(model, tmp_path / "hf"))
    assert not config.tied_embeddings
    assert torch.equal(weights["head.weight"], model.head_VD)


def test_what_the_layout_has_no_words_for_is_not_exported():
    side = frame_model({"heads": True, "delays": (0, 1, 2, 3)}, width=64, head_width=16)
    with pytest.raises(CheckpointError, match="family depth"):
        hier_config(side.frame)
    delayed = frame_model({"delays": (0, 1, 1, 1)}, width=64, head_width=16)
    with pytest.raises(CheckpointError, match="no delays"):
        hier_config(delayed.frame)
    with pytest.raises(CheckpointError, match="width / heads"):
        hier_config(frame_model({"delays": (0,) * 4}).frame)


def test_a_published_config_without_rotations_has_the_authors(published):
    _, folder, *_ = published
    plain = json.loads((folder / "config.json").read_text())
    for change in ({}, {"rope_scaling": None}):
        given = {name: value for name, value in plain.items() if name != "rope_scaling"} | change
        assert config_from_hier(given, "").backbone.rope_scaling == RopeScaling()
    unscaled = config_from_hier(plain | {"rope_scaling": {"rope_type": "default"}}, "")
    assert unscaled.backbone.rope_scaling is None
    assert config_from_hier(hier_config(unscaled), "") == unscaled


def test_damage_is_named(published, tmp_path):
    _, folder, weights, *_ = published
    shutil.copytree(folder, tmp_path / "cut")
    save_file(
        {n: w for n, w in weights.items() if n != "acoustic_heads.1.weight"},
        tmp_path / "cut/model.safetensors",
    )
    with pytest.raises(CheckpointError, match=r"acoustic_heads\.1\.weight"):
        import_folder(tmp_path / "cut", tmp_path / "a")
    save_file(weights | {"talker.weight": torch.ones(2, 2)}, tmp_path / "cut/model.safetensors")
    with pytest.raises(CheckpointError, match="talker"):
        import_folder(tmp_path / "cut", tmp_path / "a")
    plain = json.loads((folder / "config.json").read_text())
    with pytest.raises(CheckpointError, match="unified_vocab_size"):
        config_from_hier(plain | {"unified_vocab_size": 5}, "here")
    with pytest.raises(CheckpointError, match="depth_hidden_size"):
        config_from_hier({n: v for n, v in plain.items() if n != "depth_hidden_size"}, "here")
    for change in (
        {"num_attention_heads": 0},
        {"rope_scaling": {**ROPE, "original_max_position_embeddings": 1e999}},
    ):
        with pytest.raises(CheckpointError, match=r"here: config\.json describes no model"):
            config_from_hier(plain | change, "here")
