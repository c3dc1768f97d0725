"""Texts as they are spoken, language by language: numbers and dates as words, so that "25" and "twenty-five" are one.

    en es fr de it pt ru    numbers, ordinals, dates, percent and currencies; words without marks
    zh ja th                the same for numbers and dates; one character is one word
    any other               case and marks only, in Arabic and Hebrew without signs of vowels; numbers stay figures

Both texts of a comparison go through it. Numbers in words come from num2words; those of Chinese are built here.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from sodakit.errors import MissingExtra
from sodakit.eval.chinese_numbers import in_chinese

BY_CHARACTER = ("zh", "yue", "ja", "th", "lo", "my", "km")
"""Languages written without blanks between words."""

_SPACES = re.compile(r"\s+")
_AND = {"en": "and", "es": "y", "fr": "et", "de": "und", "it": "e", "pt": "e", "ru": "и"}
"""What & is read as."""
_VOWELS = {"ar": "[\u064b-\u065f\u0670\u06d6-\u06ed\u0640]", "he": "[\u0591-\u05bd\u05bf-\u05c7]"}
_VOWELS |= dict.fromkeys(("fa", "ur"), _VOWELS["ar"])
"""Signs of vowels and stretching that most texts of a language leave out."""
_QUOTES = re.compile("['’‘`´ʼ]")


@dataclass(frozen=True)
class _Rules:
    """How a language writes and says numbers."""

    months: tuple[str, ...]
    """In the form they have after a day."""
    date: str
    """What a date is said as, of `{day}`, `{month}` and `{year}`."""
    order: str = "dmy"
    """Of a date in figures."""
    point: str = ","
    """Before the decimals; the other of `.` and `,` parts thousands."""
    signs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """A sign and its names, as `_signs` has them."""
    ordinal: str = r"(?!)"
    """What marks a number as ordinal; the number is its first group."""
    apostrophe: str = ""
    """What stands for an apostrophe."""
    alike: tuple[tuple[str, str], ...] = ()
    """Ways to say the same number that are written one way: patterns and what replaces them."""


def _split(names: str) -> tuple[str, ...]:
    return tuple(names.split())


def _signs(*names: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What `%$€£` are called: one and several, or (Russian) one, two to four, and more. `_` is a blank."""
    return tuple(
        (sign, tuple(form.replace("_", " ") for form in own.split()))
        for sign, own in zip("%$€£", names, strict=False)
    )


_EN_MONTHS = "january february march april may june july august september october november december"
_EN_MONTH = "(" + "|".join(_EN_MONTHS.split()) + ")"
_EN_TH = (
    r"((?:twenty |thirty )?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)|tenth|eleventh|twelfth"
    r"|[a-z]+teenth|twentieth|thirtieth)"
)
_EN_NUMBER = "(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|[a-z]+teen|[a-z]+ty)"
_DE_TH = "(?:ers|zwei|drit|vier|fünf|sechs|sieb|sieben|ach|neun|elf|zwölf|[a-zü]*zehn|[a-zü]*zwanzigs|[a-zü]*dreißigs)te"
_RULES = {
    "en": _Rules(
        _split(_EN_MONTHS),
        "{month} {day} {year}",
        "mdy",
        ".",
        _signs("percent", "dollar dollars", "euro euros", "pound pounds"),
        r"(\d{1,6})(?:st|nd|rd|th)\b",
        alike=(
            (rf"\b(hundred|thousand|million) and (?={_EN_NUMBER})", r"\1 "),
            (r"\bper cent\b", "percent"),
            (rf"\b(?:the )?{_EN_TH} (?:of )?{_EN_MONTH}\b", r"\2 \1"),
            (rf"\b{_EN_MONTH} the {_EN_TH}\b", r"\1 \2"),
        ),
    ),
    "es": _Rules(
        _split("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"),
        "{day} de {month} de {year}",
        signs=_signs("por_ciento", "dólar dólares", "euro euros", "libra libras"),
        ordinal=r"(\d{1,6})\.?[ºª°]", alike=((r"\bdel (?=mil |dos mil)", "de "),),
    ),
    "fr": _Rules(
        _split("janvier février mars avril mai juin juillet août septembre octobre novembre décembre"),
        "{day} {month} {year}",
        signs=_signs("pour_cent", "dollar dollars", "euro euros", "livre livres"),
        ordinal=r"(\d{1,6})(?:er|re|ère|e|ème|eme|è)\b", apostrophe=" ",
        alike=((r"\bpourcent\b", "pour cent"), ("œ", "oe"), ("æ", "ae")),
    ),
    "de": _Rules(
        _split("januar februar märz april mai juni juli august september oktober november dezember"),
        "{day} {month} {year}",
        signs=_signs("prozent", "dollar", "euro", "pfund"),
        alike=((rf"\b({_DE_TH})[nrsm]\b", r"\1"), (r"\bein ?(hundert|tausend)", r"\1"), (r"\bzwo\b", "zwei"), ("ß", "ss")),
    ),
    "it": _Rules(
        _split("gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre"),
        "{day} {month} {year}",
        signs=_signs("percento", "dollaro dollari", "euro", "sterlina sterline"),
        ordinal=r"(\d{1,6})[ºª°]", apostrophe=" ", alike=((r"\bper cento\b", "percento"), (r"tré\b", "tre")),
    ),
    "pt": _Rules(
        _split("janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro"),
        "{day} de {month} de {year}",
        signs=_signs("por_cento", "dólar dólares", "euro euros", "libra libras"),
        ordinal=r"(\d{1,6})\.?[ºª°]",
    ),
    "ru": _Rules(
        _split("января февраля марта апреля мая июня июля августа сентября октября ноября декабря"),
        "{day} {month} {year} года",
        signs=_signs("процент процента процентов", "доллар доллара долларов", "евро", "фунт фунта фунтов"),
        ordinal=r"(\d{1,6})-(?:й|ый|ой|я|ая|е|ое|го)\b", alike=(("ё", "е"), (r"\bодна тысяча\b", "тысяча")),
    ),
    "zh": _Rules(tuple(f"{n}月" for n in range(1, 13)), "{year}年{month}{day}日", "ymd", ".", alike=(("[两兩]", "二"), ("〇", "零"))),
    "ja": _Rules(tuple(f"{n}月" for n in range(1, 13)), "{year}年{month}{day}日", "ymd", ".", _signs("パーセント")),
    "th": _Rules(
        _split("มกราคม กุมภาพันธ์ มีนาคม เมษายน พฤษภาคม มิถุนายน กรกฎาคม สิงหาคม กันยายน ตุลาคม พฤศจิกายน ธันวาคม"),
        "{day} {month} {year}", point=".", signs=_signs("เปอร์เซ็นต์"),
    ),
}  # fmt: skip


