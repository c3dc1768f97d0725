"""A model and the vocabulary of its stores must mean the same ids; what to do is said where they do not."""

from dataclasses import replace

import pytest

from sodakit.errors import ConfigError
from sodakit.model.any_config import check_vocabulary, family_config
from sodakit.model.config import model_size
from sodakit.tokens.vocabulary import Vocabulary

WORDS = Vocabulary.layout(text_size=20, bos=18, eos=19, num_codebooks=4, codebook_size=11)


@pytest.mark.parametrize("family", ["flat", "depth", "delay"])
def test_a_model_of_other_ids_than_its_stores_says_what_to_set(family):
    fits = family_config(family, model_size("demo", WORDS.size, context=64), WORDS)
    check_vocabulary(fits, WORDS, "store")
    other = Vocabulary.layout(text_size=21, bos=18, eos=19, num_codebooks=4, codebook_size=11)
    with pytest.raises(
        ConfigError, match=rf"vocabulary of store has {other.size} ids.*Set model.vocab_size={other.size}"
    ):
        check_vocabulary(fits, other, "store")


def test_a_model_of_other_codebooks_than_its_stores_says_what_to_set():
    fits = family_config("depth", model_size("demo", WORDS.size, context=64), WORDS)
    other = Vocabulary.layout(text_size=20, bos=18, eos=19, num_codebooks=11, codebook_size=4)
    assert other.size == WORDS.size
    with pytest.raises(ConfigError, match=r"= 4, 11, 24; store has 11, 4, 24\. Set them so"):
        check_vocabulary(fits, other, "store")
    with pytest.raises(ConfigError, match="audio_base"):
        check_vocabulary(replace(fits, audio_base=23), WORDS, "store")
