"""Codec architectures trained from scratch for equal CPU time on the same data, losses and quantiser.

    OMP_NUM_THREADS=1 python benchmarks/codec_architectures.py --data $DATA --cpu-minutes 4

Contenders, about 5M values each, 12.5 Hz, 8 codebooks of 1,024, codes that look 40 ms past their frame:

    mini            as shipped: mel-ConvNeXt encoder, melody codebook, source-filter decoder
    mimi            the two halves of transformers' MimiModel, shrunk; the quantiser is ours
    inverse STFT    mini's encoder; its decoder ends in magnitudes and phases, as Vocos (arXiv:2306.00814). Magnitudes
                    start as mini's envelopes do, from the outline; the melody's codebook goes to the chain
    adversary       mini; for the second half of its time against discriminators of complex STFTs (arXiv:2210.13438)

Trained by `codec/fit`'s own step, batches and schedule, on synthetic voices and `librispeech_clean100`, phones of
codebook 0 included. The clock is the CPU time of this process, so a busy machine changes nothing but caches. Measured
on voices and folders that nothing is trained on.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.codec import spectra
from sodakit.codec.blocks import Memory
from sodakit.codec.fit.config import FitConfig
from sodakit.codec.fit.sounds import Batch, Batches, recordings, synthetic
from sodakit.codec.fit.trainer import Fit
from sodakit.codec.network import MiniConfig, MiniNetwork
from sodakit.codec.quality import mel_distance_db, pesq, stoi
from sodakit.codec.quantizer import SplitQuantizer
from sodakit.eval.copies import SoundSet, folder_set, voices_set

TRAINED_ON, HELD_OUT = "librispeech_clean100", ("librispeech_test_other", "vctk")
SEARCH_PATHS = 8
"""Chains kept while encoding, as the shipped mini keeps them."""
MIMI: dict[str, Any] = {
    "num_filters": 16, "hidden_size": 192, "num_hidden_layers": 3, "intermediate_size": 768, "upsample_groups": 192,
    "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 48, "sampling_rate": 24_000, "frame_rate": 12.5,
}  # fmt: skip
DISCRIMINATED = ((1024, 256), (512, 128), (256, 64))
"""Windows and hops of the discriminators, in samples."""
ADVERSARIAL_WEIGHT, MATCHING_WEIGHT = 0.1, 0.2
ADVERSARY_FROM = 0.5
"""Progress at which the adversary comes in: before, everything is easily told from the original."""

COSTS = "| | values | steps | sound seen, s | CPU s per s of it | encode, × real time | decode, × real time |"


@dataclass(frozen=True, kw_only=True)
class PlainConfig(MiniConfig):
    """mini's shape with all codebooks but the semantic one in the chain."""

    @property
    def chain_levels(self) -> int:
        return self.num_codebooks - 1


class PlainNetwork(MiniNetwork):
    """mini without a melody: the decoder is told an even pitch."""

    def listen(self, wave_BS: Tensor, memory: Memory | None = None) -> Tensor:
        frames = (wave_BS.shape[1] - self.config.lookahead_samples) // self.config.frame_samples
        return self.melody.resting(len(wave_BS), frames)

    def encode(self, wave_BS: Tensor, memory: Memory | None = None) -> Tensor:
        return torch.stack(self.quantizer.encode(self.latents(wave_BS, memory)), dim=1)

    def decode(self, codes_BKF: Tensor, memory: Memory | None = None) -> Tensor:
        semantic, acoustic = self.quantizer.entries(codes_BKF.unbind(1))
        latent = self.quantizer.merge(semantic, acoustic, torch.ones(len(codes_BKF), dtype=torch.bool))
        resting_BF = self.melody.resting(len(codes_BKF), codes_BKF.shape[2])
        return self.decode_latents(latent, acoustic, self.melody.log_pitch(resting_BF), memory)


