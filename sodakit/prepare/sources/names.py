"""What the names of utterances say about where they come from (arXiv 2602.16687, and the data sets' own pages)."""

import re

EMILIA = re.compile(r"(.+)_W\d+")
"""EN_B00000_S00040_W000004: batch, speaker in recording, utterance."""

YODAS = re.compile(r"(.+)-\d{5}-(\d{8})-(\d{8})")
"""YuzI6q3sxl0-00001-00000158-00000182: video, utterance, start and end in hundredths of a second. The video's own
name may hold hyphens, so the fields count from the right."""

SPLIT = re.compile(r"(train(?:ing)?|test(?:ing)?|validation|valid|val|dev(?:elopment)?)(?![a-z])")
"""train-00000-of-00010.parquet on the hub; LibriSpeech's train-clean-100, MLS's dev."""

MEANS = {"training": "train", "testing": "test"} | dict.fromkeys(
    ("valid", "val", "dev", "development"), "validation"
)
"""What corpora call the three splits."""


def recording_of(name: str) -> tuple[str, float | None]:
    """The recording that an utterance belongs to by its name, and where it begins there in seconds.

    Emilia: everything before the utterance number; the time is not told. YODAS: the video. Any other name is its
    own recording.
    """
    yodas = YODAS.fullmatch(name)
    if yodas:
        return yodas[1], int(yodas[2]) / 100
    emilia = EMILIA.fullmatch(name)
    return (emilia[1] if emilia else name), None


def split_of(name: str) -> dict[str, str]:
    """The split that the name of a file or folder begins with, as a field for `--split-field split`; {} if with none."""
    found = named_split(name)
    return {} if found is None else {"split": found}


def named_split(value: object) -> str | None:
    """The split that a name stands for: `dev`, `en/test`, `train-clean-100`; None if for none.

    Of a path the last part that names one counts.
    """
    for part in reversed(str(value).casefold().replace("\\", "/").split("/")):
        found = SPLIT.match(part.strip())
        if found:
            return MEANS.get(found[1], found[1])
    return None
