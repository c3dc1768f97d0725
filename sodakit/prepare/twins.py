"""Recordings of one moment under nearly the same name: two microphones, channels, languages, a clean and a noisy copy.

They say the same words, so one of them in training would tell the other in the test.
"""

import re
from collections.abc import Sequence

from sodakit.log import say

MICROPHONES = re.compile(
    r"(mic|microphone|channel|headset|lapel|lavalier|array|beam|take)\d*|left|right|close|near|far|nearfield|farfield|"
    r"closetalk|distant|clean|noisy|denoised|enhanced|reverb|dry|wet|original|orig|copy|aug(mented)?\d*|"
    r"\d{1,2}k(hz)?|\d{4,5}hz|\d{2,3}kbps|sp[01]|wav|flac|mp3|ogg|opus|m4a"
)
"""A word of a name that says how it was recorded or kept, not what."""
_LANGUAGES = (
    "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr ga gl gu ha he hi hr hu hy id ig is it ja "
    "ka kk km kn ko ky lo lt lv mk ml mn mr ms mt my nb ne nl nn no oc pa pl ps pt ro ru rw si sk sl sn so sq sr sv sw "
    "ta te tg th tk tl tr tt ug uk ur uz vi wo xh yo yue zh zu eng deu ger fra fre spa ita por nld dut pol rus jpn zho "
    "cmn kor ara tur swe dan nor fin ces hun ukr english german french spanish italian portuguese dutch polish russian "
    "japanese chinese mandarin korean arabic turkish swedish danish norwegian finnish czech hungarian ukrainian"
)
LANGUAGES = frozenset(_LANGUAGES.split())
"""Codes and names of languages, as file names have them."""
CHANNEL_AT_END = re.compile(r"\.ch\d$")
"""As CHiME names its channels. `_ch1` may as well be a chapter."""
REGION = re.compile(
    rf"(?<![^\W_])({'|'.join(sorted(LANGUAGES))})[-_](us|gb|uk|au|in|ca|de|at|ch|fr|es|mx|pt|br|cn|tw|jp|kr)"
    r"(?![^\W_])"
)


def kept_together(recordings: Sequence[str]) -> list[str]:
    """Of each recording the name of its group: the smallest name among those that are alike, so one alone is its own."""
    groups: dict[str, set[str]] = {}
    keys = {recording: _key(recording) for recording in set(recordings)}
    for recording, key in keys.items():
        groups.setdefault(key, set()).add(recording)
    several = [sorted(group) for group in groups.values() if len(group) > 1]
    if several:
        example = " and ".join(name.rpartition("\n")[2] for name in min(several)[:2])
        say(
            f"{sum(map(len, several))} recordings are {len(several)} by their names, such as {example}: "
            "microphones or languages of one utterance stay in one split."
        )
    return [min(groups[keys[recording]]) for recording in recordings]


def _key(recording: str) -> str:
    """The name without what says how, or in which language, it was recorded; the whole where nothing else is in it."""
    source, _, name = recording.casefold().partition("\n")
    name = REGION.sub(lambda found: found[1], CHANNEL_AT_END.sub("", name.removeprefix(f"{source}/")))
    # Words at even places, what separates them at odd ones.
    words = re.split(r"([^\w]+|_+)", name)
    left = ""
    for separator, word in zip(["", *words[1::2]], words[::2], strict=True):
        if word and not MICROPHONES.fullmatch(word) and word not in LANGUAGES:
            left += (separator if left else "") + word
    return f"{source}\n{left}" if left else recording
