"""What the names of utterances say about where they come from (arXiv 2602.16687, and the data sets' own pages)."""

import re
from dataclasses import dataclass
from pathlib import PurePath

EMILIA = re.compile(r"(?P<recording>.+)_W\d+")
"""EN_B00000_S00040_W000004: batch, speaker in recording, utterance."""

YODAS = re.compile(r"(?P<recording>.+)-\d{5}-(?P<start>\d{8})-(\d{8})")
"""YuzI6q3sxl0-00001-00000158-00000182: video, utterance, start and end in hundredths of a second. The video's own
name may hold hyphens, so the fields count from the right."""

LJSPEECH = re.compile(r"(?P<recording>LJ\d{3})-\d{4}")
"""LJ001-0001: chapter, utterance; one English speaker."""

LIBRITTS = re.compile(r"(?P<recording>(?P<speaker>\d+)_\d+)_\d{6}_\d{6}")
"""19_198_000000_000000: speaker, chapter, paragraph, sentence; English."""

VCTK = re.compile(r"(?P<speaker>p\d{3}|s5)_\d{3}(_mic\d)?")
"""p225_001_mic1: speaker, sentence, microphone; English."""

SPLIT = re.compile(
    r"(train(?:ing)?(?!_dev(?![a-z]))|test(?:ing|set)?|tst|validation|valid|val|dev(?:elopment|set)?|train_dev"
    r"|eval(?:uation)?|held[-_]?out|holdout)(?![a-z])"
)
"""train-00000-of-00010.parquet on the hub; LibriSpeech's train-clean-100, MLS's dev, Kaldi's train_dev and eval92."""
LAST_SPLIT = re.compile(
    r"[^a-z](train|test|tst|validation|valid|val|dev|eval|evaluation|heldout|holdout)(?:\.[a-z]+)*$"
)
"""metadata_val.csv, de_train.jsonl.gz."""


@dataclass(frozen=True)
class Origin:
    """What a name tells; empty where it tells nothing."""

    recording: str = ""
    at_s: float | None = None
    """Where it begins there."""
    speaker: str = ""
    language: str = ""


def origin_of(name: str) -> Origin:
    """Recording, speaker and language of an utterance by its name without ending."""
    recording, at_s = recording_of(name)
    if recording != name:
        return Origin(recording, at_s)
    for kind, speaker in ((LJSPEECH, "LJ"), (LIBRITTS, ""), (VCTK, "")):
        found = kind.fullmatch(name)
        if found:
            told = found.groupdict()
            return Origin(told.get("recording", ""), None, told.get("speaker", speaker), "en")
    return Origin()


MEANS = {"training": "train", "testing": "test"} | dict.fromkeys(
    ("valid", "val", "dev", "development", "devset", "train_dev"), "validation"
)
MEANS |= dict.fromkeys(
    ("tst", "testset", "eval", "evaluation", "heldout", "held-out", "held_out", "holdout"), "test"
)
"""What corpora call the three splits."""


def recording_of(name: str) -> tuple[str, float | None]:
    """The recording that an utterance belongs to by its name, and where it begins there in seconds.

    Emilia: everything before the utterance number; the time is not told. YODAS: the video. Any other name is its
    own recording.
    """
    yodas = YODAS.fullmatch(name)
    if yodas:
        return yodas["recording"], int(yodas["start"]) / 100
    emilia = EMILIA.fullmatch(name)
    return (emilia["recording"] if emilia else name), None


def split_of(name: str) -> dict[str, str]:
    """The split that the name of a file or folder begins with, as a field for `--split-field split`; {} if with none."""
    found = named_split(name)
    return {} if found is None else {"split": found}


def split_at(path: PurePath, listed: bool = True) -> dict[str, str]:
    """The split that a place in a corpus says, as a field: a list's own name, first or last in it, or a folder's.

    Args:
        path: from the corpus on.
        listed: whether the file is a list or an archive of utterances; the name of a single sound says no split.
    """
    last = LAST_SPLIT.search(path.name.casefold()) if listed else None
    found = (named_split(path.name) or (last and named_split(last[1])) if listed else None) or named_split(
        path.parent.as_posix()
    )
    return {"split": found} if found else {}


def named_split(value: object) -> str | None:
    """The split that a name stands for: `dev`, `en/test`, `train-clean-100`; None if for none.

    Of a path the last part that names one counts.
    """
    for part in reversed(str(value).casefold().replace("\\", "/").split("/")):
        found = SPLIT.match(part.strip())
        if found:
            return MEANS.get(found[1], found[1])
    return None
