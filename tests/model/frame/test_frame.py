"""Models of frames against plain loops over the conditionals."""

import itertools

import numpy as np
import pytest
import torch

from sodakit.errors import ConfigError
from sodakit.model.attention import Packing
from sodakit.model.contract import Slot
from sodakit.model.frame.config import DepthConfig, FrameConfig
from sodakit.model.frame.network import FrameTransformer
from sodakit.model.frame.select import frame_targets
from sodakit.model.kv_cache import KVCache
from sodakit.tokens.documents import Speech, Template, Text
from sodakit.tokens.layouts.contract import lay
from sodakit.tokens.layouts.frame import FrameLayout
from sodakit.tokens.vocabulary import Vocabulary
from tests.generate.test_frames import V, network
from tests.model.strategies import small_config

BOOKS, SIZE = 4, 11
VOCABULARY = Vocabulary.layout(text_size=20, bos=18, eos=19, num_codebooks=BOOKS, codebook_size=SIZE)
KINDS = [
    pytest.param({"conditioning": c, "fed": f, "delays": d}, id=f"{c}-{f}-{d[1]}{d[3]}")
    for c, f, d in itertools.product(("exact", "shifted"), ("sum", "last"), ((0, 0, 0, 0), (0, 1, 2, 3)))
] + [pytest.param({"heads": True, "delays": (0, 1, 2, 3)}, id="heads-delay")]


