"""What one utterance is, and how it lies in an Arrow table.

The store keeps what was said and how it sounds, once. Which codebooks, in which order, with or without text:
that is chosen when it is read (`data/views.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from sodakit.tokens.words import TimedWord


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One stretch of speech by one speaker, or one text document (`codes_KF` of zero frames)."""

    id: str
    """Unique in the store."""
    recording: str
    """What it was cut from: utterances of one recording form one document and never cross a split."""
    start_s: float = 0.0
    """Where it begins in the recording."""
    end_s: float = 0.0
    """Where it ends in the recording."""
    codes_KF: np.ndarray = field(repr=False)
    """uint16 codes, K codebooks by F frames; (K, 0) for text alone."""
    text: str | None = None
    """What is said, as supplied; None where nobody wrote it down."""
    text_ids_T: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32), repr=False)
    """int32 ids of `text` without markers."""
    speaker: str = ""
    """Speaker, unique in the source; empty if unknown."""
    language: str = ""
    """ISO 639 code; empty if unknown."""
    source: str = ""
    """Which corpus."""
    licence: str = ""
    """SPDX id or the licence's name; empty if unknown."""
    words: tuple[TimedWord, ...] = field(default=(), repr=False)
    """When its words are said; empty where nobody knows."""
    words_source: str = ""
    """Who told the times of the words: a voice's engine, a kind of file, an aligner."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """What was measured of its sound, by column (`prepare/quality.py`); empty where nothing was."""


# Codes lie frame by frame (c0 c1 … cK-1 of frame 0, then frame 1), so the flattened view needs no transpose.
ARROW_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("recording", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("codes", pa.large_list(pa.uint16()), nullable=False),
        pa.field("text", pa.string()),
        pa.field("text_ids", pa.large_list(pa.int32()), nullable=False),
        pa.field("speaker", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
    ]
)

WORD_TYPE = pa.struct(
    [
        pa.field("text_at", pa.int32(), nullable=False),
        pa.field("id_at", pa.int32(), nullable=False),
        pa.field("start_s", pa.float32(), nullable=False),
        pa.field("end_s", pa.float32(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
    ]
)
"""A `TimedWord`; NaN stands for what is not known, so that each field of a shard is one flat array."""

WORD_FIELDS = (
    pa.field("words", pa.large_list(pa.field("item", WORD_TYPE, nullable=False)), nullable=False),
    pa.field("words_source", pa.string(), nullable=False),
)
"""Columns after those above, in shards where the words of some utterance have times."""

QUALITY_TYPE = pa.float32()
"""Of the columns after these, where quality was measured: one for each number, empty for what has none."""

SPLITS = ("train", "validation", "test")
"""Folders of a store. A recording is in exactly one."""
