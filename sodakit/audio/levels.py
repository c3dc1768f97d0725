"""How loud a sound is, and when it is none: every place that speaks of levels or of silence asks here."""

import numpy as np

from sodakit.errors import AudioError

LOUDEST = 100.0
"""Full scale is 1. Samples beyond this, 40 dB above it, are no sound: integers read as floats, or damage."""


def check_samples(samples: np.ndarray, name: str) -> None:
    """Raise unless all samples are numbers that a sound can have.

    Raises:
        AudioError: NaN, infinite, or beyond `LOUDEST`.
    """
    if not np.isfinite(samples).all():
        raise AudioError(f"{name} holds NaN or infinite samples.")
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > LOUDEST:
        raise AudioError(
            f"{name} holds samples of {peak:.3g}; full scale is 1, and at most {LOUDEST:g} is taken for sound. "
            "Were integers written as floats? Scale it, or leave it out."
        )
