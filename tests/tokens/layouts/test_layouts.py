"""Every layout gives back what it was given, and a cursor walks it position by position."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.errors import VocabularyError
from sodakit.tokens.documents import Speech, Template, Text
from sodakit.tokens.layouts.contract import ABSENT, lay
from sodakit.tokens.layouts.flat import FlatLayout
from sodakit.tokens.layouts.frame import FrameLayout
from sodakit.tokens.vocabulary import Vocabulary
from tests.tokens.strategies import codes

BOOKS, SIZE = 4, 5
VOCABULARY = Vocabulary.layout(text_size=12, bos=10, eos=11, num_codebooks=BOOKS, codebook_size=SIZE)


@st.composite
def layouts(draw, num_codebooks: int):
    delays = draw(
        st.one_of(
            st.none(),
            st.just((0, 0, 0, 0)),
            st.just((0, 1, 1, 1)),
            st.just((0, 2, 2, 2)),
            st.just((0, 1, 2, 3)),
            st.tuples(st.just(0), *[st.integers(0, 5)] * (BOOKS - 1)),
        )
    )
    if delays is None:
        return FlatLayout(VOCABULARY, num_codebooks)
    return FrameLayout(VOCABULARY, num_codebooks, delays)


@st.composite
def documents(draw):
    """A layout, and the spans of a document in it with at least one frame in each of speech."""
    used = draw(st.integers(1, BOOKS))
    layout = draw(layouts(used))
    text = st.lists(st.integers(0, 9), max_size=6).map(lambda ids: Text(np.array(ids, np.int32)))
    speech = codes(SIZE, used).filter(lambda codes_KF: codes_KF.shape[1] > 0).map(Speech)
    return layout, draw(st.lists(st.one_of(text, speech), max_size=4))


@given(documents())
@settings(max_examples=300, deadline=None)
def test_what_is_laid_is_read_back(case) -> None:
    layout, spans = case
    document_T = Template(VOCABULARY, layout.num_codebooks).document(spans)
    ids_PW = lay(layout, document_T)
    assert layout.flatten(ids_PW).tolist() == document_T.tolist()
    frames = [s.codes_KF.shape[1] for s in spans if isinstance(s, Speech)]
    texts = sum(len(s.ids_T) + 2 for s in spans if isinstance(s, Text))
    assert len(ids_PW) == 2 + texts + sum(layout.speech_positions(np.array([f]))[0] for f in frames)
    if isinstance(layout, FrameLayout) and not any(layout.delays):
        assert len(document_T) == len(ids_PW) + (layout.num_codebooks - 1) * sum(frames)


@given(documents())
@settings(max_examples=300, deadline=None)
def test_a_cursor_walks_a_document(case) -> None:
    """It says which columns are due before it sees them, and gives the document's ids out in order."""
    layout, spans = case
    document_T = Template(VOCABULARY, layout.num_codebooks).document(spans)
    cursor = layout.cursor(np.zeros(0, np.int64))
    given_out: list[int] = []
    for ids_W in lay(layout, document_T).tolist():
        assert (ids_W[0] == ABSENT) == cursor.is_tail
        if not cursor.is_tail:
            assert ids_W[0] in layout.legal(cursor.state)
        present = {k for k, token in enumerate(ids_W) if k and token != ABSENT}
        assert set(cursor.due(ids_W[0])) == present and not any(cursor.due(ids_W[0]).values())
        given_out += cursor.take(ids_W)
    assert given_out == document_T.tolist()


@given(documents(), st.data())
@settings(max_examples=300, deadline=None)
def test_an_answer_goes_on_from_any_prompt(case, data) -> None:
    """After a prompt, also one within speech, the cursor asks for the rest of the document and no more."""
    layout, spans = case
    template = Template(VOCABULARY, layout.num_codebooks)
    document_T = template.document(spans)
    frames_end = layout.num_codebooks
    cuts = [
        n
        for n in range(1, len(document_T))
        if not VOCABULARY.is_audio(document_T[n : n + 1])[0]
        or (document_T[n] - VOCABULARY.audio_base) // SIZE == 0
    ]
    cut = data.draw(st.sampled_from(cuts))
    prompt_T, rest_T = document_T[:cut], document_T[cut:]
    laid, whole = lay(layout, prompt_T), lay(layout, document_T)
    begun = whole[: len(laid)].copy()
    begun[laid == ABSENT] = ABSENT  # codes of frames that are not in the prompt yet, none without delays
    assert (laid == begun).all() and frames_end
    cursor = layout.cursor(prompt_T)
    given_out: list[int] = []
    for ids_W in whole[len(laid) :].tolist():
        due = {} if cursor.is_tail and ids_W[0] != ABSENT else cursor.due(ids_W[0])
        for k, fixed in due.items():
            assert fixed in (None, ids_W[k])
        given_out += cursor.take(ids_W)
    assert given_out == rest_T.tolist()


def test_a_frame_by_hand() -> None:
    v = VOCABULARY
    layout = FrameLayout(v, 3, (0, 1, 2, 0))
    document_T = Template(v, 3).document([Speech(np.array([[0, 1], [2, 3], [4, 0]], np.uint16))])
    a, b, c = (v.codebook_range(k)[0] for k in range(3))
    n = ABSENT
    assert lay(layout, document_T).tolist() == [
        [v.bos, n, n, n],
        [v.audio_start, n, n, n],
        [a, n, n, n],
        [a + 1, b + 2, n, n],
        [v.audio_end, b + 3, c + 4, n],
        [n, n, c, n],
        [v.eos, n, n, n],
    ]


def test_what_stands_in_the_wrong_column_is_named() -> None:
    layout = FrameLayout(VOCABULARY, 2, (0, 0, 0, 0))
    with pytest.raises(VocabularyError, match="column 1 of position 0"):
        layout.flatten(np.array([[VOCABULARY.audio_base, VOCABULARY.audio_base, -1, -1]]))
    with pytest.raises(VocabularyError, match="delays"):
        FrameLayout(VOCABULARY, 2, (1, 0, 0, 0))
