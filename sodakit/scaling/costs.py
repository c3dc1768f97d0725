"""What a token of training costs by the size of the model: the rule of thumb, the shapes of a design, or runs as they were.

With a large vocabulary 6N is wrong by 0.95 to 1.7 over the paper's sizes, and the compute-optimal size moves with it.
"""

from collections.abc import Callable

import numpy as np
from scipy.interpolate import PchipInterpolator

from sodakit.model.accounting import count_parameters
from sodakit.scaling.design import LARGEST_WIDTH, SODA_RULE, GridRule, buildable_widths

FlopsPerToken = Callable[[np.ndarray], np.ndarray]
"""Training FLOPs of one token by N."""


def six_n(size: np.ndarray) -> np.ndarray:
    """The rule of thumb, C = 6ND."""
    return 6.0 * np.asarray(size, float)


def flops_by_size(rule: GridRule = SODA_RULE, size: str = "two_embeddings") -> FlopsPerToken:
    """Exact FLOPs per token of the shapes of a rule by their N, smooth in between."""
    models = [rule.shape(width) for width in buildable_widths(rule, 64, LARGEST_WIDTH)]
    sizes = np.array([float(getattr(count_parameters(m), size)) for m in models])
    return _between(sizes, np.array([rule.flops_per_token(m) for m in models]))


def flops_of_runs(size_R: np.ndarray, tokens_R: np.ndarray, flops_R: np.ndarray) -> FlopsPerToken:
    """FLOPs per token by N as these runs had it, smooth in between; 6N times a constant where all have one size."""
    return _between(size_R, flops_R / tokens_R)


def _between(size_R: np.ndarray, cost_R: np.ndarray) -> FlopsPerToken:
    sizes, index = np.unique(np.log(size_R), return_inverse=True)
    # Runs of one size that cost differently (another shape or row length) are taken at their mean.
    costs = np.bincount(index, np.log(cost_R)) / np.bincount(index)
    curve = PchipInterpolator(sizes, costs) if len(sizes) > 1 else lambda at: np.full_like(at, costs[0])

    def read(given: np.ndarray) -> np.ndarray:
        logs = np.log(np.asarray(given, float))
        inside = np.clip(logs, sizes[0], sizes[-1])
        # Beyond the sizes FLOPs per parameter stay as at the end.
        return np.exp(curve(inside) + logs - inside)

    return read
