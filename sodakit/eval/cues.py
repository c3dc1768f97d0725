"""Trivial cues: how often the answer follows from length, loudness or size alone, with no model at all."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile

from sodakit.audio.levels import decibels, peak, rms
from sodakit.audio.wave import Wave
from sodakit.eval.labels import Question
from sodakit.eval.results import Estimate, accuracy

CUES = ("duration_s", "loudness_db", "peak_db", "file_bytes", "flac_bytes")
"""Length; RMS level; highest sample; size as 16-bit WAV; size as FLAC, which tells busy sound from plain."""

_TIES = {"duration_s": 1e-3, "loudness_db": 0.1, "peak_db": 0.1, "file_bytes": 0.0, "flac_bytes": 0.0}
"""Differences up to this are none: a sample of rounding, a tenth of a decibel."""


@dataclass(frozen=True)
class Cue:
    """What choosing the larger side achieves."""

    larger_is_right: Estimate
    num_ties: int

    @property
    def gives_away(self) -> bool:
        """Whether always choosing the larger, or always the smaller, side beats chance beyond the interval."""
        return self.larger_is_right.excludes_chance


def measure(wave: Wave) -> dict[str, float]:
    """The value of every cue for one sound."""
    samples_S = wave.samples_S
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples_S, -1, 1), wave.sample_rate_hz, "PCM_16", format="FLAC")
    return {
        "duration_s": wave.duration_s,
        "loudness_db": decibels(rms(samples_S)),
        "peak_db": decibels(peak(samples_S)),
        "file_bytes": 44.0 + 2 * len(samples_S),
        "flac_bytes": float(len(buffer.getvalue())),
    }


def cue_accuracies(
    questions: Sequence[Question], sides: Sequence[Sequence[dict[str, float]]]
) -> dict[str, Cue]:
    """For each cue, how often the right side has more of it than every wrong one; equal is half.

    Args:
        questions: the pairs.
        sides: for each, what `measure` says of its sides, the right one first.
    """
    found = {}
    for cue in CUES:
        answers = [_larger([side[cue] for side in pair], _TIES[cue]) for pair in sides]
        found[cue] = Cue(accuracy(questions, answers), sum(value == 0.5 for value in answers))
    return found


def cue_signs(sides: Sequence[dict[str, float]]) -> tuple[int, ...]:
    """For each of `CUES`, 1 where the right side has more of it than every wrong one, -1 where less, 0 at a tie.

    Args:
        sides: what `measure` says of each side, the right one first.
    """
    return tuple(round(2 * _larger([side[cue] for side in sides], _TIES[cue]) - 1) for cue in CUES)


def _larger(values: Sequence[float], tie: float) -> float:
    difference = values[0] - max(values[1:])
    return 0.5 if abs(difference) <= tie else float(difference > 0)
