import pytest
import torch

from sodakit.checkpoint.hf import export_hf
from sodakit.errors import ConfigError
from sodakit.model.attention import Packing
from sodakit.model.config import RopeScaling
from sodakit.model.kv_cache import KVCache
from sodakit.model.transformer import Transformer
from tests.model.strategies import lively_model, small_config, some_ids

SHAPES = {
    "mha": {"kv_heads": 4, "head_width": 12},
    "gqa": {},
    "mqa": {"kv_heads": 1},
    "tied": {"tied_embeddings": True},
    "wide heads": {"head_width": 40},
    "plain rope": {"rope_scaling": None},
    "strong scaling": {"rope_scaling": RopeScaling(factor=32.0, original_context=64), "rope_theta": 1000.0},
}


def _huggingface(model: Transformer, folder):
    transformers = pytest.importorskip("transformers")
    return transformers.Qwen3ForCausalLM.from_pretrained(export_hf(model, folder), dtype=torch.float32).eval()


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES, ids=lambda name: name.replace(" ", "_"))
def test_logits_equal_those_of_transformers(shape: str, tmp_path) -> None:
    """Packed rows too: transformers runs each document alone, and positions begin again there."""
    model = lively_model(small_config(**SHAPES[shape]))
    theirs = _huggingface(model, tmp_path / "hf")
    ids = some_ids(2, 150)
    expected = theirs(ids).logits
    assert expected.std() > 0.5
    assert (model.logits(model(ids)) - expected).abs().max() < 1e-4
    lengths = (61, 89, 1, 120, 29)
    packed = model.logits(model(ids, Packing.from_lengths(lengths))).flatten(0, 1)
    alone = torch.cat([theirs(document[None]).logits[0] for document in ids.flatten().split(lengths)])
    assert (packed - alone).abs().max() < 1e-4


def test_gradients_equal_those_of_transformers(tmp_path) -> None:
    model = lively_model(small_config())
    theirs = _huggingface(model, tmp_path / "hf")
    ids, lengths = some_ids(1, 100), (40, 60)
    direction = torch.randn(100, 97, generator=torch.Generator().manual_seed(1))
    (model.logits(model(ids, Packing.from_lengths(lengths)))[0] * direction).sum().backward()
    alone = torch.cat([theirs(document[None]).logits[0] for document in ids.flatten().split(lengths)])
    (alone * direction).sum().backward()
    pairs = {
        "embedding": (model.embedding.weight, theirs.model.embed_tokens.weight),
        "query": (model.blocks[0].attention.query.weight, theirs.model.layers[0].self_attn.q_proj.weight),
        "key norm": (
            model.blocks[1].attention.key_norm.weight,
            theirs.model.layers[1].self_attn.k_norm.weight,
        ),
        "down": (model.blocks[1].feed_forward.down.weight, theirs.model.layers[1].mlp.down_proj.weight),
        "head": (model.head_VD, theirs.lm_head.weight),
    }
    for name, (ours, their) in pairs.items():
        assert ((ours.grad - their.grad).norm() / their.grad.norm()).item() < 1e-4, name


@torch.no_grad()
def test_a_document_gives_the_same_states_wherever_it_lies_in_a_row() -> None:
    """Positions are not reset in a row, and need not be: only distances matter."""
    model = lively_model(small_config()).double()
    document = some_ids(1, 30)
    alone = model(document)
    for offset in (1, 100, 400):
        row = torch.cat([some_ids(1, offset, seed=2), document], dim=1)
        shifted = model(row, Packing.from_lengths((offset, 30)))[:, offset:]
        assert (shifted - alone).abs().max() < 1e-4


@torch.no_grad()
def test_some_rows_of_the_head_give_those_columns_of_the_logits() -> None:
    model = lively_model(small_config())
    states = model(some_ids(2, 9))
    full = model.logits(states)
    torch.testing.assert_close(model.logits(states, slice(20, 60)), full[..., 20:60])
    chosen = torch.tensor([5, 96, 0])
    torch.testing.assert_close(model.logits(states, chosen), full[..., chosen])


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_the_embedding_only_where_they_are_tied(tied: bool) -> None:
    model = Transformer(small_config(tied_embeddings=tied))
    assert (model.head_VD is model.embedding.weight) == tied
    assert ("head.weight" in model.state_dict()) == (not tied)


def test_training_in_bfloat16_follows_float32() -> None:
    model = lively_model(small_config())
    ids, packing = some_ids(2, 64), Packing.from_lengths((50, 14, 64))
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model.logits(model(ids, packing)).float().square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.995


def test_a_model_that_has_spoken_can_be_trained() -> None:
    """What inference mode leaves behind must not be needed by a backward pass."""
    model = lively_model(small_config())
    with torch.inference_mode():
        model(some_ids(1, 9))
    model(some_ids(1, 9)).sum().backward()
    assert model.embedding.weight.grad is not None


def test_compiled_blocks_give_the_same_gradients_for_any_packing() -> None:
    """A packing changes with every batch; compiling again for each would take longer than training."""
    model = lively_model(small_config())
    compiled = lively_model(small_config())
    compiled.compile_blocks(backend="aot_eager")
    ids = some_ids(2, 64)
    compiled(ids, Packing.from_rows(2, 64)).sum().backward()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for lengths in ((50, 14, 64), (1, 63, 30, 34)):
            gradients = []
            for either in (model, compiled):
                either.zero_grad()
                either(ids, Packing.from_lengths(lengths)).square().sum().backward()
                gradients.append(either.embedding.weight.grad)
            torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_said() -> None:
    model = Transformer(small_config(context=16))
    with pytest.raises(ConfigError, match="context is 16"):
        model(some_ids(1, 17))
    with pytest.raises(ConfigError, match="packing of 9 positions"):
        model(some_ids(2, 5), Packing.from_lengths((9,)))
    with pytest.raises(ConfigError, match="one document per row"):
        model(some_ids(1, 5), Packing.from_rows(1, 5), KVCache(model.config, 1, 8))
    with pytest.raises(ConfigError, match="2 rows for a cache of 1"):
        model(some_ids(2, 5), cache=KVCache(model.config, 1, 8))
