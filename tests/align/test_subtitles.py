"""Words and lines for readers: every word has a time, in order, and no line is too long."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sodakit.align.spread import SpreadAligner
from sodakit.align.subtitles import LINE_CHARACTERS, lines_of, words_of
from sodakit.audio.wave import Wave
from sodakit.generate.long_form import Segment
from sodakit.voices.contract import WordSpan
from tests.align.fakes import EvenAligner, noise


def segment(start_s, end_s, text):
    return Segment(start_s, end_s, text, np.zeros(0, np.int32))


class Forgetful(EvenAligner):
    """Finds every other word only."""

    def align(self, waves, texts, languages):
        return [words[::2] for words in super().align(waves, texts, languages)]


@pytest.mark.parametrize("aligner", [EvenAligner(), Forgetful(), SpreadAligner()])
def test_every_word_has_its_time_in_the_recording(aligner):
    parts = [segment(0.5, 2.5, "One, two three four."), segment(2.5, 3.0, ""), segment(3.0, 4.0, "Five six")]
    words = words_of(parts, noise(4.0), aligner)
    assert [w.word for w in words] == ["One,", "two", "three", "four.", "Five", "six"]
    times = [t for w in words for t in (w.start_s, w.end_s)]
    assert (
        min(np.diff(times)) > -1e-9
        and times[0] >= 0.5
        and words[4].start_s >= 3.0
        and times[-1] <= 4.0 + 1e-9
    )
    assert all(w.end_s > w.start_s for w in words)


def test_a_guess_keeps_to_what_is_loud():
    silence_S = np.zeros(8000, np.float32)
    wave = Wave(np.concatenate([silence_S, noise(1.0).samples_S, silence_S]), 16_000)
    (words,) = SpreadAligner().align([wave], ["four even long words"], [""])
    assert words[0].start_s == pytest.approx(0.5, abs=0.03) and words[-1].end_s == pytest.approx(
        1.5, abs=0.03
    )
    assert SpreadAligner().align([wave], [""], [""]) == [()]


def test_words_that_no_aligner_found_are_spread_over_their_segment():
    words = words_of([segment(1.0, 2.0, "silent word")], noise(2.0), EvenAligner())
    assert [(w.word, round(w.start_s, 3), round(w.end_s, 3)) for w in words] == [
        ("silent", 1.0, 1.6),
        ("word", 1.6, 2.0),
    ]


@given(st.lists(st.tuples(st.integers(1, 20), st.sampled_from([0.0, 0.1, 0.7])), max_size=40))
def test_lines_hold_every_word_in_order_and_are_short(shapes):
    words, at_s = [], 0.0
    for letters, pause_s in shapes:
        words.append(WordSpan("x" * letters, at_s + pause_s, at_s + pause_s + 0.3))
        at_s = words[-1].end_s
    lines = lines_of(words)
    assert " ".join(line.text for line in lines).split() == [w.word for w in words]
    assert all(len(line.text) <= LINE_CHARACTERS and line.end_s - line.start_s <= 6.0 for line in lines)
    assert all(a.end_s <= b.start_s for a, b in pairwise(lines))
