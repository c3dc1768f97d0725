import string

import pytest

from sodakit.errors import ConfigError
from sodakit.eval.normalisers import NORMALISERS, normaliser


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("soda", "It’s “so”: don't [well-known]!", "its so dont wellknown"),
        ("soda", "a  b\t c", "a b c"),
        ("soda", "dash – stays, … too", "dash – stays … too"),
        ("sodakit", "dash – goes, … too", "dash goes too"),
        ("seed_tts_en", "It’s here, don't-stop", "its here don'tstop"),
        ("seed_tts_en", "one    two", "one  two"),  # four blanks, each pair replaced once
        ("seed_tts_zh", "你好，世界！", "你 好 世 界"),
        ("whisper_en", "Mr. Brown won't pay twenty five dollars", "mister brown will not pay $25"),
        ("none", " As It—Is ", "As It—Is"),
    ],
)
def test_each_protocol_keeps_its_own_words(name: str, text: str, expected: str) -> None:
    assert normaliser(name)(text) == expected


def test_seed_tts_deletes_every_ascii_mark_but_the_straight_apostrophe() -> None:
    assert normaliser("seed_tts_en")(string.punctuation) == "'"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'seed_tts_en'"):
        normaliser("seed-tts-en")
    assert set(NORMALISERS) == {"sodakit", "soda", "seed_tts_en", "seed_tts_zh", "whisper_en", "none"}
