"""Texts as they are spoken: what is written in figures and what is written in words are the same words."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sodakit.errors import ConfigError, MissingExtra
from sodakit.eval import spoken_forms
from sodakit.eval.chinese_numbers import in_chinese
from sodakit.eval.normalisers import normaliser
from sodakit.eval.words import word_errors

ALIKE = [
    ("en", "On March 3rd, 25% of 1,250 people left.", "on march third twenty-five per cent of one thousand two hundred and fifty people left"),
    ("en", "The 3rd of March; March 3", "March the third: the third of March"),
    ("en", "In 1984 we'd $5.50", "in nineteen eighty-four wed five point five dollars"),
    ("en", "2021-03-12 at 14:30", "March twelfth, twenty twenty-one at fourteen thirty"),
    ("en", "1,250.75 and 007", "one thousand two hundred and fifty point seven five and zero zero seven"),
    ("es", "El 3 de marzo de 2021, ¿el 25 %?", "el tres de marzo del dos mil veintiuno el veinticinco por ciento"),
    ("es", "12/03/2021: 1.250 libros, 1º", "doce de marzo de dos mil veintiuno mil doscientos cincuenta libros primero"),
    ("fr", "Le 1er mars, l’ami a 1 250 €.", "le premier mars l'ami a mille deux cent cinquante euros"),
    ("fr", "71, 80 et 21,5", "soixante-et-onze quatre-vingts et vingt-et-un virgule cinq"),
    ("de", "Am 3. März 1984 kamen 1.250 Leute.", "am dritten März neunzehnhundertvierundachtzig kamen eintausendzweihundertfünfzig Leute"),
    ("de", "Geht's? 100 %", "gehts hundert Prozent"),
    ("it", "L'8 marzo 2021 23 amici", "l'otto marzo duemilaventuno ventitré amici"),
    ("it", "50% di 3,5", "cinquanta per cento di tre virgola cinque"),
    ("ru", "3 марта 2021 года, 25 человек", "третьего марта две тысячи двадцать первого года двадцать пять человек"),
    ("ru", "1 921 рубль, 5 %, ещё 2 $", "одна тысяча девятьсот двадцать один рубль пять процентов еще два доллара"),
    ("pt", "3 de março: 25%", "três de março vinte e cinco por cento"),
    ("zh", "2021年3月12日，25个人，占3.5%。", "二零二一年三月十二日二十五个人占百分之三点五"),
    ("zh", "2021-03-12 两万零五十", "二零二一年三月十二日 20050"),
    ("ja", "2021年3月12日、２５人、５０％。", "二千二十一年三月十二日二十五人五十パーセント"),
    ("th", "มี 25 คน 10%", "มียี่สิบห้าคนสิบเปอร์เซ็นต์"),
    ("pl", "Mam 25 lat.", "mam 25 lat"),
    ("hi", "नमस्ते।", "नमस्ते"),
    ("en", "R&D", "R and D"),
    ("fr", "un cœur & une œuvre", "un coeur et une oeuvre"),
    ("de", "STRASSE dreißig", "Straße 30"),
    ("zh", "2020年", "二〇二〇年"),
    ("ar", "السَّلامُ عليكم كتـاب", "السلام عليكم كتاب"),
    ("he", "שָׁלוֹם", "שלום"),
    ("tr", "DIŞARI İYİ", "dışarı iyi"),
]  # fmt: skip


@pytest.mark.parametrize(("language", "written", "said"), ALIKE)
def test_figures_and_words_are_the_same(language: str, written: str, said: str) -> None:
    normalise = normaliser(f"spoken_{language}")
    assert normalise(written) == normalise(said) != ""
    assert not (language not in ("pl", "hi") and any(c.isdigit() for c in normalise(written)))


def test_other_numbers_stay_other_words() -> None:
    for language, one, other in (
        ("de", "guten Tag", "gute Tag"),
        ("en", "3rd", "3"),
        ("zh", "100", "10"),
        ("fr", "l'ami", "lami"),
        ("tr", "ılık", "ilik"),
        ("ar", "إلى", "علي"),
    ):
        normalise = normaliser(f"spoken_{language}")
        assert normalise(one) != normalise(other), language  # fmt: skip


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("zh", "你好，world！", "你 好 w o r l d"),
        ("ja", "スーパーで「買う」", "ス ー パ ー で 買 う"),
        ("th", "สวัสดี ครับ", "ส วั ส ดี ค รั บ"),
        ("fr", "Où ? l’été-là", "où l été là"),
    ],
)
def test_words_are_what_the_script_makes_them(language: str, text: str, words: str) -> None:
    assert normaliser(f"spoken_{language}")(text) == words


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "零"), (10, "十"), (14, "十四"), (110, "一百一十"), (101, "一百零一"), (1010, "一千零一十"), (10_005, "一万零五"),
     (20_300, "二万零三百"), (100_000, "十万"), (100_000_001, "一亿零一"), (30_004_000, "三千万四千"), (1_000_100, "一百万零一百")],
)  # fmt: skip
def test_chinese_numbers(number: int, said: str) -> None:
    assert in_chinese(str(number)) == said


def test_figure_by_figure() -> None:
    assert in_chinese("1984", digits=True) == "一九八四"


@given(
    st.sampled_from(["en", "es", "fr", "de", "it", "pt", "ru", "zh", "ja", "th", "ko"]), st.text(max_size=30)
)
def test_any_text_has_a_spoken_form_without_marks(language: str, text: str) -> None:
    words = spoken_forms.spoken(text, language)
    assert not any(unicodedata.category(c)[0] in "PS" for c in words)
    assert words == " ".join(words.split()) or language in spoken_forms.BY_CHARACTER


def test_characters_are_scored_beside_words() -> None:
    errors = word_errors(["你好世界"], ["你好世"], normaliser_name="spoken_zh", draws=10)
    assert errors.wer == errors.cer.value == 0.25
    latin = word_errors(["one three"], ["one tree"], draws=10)
    assert latin.wer == 0.5 and latin.cer.value == pytest.approx(1 / 8)
    assert latin.plain()["cer_micro"]["value"] == pytest.approx(1 / 8)


def test_an_unknown_language_or_a_missing_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="No normaliser"):
        normaliser("spoken_spanish")
    spoken_forms._num2words.cache_clear()
    monkeypatch.setitem(sys.modules, "num2words", None)
    with pytest.raises(MissingExtra, match=r"num2words.*sodakit\[eval\]"):
        normaliser("spoken_es")("25")
    spoken_forms._num2words.cache_clear()
    assert normaliser("spoken_es")("Hola.") == "hola"
