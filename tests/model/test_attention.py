from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import varlen

from sodakit.errors import ConfigError
from sodakit.model import attention
from sodakit.model.attention import (
    Packing,
    attend_packed,
    branching_attention,
    document_attention,
    reference_attention,
)
from sodakit.model.block_attention import BLOCK, block_attention, weights_bytes
from tests.model.strategies import lengths

HEADS = [(2, 2), (4, 2), (6, 1)]


def _qkv(positions: int, heads: int, kv_heads: int, seed: int = 0, width: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(positions, heads, width), (positions, kv_heads, width), (positions, kv_heads, width)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def _with_gradients(function, qkv, lengths):
    leaves = [x.clone().requires_grad_() for x in qkv]
    out = function(*leaves, lengths)
    out.backward(torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape))
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@given(lengths, st.sampled_from(HEADS))
@settings(max_examples=25, deadline=None)
def test_every_route_gives_the_outputs_and_gradients_of_the_definition(
    lengths: tuple[int, ...], heads: tuple[int, int]
) -> None:
    qkv = _qkv(sum(lengths), *heads)
    expected = _with_gradients(reference_attention, qkv, lengths)
    for route in (block_attention, document_attention):
        for got, want in zip(_with_gradients(route, qkv, lengths), expected, strict=True):
            torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("heads", HEADS)
def test_documents_of_many_blocks_keep_the_gradients_of_the_definition(heads: tuple[int, int]) -> None:
    lengths = (BLOCK + BLOCK // 2 - 1, 3 * BLOCK + 7, 1)
    qkv = _qkv(sum(lengths), *heads)
    expected = _with_gradients(reference_attention, qkv, lengths)
    for got, want in zip(_with_gradients(block_attention, qkv, lengths), expected, strict=True):
        torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-8)


def test_float32_gradients_of_packed_rows_are_those_of_float64() -> None:
    """What training runs: relative to the float64 definition the error stays at float32 rounding."""
    lengths = (300, 17, 195)
    qkv = _qkv(512, 4, 2)
    expected = _with_gradients(reference_attention, qkv, lengths)
    got = _with_gradients(block_attention, [x.float() for x in qkv], lengths)
    for ours, want in zip(got, expected, strict=True):
        assert (ours.double() - want).norm() / want.norm() < 2e-6


def test_bfloat16_blocks_are_as_precise_as_torchs_own_attention() -> None:
    lengths = (200, 312)
    qkv = _qkv(512, 4, 4)
    expected = _with_gradients(reference_attention, qkv, lengths)
    half = [x.bfloat16() for x in qkv]
    ours, theirs = (_with_gradients(route, half, lengths) for route in (block_attention, document_attention))
    for our, their, want in zip(ours, theirs, expected, strict=True):
        errors = [(x.double() - want).norm() / want.norm() for x in (our, their)]
        assert errors[0] < max(1.3 * errors[1], 4e-3)


@st.composite
def branching_packings(draw: st.DrawFn) -> Packing:
    """Documents some of which go on from a piece of an earlier one's whole path."""
    given_lengths = draw(lengths)
    paths: list[tuple[tuple[int, int], ...]] = []
    goes_on_from, first = [], 0
    for length in given_lengths:
        kept: list[tuple[int, int]] = []
        path = draw(st.sampled_from([(), *paths]))
        for start, stop in path[: draw(st.integers(0, len(path)))]:
            kept.append((start, stop))
        if kept:
            start, stop = kept[-1]
            kept[-1] = (start, draw(st.integers(start + 1, stop)))
        goes_on_from.append(tuple(kept))
        paths.append((*kept, (first, first + length)))
        first += length
    return Packing.from_lengths(given_lengths, goes_on_from=tuple(goes_on_from))


def _whole_documents(x_PNH: torch.Tensor, packing: Packing) -> list[torch.Tensor]:
    """Each document with the positions of its beginning in front."""
    ends = [0, *accumulate(packing.lengths)]
    return [
        torch.cat([*(x_PNH[start:stop] for start, stop in given), x_PNH[first:end]])
        for first, end, given in zip(ends, ends[1:], packing.goes_on_from, strict=False)
    ]


@given(branching_packings(), st.sampled_from(HEADS))
@settings(max_examples=40, deadline=None)
def test_documents_that_go_on_from_others_attend_as_if_written_out(
    packing: Packing, heads: tuple[int, int]
) -> None:
    """By both routes, in float64, against the definition over whole documents."""
    qkv = _qkv(packing.num_positions, *heads)
    got = branching_attention(*qkv, packing)
    whole = [_whole_documents(x, packing) for x in qkv]
    outs = [reference_attention(*parts, (len(parts[0]),)) for parts in zip(*whole, strict=True)]
    own = [out[given:] for out, given in zip(outs, packing.num_given, strict=True)]
    torch.testing.assert_close(got, torch.cat(own), atol=1e-10, rtol=1e-8)
    dense = attention._attention(*qkv, packing.seen_PP)
    torch.testing.assert_close(dense, torch.cat(own), atol=1e-10, rtol=1e-8)
    places = [range(n, n + length) for n, length in zip(packing.num_given, packing.lengths, strict=True)]
    assert packing.positions_P.tolist() == [place for span in places for place in span]
    assert packing.longest == max(span.stop for span in places)


def test_gradients_of_documents_that_go_on_from_others_are_refused() -> None:
    packing = Packing.from_lengths((3, 2), goes_on_from=((), ((0, 2),)))
    q, k, v = (x.view(1, 5, 2, 8).requires_grad_() for x in _qkv(5, 2, 2))
    with pytest.raises(ConfigError, match="inference"):
        attend_packed(q, k, v, packing)


