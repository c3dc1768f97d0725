"""What the names of utterances say about where they come from (arXiv 2602.16687, and the data sets' own pages)."""

import re

EMILIA = re.compile(r"(.+)_W\d+")
"""EN_B00000_S00040_W000004: batch, speaker in recording, utterance."""

YODAS = re.compile(r"(.+)-\d{5}-(\d{8})-(\d{8})")
"""YuzI6q3sxl0-00001-00000158-00000182: video, utterance, start and end in hundredths of a second. The video's own
name may hold hyphens, so the fields count from the right."""

SPLIT = re.compile(r"(train|validation|valid|dev|test)\b.*")
"""train-00000-of-00010.parquet on the hub; LibriSpeech's train-clean-100, MLS's dev."""


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
    found = SPLIT.fullmatch(name)
    return (
        {}
        if found is None
        else {"split": {"valid": "validation", "dev": "validation"}.get(found[1], found[1])}
    )
