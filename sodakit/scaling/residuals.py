"""What a misfit costs: squares, Huber, and costs that differ above and below, on loss or on its logarithm."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sodakit.errors import ConfigError, nearest

SHARP = 5e-4
"""A delta below it is far under the scatter of any runs."""
SMOOTH = 0.02
"""A delta above the scatter of any runs: the cost is of squares."""


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """The cost of residual = predicted − observed, summed (never averaged) over runs."""

    space: Literal["log", "linear"] = "log"
    """Whether residuals are of log loss (relative) or of the loss itself (nats)."""
    delta: float | None = 1e-3
    """Where Huber's cost turns from squared to linear; None for squares throughout."""
    over: float = 1.0
    """Factor on predictions above the observation."""
    under: float = 1.0
    """Factor on predictions below it."""

    def __post_init__(self) -> None:
        if self.delta is not None and not self.delta > 0:
            raise ConfigError(f"delta={self.delta}; needed: a positive number, or null for squares.")
        if not (self.over > 0 and self.under > 0):
            raise ConfigError(f"over={self.over}, under={self.under}; needed: both positive.")

    @property
    def smoothed(self) -> "Misfit | None":
        """The same cost with a delta ten times as large: an easier road to the same valley."""
        return None if self.delta is None else replace(self, delta=10 * self.delta)

    @property
    def is_sharp(self) -> bool:
        """Whether the cost is nearly a kink at zero, where Newton's method stops short: a small delta, or two sides that differ."""
        return self.delta is not None and (self.delta < SHARP or self.over != self.under)

    @property
    def road(self) -> "list[Misfit]":
        """Ever sharper costs that lead to this one, the smoothest first."""
        if self.delta is None:
            return []
        steps = int(np.ceil(np.log(SMOOTH / self.delta) / np.log(4))) if self.delta < SMOOTH else 0
        return [replace(self, delta=self.delta * 4.0**k) for k in range(steps, 0, -1)]

    def cost(self, residual: np.ndarray) -> np.ndarray:
        """Cost of each residual."""
        size = np.abs(residual)
        value: np.ndarray
        if self.delta is None:
            value = 0.5 * residual**2
        else:
            value = np.where(size <= self.delta, 0.5 * residual**2, self.delta * (size - 0.5 * self.delta))
        return value * self._side(residual)

    def slope(self, residual: np.ndarray) -> np.ndarray:
        """Derivative of the cost."""
        bounded = residual if self.delta is None else np.clip(residual, -self.delta, self.delta)
        return bounded * self._side(residual)

    def curvature(self, residual: np.ndarray) -> np.ndarray:
        """Second derivative of the cost (0 on the linear arms)."""
        limit = np.inf if self.delta is None else self.delta
        return (np.abs(residual) <= limit) * self._side(residual)

    def weight(self, residual: np.ndarray) -> np.ndarray:
        """slope / residual: the weights with which squares would pull as hard."""
        side = self._side(residual)
        if self.delta is None:
            return side * np.ones_like(residual)
        return side * self.delta / np.maximum(np.abs(residual), self.delta)

    def _side(self, residual: np.ndarray) -> np.ndarray:
        if self.over == self.under == 1.0:
            return np.ones(1)
        return np.where(residual > 0, self.over, self.under)


def quantile(fraction: float, delta: float = 1e-6, space: Literal["log", "linear"] = "log") -> Misfit:
    """The cost whose minimum leaves `fraction` of the runs below the curve: absolute residuals, rounded within ±delta.

    Raises:
        ConfigError: a fraction outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"quantile={fraction}; needed: between 0 and 1.")
    return Misfit(space=space, delta=delta, over=1 - fraction, under=fraction)


def named_misfit(name: str, delta: float | None = None) -> Misfit:
    """A misfit by its name, with another delta if one is given.

    Raises:
        ConfigError: no such misfit, or a delta for one of squares.
    """
    if name not in MISFITS:
        raise ConfigError(f"No misfit {name!r}.{nearest(name, MISFITS, 'Misfits')}")
    if delta is None:
        return MISFITS[name]
    if MISFITS[name].delta is None:
        raise ConfigError(
            f"The misfit {name!r} is of squares and has no delta. Leave it out, or take 'huber'."
        )
    return replace(MISFITS[name], delta=delta)


MISFITS: dict[str, Misfit] = {
    "huber": Misfit(),
    "huber-linear": Misfit(space="linear", delta=1e-3),
    "mse": Misfit(space="linear", delta=None),
    "mse-log": Misfit(delta=None),
    "absolute": Misfit(delta=1e-6),
    "absolute-linear": Misfit(space="linear", delta=1e-6),
    "asymmetric": Misfit(over=10.0),
    "asymmetric-linear": Misfit(space="linear", delta=1e-6, over=10.0),
    "median": quantile(0.5),
    "lower-decile": quantile(0.1),
}
"""Costs by name. `huber` is Hoffmann's and Besiroglu's; `asymmetric` counts predictions that are too high ten times.
`absolute`, the asymmetric and the quantiles are minimised exactly, whatever the delta, on the loss as on its log."""
