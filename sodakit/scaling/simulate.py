"""Sweeps with a known truth: the surfaces of the literature, and noisy runs of a grid on them."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from sodakit.scaling.laws import LAWS
from sodakit.scaling.onset import HEIGHT, ONSET_LAWS

HOFFMANN: Mapping[str, float] = MappingProxyType(
    {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
)
"""Chinchilla's approach 3 as printed (arXiv 2203.15556). Its parameters are rounded and no minimum."""
BESIROGLU: Mapping[str, float] = MappingProxyType(
    {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
)
"""The replication (arXiv 2404.10102)."""
SODA_SURFACE: Mapping[str, float] = MappingProxyType(
    {"E": 3.169, "A": 215_886.0, "B": 4_750.0, "alpha": 0.684, "beta": 0.439}
)
"""SODA's approach 3 (arXiv 2602.16687), N with two embeddings."""


def simulate(
    surface: Mapping[str, float],
    size_R: np.ndarray,
    tokens_R: np.ndarray,
    *,
    noise: float | np.ndarray = 0.004,
    seed: int = 0,
    draws: int | None = None,
    outlier_fraction: float = 0.0,
    outlier_factor: float = 10.0,
) -> np.ndarray:
    """Losses loss_R of runs on a Chinchilla surface, with normal noise on their logarithm; loss_SR for several draws.

    A surface with `H` has a plateau of that height over E (`onset.py`).

    Args:
        noise: standard deviation, of all runs or of each.
        outlier_fraction: of runs, chosen at random, whose noise is `outlier_factor` times as large.
    """
    law = ONSET_LAWS["onset"] if HEIGHT in surface else LAWS["chinchilla"]
    true_R = law.loss(surface, N=size_R, D=tokens_R)
    shape = true_R.shape if draws is None else (draws, *true_R.shape)
    rng = np.random.default_rng(seed)
    error = noise * rng.standard_normal(shape)
    if outlier_fraction:
        error = np.where(rng.random(shape) < outlier_fraction, outlier_factor * error, error)
    return true_R * np.exp(error)
