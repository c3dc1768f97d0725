"""The likeliest way in which a CTC model says a given text (Graves et al. 2006), found exactly.

A path visits   blank l1 blank l2 … lL blank   in order; it may stay, go on by one, and pass over a blank between labels
that differ.
"""

from dataclasses import dataclass

import numpy as np

# Letters of this file: F frames, L labels, S = 2L+1 states, V outputs of the model.


@dataclass(frozen=True)
class Path:
    """Where each label lies."""

    first_L: np.ndarray
    """int64: its first frame."""
    last_L: np.ndarray
    """int64: its last frame, that one included."""
    log_prob: float
    """Of the whole path."""


def forced_path(log_probs_FV: np.ndarray, labels_L: np.ndarray, blank: int = 0) -> Path | None:
    """The likeliest path of these labels; None where there are too few frames for it.

    Args:
        log_probs_FV: natural logarithms.
        labels_L: outputs in the order of the text, none of them the blank.
        blank: the output that is no label.
    """
    labels_L = np.asarray(labels_L, np.int64)
    if not len(labels_L) or len(log_probs_FV) < len(labels_L) + int((labels_L[1:] == labels_L[:-1]).sum()):
        return None
    states_S = np.full(2 * len(labels_L) + 1, blank, np.int64)
    states_S[1::2] = labels_L
    emitted_FS = log_probs_FV[:, states_S].astype(np.float64)
    scores_S, steps_FS = _forward(emitted_FS, states_S, blank)
    state = len(states_S) - 1 - int(scores_S[-2] > scores_S[-1])
    if not np.isfinite(scores_S[state]):
        return None
    states_F = np.empty(len(log_probs_FV), np.int64)
    for frame in range(len(states_F) - 1, -1, -1):
        states_F[frame] = state
        state -= int(steps_FS[frame, state])
    label_F = np.where(states_F % 2, states_F // 2, -1)
    frames = np.flatnonzero(label_F >= 0)
    first_L = frames[np.searchsorted(label_F[frames], np.arange(len(labels_L)))]
    last_L = frames[np.searchsorted(label_F[frames], np.arange(len(labels_L)), side="right") - 1]
    return Path(first_L, last_L, float(max(scores_S[-1], scores_S[-2])))


def _forward(emitted_FS: np.ndarray, states_S: np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """The score of the best path to each state at the end, and how many states each step went on."""
    passes_S = np.zeros(len(states_S), bool)
    passes_S[2:] = (states_S[2:] != blank) & (states_S[2:] != states_S[:-2])
    steps_FS = np.zeros(emitted_FS.shape, np.uint8)
    scores_S = np.full(len(states_S), -np.inf)
    scores_S[:2] = emitted_FS[0, :2]
    one_S, two_S = np.full(len(states_S), -np.inf), np.full(len(states_S), -np.inf)
    for frame in range(1, len(emitted_FS)):
        one_S[1:], two_S[2:] = scores_S[:-1], scores_S[:-2]
        two_S[~passes_S] = -np.inf
        steps_S = steps_FS[frame]
        steps_S[one_S > scores_S] = 1
        best_S = np.maximum(scores_S, one_S)
        steps_S[two_S > best_S] = 2
        scores_S = np.maximum(best_S, two_S) + emitted_FS[frame]
    return scores_S, steps_FS