def spoken(text: str, language: str) -> str:
    """The words of `text` in that language, lower case and without marks; characters where it has no blanks."""
    rules = _RULES.get(language)
    if language in ("tr", "az"):
        text = text.replace("I", "ı").replace("İ", "i")
    # Composed before the signs of ordinals would become letters.
    text = unicodedata.normalize("NFC", text).lower().replace("i\u0307", "i")
    text = re.sub(_VOWELS.get(language, "(?!)"), "", text)
    text = "".join("%" if c == "％" else plain_figure(c) for c in text)
    text = text.replace("&", f" {_AND.get(language, '')} ")
    if rules is not None:
        text = _numbers_as_words(text, language, rules)
    text = _bare(unicodedata.normalize("NFKC", text), rules.apostrophe if rules else "")
    for pattern, instead in rules.alike if rules else ():
        text = re.sub(pattern, instead, text)
    if language in BY_CHARACTER:
        return "".join(_after_blank(c) for c in text if c != " ").strip()
    return _SPACES.sub(" ", text).strip()


def plain_figure(character: str) -> str:
    """0 to 9 for the figures of any script."""
    return str(unicodedata.digit(character)) if character.isdecimal() else character


def _after_blank(character: str) -> str:
    """With a blank before it, unless it is a sign that belongs to the letter before."""
    return character if unicodedata.category(character)[0] == "M" else f" {character}"


def _bare(text: str, apostrophe: str) -> str:
    """Without marks and signs: a blank stands for each. Vowel signs stay, they are letters."""
    text = _QUOTES.sub(apostrophe, text)
    kept = (" " if unicodedata.category(c)[0] in "PSZ" or c.isspace() else c for c in text)
    return _SPACES.sub(" ", "".join(c for c in kept if unicodedata.category(c) != "Cf")).strip()


def _numbers_as_words(text: str, language: str, rules: _Rules) -> str:
    if not re.search(r"\d", text):
        return text
    say = partial(_say, language)
    text = re.sub(r"\b(\d{4})-(\d\d)-(\d\d)\b", partial(_date, rules, "ymd"), text)
    text = re.sub(r"\b(\d{1,2})([./])(\d{1,2})\2(\d{4})\b", partial(_date, rules, rules.order), text)
    text = re.sub(r"\b(\d{1,2}):(\d\d)\b", lambda m: m[1] if m[2] == "00" else f"{m[1]} {int(m[2])}", text)
    text = _days(text, language, rules, say)
    text = re.sub(rules.ordinal, lambda m: f" {say(int(m[1]), 'ordinal')} ", text)
    if language == "zh":
        text = re.sub(r"(\d{4})(?=年)", lambda m: in_chinese(m[1], digits=True), text)
        text = re.sub(r"(\d+(?:\.\d+)?)%", r"百分之\1", text)
    for sign, names in rules.signs:
        quoted = re.escape(sign)
        text = re.sub(rf"{quoted}\s?(\d[\d.,]*\d|\d)", rf"\1{sign}", text)
        text = re.sub(rf"(\d+)\s?{quoted}", partial(_with_sign, names), text)
    between = (
        ("." if rules.point == "," else ",") + "\u00a0\u202f" + (" " if language in ("fr", "ru") else "")
    )
    grouped = (
        rf"(?<![\d{rules.point}])(\d{{1,3}}(?:[{between}]\d{{3}})+)(?:{re.escape(rules.point)}(\d+))?(?!\d)"
    )
    text = re.sub(grouped, partial(_grouped, language, say), text)
    text = re.sub(
        rf"(\d+){re.escape(rules.point)}(\d+)", lambda m: f" {_decimal(m[1], m[2], language, say)} ", text
    )
    return re.sub(r"\d+", lambda m: _padded(_whole(m[0], language, say), language), text)


