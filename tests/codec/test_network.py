import numpy as np
import pytest
import torch

from sodakit.audio.wave import Wave
from sodakit.codec.network import MiniConfig, MiniNetwork
from sodakit.codec.quality import mel_distance_db
from sodakit.codec.quantizer import SplitQuantizer
from sodakit.codec.source import pulses
from sodakit.errors import ConfigError
from tests.codec.test_quality import speechlike


@pytest.mark.parametrize("pitch_hz", [60.0, 130.0, 480.0])
def test_pulses_have_unit_power_every_harmonic_and_nothing_between(pitch_hz: float) -> None:
    cycles = torch.full((24_000,), pitch_hz / 24_000, dtype=torch.float64)
    train = pulses((cycles.cumsum(0)) % 1, cycles)
    assert float(train.square().mean()) == pytest.approx(1, abs=0.06)
    spectrum = torch.fft.rfft(train).abs()
    harmonics = torch.arange(1, int(12_000 / pitch_hz) - 1) * round(pitch_hz)
    between = harmonics + round(pitch_hz / 2)
    assert spectrum[harmonics].min() > 0.9 * spectrum[harmonics].max()
    assert spectrum[between].max() < 1e-3 * spectrum[harmonics].min()


def test_an_untrained_network_is_already_a_cepstral_vocoder() -> None:
    """The outline's way in and out must be each other's inverse, in frequency, level and time."""
    torch.manual_seed(0)
    network = MiniNetwork(MiniConfig(phones=("_",)))
    wave = speechlike(pitch_hz=120.0)
    frames = len(wave.samples_S) // 1920
    padded = np.zeros(frames * 1920 + 960, np.float32)
    padded[: len(wave.samples_S)] = wave.samples_S[: len(padded)]
    with torch.inference_mode():
        acoustic = network.quantizer.acoustic_in(network.latents(torch.from_numpy(padded)[None]))
        pitch = torch.full((1, frames * 8), np.log2(1.2), dtype=torch.float64)
        decoded = network.decode_latents(torch.zeros(1, frames, 304), acoustic, pitch)[0].numpy()
    assert len(decoded) == frames * 1920
    near, silent = (
        mel_distance_db(Wave(wave.samples_S[: len(x)], 24_000), Wave(x, 24_000))
        for x in (decoded, 0 * decoded)
    )
    assert near < 6 and near < 0.4 * silent


def test_rows_without_acoustic_codes_get_the_semantic_ones_alone() -> None:
    """What training calls depth 0 must be what decoding one codebook does."""
    torch.manual_seed(0)
    quantizer = SplitQuantizer(12, 10, 6, 3, 16)
    latent = torch.randn(4, 5, 12)
    depth_B = torch.tensor([0, 1, 2, 2])
    quantized = quantizer(latent, depth_B, torch.zeros(4, dtype=torch.bool), 0.1)
    for row, depth in enumerate(depth_B.tolist()):
        semantic, acoustic = quantizer.entries(
            [codes_BF[row : row + 1] for codes_BF in quantized.codes[: depth + 1]]
        )
        expected = quantizer.merge(semantic, acoustic, torch.tensor([depth > 0]))
        torch.testing.assert_close(quantized.latent_BFD[row], expected[0])


def test_searching_chains_together_leaves_less_error_than_level_by_level() -> None:
    torch.manual_seed(0)
    quantizer = SplitQuantizer(12, 10, 6, 4, 32)
    latent = torch.randn(8, 50, 12)
    wanted = quantizer.acoustic_in(latent)
    none = torch.zeros(8, dtype=torch.bool)
    greedy = quantizer(latent, torch.full((8,), 3), none, 0.1).codes
    torch.testing.assert_close(quantizer.encode(latent), greedy)
    quantizer.search_paths = 8
    searched = quantizer.encode(latent)
    errors = [float((quantizer.entries(codes)[1] - wanted).square().mean()) for codes in (greedy, searched)]
    assert errors[1] < 0.9 * errors[0]
    torch.testing.assert_close(searched[0], greedy[0])


def test_the_semantic_branch_gets_a_tenth_of_the_decoders_gradient() -> None:
    torch.manual_seed(0)
    quantizer = SplitQuantizer(12, 10, 6, 3, 16)
    latent = torch.randn(2, 5, 12)
    gradients = []
    for share in (1.0, 0.1):
        quantizer.zero_grad()
        quantized = quantizer(latent, torch.tensor([2, 2]), torch.zeros(2, dtype=torch.bool), share)
        quantized.latent_BFD.sum().backward()
        gradients.append(quantizer.semantic_in.weight.grad.clone())
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], 0.1 * gradients[0])


def test_an_outline_that_does_not_fit_names_the_setting() -> None:
    with pytest.raises(ConfigError, match="3 times do not divide 8"):
        MiniConfig(outline_grid=(3, 25))
    with pytest.raises(ConfigError, match="more than code_width=64"):
        MiniConfig(outline_terms=(4, 20))


def test_a_melody_needs_its_codebook() -> None:
    with pytest.raises(ConfigError, match="codebook 1"):
        MiniConfig(num_codebooks=1)
    with pytest.raises(ConfigError, match="multiple of 8"):
        MiniNetwork(MiniConfig(codebook_size=12, phones=("_",)))
