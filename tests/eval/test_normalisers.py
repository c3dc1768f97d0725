import string
import unicodedata

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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ما اسمك؟", "ما اسمك"),
        ("नमस्ते।", "नमस्ते"),
        ("你好，世界。", "你好世界"),
        (unicodedata.normalize("NFD", "Où est le café ?"), "où est le café"),
        ("Κύριε·", "κύριε"),
        ("\ufeffszép\u00ad nap\u200b", "szép nap"),
        ("Անուն՞", "անուն"),
        ("hello—world…again", "hello world again"),
        ("नमस्\u200dते", "नमस्ते"),
        ("کتـــاب", "کتاب"),
    ],
)
def test_marks_of_every_script_are_no_words(one: str, other: str) -> None:
    assert NORMALISERS["sodakit"](one) == NORMALISERS["sodakit"](other) == other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ＡＢＣ１２３", "abc123"),
        ("ﬁn", "fin"),
        ("ｶﾀｶﾅ", "カタカナ"),
        ("١٢ كتاب", "12 كتاب"),
        ("१२", "12"),
        ("İSTANBUL", "istanbul"),
        ("STRASSE", "Straße"),
        ("ΟΔΥΣΣΕΎΣ", "οδυσσεύς"),
        (unicodedata.normalize("NFD", "안녕하세요"), "안녕하세요"),
    ],
)
def test_two_forms_of_a_letter_or_figure_are_one(one: str, other: str) -> None:
    assert NORMALISERS["sodakit"](one) == NORMALISERS["sodakit"](other) != ""


@pytest.mark.parametrize("text", ["50% of R&D", "a/b", "#1 @home", "x_y*z", "d'accord 5°", "می\u200cروم"])
def test_what_is_read_aloud_or_tells_words_apart_stays(text: str) -> None:
    kept = NORMALISERS["sodakit"](text)
    assert kept == text.lower().replace("'", "")
