import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sodakit.checkpoint.contents import model_from_weights
from sodakit.checkpoint.hf import export_hf, import_hf
from sodakit.checkpoint.load import load_checkpoint
from sodakit.checkpoint.qwen3 import config_from_hf, hf_config, hf_name, our_name
from sodakit.checkpoint.save import save_checkpoint
from sodakit.errors import CheckpointError
from sodakit.model.config import ModelConfig, RopeScaling
from sodakit.model.transformer import Transformer
from tests.model.strategies import lively_model, small_config, some_ids

scalings = st.none() | st.builds(
    RopeScaling,
    factor=st.floats(1, 64),
    low_frequency_factor=st.floats(0.5, 1.5),
    high_frequency_factor=st.floats(2, 8),
    original_context=st.integers(1, 10_000),
)
configs = st.builds(
    lambda kv_heads, shared, **rest: ModelConfig(kv_heads=kv_heads, heads=kv_heads * shared, **rest),
    kv_heads=st.integers(1, 8),
    shared=st.integers(1, 4),
    head_width=st.integers(1, 64).map(lambda half: 2 * half),
    vocab_size=st.integers(1, 200_000),
    width=st.integers(1, 4096),
    layers=st.integers(1, 64),
    ffn_width=st.integers(1, 10_000),
    tied_embeddings=st.booleans(),
    norm_eps=st.floats(1e-8, 1e-3),
    rope_theta=st.floats(1, 1e7),
    rope_scaling=scalings,
    context=st.integers(1, 100_000),
    init_std=st.floats(1e-4, 1),
)


@given(configs)
def test_every_config_survives_the_journey(config: ModelConfig) -> None:
    plain = json.loads(json.dumps(hf_config(config)))
    assert config_from_hf(plain, "here") == config
    # As transformers 4 and most tools write it.
    assert config_from_hf({k: v for k, v in plain.items() if k != "rope_parameters"}, "here") == config


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_weights_survive_the_journey_bit_for_bit(
    tied: bool, dtype: torch.dtype | None, tmp_path: Path
) -> None:
    model = lively_model(small_config(tied_embeddings=tied))
    config, weights = import_hf(export_hf(model, tmp_path / "hf", dtype=dtype))
    assert config == model.config
    assert weights.keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(weights[name], weight.to(dtype or weight.dtype)), name
    assert torch.equal(
        model_from_weights(config, weights, "here")(some_ids(1, 9)), model.to(dtype)(some_ids(1, 9))
    )


def test_a_checkpoint_is_exported_as_its_model_is(tmp_path: Path) -> None:
    model = lively_model(small_config())
    checkpoint = load_checkpoint(save_checkpoint(tmp_path / "c", model=model, state={}, config={}))
    export_hf(checkpoint, tmp_path / "one", more_config={"eos_token_id": 7})
    export_hf(model, tmp_path / "two")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert json.loads((tmp_path / "one" / "config.json").read_text())["eos_token_id"] == 7


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shards", [False, True])
def test_what_transformers_saves_is_imported(tied: bool, shards: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(
            vocab_size=97,
            hidden_size=48,
            intermediate_size=80,
            num_hidden_layers=3,
            num_attention_heads=6,
            num_key_value_heads=2,
            head_dim=16,
            tie_word_embeddings=tied,
            max_position_embeddings=128,
            initializer_range=0.3,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 10_000.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        )
    ).eval()
    theirs.save_pretrained(tmp_path, max_shard_size="40KB" if shards else "1GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == shards
    config, weights = import_hf(tmp_path)
    assert (config.layers, config.tied_embeddings, config.head_width) == (3, tied, 16)
    assert config.rope_scaling == RopeScaling(factor=4.0, original_context=64)
    model = model_from_weights(config, weights, "here")
    ids = some_ids(2, 100)
    assert (model.logits(model(ids)) - theirs(ids).logits).abs().max() < 1e-4


def test_a_tied_model_that_stores_its_head_as_well_is_imported(tmp_path: Path) -> None:
    """Several exporters write the shared matrix twice."""
    folder = export_hf(lively_model(small_config(tied_embeddings=True)), tmp_path / "hf")
    weights = load_file(folder / "model.safetensors")
    save_file(
        weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()},
        folder / "model.safetensors",
    )
    config, imported = import_hf(folder)
    assert "head.weight" not in imported
    assert model_from_weights(config, imported, "here").head is None


