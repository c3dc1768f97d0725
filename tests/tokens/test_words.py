"""Times that somebody tells of words, put to the words of a text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sodakit.tokens.text import train_bpe
from sodakit.tokens.words import count_words, pieces_of, shifted, spans_of, timed_words
from sodakit.voices.contract import WordSpan

TEXT = "Hello, world! I don't (really) know twenty-five — things."
TOKENIZER = train_bpe([TEXT] * 4, 400)


def said(words: str, sure: float | None = 0.9) -> list[WordSpan]:
    return [WordSpan(word, n / 2, n / 2 + 0.4, sure) for n, word in enumerate(words.split())]


def pieces(text, words):
    """What each word's ids say, from its first to the next word's."""
    ids = TOKENIZER.encode(text)
    cuts = [word.id_at for word in words]
    assert -1 not in cuts and cuts[0] == 0
    return [TOKENIZER.decode(ids[a:b]) for a, b in zip(cuts, [*cuts[1:], len(ids)], strict=True)]


@pytest.mark.parametrize(
    "spoken",
    [
        "hello world i don't really know twenty-five things",
        "HELLO WORLD I DON'T REALLY KNOW TWENTY-FIVE THINGS",
    ],
)
def test_marks_and_capitals_do_not_matter(spoken):
    words = timed_words(TEXT, said(spoken), 10.0, TOKENIZER)
    assert pieces_of(TEXT, words) == [
        "Hello,",
        "world!",
        "I",
        "don't",
        "(really)",
        "know",
        "twenty-five —",
        "things.",
    ]
    assert [(w.start_s, w.end_s, w.confidence) for w in words] == [
        (n / 2, n / 2 + 0.4, 0.9) for n in range(8)
    ]
    assert "".join(pieces(TEXT, words)) == TEXT and pieces(TEXT, words)[4] == " (really)"
    assert [span.word for span in spans_of(TEXT, words)] == pieces_of(TEXT, words)


def test_a_word_that_was_heard_otherwise_has_no_times_and_its_neighbours_have():
    words = timed_words(TEXT, said("hello world uh i don't quite know twenty five things"), 10.0, TOKENIZER)
    times = dict(zip(pieces_of(TEXT, words), [w.start_s for w in words], strict=True))
    assert times == {
        "Hello,": 0.0, "world!": 0.5, "I": 1.5, "don't": 2.0, "(really)": None, "know": 3.0, "twenty-": 3.5,
        "five —": 4.0, "things.": 4.5,
    }  # fmt: skip


def test_a_border_inside_an_id_is_none():
    """A speech model's text cannot be cut there."""
    words = timed_words(TEXT, said("hello world i do n't really know twenty five things"), 10.0, TOKENIZER)
    at = dict(zip(pieces_of(TEXT, words), [w.id_at for w in words], strict=True))
    assert at["n't"] == -1 and at["do"] > 0 and at["(really)"] > at["do"]


def test_several_words_told_at_once_share_their_times():
    words = timed_words("one two three", [WordSpan("one two", 0.1, 0.5), WordSpan("three", 0.6, 0.9)], 1.0)
    assert [(w.start_s, w.end_s) for w in words] == [(0.1, None), (None, 0.5), (0.6, 0.9)]
    assert all(w.id_at == -1 and w.confidence is None for w in words)


def test_scripts_without_spaces_are_cut_as_their_words_are_told():
    words = timed_words("你好世界。", said("你好 世界"), 10.0)
    assert pieces_of("你好世界。", words) == ["你好", "世界。"]


def test_composed_and_decomposed_accents_are_one():
    words = timed_words("Café là-bas", said("cafe\u0301 la\u0300-bas quoi"), 10.0)
    assert [w.start_s for w in words[:2]] == [0.0, 0.5]


def test_times_outside_the_utterance_or_out_of_order_are_none():
    spoken = [
        WordSpan("one", -1.0, -0.5),
        WordSpan("two", 0.5, 0.9),
        WordSpan("three", 0.1, 0.2),
        WordSpan("four", 0.95, 1.02),
    ]
    words = timed_words("one two three four", spoken, 1.0)
    assert [(w.start_s, w.end_s) for w in words] == [(None, None), (0.5, 0.9), (None, None), (0.95, 1.0)]
    assert timed_words("one two", said("other words"), 2.0) == () == timed_words("...", said("other"), 2.0)


def test_words_are_counted_and_moved():
    assert pieces_of(TEXT, ()) == [] and spans_of(TEXT, ()) == ()
    assert count_words(TEXT) == 8 and count_words(" — ") == 0
    assert shifted(said("a b"), 1.0) == (WordSpan("a", 1.0, 1.4, 0.9), WordSpan("b", 1.5, 1.9, 0.9))


@given(st.lists(st.text("abcé.,'- \n\U00020000ß", min_size=1, max_size=6), min_size=1, max_size=8))
def test_ids_between_words_are_the_text_whatever_it_is(parts):
    """Spaces of any kind, marks alone, letters of several bytes: cuts rise, and nothing is lost between them."""
    text = " ".join(parts)
    spoken = [WordSpan(piece, float(n), n + 0.5) for n, piece in enumerate(text.split())]
    words = timed_words(text, spoken, 100.0, TOKENIZER)
    cuts = [w.id_at for w in words if w.id_at >= 0]
    assert cuts == sorted(set(cuts)) and len(words) in (0, count_words(text))
    ids = TOKENIZER.encode(text)
    assert "".join(TOKENIZER.decode(part) for part in np.split(np.array(ids), cuts[1:])) == text
    at = [w.text_at for w in words]
    assert at == sorted(set(at)) and all(w.start_s is not None for w in words)


def test_places_of_ids_in_a_text_longer_than_is_encoded_at_once():
    text = "a" * 5000 + " word"
    starts_T, ends_T = TOKENIZER.places(text)
    assert len(starts_T) == len(TOKENIZER.encode(text)) and ends_T[-1] == len(text)
    assert (np.diff(starts_T) >= 0).all()