def frame_model(kind: dict, seed: int = 0, **changes) -> FrameTransformer:
    """A small model whose logits are of order one."""
    kind = dict(kind)
    delays, heads = kind.pop("delays"), kind.pop("heads", False)
    depth = DepthConfig(width=32, layers=2, heads=2, kv_heads=1, head_width=16, ffn_width=48, **kind)
    config = FrameConfig(
        backbone=small_config(vocab_size=VOCABULARY.size, **changes),
        num_codebooks=BOOKS,
        codebook_size=SIZE,
        audio_base=VOCABULARY.audio_base,
        delays=delays,
        depth=None if heads else depth,
    )
    model = FrameTransformer(config, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.copy_(
                    1 + 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                )
            else:
                parameter.mul_(8)
    return model


def document(frames: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes_KF = rng.integers(0, SIZE, (BOOKS, frames)).astype(np.uint16)
    return Template(VOCABULARY, BOOKS).document([Speech(codes_KF), Text(rng.integers(0, 18, 6))])


def layout_of(model: FrameTransformer, num_codebooks: int = BOOKS) -> FrameLayout:
    return FrameLayout(VOCABULARY, num_codebooks, model.config.delays)


def nll_of_cells(model: FrameTransformer, ids_PW: np.ndarray) -> np.ndarray:
    """What the model's own way gives each cell of a row: nats, 0 where nothing is predicted."""
    targets = frame_targets(model.config, ids_PW[None], np.ones((1, len(ids_PW)), bool))
    x_BPD = model(torch.from_numpy(ids_PW.astype(np.int64))[None])
    nll_C = torch.zeros(ids_PW.size, dtype=torch.float64)
    groups = model.told(x_BPD, targets.to("cpu"))
    cells = targets.cells_T.split([len(told.targets_T) for told in groups])
    for told, cells_T in zip(groups, cells, strict=True):
        logits_TV = told.x_TD @ told.head_VD.T
        for slot in told.slots or [Slot(slice(None), slice(0, len(told.head_VD)))]:
            part = logits_TV[slot.positions_T, slot.rows].log_softmax(-1)
            wanted = told.targets_T[slot.positions_T] - slot.rows.start
            nll_C[cells_T[slot.positions_T]] = -part.gather(1, wanted[:, None])[:, 0]
    return nll_C.detach().view(ids_PW.shape).numpy()


def nll_by_loop(model: FrameTransformer, ids_PW: np.ndarray) -> np.ndarray:
    """The same, conditional by conditional: each position from a pass over those before, each code from those it sees."""
    nll_PW = np.zeros(ids_PW.shape)
    for p in range(1, len(ids_PW)):
        before_PW = torch.from_numpy(ids_PW[:p].astype(np.int64))
        state_D = model(before_PW[None])[0, -1]
        if ids_PW[p, 0] >= 0:
            scores = model.head_VD[: model.config.first_ids] @ state_D
            nll_PW[p, 0] = -float(scores.log_softmax(0)[ids_PW[p, 0]])
        for k in range(1, BOOKS):
            if ids_PW[p, k] < 0:
                continue
            inside = model.inside(state_D[None])
            inside.put(torch.tensor([int(ids_PW[p, 0])]))
            for j in range(1, k):
                inside.logits(j)
                inside.put(torch.tensor([int(ids_PW[p, j])]))
            scores = inside.logits(k)[0]
            place = ids_PW[p, k] - VOCABULARY.codebook_range(k)[0]
            nll_PW[p, k] = -float(scores.log_softmax(0)[place])
    return nll_PW


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_every_cell_is_what_a_loop_over_the_conditionals_gives(kind) -> None:
    model = frame_model(kind)
    ids_PW = lay(layout_of(model), document())
    found, expected = nll_of_cells(model, ids_PW), nll_by_loop(model, ids_PW)
    assert np.abs(found - expected).max() < 1e-6
    assert (found[1:] > 0).sum() == (ids_PW[1:] >= 0).sum()


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_code_moves_what_comes_after_it_and_nothing_before(kind) -> None:
    """Changing code k of a frame: with `exact` every later code of the position feels it, with `shifted` all but the next."""
    model = frame_model(kind)
    layout = layout_of(model)
    ids_T = document()
    ids_PW = lay(layout, ids_T)
    before = nll_of_cells(model, ids_PW)
    exact = kind.get("conditioning") == "exact"
    for k in range(BOOKS):
        position, column = 5, k
        assert ids_PW[position, column] >= 0
        changed_PW = ids_PW.copy()
        start = VOCABULARY.codebook_range(k)[0]
        changed_PW[position, column] = start + (ids_PW[position, column] - start + 1) % SIZE
        after = nll_of_cells(model, changed_PW)
        moved = before != after
        assert not moved[:position].any() and not moved[position, :column].any() and moved[position, column]
        assert moved[position + 1 :][ids_PW[position + 1 :] >= 0].all()
        later = moved[position, column + 1 :]
        present = ids_PW[position, column + 1 :] >= 0
        if model.depth is None:
            assert not later.any()
        elif exact:
            assert later[present].all()
        else:
            assert not later[:1].any() and later[1:][present[1:]].all()


@torch.no_grad()
def test_a_position_is_the_sum_of_its_ids() -> None:
    model = frame_model({"delays": (0, 1, 2, 3)})
    ids_PW = lay(layout_of(model), document())
    x_PD = model.embed(torch.from_numpy(ids_PW.astype(np.int64))[None])[0]
    for ids_W, x_D in zip(ids_PW, x_PD, strict=True):
        expected = sum(model.embedding.weight[int(token)] for token in ids_W if token >= 0)
        assert torch.allclose(x_D, expected)


@torch.no_grad()
def test_a_cache_and_packed_rows_give_the_same_states() -> None:
    model = frame_model({"delays": (0, 0, 0, 0)})
    layout = layout_of(model)
    first, second = (torch.from_numpy(lay(layout, document(n, n)).astype(np.int64)) for n in (3, 6))
    together = torch.cat([first, second])[None]
    packed = model(together, Packing.from_lengths([len(first), len(second)]))[0]
    assert torch.allclose(packed[: len(first)], model(first[None])[0])
    near = {"atol": 1e-5, "rtol": 1e-4}  # angles are float32, and positions run on through a row
    assert torch.allclose(packed[len(first) :], model(second[None])[0], **near)
    cache = KVCache(model.config.backbone, 1, 64, dtype=torch.float64)
    parts = [
        model(second[None, :4], cache=cache),
        *(model(row[None, None], cache=cache) for row in second[4:]),
    ]
    assert torch.allclose(torch.cat(parts, 1)[0], packed[len(first) :], **near)


@torch.no_grad()
def test_fewer_codebooks_leave_columns_empty() -> None:
    """A document of codebook 0 alone is read and predicted by the same model."""
    model = frame_model({"delays": (0, 0, 0, 0)})
    codes_KF = np.arange(BOOKS * 3).reshape(BOOKS, 3).astype(np.uint16) % SIZE
    ids_T = Template(VOCABULARY, 1).document([Speech(codes_KF)])
    nll_PW = nll_of_cells(model, lay(layout_of(model, 1), ids_T))
    assert (nll_PW[1:, 0] > 0).all() and not nll_PW[:, 1:].any()


def test_only_some_cells_are_predicted() -> None:
    model = frame_model({"delays": (0, 0, 0, 0)})
    ids_PW = lay(layout_of(model), document())
    scored = np.zeros((1, len(ids_PW)), bool)
    scored[0, 3] = True
    targets = frame_targets(model.config, ids_PW[None], scored)
    assert targets.first_cells_T.tolist() == [3 * BOOKS]
    assert targets.code_cells_T.tolist() == [3 * BOOKS + k for k in (1, 2, 3)]
    assert targets.frame_states_F.tolist() == [2]


def test_shapes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="delays"):
        frame_model({"delays": (0, 1)})
    with pytest.raises(ConfigError, match=r"share="):
        DepthConfig(width=32, share=0)
    with pytest.raises(ConfigError, match="depth with one codebook"):
        FrameConfig(
            backbone=small_config(vocab_size=VOCABULARY.size),
            num_codebooks=1,
            codebook_size=SIZE,
            audio_base=VOCABULARY.audio_base,
            delays=(0,),
            depth=DepthConfig(width=32),
        )


def test_both_ways_to_sum_the_ids_of_a_position_agree(monkeypatch) -> None:
    """On a GPU absent ids are weighed with 0, so that nobody has to wait for how many are present."""
    model = network("depth")
    ids_BPW = torch.randint(-1, V.size, (2, 5, 4), generator=torch.Generator().manual_seed(0))
    ids_BPW[0, 0] = -1
    found = []
    for x_BPD in (model.embed(ids_BPW), model._embed_all(ids_BPW, ids_BPW >= 0)):
        model.zero_grad()
        x_BPD.square().sum().backward()
        found.append((x_BPD, model.embedding.weight.grad))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])
