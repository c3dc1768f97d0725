"""Where the losses of a vector begin to fall: codebooks do so one after another, so neither they nor their mean are power laws.

Each loss has its own onset and law (`onsets.py`), and the mean over all tokens is foretold as the sum of its parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from sodakit.scaling.onsets import StreamOnset, fit_onset

MEAN = "mean of the streams"
"""The loss over all tokens, predicted as the sum of its parts."""
_MEAN_MISSES = 1e-3
"""Share of a loss by which the weighted sum of others may miss it and still be it."""


@dataclass(frozen=True, kw_only=True)
class Onsets:
    """A loss vector, each loss by the law that was kept for it."""

    streams: Mapping[str, StreamOnset]
    mean_weights: Mapping[str, float] | None
    """With which the others sum up to the loss `all`; None where they do not, or where it is not among them."""

    def rows(self) -> list[dict[str, Any]]:
        """A table of all losses."""
        return [stream.row() for stream in self.streams.values()]

    def predict(self, **at: float) -> dict[str, tuple[float, tuple[float, float]]]:
        """Every loss of a run with its 95 % interval; `mean of the streams` is `all` as the sum of its parts.

        Half the width of that is the weighted sum of theirs: what they miss they may miss together.
        """
        found = {name: stream.predict(**at) for name, stream in self.streams.items()}
        if self.mean_weights:
            parts = np.array([(w, found[k][0], *found[k][1]) for k, w in self.mean_weights.items()])
            mean, low, high = parts[:, 0] @ parts[:, 1:]
            found[MEAN] = float(mean), (float(low), float(high))
        return found

    def to_json(self) -> dict[str, Any]:
        """All numbers, JSON-ready."""
        return {
            "losses": {name: stream.to_json() for name, stream in self.streams.items()},
            "mean_weights": self.mean_weights,
        }


def fit_onsets(
    values: Mapping[str, np.ndarray],
    losses: Mapping[str, np.ndarray],
    budget_R: np.ndarray,
    *,
    hold_out: int = 1,
    draws: int = 300,
    seed: int = 0,
) -> Onsets:
    """Every loss of a vector with its onset and the law that held-out budgets keep; see `fit_onset`.

    Raises:
        ConfigError: too few runs.
    """
    parts = {k: v for k, v in losses.items() if k not in ("all", "bits_per_audio_s")}
    return Onsets(
        streams={
            name: fit_onset(name, values, loss_R, budget_R, hold_out=hold_out, draws=draws, seed=seed)
            for name, loss_R in losses.items()
        },
        mean_weights=weights_of_mean(losses["all"], parts) if "all" in losses and parts else None,
    )


def weights_of_mean(mean_R: np.ndarray, losses: Mapping[str, np.ndarray]) -> dict[str, float] | None:
    """The weights with which losses sum up to their mean in every run; None where they do not.

    The mean over the same held-out rows is a sum with fixed shares of the tokens, so its prediction is that of its parts.
    """
    found, _ = optimize.nnls(np.stack(list(losses.values()), axis=1), mean_R)
    told_R = sum(w * loss_R for w, loss_R in zip(found, losses.values(), strict=True))
    if np.abs(told_R / mean_R - 1).max() > _MEAN_MISSES:
        return None
    return dict(zip(losses, map(float, found), strict=True))
