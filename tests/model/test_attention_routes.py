"""Which way to attend is taken: the fastest of those that are right, and no other."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sodakit.model import attention
from sodakit.model import attention_routes as routes
from sodakit.model.attention import Packing, document_attention
from sodakit.model.attention_routes import Candidate, by_document, error_of, fastest_route, random_heads
from sodakit.train.run import Run

CPU = torch.device("cpu")
LENGTHS = (40, 9, 15)


def leaking(q_PNH, k_PGH, v_PGH, packing):
    """One document over all of the rows."""
    return document_attention(q_PNH, k_PGH, v_PGH, (packing.num_positions,))


def missing(q_PNH, k_PGH, v_PGH, packing):
    raise ImportError("no package of that name\nand more")


def in_double(q_PNH, k_PGH, v_PGH, packing):
    return by_document(q_PNH.double(), k_PGH.double(), v_PGH.double(), packing).float()


AMONG = [
    Candidate("leaking", leaking),
    Candidate("missing", missing),
    Candidate("documents", by_document),
    Candidate("double", in_double),
]


@pytest.mark.parametrize("fastest", ["documents", "double"])
def test_the_fastest_of_the_right_routes_is_chosen(fastest):
    def seconds_of(work):
        return 0.001 if {"documents": by_document, "double": in_double}[fastest] is work.args[0] else 0.002

    choice = fastest_route(AMONG, CPU, torch.float32, (4, 2, 16), LENGTHS, seconds_of)
    assert choice.name == fastest and choice.milliseconds[fastest] == 1.0
    assert choice.refused["missing"] == "no package of that name" and "wrong by" in choice.refused["leaking"]


def test_without_a_right_route_none_is_chosen():
    choice = fastest_route(AMONG[:2], CPU, torch.float32, (4, 2, 16), LENGTHS)
    assert choice.name is None and choice.refused.keys() == {"leaking", "missing"}


def test_routes_of_this_machine_are_right():
    found = routes.parities(CPU)
    assert len(found) == 2 and all(isinstance(error, float) for error in found.values()), found


@pytest.mark.slow
def test_flex_attention_inside_what_is_not_compiled_is_right_and_keeps_its_masks():
    """Forward alone: torch has no backward pass for it on a CPU. A model calls it where blocks are not compiled."""
    flex = torch.compiler.disable(routes.Flex())
    heads = [x.detach() for x in random_heads(64, 4, 2, 16, torch.float32, CPU)]
    packing = Packing.from_lengths(LENGTHS)
    for _ in range(2):
        with torch.no_grad():
            out = flex(*heads, packing)
    torch.testing.assert_close(out, by_document(*heads, packing), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lengths", [(300, 1, 83, 640), (128, 128, 256), (1000,), (5,) * 40, (129, 383, 77)])
def test_masks_made_by_block_are_those_of_every_pair(lengths):
    """Which blocks are looked at, in part or whole, by queries and by keys; and the pairs inside."""
    start_P = torch.cat([torch.full((n,), sum(lengths[:i])) for i, n in enumerate(lengths)])
    pairs = create_block_mask(
        lambda b, h, q, k: (k <= q) & (k >= start_P[q]), None, None, len(start_P), len(start_P), device="cpu"
    )
    found = routes.block_mask(lengths, CPU)
    for name in ("kv", "full_kv", "q", "full_q"):
        counts, wanted = (getattr(mask, f"{name}_num_blocks")[0, 0].tolist() for mask in (found, pairs))
        assert counts == wanted, name
        which = [getattr(mask, f"{name}_indices")[0, 0].tolist() for mask in (found, pairs)]
        cut = [[sorted(row[:n]) for row, n in zip(rows, counts, strict=True)] for rows in which]
        assert cut[0] == cut[1], name
    at = torch.arange(len(start_P))
    assert (
        torch.equal(found.mask_mod(0, 0, at[:, None], at), pairs.mask_mod(0, 0, at[:, None], at))
        and found.shape == pairs.shape
    )


class Largest(TorchDispatchMode):
    """How many elements the largest tensor had."""

    found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.found = max([self.found, *(x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor))])
        return out


def test_a_mask_never_holds_every_pair_of_positions():
    """Of 16 rows of 4,096 these are 4 GB a micro-batch, and as much again for every comparison."""
    with Largest() as largest:
        routes.block_mask((1500, 1500, 1096) * 16, CPU)
    assert largest.found < 2**20


def test_errors_are_of_gradients_too():
    def no_gradient_of_v(q_PNH, k_PGH, v_PGH, packing):
        return by_document(q_PNH, k_PGH, v_PGH.detach() + 0 * v_PGH, packing)

    packing = Packing.from_lengths(LENGTHS)
    heads = random_heads(64, 4, 2, 16, torch.float32, CPU)
    assert error_of(by_document, heads, packing) < 1e-4 < error_of(no_gradient_of_v, heads, packing)


def run_on_a_gpu(choice_of_the_first_rank: str, **settings):
    run = Run.__new__(Run)
    run.device, run.dtype = torch.device("cuda"), settings.pop("dtype", torch.bfloat16)
    backbone = SimpleNamespace(heads=4, kv_heads=2, head_width=16)
    how = settings.pop("attention", "measured")
    run.config = SimpleNamespace(model=SimpleNamespace(backbone=backbone), attention=how)
    run.micro_rows, run.loader = 2, SimpleNamespace(row=lambda number: (None, (30 + number, 2)))
    told = routes.Choice(choice_of_the_first_rank, {}, {})
    run.ranks = SimpleNamespace(gather=lambda mine: [told, mine])
    return run


def test_all_ranks_take_the_route_of_the_first(monkeypatch):
    """Each would time another one as the fastest, and the same rows be summed in other orders."""
    asked = []
    monkeypatch.setattr("sodakit.train.run.candidates", lambda *_: AMONG)
    monkeypatch.setattr("sodakit.train.run.fastest_route", lambda *given: asked.append(given) or "mine")
    run = run_on_a_gpu("double")
    try:
        assert run._choose_attention().name == "double"
        assert attention._taken == [in_double]
        assert asked[0][3:] == ((4, 2, 16), [30, 2, 31, 2])
        for other in ({"dtype": torch.float32}, {"attention": "by_shape"}):
            assert run_on_a_gpu("double", **other)._choose_attention() is None and attention._taken == []
    finally:
        attention.take_route(None)