class InverseStft(nn.Module):
    """Takes the place of mini's `SourceFilter`: features at each hop to magnitudes and phases, to sound."""

    def __init__(self, width: int, hop_samples: int, spread: Tensor) -> None:
        super().__init__()
        self.hop_samples, bins = hop_samples, 2 * hop_samples + 1
        self.norm = nn.LayerNorm(width)
        self.bins = nn.Linear(width, 2 * bins)
        nn.init.normal_(self.bins.weight, std=0.02)
        # As mini's envelopes, with the magnitude that a window of noise of unit power has.
        nn.init.constant_(self.bins.bias[:bins], -7.3 + 0.5 * float(np.log(4 * hop_samples)))
        nn.init.uniform_(self.bins.bias[bins:], -np.pi, np.pi)
        self.register_buffer("spread", spread, persistent=False)  # from bands of the outline to bins

    spread: Tensor

    def forward(
        self, x_BTD: Tensor, outline_BTD: Tensor, pitch_hz_BT: Tensor, memory: Memory | None = None
    ) -> Tensor:
        """The sound wave_BS; step t is centred where mini's is, two hops after its beginning."""
        hop, length = self.hop_samples, x_BTD.shape[1]
        magnitude, phase = self.bins(self.norm(x_BTD)).float().chunk(2, dim=-1)
        magnitude = (magnitude + outline_BTD.float() @ self.spread).clamp(max=8.0).exp()
        pieces = torch.fft.irfft(torch.polar(magnitude, phase), n=4 * hop)
        pieces = pieces * spectra.hann(4 * hop) / 1.5  # squared windows a quarter apart sum to 1.5
        overlapping = functional.pad(pieces, (0, 0, 3, 0)).unflatten(2, (4, hop))
        return torch.stack([overlapping[:, 3 - j : 3 - j + length, j] for j in range(4)]).sum(0).flatten(1)


class InverseStftNetwork(PlainNetwork):
    """mini's encoder and decoder blocks before an inverse STFT."""

    def __init__(self, config: MiniConfig) -> None:
        super().__init__(config)
        self.voice = InverseStft(config.decoder_widths[-1], config.hop_samples, self.voice.spread)  # type: ignore[assignment]


class MimiNetwork(PlainNetwork):
    """Mimi's encoder and decoder, in the layout of transformers 5.23 and later, and mini's quantiser and phone head."""

    def __init__(self, config: MiniConfig) -> None:
        from transformers import MimiConfig, MimiModel

        super().__init__(config)
        for part in ("encoder", "encoder_norm", "outline", "decoder_in", "decoder", "melody_in", "voice"):
            delattr(self, part)
        model = MimiModel(MimiConfig(**MIMI))
        del model.quantizer
        self.mimi = model.train()
        with torch.no_grad():  # it would begin 45 dB too loud, and spend a hundred steps on that
            self.mimi.decoder.decoder_seanet.layers[-1].conv.weight.mul_(0.01)
            self.mimi.decoder.decoder_seanet.layers[-1].conv.bias.mul_(0.01)
        width = model.config.hidden_size
        levels = 1 + config.chain_levels
        self.quantizer = SplitQuantizer(width, width, config.code_width, levels, config.codebook_size)

    def latents(self, wave_BS: Tensor, memory: Memory | None = None) -> Tensor:
        # As much later as mini's codes look ahead: the first 40 ms of a sound go unseen.
        x = wave_BS[:, None, self.config.lookahead_samples :]
        return self.mimi.encoder(x).latents.transpose(1, 2)

    def decode_latents(
        self, latent_BFD: Tensor, acoustic_BFD: Tensor, log_pitch_BT: Tensor, memory: Memory | None = None
    ) -> Tensor:
        return self.mimi.decoder(latent_BFD.transpose(1, 2)).audio_values[:, 0]


