"""Parity with a plain float64 transcription of the published update."""

import itertools

import torch
from torch import nn

from sodakit.train.config import OptimConfig, ScheduleConfig
from sodakit.train.optim import Optimizer, is_decayed, parameter_kind
from sodakit.train.schedule import learning_rate


def plain_update(layers, gradients, state, config, lr, peak_lr, step, decay):
    """One kind of parameter: a list of layers, float64."""
    updates = []
    for i, g in enumerate(gradients):
        state["m"][i] = config.beta1 * state["m"][i] + (1 - config.beta1) * g
        state["v"][i] = config.beta2 * state["v"][i] + (1 - config.beta2) * g * g
        m = state["m"][i] / (1 - config.beta1**step)
        v = state["v"][i] / (1 - config.beta2**step)
        updates.append(m / (v.sqrt() + config.eps))
    if config.kind == "cautious_adamw":
        masks = [(u * g > 0).double() for u, g in zip(updates, gradients, strict=True)]
        mean = torch.cat([m.flatten() for m in masks]).mean()
        updates = [u * m / (mean + config.eps) for u, m in zip(updates, masks, strict=True)]
    wd = config.weight_decay * lr / peak_lr if decay else 0.0
    return [p - lr * (u + wd * p) for p, u in zip(layers, updates, strict=True)]


def run_parity(config):
    g = torch.Generator().manual_seed(0)
    shapes = {
        "blocks.0.query.weight": (5, 4),
        "blocks.1.query.weight": (5, 4),
        "blocks.0.norm.weight": (4,),
        "embedding.weight": (7, 4),
    }
    parameters = {n: nn.Parameter(torch.randn(s, generator=g)) for n, s in shapes.items()}
    plain = {n: p.detach().double().clone() for n, p in parameters.items()}
    groups = [
        ["blocks.0.query.weight", "blocks.1.query.weight"],
        ["blocks.0.norm.weight"],
        ["embedding.weight"],
    ]
    states = [{"m": [0.0] * len(n), "v": [0.0] * len(n)} for n in groups]
    optimizer = Optimizer(parameters.items(), config, peak_lr=0.01)
    for step in range(1, 9):
        lr = learning_rate(
            step - 1, 8, ScheduleConfig(peak_lr=0.01, warmup_fraction=0.25, decay_fraction=0.5)
        )
        gradients = {n: torch.randn(s, generator=g, dtype=torch.float64) for n, s in shapes.items()}
        norm = torch.cat([x.flatten() for x in gradients.values()]).norm()
        for n, p in parameters.items():
            p.grad = gradients[n].float()
        torch.testing.assert_close(optimizer.clip().double(), norm, rtol=1e-5, atol=1e-6)
        clipped = {n: x * min(1.0, config.clip_norm / norm) for n, x in gradients.items()}
        optimizer.step(lr)
        for names, state in zip(groups, states, strict=True):
            new = plain_update(
                [plain[n] for n in names],
                [clipped[n] for n in names],
                state,
                config,
                lr,
                0.01,
                step,
                names[0].endswith("query.weight"),
            )
            plain.update(zip(names, new, strict=True))
    for n, p in parameters.items():
        torch.testing.assert_close(p.detach().double(), plain[n], rtol=1e-4, atol=1e-6)


def test_cautious_adamw_equals_the_published_update():
    run_parity(OptimConfig(weight_decay=0.1, beta1=0.95, beta2=0.98))


def test_without_caution_it_is_adamw_with_adamc_decay():
    run_parity(OptimConfig(weight_decay=0.1, kind="adamw"))


def test_decay_spares_norms_and_the_input_embedding():
    matrix, vector = torch.zeros(2, 2), torch.zeros(2)
    assert is_decayed("blocks.0.attention.query.weight", matrix) and is_decayed("head.weight", matrix)
    assert not is_decayed("embedding.weight", matrix) and not is_decayed(
        "blocks.0.attention.query_norm.weight", vector
    )


def test_layers_of_one_kind_share_the_mean_of_the_mask():
    assert parameter_kind("blocks.3.attention.query.weight") == parameter_kind(
        "blocks.11.attention.query.weight"
    )


def test_the_schedule_rises_holds_and_falls_to_nothing():
    schedule = ScheduleConfig(peak_lr=1.0, warmup_fraction=0.1, decay_fraction=0.2)
    rates = [learning_rate(step, 100, schedule) for step in range(100)]
    assert rates[0] == 0.1 and rates[9] == rates[80] == 1.0
    assert rates[90] == 0.5 and rates[99] == 0.05
    assert all(b <= a for a, b in itertools.pairwise(rates[80:]))
