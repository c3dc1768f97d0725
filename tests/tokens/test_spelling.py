"""Letters that a tokenizer was not made for are named."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from sodakit.tokens.spelling import spelling
from sodakit.tokens.text import BOS_TEXT, EOS_TEXT, TextTokenizer, train_bpe


def test_letters_spelled_byte_by_byte_are_counted_and_those_of_one_id_are_not():
    found = spelling(train_bpe(["the straße is long"] * 3, 300), ["the straße", "größer über", "the road"])
    assert found.lost == {} and found.in_pieces == {"ö": 1, "ß": 1, "ü": 1}  # but in straße
    assert "'ö' (1), 'ß' (1), 'ü' (1): it spells them by bytes" in found.lines()[0]
    assert spelling(train_bpe(["a"], 300), ["plain words"]).lines() == []


def test_letters_that_do_not_come_back_are_lost():
    vocab = {letter: n for n, letter in enumerate(["?", "a", "b", BOS_TEXT, EOS_TEXT])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([BOS_TEXT, EOS_TEXT])
    found = spelling(TextTokenizer(tokenizer), ["abc", "cab"])
    assert found.lost == {"c": 2} and "cannot write 'c' (2)" in found.lines()[0]