class Discriminator(nn.Module):
    """Scores of how real each region of a complex STFT is, and the features that led there."""

    def __init__(self, window_samples: int, hop_samples: int, width: int = 12) -> None:
        super().__init__()
        self.window_samples, self.hop_samples = window_samples, hop_samples
        widths = (2, width, width, width, width)
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.weight_norm(
                nn.Conv2d(before, after, (3, 7), stride=(1, 1 + (i > 0)), padding=(1, 3))
            )
            for i, (before, after) in enumerate(pairwise(widths))
        )
        self.score = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, wave_BS: Tensor) -> list[Tensor]:
        frames = wave_BS.unfold(-1, self.window_samples, self.hop_samples)
        spectrum = torch.view_as_real(torch.fft.rfft(frames * spectra.hann(self.window_samples)))
        # Square roots of magnitudes, phases kept: loud partials would drown the rest.
        x = spectrum.permute(0, 3, 1, 2) / (spectrum.square().sum(-1)[:, None] + 1e-6) ** 0.25
        features = []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
            features.append(x)
        return [*features, self.score(x)]


class AdversarialFit(Fit):
    """mini's training, with hinge losses and feature matching; discriminators learn in the same step."""

    def __init__(self, config: FitConfig, batches: Batches) -> None:
        super().__init__(config, batches)
        self.discriminators = nn.ModuleList(Discriminator(*sizes) for sizes in DISCRIMINATED)
        self.judges = torch.optim.AdamW(self.discriminators.parameters(), lr=5e-4, betas=(0.5, 0.9))
        self.decoded_BS = torch.zeros(())
        self.network.voice.register_forward_hook(self._hear)

    def _hear(self, module: nn.Module, inputs: object, decoded_BS: Tensor) -> None:
        self.decoded_BS = decoded_BS

    def _losses(self, batch: Batch, random: np.random.Generator) -> dict[str, Tensor]:
        losses = super()._losses(batch, random)
        if self.progress < ADVERSARY_FROM:
            return losses
        # A random part of each sound is judged: the discriminators would else take most of the time.
        part = self.decoded_BS.shape[1] // 4
        start = int(random.integers(3 * part))
        ours, theirs = (wave_BS[:, start : start + part] for wave_BS in (self.decoded_BS, batch.wave_BS))
        with torch.autocast("cpu", torch.bfloat16):
            self._teach(ours.detach(), theirs)
            for judge in self.discriminators.requires_grad_(False):
                *features, score = judge(ours)
                with torch.no_grad():
                    *real, _ = judge(theirs)
                pairs = zip(features, real, strict=True)
                matching = torch.stack([(x - y).abs().mean() / y.abs().mean() for x, y in pairs]).mean()
                losses["total"] = losses["total"] + MATCHING_WEIGHT * matching.float()
                losses["total"] = losses["total"] - ADVERSARIAL_WEIGHT * score.float().mean()
        return losses

    def _teach(self, ours_BS: Tensor, theirs_BS: Tensor) -> None:
        total = torch.zeros(())
        for judge in self.discriminators.requires_grad_(True):
            fake, real = judge(ours_BS)[-1].float(), judge(theirs_BS)[-1].float()
            total = total + functional.relu(1 + fake).mean() + functional.relu(1 - real).mean()
        self.judges.zero_grad(set_to_none=True)
        total.backward()
        self.judges.step()


@dataclass
class Result:
    """What one contender cost and reached."""

    name: str
    values: int
    steps: int
    seen_s: float
    """Sound it was trained on."""
    train_cpu_s: float
    encode_cpu_s: float = 0.0
    decode_cpu_s: float = 0.0
    sound_s: float = 0.0
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    """Mean STOI, mel distance in dB and PESQ by set."""

    def cost(self) -> str:
        """A row of what it took."""
        speeds = (f"{self.sound_s / spent_s:.0f}" for spent_s in (self.encode_cpu_s, self.decode_cpu_s))
        count, each = f"{self.values / 1e6:.2f}M", f"{self.train_cpu_s / self.seen_s:.3f}"
        return row(self.name, count, f"{self.steps:,}", f"{self.seen_s:,.0f}", each, *speeds)

    def quality(self) -> str:
        """A row of how near its copies are."""
        cells = (f"{s:.3f} / {m:.2f} / {p:.2f}" for s, m, p in self.scores.values())
        return row(self.name, *cells)


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def fits(config: FitConfig, batches: Batches) -> Iterator[tuple[str, Callable[[], Fit]]]:
    """The contenders by name."""
    shape = config.network
    plain = replace(config, network=PlainConfig(phones=shape.phones))
    yield "mini", lambda: Fit(config, batches)
    yield "mimi", lambda: Fit(plain, batches, build=MimiNetwork)
    yield "inverse STFT", lambda: Fit(plain, batches, build=InverseStftNetwork)
    yield "adversary", lambda: AdversarialFit(config, batches)


