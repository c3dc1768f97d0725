"""Warmup-Stable-Decay."""

from sodakit.train.config import ScheduleConfig


def learning_rate(step: int, steps: int, config: ScheduleConfig) -> float:
    """The learning rate of update `step` (0 … steps-1): linear rise, constant, linear fall to 0."""
    warmup = config.warmup_fraction * steps
    decay = config.decay_fraction * steps
    rising = (step + 1) / warmup if step < warmup else 1.0
    falling = (steps - step) / decay if steps - step < decay else 1.0
    return config.peak_lr * min(rising, falling, 1.0)
