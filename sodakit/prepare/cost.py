"""How long a preparation will take, by trying the codec for a moment."""

import os
import time

import numpy as np

from sodakit.codec.contract import Codec
from sodakit.hardware import torch_threads
from sodakit.units import format_duration

TRIAL_S = 10.0
"""Sound encoded to find out."""


def estimate_cost(codec: Codec, duration_s: float, workers: int) -> str:
    """Hours of work and of waiting, in words, for `duration_s` of sound; decoding files comes on top."""
    per_second = encode_cost(codec)
    cores = min(workers, os.cpu_count() or 1)
    work_s = per_second * duration_s
    return (
        f"{format_duration(work_s / cores)} with {workers} workers on this machine: {format_duration(work_s)} of one core, "
        f"{1 / per_second:,.0f} times real time each"
    )


def encode_cost(codec: Codec) -> float:
    """CPU seconds (wall seconds on a GPU) that one second of sound takes in one worker."""
    rng = np.random.default_rng(0)
    wave_S = (0.1 * rng.standard_normal(round(TRIAL_S * codec.spec.sample_rate_hz))).astype(np.float32)
    with torch_threads(1):
        codec.encode(wave_S[: len(wave_S) // 10])  # the first call loads kernels
        # The slower clock: CPU time does not see a GPU, and wall time sees other programs only where there is none.
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        codec.encode(wave_S)
        cpu_s, wall_s = time.process_time() - start_cpu_s, time.perf_counter() - start_s
    on_cpu = cpu_s > 0.5 * wall_s
    return max(cpu_s if on_cpu else wall_s, 1e-6) / TRIAL_S