def _date(rules: _Rules, order: str, found: re.Match[str]) -> str:
    parts = dict(zip(order, (cell for cell in found.groups() if cell not in (".", "/")), strict=True))
    if not 1 <= int(parts["m"]) <= 12:
        return found[0]
    month = rules.months[int(parts["m"]) - 1]
    return rules.date.format(day=int(parts["d"]), month=month, year=parts["y"])


def _days(text: str, language: str, rules: _Rules, say: Callable[..., str]) -> str:
    """The day beside the name of a month, where it is said as an ordinal."""
    months = "|".join(rules.months)
    if language == "en":
        text = re.sub(
            rf"\b({months}) (\d{{1,2}})(?:st|nd|rd|th)?(?![\d:])",
            lambda m: f"{m[1]} {say(int(m[2]), 'ordinal')}",
            text,
        )
        return re.sub(
            rf"\b(\d{{1,2}})(?:st|nd|rd|th)? (?=(?:{months})\b)",
            lambda m: f"{say(int(m[1]), 'ordinal')} ",
            text,
        )
    if language == "de":
        return re.sub(
            rf"\b(\d{{1,2}})\.? (?=(?:{months})\b)", lambda m: f"{say(int(m[1]), 'ordinal')} ", text
        )
    if language == "ru":
        text = re.sub(
            rf"\b(\d{{1,2}}) (?=(?:{months})\b)", lambda m: f"{say(int(m[1]), 'ordinal', case='g')} ", text
        )
        return re.sub(r"\b(\d{4}) (?=года\b)", lambda m: f"{say(int(m[1]), 'ordinal', case='g')} ", text)
    if language == "fr":
        return re.sub(rf"\b1 (?=(?:{months})\b)", "premier ", text)
    return text


def _grouped(language: str, say: Callable[..., str], found: re.Match[str]) -> str:
    whole, part = re.sub(r"\D", "", found[1]), found[2]
    words = _decimal(whole, part, language, say) if part else _cardinal(whole, language, say)
    return _padded(words, language)


def _with_sign(names: tuple[str, ...], found: re.Match[str]) -> str:
    return f"{found[1]} {_counted(int(found[1]), names)} "


def _counted(number: int, names: tuple[str, ...]) -> str:
    if len(names) == 3:  # Russian
        few = number % 10 in (2, 3, 4) and number % 100 not in (12, 13, 14)
        return names[0] if number % 10 == 1 and number % 100 != 11 else names[1 if few else 2]
    return names[0] if number == 1 else names[-1]


def _decimal(whole: str, part: str, language: str, say: Callable[..., str]) -> str:
    if language == "zh":
        return in_chinese(whole) + "点" + in_chinese(part, digits=True)
    return say(float(f"{whole}.{part}")) if len(whole) + len(part) < 15 else f"{whole} {part}"


def _whole(figures: str, language: str, say: Callable[..., str]) -> str:
    number = int(figures)
    is_year = len(figures) == 4 and (1100 <= number <= 1999 or (language == "en" and 2010 <= number <= 2099))
    if is_year and language in ("en", "de"):
        return say(number, "year")
    return _cardinal(figures, language, say)


def _cardinal(figures: str, language: str, say: Callable[..., str]) -> str:
    """In words; what begins with a zero, or is too long to be a count, figure by figure."""
    if (len(figures) > 1 and figures[0] == "0") or len(figures) > 15:
        return " ".join(_cardinal(figure, language, say) for figure in figures)
    return in_chinese(figures) if language == "zh" else say(int(figures))


def _padded(words: str, language: str) -> str:
    return words if language in BY_CHARACTER else f" {words} "


def _say(language: str, number: float, kind: str = "cardinal", **form: Any) -> str:
    said = _num2words()(number, lang=language, to=kind, **form).lower().replace(",", "")
    return str(said).replace("-", " ")


@cache
def _num2words() -> Callable[..., str]:
    try:
        from num2words import num2words
    except ImportError as error:
        raise MissingExtra("num2words", "eval", "Numbers of a text as they are spoken") from error
    return num2words
