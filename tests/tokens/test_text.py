import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from sodakit.errors import VocabularyError
from sodakit.tokens.text import TextTokenizer, train_bpe

TOKENIZER = train_bpe(["please turn the lamp on", "switch the radio off"] * 5, 320)


@given(st.text())
def test_every_string_round_trips(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_data_cannot_forge_a_special_token():
    ids = TOKENIZER.encode("<|end_of_text|>")
    assert TOKENIZER.eos not in ids and TOKENIZER.decode(ids) == "<|end_of_text|>"


def test_a_saved_tokenizer_is_the_same(tmp_path):
    TOKENIZER.save(tmp_path)
    again = TextTokenizer.load(tmp_path)
    assert again.fingerprint == TOKENIZER.fingerprint
    assert again.encode("turn <|end_of_text|>") == TOKENIZER.encode("turn <|end_of_text|>")


def test_training_is_deterministic():
    texts = ["open the kitchen window", "close the garden door"] * 3
    assert train_bpe(texts, 290).fingerprint == train_bpe(texts, 290).fingerprint


def test_a_tokenizer_without_bos_is_refused(tmp_path):
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel()
    bare.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(VocabularyError, match="begin_of_text"):
        TextTokenizer.load(tmp_path)


@pytest.mark.parametrize("token_id", [TOKENIZER.size, 2**31])
def test_an_id_beyond_the_tokens_is_refused_by_name(tmp_path, token_id):
    """One of 2^31 filled 8 GB where the definition was written, or ended the process where there was less."""
    TOKENIZER.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    plain = json.loads(file.read_text(encoding="utf-8"))
    plain["model"]["vocab"]["Ĕ"] = token_id
    file.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(
        VocabularyError, match=rf"{file} cannot be read: .* id {token_id}; needed: below {TOKENIZER.size}"
    ):
        TextTokenizer.load(tmp_path)


def test_a_missing_tokenizer_says_what_is_needed(tmp_path):
    with pytest.raises(VocabularyError, match="hub id"):
        TextTokenizer.load(tmp_path / "nothing")


@pytest.mark.parametrize("word", ["x", "ab1!", "好", "\u0301e"])
def test_a_text_without_spaces_is_encoded_in_time_and_comes_back(word):
    """The time grew with the square: a megabyte took over two minutes."""
    text = word * (300_000 // len(word))
    tokenizer = train_bpe(["some words", text], 300)
    begun_s = time.process_time()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert time.process_time() - begun_s < 5
    assert tokenizer.encode_batch([text, "some"]) == [tokenizer.encode(text), tokenizer.encode("some")]


def test_ordinary_text_is_encoded_whole_however_long():
    tokenizer = train_bpe(["some words here and there"] * 3, 300)
    text = "some words here and there " * 1000
    assert tokenizer.encode(text) == tokenizer._tokenizer.encode(text, add_special_tokens=False).ids
