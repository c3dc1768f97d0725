import re

import pytest

from sodakit.errors import ConfigError
from sodakit.voices import household


def test_sentences_are_different_and_the_same_for_the_same_seed() -> None:
    drawn = household.sentences(5000, 3)
    assert len(set(drawn)) == 5000 and drawn == household.sentences(5000, 3) != household.sentences(5000, 4)


def test_avoided_sentences_do_not_come_back() -> None:
    held_out = household.sentences(300, 0)
    rest = household.sentences(len(household.all_sentences()) - 300, 1, avoid=held_out)
    assert not set(rest) & set(held_out)
    with pytest.raises(ConfigError, match="Ask for fewer"):
        household.sentences(len(rest) + 1, 1, avoid=held_out)


def test_the_domain_has_tens_of_thousands_of_sentences_and_few_words() -> None:
    assert len(set(household.all_sentences())) > 30_000
    assert 50 <= len(household.words()) <= 70


def test_every_sentence_has_a_capital_a_mark_and_known_words_only() -> None:
    known = set(household.words())
    for sentence in household.sentences(2000, 5):
        assert re.fullmatch(r"[A-Z][A-Za-z ,]+[.?]", sentence)
        assert set(re.findall("[a-z]+", sentence.lower())) <= known
        assert sentence.endswith("?") == sentence.startswith(("Could", "Would", "Can"))
