"""Whole frames in one compiled call, against one code at a time."""

import numpy as np
import pytest
import torch

from sodakit.generate.sampling import Sampling, choose, choose_by_torch
from sodakit.model import native
from sodakit.model.compiled import chosen
from sodakit.model.frame.cpu_decoder import CpuFrameDecoder
from tests.generate.test_frames import V, network

pytestmark = pytest.mark.skipif(native.compiled() is None, reason="needs a C++ compiler")


@pytest.mark.parametrize(
    "how",
    [
        Sampling(temperature=0.0),
        Sampling(),
        Sampling(temperature=0.7, top_p=0.9),
        Sampling(temperature=1.3, top_k=7),
        Sampling(temperature=0.5, top_p=0.5, top_k=40),
        Sampling(temperature=1e-3),
    ],
    ids=str,
)
def test_compiled_choices_are_those_of_the_definition(how) -> None:
    """Flat and peaked scores, ties too; but where the number falls within rounding of a border."""
    generator = torch.Generator().manual_seed(0)
    differ = 0
    for count in (1, 2, 63, 64, 65, 2048):
        for spread in (0.01, 1.0, 8.0):
            logits_BR = torch.randn(40, count, generator=generator) * spread
            logits_BR[::3] = logits_BR[::3].round()
            uniform_B = torch.rand(40, generator=generator, dtype=torch.float64)
            uniform_B[:2] = torch.tensor([0.0, 0.999])
            expected_B = choose_by_torch(logits_BR.double(), uniform_B, how)
            found_B = chosen(logits_BR, uniform_B, (how.temperature, how.top_p, how.top_k))
            differ += int((found_B != expected_B).sum())
    assert differ <= 3  # of 720: float32 sums in the definition, float64 in compiled code


def test_scores_that_are_no_numbers_have_no_choice() -> None:
    scores_BR = torch.tensor([[0.0, bad, 1.0] for bad in (float("nan"), float("inf"), 0.5)])
    uniform_B = torch.full((3,), 0.99)
    for dtype in (torch.float32, torch.float64):  # compiled, and by torch
        assert choose(scores_BR.to(dtype), uniform_B, Sampling()).tolist() == [-1, -1, 0]
    assert choose(torch.full((1, 3), -torch.inf), uniform_B[:1], Sampling()).tolist() == [-1]


def test_a_share_that_is_nothing_in_32_bits_keeps_the_likeliest_of_many() -> None:
    scores_BR = torch.randn(20, 500, generator=torch.Generator().manual_seed(0))
    places_B = choose(scores_BR, torch.full((20,), 0.99), Sampling(top_p=1e-300))
    assert torch.equal(places_B, scores_BR.argmax(1))


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", ["depth", "depth, shifted"])
def test_frames_written_at_once_are_those_written_code_by_code(name, precision) -> None:
    decoder = CpuFrameDecoder(network(name), precision)
    generator = torch.Generator().manual_seed(1)
    x_BD = torch.randn(5, network(name).config.backbone.width, generator=generator)
    first_B = torch.tensor([V.audio_base, V.audio_base + 15, V.audio_end, V.audio_base + 3, V.audio_base + 7])
    uniform_BS = torch.rand(5, 3, generator=generator, dtype=torch.float64)
    how = [Sampling(temperature=0.8, top_p=0.95), Sampling(temperature=0.0), Sampling(top_k=5)]
    settings = [(h.temperature, h.top_p, h.top_k) for h in how]
    at_once = decoder.inside(x_BD).write(first_B, uniform_BS, settings)
    inside, ids_B, found = decoder.inside(x_BD), first_B, []
    for k, h in enumerate(how, start=1):
        inside.put(ids_B)
        codes_B = choose_by_torch(inside.logits(k), uniform_BS[:, k - 1], h)
        found.append(codes_B)
        ids_B = codes_B + V.codebook_range(k)[0]
    assert torch.equal(at_once, torch.stack(found, 1))
    alone = [
        decoder.inside(x_BD[n : n + 1]).write(first_B[n : n + 1], uniform_BS[n : n + 1], settings)
        for n in range(5)
    ]
    assert np.array_equal(torch.cat(alone).numpy(), at_once.numpy())