@pytest.mark.parametrize("rope_scaling", [None, RopeScaling()])
def test_transformers_reads_the_rotations_we_export(rope_scaling: RopeScaling | None, tmp_path: Path) -> None:
    """A rotation read wrongly still loads, and speaks nonsense."""
    transformers = pytest.importorskip("transformers")
    config = small_config(rope_scaling=rope_scaling)
    export_hf(Transformer(config), tmp_path / "hf")
    theirs = transformers.AutoConfig.from_pretrained(tmp_path / "hf")
    assert theirs.architectures == ["Qwen3ForCausalLM"]
    assert theirs.rope_parameters["rope_theta"] == 500_000
    assert theirs.rope_parameters["rope_type"] == ("llama3" if rope_scaling else "default")


@given(st.integers(0, 99), st.sampled_from(sorted(Transformer(small_config()).state_dict())))
@settings(max_examples=30)
def test_names_translate_both_ways(layer: int, name: str) -> None:
    name = name.replace("blocks.0.", f"blocks.{layer}.")
    assert our_name(hf_name(name)) == name
    assert hf_name(name) != name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "llama"}, "model_type='llama'"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "yarn"),
        ({"hidden_size": None}, "hidden_size"),
    ],
)
def test_another_architecture_is_refused_by_name(change: dict, says: str) -> None:
    plain = hf_config(small_config()) | change
    with pytest.raises(CheckpointError, match=says):
        config_from_hf({name: value for name, value in plain.items() if value is not None}, "here")


def test_entries_left_out_have_the_values_that_transformers_takes() -> None:
    transformers = pytest.importorskip("transformers")
    needed = {
        "model_type": "qwen3",
        "vocab_size": 97,
        "hidden_size": 64,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 64,
    }
    theirs = transformers.Qwen3Config(**{k: v for k, v in needed.items() if k != "model_type"})
    ours = config_from_hf(needed, "here")
    assert (
        ours.kv_heads,
        ours.head_width,
        ours.norm_eps,
        ours.context,
        ours.init_std,
        ours.tied_embeddings,
    ) == (
        theirs.num_key_value_heads,
        theirs.head_dim,
        theirs.rms_norm_eps,
        theirs.max_position_embeddings,
        theirs.initializer_range,
        theirs.tie_word_embeddings,
    )
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"] and ours.rope_scaling is None
    assert config_from_hf(needed | {"num_key_value_heads": None}, "here").kv_heads == 64


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.json", b'{"model_type": "qwen3", ', "config.json is not JSON"),
        ("config.json", b"[1]", "needed: an object"),
        ("config.json", b"[" * 100_000, "is not JSON"),
        ("model.safetensors", b"\xff" * 64, "cannot be read"),
        ("model.safetensors.index.json", b'{"weight_map": [1]}', "no weight_map"),
    ],
)
def test_a_damaged_folder_is_refused_in_a_line(file: str, content: bytes, says: str, tmp_path: Path) -> None:
    folder = export_hf(Transformer(small_config()), tmp_path / "hf")
    (folder / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        import_hf(folder)


@pytest.mark.parametrize("change", [{"rope_parameters": {"rope_type": "llama3"}}, {"hidden_size": "wide"}])
def test_a_config_that_describes_no_model_is_refused_in_a_line(change: dict) -> None:
    with pytest.raises(CheckpointError, match="describes no model"):
        config_from_hf(hf_config(small_config()) | change, "here")


@pytest.mark.parametrize(("value", "says"), [(float("nan"), "NaN or infinity"), (0.0, "zero throughout")])
def test_weights_that_say_nothing_are_not_imported(value: float, says: str, tmp_path: Path) -> None:
    folder = export_hf(Transformer(small_config()), tmp_path / "hf")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"].fill_(value)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"feed_forward.up.weight.*{says}"):
        import_hf(folder)


def test_a_bias_in_the_weights_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"q_proj\.bias"):
        our_name("model.layers.0.self_attn.q_proj.bias")


def test_a_missing_shard_or_model_is_named(tmp_path: Path) -> None:
    export_hf(Transformer(small_config()), tmp_path / "hf")
    (tmp_path / "hf" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        import_hf(tmp_path / "hf")
    with pytest.raises(CheckpointError, match="neither a folder nor a hub id"):
        import_hf(tmp_path / "no" / "such" / "place")
