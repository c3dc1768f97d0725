"""Warmup-Stable-Decay."""

from math import cos, pi

from sodakit.train.config import ScheduleConfig


def learning_rate(step: int, steps: int, config: ScheduleConfig) -> float:
    """The learning rate of update `step` (0 … steps-1): linear rise, constant, linear or cosine fall."""
    warmup = config.warmup_fraction * steps
    decay = config.decay_fraction * steps
    rising = (step + 1) / warmup if step < warmup else 1.0
    left = (steps - step) / decay if steps - step < decay else 1.0
    if config.decay_shape == "cosine":
        left = (1 - cos(pi * left)) / 2
    falling = config.final_fraction + (1 - config.final_fraction) * left
    return config.peak_lr * min(rising, falling, 1.0)
