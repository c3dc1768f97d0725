"""How loud, and when silent: one answer for all who ask."""

import numpy as np
import pytest

from sodakit.audio.levels import decibels, frame_powers, is_silent, moving_peak, peak, rms, silence_share
from sodakit.audio.wave import Wave

RATE_HZ = 8000


def tone(amplitude: float, duration_s: float = 1.0) -> np.ndarray:
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    return (amplitude * np.sin(2 * np.pi * 200 * time_s)).astype(np.float32)


def test_levels_of_a_tone_are_those_of_its_formula():
    assert rms(tone(0.5)) == pytest.approx(0.5 / np.sqrt(2), rel=1e-4)
    assert decibels(rms(tone(1.0))) == pytest.approx(-3.01, abs=0.01)
    assert peak(tone(0.5)) == pytest.approx(0.5, rel=1e-3)
    assert moving_peak(tone(0.5) + 0.3) == pytest.approx(0.5, rel=1e-3)
    np.testing.assert_allclose(frame_powers(Wave(tone(0.5), RATE_HZ)), 0.125, rtol=1e-4)


def test_no_samples_have_no_level():
    nothing = np.zeros(0, np.float32)
    assert rms(nothing) == peak(nothing) == moving_peak(nothing) == 0 and decibels(0.0) == -100
    assert is_silent(Wave(nothing, RATE_HZ)) and silence_share(Wave(nothing, RATE_HZ)) == 1.0


def test_a_sound_is_silent_from_its_loudest_frame_on():
    quiet_S = tone(10 ** (-48 / 20))  # its power is 3 dB lower
    assert is_silent(Wave(quiet_S, RATE_HZ)) and not is_silent(Wave(quiet_S * 1.5, RATE_HZ))
    quiet_S[4000:4160] = tone(0.5, 0.02)
    assert not is_silent(Wave(quiet_S, RATE_HZ))


def test_pauses_are_counted_under_the_loudest_frame():
    wave = Wave(
        np.concatenate([tone(0.5), tone(0.5 * 10 ** (-41 / 20)), tone(0.5 * 10 ** (-39 / 20))]), RATE_HZ
    )
    assert silence_share(wave) == pytest.approx(1 / 3)
