"""Many channels to one: no sound is lost because channels cancel."""

import numpy as np
import pytest

from sodakit.audio.downmix import downmix
from tests.audio.joined import speechlike

RATE_HZ = 16_000


def mixed(*channels_S, block=5000):
    whole_SC = np.stack(channels_S, 1)
    blocks = [whole_SC[i : i + block] for i in range(0, len(whole_SC), block)]
    return np.concatenate(list(downmix(blocks, RATE_HZ)))


def level(samples_S):
    return float(np.sqrt(np.square(samples_S, dtype=np.float64).mean()))


SOUND_S = speechlike(4.0)
OTHER_S = speechlike(4.0, seed=1)[::-1].copy()


@pytest.mark.parametrize("share", [1.0, 0.95, 0.9, 0.7, 0.5])
def test_inverted_channels_do_not_cancel(share):
    np.testing.assert_array_equal(mixed(SOUND_S, -share * SOUND_S), SOUND_S)
    np.testing.assert_array_equal(abs(mixed(-share * SOUND_S, SOUND_S)), abs(SOUND_S))


def test_inverted_pairs_among_many_channels_do_not_cancel():
    four = mixed(SOUND_S, -SOUND_S, SOUND_S, -SOUND_S)
    assert level(four) == pytest.approx(level(SOUND_S))


def test_an_offset_or_silence_first_does_not_hide_that_channels_cancel():
    assert level(mixed(SOUND_S + 0.3, 0.3 - SOUND_S) - 0.3) == pytest.approx(level(SOUND_S), rel=1e-3)
    late_S = np.concatenate([np.zeros(RATE_HZ * 2, np.float32), SOUND_S])
    assert level(mixed(late_S, -late_S)) == pytest.approx(level(late_S))


def test_other_channels_are_averaged():
    for channels in (
        (SOUND_S, SOUND_S),
        (SOUND_S, OTHER_S),
        (SOUND_S, 0 * SOUND_S),
        (SOUND_S, OTHER_S, 0 * SOUND_S),
    ):
        np.testing.assert_allclose(mixed(*channels), np.mean(channels, axis=0), atol=1e-6)
    # A delay of a few milliseconds between two microphones is not inversion.
    np.testing.assert_allclose(
        mixed(SOUND_S[80:], SOUND_S[:-80]), (SOUND_S[80:] + SOUND_S[:-80]) / 2, atol=1e-6
    )


def test_the_result_does_not_depend_on_the_blocks():
    channels = (SOUND_S, -0.8 * SOUND_S + 0.1 * OTHER_S)
    for block in (1, 777, 100_000):
        np.testing.assert_array_equal(mixed(*channels, block=block), mixed(*channels))


def test_one_channel_stays_as_it_is():
    np.testing.assert_array_equal(mixed(SOUND_S), SOUND_S)
