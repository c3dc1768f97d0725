"""Copies for small sets: the same words, other codes, nothing of the test in training."""

from pathlib import Path

import numpy as np
import pytest

from sodakit.audio.wave import Wave
from sodakit.codec.toy import ToyCodec
from sodakit.prepare.recording import Item
from sodakit.prepare.variants import variant, with_variants


@pytest.fixture
def item():
    rng = np.random.default_rng(0)
    wave = Wave(rng.uniform(-0.5, 0.5, 8000).astype(np.float32), 8000)
    return Item(id="a", wave=wave, text="seven", speaker="jackson", fields={"split": "train"})


def test_a_variant_says_the_same_by_the_same_speaker_in_the_same_split(item):
    made = variant(item, 1)
    assert (made.text, made.speaker, made.fields["split"]) == ("seven", "jackson", "train")
    assert made.fields["variant_of"] == "a" and made.id != item.id and made.recording != item.recording


def test_a_variant_is_the_same_each_time_and_another_for_another_number_or_seed(item):
    made = variant(item, 1).wave
    again, other, reseeded = variant(item, 1).wave, variant(item, 2).wave, variant(item, 1, seed=1).wave
    assert made.sample_rate_hz == again.sample_rate_hz
    np.testing.assert_array_equal(made.samples_S, again.samples_S)
    for different in (other, reseeded):
        assert (
            made.samples_S.shape != different.samples_S.shape or (made.samples_S != different.samples_S).any()
        )


def test_a_variant_is_as_long_as_the_original_within_its_limits(item):
    for number in range(1, 20):
        made = variant(item, number).wave
        assert 1 / 1.1 <= made.duration_s <= 1 / 0.92 + 0.09
        assert np.abs(made.samples_S).max() <= 1


def test_a_variant_has_other_codes(item):
    codec = ToyCodec()
    codes = [codec.encode(i.read(codec.spec.sample_rate_hz).samples_S) for i in (item, variant(item, 1))]
    assert codes[0].shape != codes[1].shape or (codes[0] != codes[1]).any()


def test_originals_stay_and_texts_and_broken_items_get_no_copies(item):
    text, broken = Item(id="t", text="only text"), Item(id="b", audio=Path("no such file.wav"))
    made = list(with_variants([item, text, broken], 2))
    assert [i.id for i in made] == ["a", "a~1", "a~2", "t", "b"]
