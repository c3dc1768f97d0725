"""What the demo says of its scores, voice by voice."""

from types import SimpleNamespace

import numpy as np
import pytest

from sodakit.audio.wave import Wave
from sodakit.eval.speech import Case
from sodakit.eval.words import word_errors
from sodakit.recipes.street import SetScores


def scores_of(heard: list[tuple[str, str, str]]) -> SetScores:
    """Scores of a set from speaker, sentence and what was heard."""
    cases = [
        Case(str(number), said, speaker, Wave(np.zeros(800, np.float32), 8000), np.zeros((1, 1), int))
        for number, (speaker, said, _) in enumerate(heard)
    ]
    errors = word_errors([case.text for case in cases], [text for *_, text in heard], draws=10)
    return SetScores(cases, transcription=errors, guess=errors, speaking=SimpleNamespace())


def test_the_voice_that_has_most_of_the_errors_is_named():
    well = [("a", "one two three four", "one two three four")] * 3 + [("b", "one two", "one too")]
    scores = scores_of([*well, ("c", "one two three four", "won too free for")])
    assert list(scores.by_voice().items()) == [("c", 1.0), ("b", 0.5), ("a", 0.0)]
    # 4 of 5 errors are c's; the others have 1 in 14 words.
    assert scores.worst_voice() == "most of it in one voice, c (100.0%); the other 2 together 7.1%"


def test_a_high_rate_over_few_words_is_not_most_of_the_errors():
    """The rate is b's, 1 of 2 words; the errors are a's, 3 of 12."""
    scores = scores_of([("a", "one two three four", "one two three")] * 3 + [("b", "one two", "one too")])
    assert scores.by_voice() == pytest.approx({"b": 0.5, "a": 0.25})
    assert scores.worst_voice() == ""


def test_one_voice_alone_is_not_singled_out():
    assert scores_of([("", "one two", "three")]).by_voice() == {"unknown": 1.0}
    assert scores_of([("", "one two", "three")]).worst_voice() == ""
