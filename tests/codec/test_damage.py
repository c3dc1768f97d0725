"""What a sound goes through, and what the codec learns from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sodakit.codec.fit.config import FitConfig
from sodakit.codec.fit.damage import TELEPHONE_HZ, band, coarse, damaged, noisy
from sodakit.codec.fit.sounds import Batches
from sodakit.codec.fit.trainer import Fit
from tests.codec.conftest import TINY
from tests.codec.test_fit import hum

RATE_HZ = 24_000
NOISE_S = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)


def level_db(wave_S: np.ndarray, low_hz: float, high_hz: float) -> float:
    hz = np.fft.rfftfreq(len(wave_S), 1 / RATE_HZ)
    power = np.abs(np.fft.rfft(wave_S)) ** 2
    return 10 * np.log10(power[(hz >= low_hz) & (hz < high_hz)].mean() + 1e-20)


@pytest.mark.parametrize(("low_hz", "high_hz"), [(0.0, 4000.0), TELEPHONE_HZ])
def test_a_band_keeps_what_lies_in_it_and_nothing_else(low_hz: float, high_hz: float) -> None:
    cut_S = band(NOISE_S, RATE_HZ, low_hz, high_hz)
    inside = (1.2 * low_hz, 0.85 * high_hz)
    assert level_db(cut_S, *inside) == pytest.approx(level_db(NOISE_S, *inside), abs=0.1)
    assert level_db(cut_S, 1.3 * high_hz, 12_000) < level_db(NOISE_S, 0, 12_000) - 40
    if low_hz:
        assert level_db(cut_S, 10, 0.7 * low_hz) < level_db(NOISE_S, 0, 12_000) - 40


@pytest.mark.parametrize(("wanted_db", "off_db"), [(4.0, 3.5), (9.0, 1.0), (14.0, 0.5)])
def test_coarse_spectra_err_by_as_much_as_is_asked(wanted_db: float, off_db: float) -> None:
    """Steps larger than most values leave nothing of them, and a nothing errs less than a step."""
    error_S = coarse(NOISE_S, wanted_db) - NOISE_S
    found_db = 10 * np.log10(np.mean(NOISE_S**2) / np.mean(error_S**2))
    assert found_db == pytest.approx(wanted_db, abs=off_db)
    assert np.abs(coarse(NOISE_S, 80.0) - NOISE_S).max() < 1e-3, "it adds up to the whole, without delay"


def test_noise_is_as_far_below_as_is_asked() -> None:
    error_S = noisy(NOISE_S, 20.0, np.random.default_rng(1)) - NOISE_S
    assert 10 * np.log10(np.mean(NOISE_S**2) / np.mean(error_S**2)) == pytest.approx(20, abs=0.3)


def test_damage_keeps_the_length_and_is_the_same_for_the_same_draw() -> None:
    for seed in range(20):
        one, other = (damaged(NOISE_S[:5000], RATE_HZ, np.random.default_rng(seed)) for _ in range(2))
        assert one.shape == (5000,) and one.dtype == np.float32 and np.isfinite(one).all()
        assert np.array_equal(one, other) and not np.array_equal(one, NOISE_S[:5000])
    assert np.isfinite(damaged(np.zeros(5000, np.float32), RATE_HZ, np.random.default_rng(0))).all()


def test_batches_keep_the_whole_beside_the_damaged(tmp_path: Path) -> None:
    config = FitConfig(out=tmp_path, network=TINY, batch_rows=32, segment_frames=8, damage_fraction=0.5)
    batch = Batches(config, [hum(100.0, 1)], []).draw(np.random.default_rng(0))
    assert 8 <= int(batch.damaged_B.sum()) <= 24
    same_B = (batch.wave_BS == batch.whole_BS).all(1)
    assert same_B.tolist() == (~batch.damaged_B).tolist()


def test_codebook_0_learns_to_say_the_same_of_damaged_sounds(tmp_path: Path) -> None:
    shares = []
    for weight in (0.0, 1.0):
        config = FitConfig(
            out=tmp_path, steps=400, network=replace(TINY, phones=()), batch_rows=8, segment_frames=8, warmup_steps=5,
            damage_fraction=0.5, steady_weight=weight,
        )  # fmt: skip
        fit = Fit(config, Batches(config, [hum(100.0, 1), hum(240.0, 2)], []))
        rows = [fit.train_step() for _ in range(24)]
        shares.append(np.mean([row["steady_share"] for row in rows[12:] if "steady_share" in row]))
    assert shares[1] > shares[0] + 0.3


def test_each_folder_has_an_equal_share_whatever_it_holds(tmp_path: Path) -> None:
    config = FitConfig(out=tmp_path, network=TINY, batch_rows=64, segment_frames=8, real_fraction=1.0)
    quiet, loud = hum(100.0, 1), hum(240.0, 2)
    marked = replace(loud, phones_T=np.full_like(loud.phones_T, 2))
    plain = replace(quiet, phones_T=np.zeros_like(quiet.phones_T))
    batch = Batches(config, [quiet], [[plain] * 50, [marked]]).draw(np.random.default_rng(0))
    assert 20 <= int((batch.phones_BT[:, 0] == 2).sum()) <= 44