def train(name: str, fit: Fit) -> Result:
    """Train until the CPU time is spent."""
    while fit.progress < 1:
        began_s = time.process_time()
        losses = fit.train_step()
        fit.elapsed_s += time.process_time() - began_s
        if fit.step % 25 == 0:
            shown = [f"{key} {losses[key]:.3f}" for key in ("mel", "stft", "envelope", "phone_accuracy")]
            print(f"{name}: step {fit.step}  {fit.elapsed_s:.0f} s ", *shown, flush=True)
    shape, frames = fit.config.network, fit.step * fit.config.batch_rows * fit.config.segment_frames
    seen_s = frames * shape.frame_samples / shape.sample_rate_hz
    return Result(name, fit.network.num_parameters(), fit.step, seen_s, fit.elapsed_s)


@torch.inference_mode()
def measure(result: Result, network: MiniNetwork, sounds: SoundSet) -> None:
    """Add the set's scores and the time that its sounds took."""
    config, scores = network.config, []
    for recording in sounds.recordings:
        original = resample(recording.wave, config.sample_rate_hz)
        length = len(original.samples_S)
        after = -length % config.frame_samples + config.lookahead_samples
        wave_BS = functional.pad(torch.from_numpy(original.samples_S)[None], (0, after))
        times_s = [time.process_time()]
        codes_BKF = network.encode(wave_BS)
        times_s.append(time.process_time())
        decoded_S = network.decode(codes_BKF)[0].numpy()
        times_s.append(time.process_time())
        result.encode_cpu_s += times_s[1] - times_s[0]
        result.decode_cpu_s += times_s[2] - times_s[1]
        result.sound_s += original.duration_s
        copy = Wave(decoded_S[:length], config.sample_rate_hz)
        scores.append((stoi(original, copy), mel_distance_db(original, copy), pesq(original, copy) or np.nan))
    result.scores[sounds.name] = np.nanmean(np.array(scores), axis=0)


def main() -> None:
    """Train every contender and print the two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the folders of recordings")
    parser.add_argument("--cpu-minutes", type=float, default=5.0, help="training time of each, in CPU time")
    parser.add_argument("--voices-hours", type=float, default=0.5)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--only", nargs="*", default=[], help="names of contenders; all without")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = FitConfig(
        out=Path(), minutes=options.cpu_minutes, voices_hours=options.voices_hours, warmup_steps=50, threads=1,
        data=(options.data / TRAINED_ON,),
    )  # fmt: skip
    spoken, phones = synthetic(config)
    config = replace(config, network=replace(config.network, phones=phones))
    batches = Batches(config, spoken, recordings(config))
    sets = [voices_set(options.clips, None)]
    sets += [folder_set(options.data / name, options.clips, None) for name in HELD_OUT]
    results = []
    for name, build in fits(config, batches):
        if options.only and name not in options.only:
            continue
        fit = build()
        result = train(name, fit)
        network = fit.network.eval()
        network.quantizer.search_paths = SEARCH_PATHS
        network.encode(torch.zeros(1, config.network.frame_samples * 10 + config.network.lookahead_samples))
        for sounds in sets:
            measure(result, network, sounds)
        results.append(result)
        print(result.cost(), result.quality(), sep="\n", flush=True)
    print("", COSTS, row(*["---"] * 7), *(result.cost() for result in results), "", sep="\n")
    print("STOI / mel distance, dB / PESQ", "", row("", *(sounds.name for sounds in sets)), sep="\n")
    print(row(*["---"] * (1 + len(sets))), *(result.quality() for result in results), sep="\n")


if __name__ == "__main__":
    main()
