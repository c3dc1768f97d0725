"""Against a plain float32 trainer: transformers' Qwen3, all logits, and the published update written out here again."""

import re

import pytest
import torch
import torch.nn.functional as F

from sodakit.checkpoint.hf import export_hf
from sodakit.data.loader import Batch
from sodakit.model.attention import Packing
from sodakit.train.config import LossConfig, OptimConfig, ScheduleConfig
from sodakit.train.run import Run
from tests.train.ranks import rank_config

STEPS, PEAK_LR, Z_LOSS = 50, 1e-3, 1e-4


def our_run(store, folder, **changes) -> Run:
    return Run(
        rank_config(
            store,
            steps=STEPS,
            schedule=ScheduleConfig(peak_lr=PEAK_LR),
            optim=OptimConfig(),
            loss=LossConfig(z_loss=Z_LOSS),
            **changes,
        ),
        folder,
        torch.device("cpu"),
    )


def our_losses(run: Run) -> list[float]:
    values = []
    for step in range(STEPS):
        run.update(run.loader.batch(step))
        values.append(run.losses()["loss/all"])
    return values


class Reference:
    """Qwen3ForCausalLM with a dense mask; the update from the recipe's words, over stacked layers."""

    def __init__(self, run: Run, folder) -> None:
        transformers = pytest.importorskip("transformers")
        export_hf(run.model, folder)
        self.model = transformers.Qwen3ForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
        kinds: dict[str, list[torch.nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            kinds.setdefault(re.sub(r"layers\.\d+\.", "", name), []).append(parameter)
        self.kinds = kinds
        self.m = {k: torch.zeros(len(p), *p[0].shape) for k, p in kinds.items()}
        self.v = {k: torch.zeros(len(p), *p[0].shape) for k, p in kinds.items()}

    def loss(self, batch: Batch) -> tuple[torch.Tensor, float]:
        ids = torch.from_numpy(batch.ids_BPW[..., 0]).long()
        rows, context = ids.shape
        document = torch.stack(
            [torch.repeat_interleave(torch.arange(len(n)), torch.tensor(n)) for n in batch.lengths]
        )
        seen = (document[:, :, None] == document[:, None, :]) & torch.ones(context, context).tril().bool()
        mask = torch.zeros(rows, 1, context, context).masked_fill(
            ~seen[:, None], torch.finfo(torch.float32).min
        )
        logits = self.model(ids, attention_mask=mask, use_cache=False).logits[:, :-1].flatten(0, 1)
        nll = F.cross_entropy(logits, ids[:, 1:].flatten())
        return nll + Z_LOSS * logits.logsumexp(-1).square().mean(), float(nll.detach())

    def update(self, step: int) -> None:
        warmup, decay = 0.1 * STEPS, 0.2 * STEPS
        lr = PEAK_LR * min(1.0, (step + 1) / warmup, (STEPS - step) / decay)
        norm = torch.cat([p.grad.flatten() for p in self.model.parameters()]).norm()
        clip = min(1.0, 1.0 / float(norm))
        for kind, parameters in self.kinds.items():
            g = torch.stack([p.grad for p in parameters]) * clip
            self.m[kind] = 0.98 * self.m[kind] + 0.02 * g
            self.v[kind] = 0.98 * self.v[kind] + 0.02 * g * g
            correction = 1 - 0.98 ** (step + 1)
            u = (self.m[kind] / correction) / ((self.v[kind] / correction).sqrt() + 1e-16)
            mask = (u * g > 0).float()
            u = u * mask / (mask.mean() + 1e-16)
            decayed = "norm" not in kind and "embed_tokens" not in kind
            for p, direction in zip(parameters, u, strict=True):
                p.data -= lr * (direction + (0.033 * lr / PEAK_LR * p.data if decayed else 0.0))
        self.model.zero_grad(set_to_none=True)


def test_fifty_steps_follow_a_plain_reference(store, tmp_path):
    run = our_run(store, tmp_path / "run")
    reference = Reference(run, tmp_path / "hf")
    expected = []
    for step in range(STEPS):
        loss, nll = reference.loss(run.loader.batch(step))
        loss.backward()
        reference.update(step)
        expected.append(nll)
    ours = our_losses(run)
    assert expected[-1] < 0.75 * expected[0], "nothing was learnt, so nothing was compared"
    assert ours == pytest.approx(expected, rel=1e-4)


def test_bfloat16_is_as_near_to_float32_as_seeds_are_to_each_other(store, tmp_path):
    wide = our_losses(our_run(store, tmp_path / "wide"))
    low = [
        our_losses(our_run(store, tmp_path / f"low{seed}", precision="bfloat16", seed=seed))
        for seed in (0, 1)
    ]
    between_seeds = max(abs(a - b) for a, b in zip(*low, strict=True))
    assert max(abs(a - b) for a, b in zip(wide, low[0], strict=True)) < between_seeds


def test_packed_documents_have_the_losses_they_have_alone(store, tmp_path):
    run = our_run(store, tmp_path)
    batch = run.loader.batch(0)
    targets = run.objective.targets(batch, slice(None))
    with torch.no_grad():
        _, nll_T = run.objective(run.model, targets)
        nll_BT = nll_T.view(len(batch.ids_BPW), -1)
        compared = 0
        for row, lengths in enumerate(batch.lengths):
            begin = 0
            for length in lengths:
                ids = torch.from_numpy(batch.ids_BPW[row, begin : begin + length, 0]).long()
                if length > 1:
                    logits = run.model.logits(run.model(ids[None], Packing.from_lengths([length])))[0, :-1]
                    alone = F.cross_entropy(logits, ids[1:], reduction="none")
                    torch.testing.assert_close(
                        nll_BT[row, begin : begin + length - 1], alone, rtol=1e-4, atol=1e-5
                    )
                    compared += 1
                begin += length
    assert compared > 4
