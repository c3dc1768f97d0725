"""Blocks that keep their input only, and compute the rest again when the gradient comes.

`torch.utils.checkpoint` does this under every wrapper and compiler of torch, and is what runs on a GPU and on several
ranks. It brings torch's compiler along, 90 MB and a second to import, which one process on a CPU has no other use for.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute_blocks(blocks: Sequence[nn.Module], *, alone_on_cpu: bool) -> None:
    """Change each block's forward, in place; names of weights stay as they are.

    Args:
        alone_on_cpu: one process, nothing wrapped or compiled around the blocks.
    """
    for block in blocks:
        plain = block.forward
        # On `forward`, inside the hooks of FSDP.
        block.forward = (
            partial(_recomputed, plain) if alone_on_cpu else partial(checkpoint, plain, use_reentrant=False)
        )


def _recomputed(run: Callable[..., Tensor], x: Tensor, *rest: Any) -> Tensor:
    if not torch.is_grad_enabled():
        return run(x, *rest)
    return _Recomputed.apply(x, run, rest)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[..., Tensor], rest: tuple[Any, ...]) -> Tensor:
        ctx.run, ctx.rest = run, rest
        ctx.autocast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        ctx.save_for_backward(x)
        # With a graph, dropped at once: without one, a block may take another route and round otherwise.
        with torch.enable_grad():
            return run(x.detach(), *rest).detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        enabled, dtype = ctx.autocast
        with (
            torch.enable_grad(),
            torch.autocast("cpu", dtype=dtype, enabled=enabled, cache_enabled=False),
        ):
            out = ctx.run(x, *ctx.rest)
            # The gradient of this number by `out` is `grads[0]`. Given as such, torch imports sympy to compare shapes.
            along = (out * grads[0]).sum()
        along.backward()
        return x.grad, None, None
