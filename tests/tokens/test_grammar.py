import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sodakit.tokens.documents import Speech, Template, Text
from sodakit.tokens.grammar import FIRST_SLOT, Grammar, slots_of
from sodakit.tokens.vocabulary import Vocabulary
from tests.tokens.strategies import codes

V = Vocabulary.layout(text_size=20, bos=0, eos=1, num_codebooks=3, codebook_size=5)
GRAMMAR = Grammar(V, 3)

text_ids = st.lists(st.integers(2, 19), max_size=6).map(lambda ids: np.array(ids, np.int32))
spans = st.lists(st.one_of(codes(5, num_codebooks=3).map(Speech), text_ids.map(Text)), max_size=4)


@given(spans)
def test_every_document_obeys_the_grammar(document_spans):
    ids_T = Template(V, 3).document(document_spans)
    assert GRAMMAR.first_error(ids_T) is None


@given(spans, st.data())
def test_a_moved_audio_id_is_caught(document_spans, data):
    ids_T = Template(V, 3).document(document_spans)
    audio = np.flatnonzero(V.is_audio(ids_T))
    if len(audio) == 0:
        return
    place = int(data.draw(st.sampled_from(audio.tolist())))
    broken = np.delete(ids_T, place)
    error = GRAMMAR.first_error(broken)
    assert error is not None and error >= place


@given(st.lists(st.integers(0, 10**6), max_size=60))
def test_legal_and_advance_agree_on_every_reachable_state(choices):
    state = GRAMMAR.advance(0, V.bos)
    for choice in choices:
        legal = set(GRAMMAR.legal(state).tolist())
        assert legal == {t for t in range(V.size) if GRAMMAR.advance(state, t) is not None}
        state = GRAMMAR.advance(state, sorted(legal)[choice % len(legal)])


def test_audio_slots_allow_one_codebook_and_the_end_only_at_a_frame_boundary():
    first = GRAMMAR.legal(FIRST_SLOT).tolist()
    assert first == [V.audio_end, *range(*V.codebook_range(0))]
    assert GRAMMAR.legal(FIRST_SLOT + 1).tolist() == list(range(*V.codebook_range(1)))


def test_an_invalid_prompt_names_the_position_and_what_is_allowed():
    with pytest.raises(ValueError, match=r"position 2.*codebook 0 or audio_end"):
        GRAMMAR.state_after(np.array([V.bos, V.audio_start, V.codebook_range(1)[0]]))


@given(spans)
def test_slots_follow_from_the_state_alone(document_spans):
    ids_T = Template(V, 3).document(document_spans)
    state = 0
    for token, slot in zip(ids_T.tolist(), slots_of(ids_T, V).tolist(), strict=True):
        assert slot == max(0, state - FIRST_SLOT + 1)
        state = GRAMMAR.advance(state, token)


def test_bos_and_eos_have_no_place_inside_text():
    """EOS ends a document of plain text; inside a transcript only its marker does."""
    opened = GRAMMAR.advance(0, V.bos)
    transcript = GRAMMAR.advance(opened, V.text_start)
    assert GRAMMAR.advance(transcript, V.eos) is None and GRAMMAR.advance(transcript, V.bos) is None
    assert not {V.bos, V.eos} & set(GRAMMAR.legal(transcript).tolist())
    plain = GRAMMAR.advance(opened, 5)
    assert GRAMMAR.advance(plain, V.bos) is None and V.bos not in GRAMMAR.legal(plain)
    assert GRAMMAR.first_error(np.array([V.bos, V.text_start, 5, V.eos])) == 3


def test_plain_text_follows_bos_alone():
    """After a span only another span or the end may come; without its marker a text would be nobody's."""
    closed = GRAMMAR.state_after(np.array([V.bos, V.text_start, 5, V.text_end]))
    assert GRAMMAR.advance(closed, 5) is None
    assert set(GRAMMAR.legal(closed).tolist()) == {V.text_start, V.audio_start, V.eos}
