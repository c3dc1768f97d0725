import numpy as np
import pytest

from sodakit.audio.wave import Wave
from sodakit.codec.pitch import track_pitch
from sodakit.codec.quality import codebook_use, compare, mel_distance_db, pesq, stft_distance_db, stoi


def speechlike(seed: int = 0, pitch_hz: float = 120.0, rate_hz: int = 24_000) -> Wave:
    """Three seconds of pulses whose loudness and brightness change like syllables."""
    random = np.random.default_rng(seed)
    time_S = np.arange(3 * rate_hz) / rate_hz
    harmonics = [np.sin(2 * np.pi * pitch_hz * h * time_S) / h for h in range(1, 30)]
    envelope = np.interp(time_S, np.arange(31) / 10, random.uniform(0.02, 1, 31))
    return Wave((0.1 * envelope * sum(harmonics)).astype(np.float32), rate_hz)


def test_a_sound_is_at_no_distance_from_itself() -> None:
    distance = compare(speechlike(), speechlike())
    assert distance.mel_db == 0 and distance.pitch_semitones == 0 and distance.voicing == 1
    assert distance.stoi == pytest.approx(1, abs=1e-4)


def test_intelligibility_falls_as_noise_rises() -> None:
    clean = speechlike()
    noise_S = np.random.default_rng(1).standard_normal(len(clean.samples_S))
    noisy = [Wave(clean.samples_S + level * noise_S, 24_000) for level in (0.01, 0.05, 0.3)]
    scores = [stoi(clean, wave) for wave in noisy]
    assert scores[0] > scores[1] > scores[2] and scores[2] < 0.5


def test_a_sound_at_half_its_level_is_six_decibels_away() -> None:
    loud = Wave(0.3 * np.random.default_rng(0).standard_normal(48_000), 24_000)
    assert mel_distance_db(loud, Wave(loud.samples_S / 2, 24_000)) == pytest.approx(6.02, abs=0.01)


def test_magnitudes_at_half_their_level_are_six_decibels_away() -> None:
    loud = Wave(0.3 * np.random.default_rng(0).standard_normal(48_000), 24_000)
    assert stft_distance_db(loud, Wave(loud.samples_S / 2, 24_000)) == pytest.approx(6.02, abs=0.2)


def test_too_little_speech_for_intelligibility_is_not_a_number() -> None:
    short = speechlike().cut(0, 0.2)
    assert np.isnan(stoi(short, short))


def test_pesq_is_perfect_for_a_copy_and_falls_with_noise() -> None:
    pytest.importorskip("pesq", reason="pesq is optional")
    clean = speechlike()
    noisy = Wave(clean.samples_S + 0.05 * np.random.default_rng(1).standard_normal(72_000), 24_000)
    perfect, worse = pesq(clean, clean), pesq(clean, noisy)
    assert perfect is not None and worse is not None and perfect > 4.5 and worse < 3


@pytest.mark.parametrize("pitch_hz", [75.0, 120.0, 210.0, 390.0])
def test_pitch_is_found_within_one_percent(pitch_hz: float) -> None:
    tracked = track_pitch(speechlike(pitch_hz=pitch_hz), 0.01, 0.04)[5:-10]
    assert np.mean(np.abs(tracked / pitch_hz - 1) < 0.01) > 0.95


def test_noise_and_silence_have_no_pitch() -> None:
    noise = Wave(0.1 * np.random.default_rng(0).standard_normal(24_000), 24_000)
    assert (track_pitch(noise, 0.01, 0.04) > 0).mean() < 0.1
    assert not track_pitch(Wave(np.zeros(24_000), 24_000), 0.01, 0.04).any()


def test_a_codebook_that_is_the_phone_tells_all_of_it_and_a_random_one_little() -> None:
    random = np.random.default_rng(0)
    phones = random.integers(0, 8, 20_000)
    codes_KF = np.stack([phones * 2 + random.integers(0, 2, 20_000), random.integers(0, 16, 20_000)])
    told, untold = codebook_use(list(codes_KF), 2 * [[str(phone) for phone in phones]], 16)
    assert told.phone_purity == 1 and told.phone_information == pytest.approx(1)
    assert untold.phone_purity < 0.2 and untold.phone_information < 0.01
    assert told.entropy_bits == pytest.approx(4, abs=0.01) and told.used_fraction == 1
