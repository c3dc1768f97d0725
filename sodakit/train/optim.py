"""Cautious AdamW with AdamC weight decay, as SODA trains.

    g ← g · min(1, clip / ‖g‖)
    m ← β₁m + (1-β₁)g,  v ← β₂v + (1-β₂)g²,  u = m̂ / (√v̂ + ε)
    mask = (u·g > 0),  u ← u · mask / (mean(mask) + ε)       mean over all layers of one kind of parameter
    p ← p - lr·(u + wd·(lr/peak_lr)·p)                        no decay on norms and the input embedding

Source: arXiv 2602.16687 and the public Levanter optimizer it names.
"""

import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sodakit.train.config import OptimConfig


def parameter_kind(name: str) -> str:
    """The name without its layer number: `layers.3.attention.query.weight` → `layers.*.attention.query.weight`."""
    return re.sub(r"\.\d+\.", ".*.", name)


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies: linear weights and the output head, not norms and the input embedding."""
    return parameter.ndim >= 2 and "embedding" not in name


class CautiousAdamW:
    """The optimizer. Moments are float32 tensors by parameter name, so any layout of ranks can load them."""

    def __init__(
        self, parameters: Iterable[tuple[str, nn.Parameter]], config: OptimConfig, peak_lr: float
    ) -> None:
        self.config = config
        self.peak_lr = peak_lr
        self.updates = 0
        kinds: dict[str, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in parameters:
            if not parameter.requires_grad:  # frozen beside adapters
                continue
            kinds.setdefault(parameter_kind(name), []).append((name, parameter))
        self._groups = list(kinds.values())
        self._first = {n: torch.zeros_like(p, dtype=torch.float32) for g in self._groups for n, p in g}
        self._second = {n: torch.zeros_like(p, dtype=torch.float32) for g in self._groups for n, p in g}

    @torch.no_grad()
    def clip(self) -> Tensor:
        """Scale all gradients to at most `clip_norm`; the norm before, a scalar tensor."""
        gradients = [p.grad for g in self._groups for _, p in g if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (self.config.clip_norm / (norm + 1e-12)).clamp(max=1.0))
        return norm

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update of every parameter that has a gradient, then forget the gradients."""
        self.updates += 1
        for group in self._groups:
            named = [(n, p) for n, p in group if p.grad is not None]
            if named:
                self._update([n for n, _ in named], [p for _, p in named], lr)

    def _update(self, names: list[str], parameters: list[nn.Parameter], lr: float) -> None:
        config = self.config
        gradients = [p.grad.float() for p in parameters]  # type: ignore[union-attr]
        first, second = [self._first[n] for n in names], [self._second[n] for n in names]
        torch._foreach_lerp_(first, gradients, 1 - config.beta1)
        torch._foreach_mul_(second, config.beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - config.beta2)
        correction1 = 1 - config.beta1**self.updates
        correction2 = 1 - config.beta2**self.updates
        denominators = torch._foreach_sqrt(second)
        torch._foreach_mul_(denominators, correction2**-0.5)
        torch._foreach_add_(denominators, config.eps)
        directions = list(torch._foreach_div(first, denominators))
        torch._foreach_mul_(directions, 1 / correction1)
        if config.cautious:
            self._make_cautious(directions, gradients)
        weights: list[Tensor] = list(parameters)
        if config.weight_decay and is_decayed(names[0], weights[0]):
            torch._foreach_mul_(weights, 1 - lr * config.weight_decay * lr / self.peak_lr)
        torch._foreach_add_(weights, directions, alpha=-lr)
        for parameter in parameters:
            parameter.grad = None

    def _make_cautious(self, directions: list[Tensor], gradients: list[Tensor]) -> None:
        masks = [(u * g > 0).to(u.dtype) for u, g in zip(directions, gradients, strict=True)]
        kept = torch.stack([m.sum() for m in masks]).sum() / sum(m.numel() for m in masks)
        torch._foreach_mul_(directions, masks)
        torch._foreach_div_(directions, kept + self.config.eps)

    def state_dict(self) -> dict[str, Tensor]:
        """`first.<name>` and `second.<name>` moments; the number of updates is kept by the trainer."""
        return {f"first.{n}": t for n, t in self._first.items()} | {
            f"second.{n}": t for n, t in self._second.items()
        }

    def load_state_dict(self, state: dict[str, Tensor], updates: int) -> None:
        """Take up the moments after `updates` updates.

        Raises:
            KeyError: a parameter's moments are missing.
        """
        self.updates = updates
        for moments, prefix in ((self._first, "first."), (self._second, "second.")):
            for name, tensor in moments.items():
                tensor.copy_(state[prefix + name])
