"""The arithmetic of one Adam update, in two passes over the parameters.

Two, because the cautious update divides by how many of its parts agree with the gradient, which is known only when all
of them have been looked at. Written as ordinary tensor operations each pass would read and write main memory a dozen
times. On a CPU they are compiled (`native.cpp`), or made on chunks that stay in cache where there is no compiler; on a GPU they are compiled into one kernel each, with every
scalar on the device, so that nothing waits for it.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sodakit.compiler import lacks_for_gpu
from sodakit.train import native

CHUNK = 2**17
"""Elements of a chunk on a CPU: five of them fit in a core's second-level cache."""


def moments_pass(
    g: Tensor, m: Tensor, v: Tensor, factor: Any, ok: Tensor, beta1: float, beta2: float
) -> Tensor:
    """Both moments of `g * factor`, in place; how many elements of the update agree in sign with the gradient.

    Args:
        factor: what clipping multiplies the gradient with.
        ok: 0-dim bool; where it is false nothing changes (a CPU caller has looked already).
    """
    if g.device.type != "cpu":
        return _compiled(_moments)(g, m, v, factor, ok, beta1, beta2)
    count, factor = torch.zeros((), dtype=torch.int64), float(factor)
    if library := _library(g, m, v):
        amounts = beta1, beta2, (1 - beta1) * factor, (1 - beta2) * factor * factor
        places = (x.data_ptr() for x in (g, m, v))
        return count + library.sodakit_moments(*places, g.numel(), *amounts, torch.get_num_threads())
    for g_, m_, v_ in _chunks(g, m, v):
        m_.mul_(beta1).add_(g_, alpha=(1 - beta1) * factor)
        v_.mul_(beta2).addcmul_(g_, g_, value=(1 - beta2) * factor * factor)
        # The direction has the sign of m; its size may underflow where that of the gradient does not.
        count += torch.count_nonzero(torch.sign(g_).mul_(m_) > 0)
    return count


def weights_pass(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    step: Any,
    shrink: Any,
    eps: Any,
    ok: Tensor,
    cautious: bool,
) -> None:
    """`p ← p · shrink - step · mask · m / (√v + eps)`, in place; the mask only if cautious.

    Args:
        step: learning rate with both bias corrections, over the mean of the mask.
        eps: with the correction of the second moment.
    """
    if g.device.type != "cpu":
        return _compiled(_weights)(p, g, m, v, step, shrink, eps, ok, cautious)
    step, shrink, eps = float(step), float(shrink), float(eps)
    if library := _library(p, g, m, v):
        places = (x.data_ptr() for x in (p, g, m, v))
        return library.sodakit_weights(
            *places, g.numel(), step, shrink, eps, cautious, torch.get_num_threads()
        )
    for p_, g_, m_, v_ in _chunks(p, g, m, v):
        root = v_.sqrt().add_(eps)
        if shrink != 1.0:
            p_.mul_(shrink)
        if cautious:
            sign = g_.sign()
            p_.addcmul_((m_ * sign).relu_().div_(root), sign, value=-step)
        else:
            p_.addcdiv_(m_, root, value=-step)


def _library(*tensors: Tensor) -> Any:
    """The compiled passes, where they take these tensors."""
    fit = all(x.dtype == torch.float32 and x.is_contiguous() for x in tensors)
    return native.compiled() if fit else None


def _chunks(*tensors: Tensor) -> Any:
    return zip(*(t.view(-1).split(CHUNK) for t in tensors), strict=True)


def _moments(
    g: Tensor, m: Tensor, v: Tensor, factor: Tensor, ok: Tensor, beta1: float, beta2: float
) -> Tensor:
    g = g * factor
    m.copy_(torch.where(ok, m * beta1 + g * (1 - beta1), m))
    v.copy_(torch.where(ok, v * beta2 + g * g * (1 - beta2), v))
    return (g.sign() * m > 0).sum()


def _weights(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    step: Tensor,
    shrink: Tensor,
    eps: Tensor,
    ok: Tensor,
    cautious: bool,
) -> None:
    direction = m / (v.sqrt() + eps)
    if cautious:
        direction = torch.where(g.sign() * m > 0, direction, 0.0)
    p.copy_(torch.where(ok, p * shrink - direction * step, p))


@lru_cache(maxsize=2)
def _compiled(function: Any) -> Any:
    # As it stands it is right too, but reads and writes main memory a dozen times.
    return function if lacks_for_gpu() else torch.compile(function, dynamic=True)
