import numpy as np
import pytest
import torch

from sodakit.audio.files import read_wave, resample
from sodakit.audio.wave import Wave
from sodakit.codec.melody import Melody
from sodakit.codec.pitch import track_pitch
from sodakit.files import read_json_lines
from tests.codec.test_quality import speechlike
from tests.recordings import recordings


@pytest.fixture(scope="module")
def melody() -> Melody:
    return Melody(1024, 8, 240, 960, 24_000)


def with_lookahead(samples_S: np.ndarray) -> torch.Tensor:
    frames = -(-len(samples_S) // 1920)
    return torch.from_numpy(np.pad(samples_S, (0, frames * 1920 + 960 - len(samples_S))))[None]


@pytest.mark.parametrize("pitch_hz", [72.0, 121.0, 213.0, 390.0])
def test_a_steady_pitch_is_said_within_a_quarter_of_a_semitone(melody: Melody, pitch_hz: float) -> None:
    codes_BF, _ = melody.encode(with_lookahead(speechlike(pitch_hz=pitch_hz).samples_S))
    off_T = 12 * (melody.log_pitch(codes_BF)[0, 8:-16] - np.log2(pitch_hz / 100))
    assert off_T.abs().mean() < 0.25 and off_T.abs().max() < 1


def test_a_gliding_pitch_is_said_by_slopes(melody: Melody) -> None:
    rate_hz, octaves_a_s = 24_000, 1.25  # a tenth of an octave a frame
    log_pitch_S = np.arange(2 * rate_hz) / rate_hz * octaves_a_s
    phase_S = 2 * np.pi * np.cumsum(100 * 2**log_pitch_S) / rate_hz
    samples_S = (0.1 * sum(np.sin(h * phase_S) / h for h in range(1, 20))).astype(np.float32)
    codes_BF, _ = melody.encode(with_lookahead(samples_S))
    contours_FT = melody.log_pitch(codes_BF)[0].unflatten(0, (-1, 8))[1:-2]
    assert float((contours_FT[:, -1] - contours_FT[:, 0]).mean()) == pytest.approx(0.1 * 7 / 8, abs=0.03)


def test_noise_and_silence_rest_on_one_code(melody: Melody) -> None:
    """A code that means nothing must not wander: a model would have to learn its noise."""
    for level in (0.0, 0.1):
        noise_S = level * np.random.default_rng(0).standard_normal(48_000)
        codes_BF, _ = melody.encode(with_lookahead(noise_S.astype(np.float32)))
        assert len(torch.unique(codes_BF)) <= 2


def test_pieces_give_the_codes_of_the_whole(melody: Melody) -> None:
    samples_S = np.concatenate([speechlike(0, 100.0).samples_S, speechlike(1, 230.0).samples_S])
    wave_BS = with_lookahead(samples_S)
    whole_BF, _ = melody.encode(wave_BS)
    last, pieces = None, []
    for start in range(0, whole_BF.shape[1], 5):
        end = min(start + 5, whole_BF.shape[1])
        piece_BF, last = melody.encode(wave_BS[:, start * 1920 : end * 1920 + 960], last)
        pieces.append(piece_BF)
    assert torch.equal(torch.cat(pieces, 1), whole_BF)


def test_a_real_voice_is_followed_within_half_a_semitone(melody: Melody) -> None:
    folder = recordings("ljspeech")
    row = read_json_lines(folder / "manifest.jsonl")[1]
    wave = resample(read_wave(folder / row["audio"]), 24_000)
    wave_BS = with_lookahead(wave.samples_S)
    said_T = melody.log_pitch(melody.encode(wave_BS)[0])[0].numpy()
    tracked_T = track_pitch(Wave(wave_BS[0].numpy(), 24_000), 0.01, 0.04)[1:][: len(said_T)]
    voiced_T = tracked_T > 0
    off_T = 12 * np.abs(said_T[: len(tracked_T)][voiced_T] - np.log2(tracked_T[voiced_T] / 100))
    assert voiced_T.sum() > 50 and np.median(off_T) < 0.5
