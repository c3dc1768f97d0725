import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sodakit.errors import VocabularyError
from sodakit.tokens.characters import (
    characters_to_codes,
    codes_to_characters,
    ids_to_string,
    string_to_ids,
)
from sodakit.tokens.documents import Speech, Template, Text
from sodakit.tokens.text import train_bpe
from sodakit.tokens.vocabulary import Vocabulary
from tests.tokens.strategies import codes

TOKENIZER = train_bpe(["turn the lights on", "turn the heating off"] * 4, 300)
VOCABULARY = Vocabulary.layout(
    text_size=TOKENIZER.size, bos=TOKENIZER.bos, eos=TOKENIZER.eos, num_codebooks=8, codebook_size=2048
)


@given(codes(2048, num_codebooks=8))
def test_codes_survive_characters(codes_KF):
    assert np.array_equal(characters_to_codes(codes_to_characters(codes_KF)), codes_KF)


def test_the_first_and_last_characters_are_the_published_ones():
    codes_KF = np.array([[0]] * 7 + [[2047]], np.uint16)
    text = codes_to_characters(codes_KF)
    assert ord(text[0]) == 0xE000 and ord(text[7]) == 0x11FFF


@given(
    codes(2048, num_codebooks=8),
    st.text(alphabet=st.characters(codec="utf-8", max_codepoint=0x2FF), max_size=20),
)
def test_documents_survive_strings(codes_KF, text):
    spans = [Text(np.array(TOKENIZER.encode(text), np.int32)), Speech(codes_KF)]
    ids_T = Template(VOCABULARY, 8).document(spans)
    string = ids_to_string(ids_T, VOCABULARY, TOKENIZER)
    assert string.startswith("<|begin_of_text|><|text_start|>" + text)
    assert np.array_equal(string_to_ids(string, VOCABULARY, TOKENIZER), ids_T)


def test_a_missing_character_is_refused_with_its_place():
    text = codes_to_characters(np.zeros((8, 2), np.uint16))
    with pytest.raises(VocabularyError, match="place 3"):
        characters_to_codes(text[:3] + text[4:] + text[0])
