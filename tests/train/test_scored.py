"""Which tokens a loss is taken on."""

import numpy as np
import pytest

from sodakit.tokens.documents import Speech, Template, Text
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.train.scored import scored_tokens

VOCABULARY = Vocabulary.layout(text_size=20, bos=18, eos=19, num_codebooks=2, codebook_size=4)
TEMPLATE = Template(VOCABULARY, 2)
SOUND = Speech(np.array([[0, 1, 2], [3, 2, 1]], np.uint16))
WORDS = Text(np.array([4, 5], np.int32))


@pytest.fixture
def row():
    """A pair, a text, and padding."""
    pair = TEMPLATE.document([SOUND, WORDS, SOUND])
    text = TEMPLATE.plain_text(np.array([1, 2, 3], np.int32))
    padding = np.full(5, VOCABULARY.eos, np.int32)
    return np.concatenate([pair, text, padding]), (len(pair), len(text), 5)


def test_without_given_spans_only_padding_is_left_out(row):
    ids_T, lengths = row
    scored_T = scored_tokens(ids_T[None], [lengths], VOCABULARY, 0)[0]
    assert scored_T.sum() == len(ids_T) - 5 and not scored_T[-5:].any()


def test_the_question_is_not_predicted_and_the_answer_with_its_markers_and_eos_is(row):
    ids_T, lengths = row
    scored_T = scored_tokens(ids_T[None], [lengths], VOCABULARY, 1)[0]
    question = 1 + 2 + 3 * 2  # BOS, two markers, three frames of two codes
    assert not scored_T[:question].any()
    assert scored_T[question : lengths[0]].all() and ids_T[question] == VOCABULARY.text_start


def test_a_document_without_an_answer_is_predicted_whole(row):
    ids_T, lengths = row
    scored_T = scored_tokens(ids_T[None], [lengths], VOCABULARY, 1)[0]
    assert scored_T[lengths[0] : lengths[0] + lengths[1]].all()


def test_speech_alone_is_predicted_whole_beside_a_task():
    """It has as many spans as are given and no answer: replayed, or for want of a translation."""
    ids_T = TEMPLATE.document([SOUND])
    assert scored_tokens(ids_T[None], [(len(ids_T),)], VOCABULARY, 1).all()
