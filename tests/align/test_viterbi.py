"""The path that is found is the best of all paths, tried one by one."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.align.viterbi import forced_path


def best_by_trying(log_probs_FV, labels, blank):
    """The score of the best path whose repeats and blanks dropped are the labels; and every path that has it."""
    best, found = -np.inf, []
    for outputs in itertools.product(range(log_probs_FV.shape[1]), repeat=len(log_probs_FV)):
        said = [output for output, _ in itertools.groupby(outputs) if output != blank]
        if said != labels:
            continue
        score = sum(log_probs_FV[frame, output] for frame, output in enumerate(outputs))
        if score > best + 1e-9:
            best, found = score, []
        if score > best - 1e-9:
            found.append(outputs)
    return best, found


@settings(max_examples=150, deadline=None)
@given(
    frames=st.integers(1, 6),
    labels=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    blank_last=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_the_path_is_the_best_of_all(frames, labels, blank_last, seed):
    """Also with repeated labels, which need a blank between them, and where there are too few frames."""
    log_probs_FV = np.log(np.random.default_rng(seed).dirichlet(np.ones(4), frames))
    blank = 3 if blank_last else 0
    labels = [label - 1 if blank_last else label for label in labels]
    best, paths = best_by_trying(log_probs_FV, labels, blank)
    path = forced_path(log_probs_FV, np.array(labels), blank)
    if not paths:
        assert path is None
        return
    assert path is not None and np.isclose(path.log_prob, best)
    outputs = np.full(frames, blank)
    for label, first, last in zip(labels, path.first_L, path.last_L, strict=True):
        outputs[first : last + 1] = label
    assert tuple(outputs.tolist()) in paths
    assert (path.first_L[1:] > path.last_L[:-1]).all()


def test_impossible_labels_and_no_labels_have_no_path():
    log_probs_FV = np.log(np.full((4, 3), 1 / 3))
    log_probs_FV[:, 2] = -np.inf
    assert forced_path(log_probs_FV, np.array([1, 2])) is None
    assert forced_path(log_probs_FV, np.zeros(0, np.int64)) is None
    assert forced_path(log_probs_FV[:0], np.array([1])) is None
