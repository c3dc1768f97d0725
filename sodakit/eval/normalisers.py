"""How a text is reduced to the words that are compared. Each protocol has its own, and word error rates depend on it.

sodakit       lower case, one form of each letter and figure (NFKC); punctuation of every script, quotes, hyphens, brackets deleted
soda          the published scripts': deletes . , ! ? ; : quotes - and brackets; "don't" is "dont", "well-known" "wellknown"
seed_tts_en   seed-tts-eval: deletes ASCII and Chinese marks but the straight apostrophe; double blanks are replaced once
seed_tts_zh   the same, then one character is one word
whisper_en    OpenAI's: numbers, contractions and fillers written one way; British spellings stay (their table is not ours)
spoken_es, …  any language by its code: numbers and dates as words, characters for zh, ja and th (`spoken_forms`)
none          words as they stand between blanks
"""

import re
import string
import unicodedata
from collections.abc import Callable
from functools import cache, partial

from sodakit.errors import ConfigError, nearest
from sodakit.eval.spoken_forms import plain_figure, spoken

_QUOTES = "\"'`´‘’‚‛“”„‟«»‹›"
_OURS = re.compile("[" + re.escape(".,!?;:" + _QUOTES + "-‐‑‒–—―()[]{}<>…¿¡") + "]")
_SODA = re.compile("[" + re.escape(".,!?;:\"'-()[]{}‘’“”") + "]")
_UNSEEN = "\u00ad\u0640\u200b\u200d\u200e\u200f\u2060\ufeff"
"""Soft hyphen, Arabic stretching, zero-width space and joiners, marks of direction, byte-order mark."""
_NON_JOINER = re.compile("(?<![\u0600-\u06ff])\u200c|\u200c(?![\u0600-\u06ff])")
"""Between Arabic letters it tells words apart, and stays; elsewhere it shapes a letter."""
_BREAKS = re.compile("[—―…]")
"""Marks that stand between words, often without a blank."""
_SPACES = re.compile(r"\s+")

# The marks of `zhon.hanzi.punctuation`, which seed-tts-eval deletes: full-width ASCII, CJK, dashes, curly quotes.
_HANZI = (
    "＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､\u3000、〃〈〉《》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿"
    "–—‘’‛“”„‟…‧﹏﹑﹔·！？｡。"
)
_SEED_TTS = re.compile("[" + re.escape(_HANZI + string.punctuation.replace("'", "")) + "]")


def normalise(text: str) -> str:
    """The words of `text` as they are compared: lower case, without `.,!?;:`, quotes, dashes, brackets, and the
    punctuation of other scripts.

    Marks are removed, not replaced by spaces: "don't" is "dont", "well-known" is "wellknown", on both sides; but a long
    dash or an ellipsis is a space. Two ways to write é, ﬁ, Ａ, ３ or ß are one. Other marks of ASCII (% & / and so on) are
    read aloud, and stay.
    """
    bare = _OURS.sub("", _BREAKS.sub(" ", text))
    return _SPACES.sub(" ", bare if bare.isascii() else _of_words(bare)).strip().lower()


def _of_words(text: str) -> str:
    """In one form of each letter and figure, without the punctuation outside ASCII and what nobody sees."""
    text = _OURS.sub("", unicodedata.normalize("NFKC", _NON_JOINER.sub("", text)))
    kept = (c for c in text if c.isascii() or not (unicodedata.category(c)[0] == "P" or c in _UNSEEN))
    # The dot of a capital İ is no letter of its own.
    return "".join(plain_figure(c) for c in kept).casefold().replace("i\u0307", "i")


def _soda(text: str) -> str:
    return _SPACES.sub(" ", _SODA.sub("", text)).strip().lower()


def _seed_tts_en(text: str) -> str:
    return _SEED_TTS.sub("", text).replace("  ", " ").lower()


def _seed_tts_zh(text: str) -> str:
    return " ".join(_SEED_TTS.sub("", text).replace("  ", " "))


def _whisper_en(text: str) -> str:
    return _whisper()(text)


@cache
def _whisper() -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})


def _none(text: str) -> str:
    return " ".join(text.split())


NORMALISERS: dict[str, Callable[[str], str]] = {
    "sodakit": normalise,
    "soda": _soda,
    "seed_tts_en": _seed_tts_en,
    "seed_tts_zh": _seed_tts_zh,
    "whisper_en": _whisper_en,
    "none": _none,
}
"""By name, with `spoken_` and the code of a language beside them; a result names the one it used."""


def normaliser(name: str) -> Callable[[str], str]:
    """The normaliser of that name.

    Raises:
        ConfigError: there is none.
    """
    language = name.removeprefix("spoken_")
    if language != name and re.fullmatch("[a-z]{2,3}", language):
        return partial(spoken, language=language)
    if name not in NORMALISERS:
        raise ConfigError(f"No normaliser {name!r}.{nearest(name, NORMALISERS, 'Normalisers')}")
    return NORMALISERS[name]


def normaliser_for(language: str | None) -> str:
    """The name of the normaliser of a language; the general one where none is named."""
    return f"spoken_{language.split('-')[0].lower()}" if language else "sodakit"
