"""Copies of recordings that a listener would call the same, for sets too small to learn from as they are.

A codec cuts sound into frames, so a recording that begins a few milliseconds later has other codes, and so has one that
is spoken a little faster. Only training recordings may be copied: the copies carry their original's split.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.errors import AudioError
from sodakit.files import digest
from sodakit.prepare.recording import Item

LATEST_START_S = 0.08
"""One frame of the usual codecs: every place of the sound against the frames occurs."""
SPEEDS = (0.92, 1.09)
"""Slowest and fastest, pitch included: within what one speaker does."""
GAINS_DB = (-4.0, 4.0)
"""Softest and loudest."""


def with_variants(items: Sequence[Item], copies: int, seed: int = 0) -> Iterator[Item]:
    """Each item, then `copies` variants of it, which name it in `fields["variant_of"]`; texts are left alone.

    A recording that cannot be read has none: it is quarantined with its reason when it is encoded.
    """
    for item in items:
        yield item
        if not item.is_text and item.problem is None:
            with suppress(AudioError):
                yield from (variant(item, number, seed) for number in range(1, copies + 1))


def variant(item: Item, number: int, seed: int = 0) -> Item:
    """The item begun later, at another speed and loudness, with an id of its own; the same for the same seed.

    Raises:
        AudioError: the file cannot be decoded.
    """
    rng = np.random.default_rng(int(digest(str(seed), item.id, str(number)), 16) % 2**63)
    wave = item.read()
    gain = np.float32(10 ** (rng.uniform(*GAINS_DB) / 20))
    # Another sample rate on the same samples is another speed.
    rate_hz = round(wave.sample_rate_hz * rng.uniform(*SPEEDS))
    silence_S = np.zeros(round(rng.uniform(0, LATEST_START_S) * rate_hz), np.float32)
    start_s, slower, silence_s = item.start_s or 0.0, wave.sample_rate_hz / rate_hz, len(silence_S) / rate_hz
    words = tuple(
        replace(
            word,
            start_s=silence_s + (word.start_s - start_s) * slower,
            end_s=silence_s + (word.end_s - start_s) * slower,
        )
        for word in item.words
    )
    samples_S = np.clip(np.concatenate([silence_S, wave.samples_S * gain]), -1, 1)
    return replace(
        item,
        id=f"{item.id}~{number}",
        recording=f"{item.recording}~{number}",
        audio=None,
        start_s=None,
        end_s=None,
        wave=Wave(samples_S, rate_hz),
        words=words,
        fields={**item.fields, "variant_of": item.id},
    )