@pytest.mark.parametrize("goes_on_from", [((),), ((), ((0, 4),)), ((), ((2, 2),))])
def test_a_document_goes_on_from_earlier_positions_only(goes_on_from) -> None:
    with pytest.raises(ConfigError, match=r"packing of 2|position 3"):
        Packing.from_lengths((3, 2), goes_on_from=goes_on_from)


@given(lengths, st.data())
@settings(max_examples=20, deadline=None)
def test_a_document_never_attends_to_its_neighbours(lengths: tuple[int, ...], data: st.DataObject) -> None:
    changed = data.draw(st.integers(0, len(lengths) - 1))
    first = sum(lengths[:changed])
    inside = slice(first, first + lengths[changed])
    q, k, v = _qkv(sum(lengths), 2, 2)
    for route in (block_attention, document_attention):
        before = route(q, k, v, lengths)
        k_other, v_other = k.clone(), v.clone()
        k_other[inside] += 100
        v_other[inside] -= 100
        difference = (route(q, k_other, v_other, lengths) - before).abs().amax(dim=(1, 2))
        outside = torch.ones(len(difference), dtype=torch.bool)
        outside[inside] = False
        assert (difference[outside] == 0).all()
        assert (difference[inside] > 1).all()


def test_long_documents_take_the_route_that_keeps_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    packing = Packing.from_lengths((64, 64))
    q, k, v = (x.view(2, 64, 2, 8).requires_grad_() for x in _qkv(128, 2, 2))
    kept = attend_packed(q, k, v, packing)
    monkeypatch.setattr(attention, "LARGEST_WEIGHTS_BYTES", 100)
    recomputed = attend_packed(q, k, v, packing)
    assert "BlockAttention" in str(kept.grad_fn.next_functions[0][0])
    assert "BlockAttention" not in str(recomputed.grad_fn.next_functions[0][0])
    torch.testing.assert_close(kept, recomputed)


@pytest.mark.parametrize("width", [8, 84])
@pytest.mark.parametrize("takes_groups", [True, False], ids=["torch 2.12", "torch 2.11"])
def test_the_gpu_kernel_is_called_with_what_causal_documents_need(
    takes_groups: bool, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in with the signature of each torch version; the kernel itself needs a GPU, and heads of a multiple of 8."""

    def as_the_kernel(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, window_size, enable_gqa=False):
        assert (q.shape[1] == k.shape[1]) or enable_gqa
        assert not any(x.shape[-1] % 8 for x in (q, k, v))
        assert window_size == (-1, 0) and max_q == max_k == 25
        assert torch.equal(cu_seq_q, cu_seq_k)
        return reference_attention(q, k, v, tuple(cu_seq_q.diff().tolist()))

    def before_groups(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size=(-1, -1)):
        return as_the_kernel(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, window_size)

    def with_groups(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size=(-1, -1), enable_gqa=False):
        return as_the_kernel(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, window_size, enable_gqa)

    monkeypatch.setattr(varlen, "varlen_attn", with_groups if takes_groups else before_groups)
    monkeypatch.setattr(attention, "has_varlen_kernel", lambda q: True)
    attention._varlen_takes_groups.cache_clear()
    packing = Packing.from_lengths((25, 15))
    q, k, v = _qkv(40, 4, 2, width=width)
    got = attend_packed(*(x.view(2, 20, -1, width) for x in (q, k, v)), packing)
    attention._varlen_takes_groups.cache_clear()
    torch.testing.assert_close(got.flatten(0, 1), reference_attention(q, k, v, packing.lengths))


def test_kept_weights_take_the_memory_announced() -> None:
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        block_attention(*(x.requires_grad_() for x in _qkv(500, 2, 2)), (400, 100))
    weights = [x for x in saved if x.ndim == 3 and x.shape[-1] != 8]
    assert sum(x.numel() * 8 for x in weights) == weights_bytes((400, 100), 2, 8)


@given(st.integers(1, 6), st.integers(1, 30), st.data())
def test_a_packing_covers_each_row_with_stretches_of_one_document(
    batch: int, tokens: int, data: st.DataObject
) -> None:
    row = st.lists(st.integers(-1, 3), min_size=tokens, max_size=tokens)
    ids = torch.tensor(data.draw(st.lists(row, min_size=batch, max_size=batch)))
    packing = Packing.from_document_ids(ids)
    ends = packing.cu_seqlens_U.tolist()
    assert packing.cu_seqlens_U.dtype == torch.int32
    assert ends[0] == 0 and ends[-1] == ids.numel() == packing.num_positions
    assert [b - a for a, b in pairwise(ends)] == list(packing.lengths)
    flat = ids.flatten().tolist()
    for start, end in pairwise(ends):
        assert len(set(flat[start:end])) == 1
        assert start // tokens == (end - 1) // tokens
        assert end % tokens == 0 or flat[end] != flat[end - 1]


def test_unpacked_rows_are_one_document_each() -> None:
    packing = Packing.from_rows(3, 7)
    assert packing.lengths == (7, 7, 7)
    assert packing.longest == packing.attended_tokens == 7


def test_attended_tokens_is_the_mean_over_tokens_of_their_documents_length() -> None:
    assert Packing.from_lengths((1, 3)).attended_tokens == pytest.approx((1 * 1 + 3 * 3) / 4)


@pytest.mark.parametrize("lengths", [(), (3, 0)])
def test_a_packing_without_tokens_is_refused(lengths: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="lengths"):
        Packing.from_lengths(lengths)
