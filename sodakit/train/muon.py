"""Muon: momentum, with the matrix made orthogonal (arXiv 2502.16982 for its scale, so AdamW's learning rate fits)."""

import torch
from torch import Tensor

from sodakit.train.parallel import is_shared, like

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5


def is_muon_matrix(name: str, parameter: Tensor) -> bool:
    """Matrices of the body; embedding, head and norms are not."""
    return parameter.ndim == 2 and "embedding" not in name and "head.weight" not in name


def orthogonalised(matrix: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The nearest matrix with singular values near 1, by five Newton-Schulz steps in `dtype`."""
    x = matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


def muon_direction(momentum: Tensor, gradient: Tensor, beta: float) -> Tensor:
    """What to subtract, times the learning rate; `momentum` is updated in place.

    Sharded matrices are gathered, since every singular value depends on every row; each rank keeps its rows.
    """
    momentum.lerp_(gradient, 1 - beta)
    nesterov = gradient.lerp(momentum, beta)
    whole = nesterov.full_tensor() if is_shared(nesterov) else nesterov
    direction = orthogonalised(whole).mul_(0.2 * max(whole.shape) ** 0.5)
    return like(momentum, direction)
