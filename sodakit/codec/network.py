"""The mini codec's network: sound to a latent per frame, a split quantiser, and back to sound.

    wave_BS → autocorrelation, 100 Hz →      12.5 Hz → codes_BKF → pitch, 100 Hz →                   → wave_BS
            → log-mel, 100 Hz → 50 Hz → 12.5 Hz →              → 12.5 Hz → 50 Hz → 100 Hz → envelopes →

With `acoustic_strides` the coarse levels of the acoustic chain are slower than its latents: the frames that its codes
come in are as long as the slowest one's.

Causal but for one STFT window: a frame's codes look 40 ms past its end, and the decoder releases its sound 20 ms after
the middle of that last window. The two cancel, so what comes out is aligned with what went in.
"""

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Annotated

import torch
from torch import Tensor, nn

from sodakit.bounds import Bounded, Bounds
from sodakit.codec import spectra
from sodakit.codec.blocks import ConvNextBlock, Downsample, Memory, Upsample
from sodakit.codec.melody import Melody
from sodakit.codec.quantizer import SplitQuantizer
from sodakit.codec.source import SourceFilter
from sodakit.config import later
from sodakit.errors import ConfigError

Size = Annotated[int, Bounds(least=1, most=1 << 16)]
"""A width, window or codebook. None is larger: what a damaged config asks for must not fill the memory."""
Blocks = Annotated[int, Bounds(least=0, most=1 << 16)]
"""Layers of a stage, which may have none."""


@dataclass(frozen=True, kw_only=True)
class MiniConfig(Bounded):
    """Shape of the mini codec. The defaults are the shipped one: 12.5 Hz, 8 x 1024, 1.0 kbit/s."""

    sample_rate_hz: Annotated[int, Bounds(least=1, most=400_000)] = 24_000
    """Rate of the sound."""
    hop_samples: Size = 240
    """Samples in a hop, the fastest clock of the network: an STFT window, a pitch, two envelopes."""
    window_samples: Size = 960
    """Samples in an STFT window of the encoder."""
    num_mels: Size = 100
    """Mel bands the encoder sees."""
    factors: tuple[Size, ...] = (2, 4)
    """By how much each stage slows the clock, from hops to frames; the decoder takes them backwards."""
    encoder_widths: tuple[Size, ...] = (192, 256, 304)
    """Width of each encoder stage, fastest clock first; one more than `factors`."""
    encoder_blocks: tuple[Blocks, ...] = (2, 1, 1)
    """ConvNeXt blocks in each encoder stage."""
    decoder_widths: tuple[Size, ...] = (304, 256, 256)
    """Width of each decoder stage, slowest clock first."""
    decoder_blocks: tuple[Blocks, ...] = (1, 1, 3)
    """ConvNeXt blocks in each decoder stage."""
    outline_grid: tuple[Size, Size] = (4, 25)
    """Times and bands that a frame's log-mel is averaged into: its outline, which the acoustic codes carry."""
    outline_terms: tuple[Size, Size] = (4, 14)
    """Cosine terms over time and bands of the outline, each one of the `code_width` numbers quantised."""
    num_bands: Size = 100
    """Points of the decoder's two envelopes, evenly spaced in mel."""
    kernel: Size = 7
    """Steps a block's convolution sees."""
    expansion: Size = 3
    """Widening inside a block."""
    num_codebooks: Size = 8
    """K: the semantic codebook, the melody and the acoustic chain."""
    codebook_size: Size = 1024
    """Entries in each codebook."""
    code_width: Size = 64
    """Width of an entry."""
    search_paths: Size = 1
    """Chains of acoustic codes kept while encoding: more give a better copy, and codes a model predicts less well."""
    phones: tuple[str, ...] = ()
    """Phones that codebook 0 was taught, in the order of the phone head's outputs. Empty: no phone head."""
    acoustic_strides: tuple[Size, ...] = later(())
    """Latents that a code of each level of the acoustic chain stands for, coarsest first: (2, 2, 1, 1) has two levels at
    half the rate of the others. Empty: 1 each. Codebook 0 and the melody have a code for each latent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = len(self.factors) + 1
        for name in ("encoder_widths", "encoder_blocks", "decoder_widths", "decoder_blocks"):
            if len(getattr(self, name)) != stages:
                raise ConfigError(
                    f"{name}={getattr(self, name)} needs {stages} numbers, one more than factors."
                )
        for name, parts, whole in (
            ("times", self.outline_grid[0], self.hops_per_frame),
            ("bands", self.outline_grid[1], self.num_mels),
        ):
            if whole % parts:
                raise ConfigError(f"outline_grid={self.outline_grid}: {parts} {name} do not divide {whole}.")
        if self.outline_terms[0] * self.outline_terms[1] > self.code_width:
            raise ConfigError(
                f"outline_terms={self.outline_terms} are more than code_width={self.code_width}."
            )
        if self.num_codebooks < 2:
            raise ConfigError(
                f"num_codebooks={self.num_codebooks}; the melody is codebook 1. Use at least 2."
            )
        strides = self.acoustic_strides
        if strides and (len(strides) != self.chain_levels or any(max(strides) % s for s in strides)):
            raise ConfigError(
                f"acoustic_strides={strides}; needed: {self.chain_levels} numbers, one for each codebook after the melody, "
                "each of which divides the largest."
            )
        if self.latents_per_frame > 1 and self.search_paths > 1:
            raise ConfigError(
                f"search_paths={self.search_paths} looks for the codes of each latent alone, so all must have one rate. Use "
                "search_paths=1, or leave acoustic_strides out."
            )
        if self.window_samples < self.hop_samples:
            raise ConfigError(
                f"window_samples={self.window_samples} is shorter than hop_samples={self.hop_samples}: "
                "some samples would go unseen."
            )

    @property
    def hops_per_frame(self) -> int:
        """STFT hops in a latent."""
        product = 1
        for factor in self.factors:
            product *= factor
        return product

    @property
    def frame_samples(self) -> int:
        """Samples per latent, which is a codec frame where all codebooks have one rate."""
        return self.hop_samples * self.hops_per_frame

    @property
    def latents_per_frame(self) -> int:
        """Latents in a codec frame."""
        return max(self.acoustic_strides, default=1)

    @property
    def codes_per_frame(self) -> tuple[int, ...]:
        """Codes of each codebook in a codec frame."""
        strides = (1, 1, *self.acoustic_strides) if self.acoustic_strides else (1,) * self.num_codebooks
        return tuple(self.latents_per_frame // stride for stride in strides)

    @property
    def chain_levels(self) -> int:
        """Codebooks in the acoustic chain."""
        return self.num_codebooks - 2

    @property
    def lookahead_samples(self) -> int:
        """Samples past the end of a frame that its codes depend on."""
        return self.window_samples


class MiniNetwork(nn.Module):
    """Encoder, quantiser, decoder, and the phone head of codebook 0."""

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = nn.ModuleList(_encoder_layers(config))
        self.encoder_norm = nn.LayerNorm(config.encoder_widths[-1])
        outline_size = config.outline_grid[0] * config.outline_grid[1]
        self.quantizer = SplitQuantizer(
            config.encoder_widths[-1] + outline_size,
            config.encoder_widths[-1],
            config.code_width,
            1 + config.chain_levels,
            config.codebook_size,
            config.search_paths,
            config.acoustic_strides,
        )
        self.outline = nn.Linear(config.code_width, config.hops_per_frame * config.num_bands, bias=False)
        start_as_cepstrum(self.quantizer.acoustic_in, self.outline, config)
        self.decoder_in = nn.Linear(config.encoder_widths[-1], config.decoder_widths[0])
        self.decoder = nn.ModuleList(_decoder_layers(config))
        self.melody = Melody(
            config.codebook_size,
            config.hops_per_frame,
            config.hop_samples,
            config.window_samples,
            config.sample_rate_hz,
        )
        # Envelopes follow pitch a little: where harmonics are far apart, and as voices are.
        self.melody_in = nn.Linear(config.hops_per_frame, config.decoder_widths[0], bias=False)
        nn.init.zeros_(self.melody_in.weight)
        self.voice = SourceFilter(
            config.decoder_widths[-1], config.hop_samples, config.sample_rate_hz, config.num_bands
        )
        # One phone for each hop of the frame, read from the semantic entry alone.
        self.phone_head = nn.Linear(config.code_width, config.hops_per_frame * len(config.phones))

    def latents(self, wave_BS: Tensor, memory: Memory | None = None) -> Tensor:
        """What is quantised, (B, F, width + outline), for `S = F * frame_samples + lookahead_samples`.

        The encoder's output beside the outline of the frame's log-mel. The outline needs no learning: with it, the
        codec is a cepstral vocoder from the first step, and the network learns what that leaves out.
        """
        # The first hop is skipped: the window of hop t starts a hop later, to see what the decoder releases last.
        magnitude = spectra.magnitudes(
            wave_BS[:, self.config.hop_samples :], self.config.window_samples, self.config.hop_samples
        )
        x = spectra.log_mel(magnitude, self.config.sample_rate_hz, self.config.num_mels)
        x = x / 2 + 2  # the floor of -9.2 to about -2.6, full scale to about 2.5
        outline = self._outline(x)
        for layer in self.encoder:
            x = layer(x, memory) if not isinstance(layer, nn.Linear) else layer(x)
        return torch.cat([self.encoder_norm(x), outline.to(x.dtype)], dim=-1)

    def _outline(self, mel_BTD: Tensor) -> Tensor:
        times, bands = self.config.outline_grid
        hops, mels = self.config.hops_per_frame // times, self.config.num_mels // bands
        return mel_BTD.unflatten(2, (bands, mels)).unflatten(1, (-1, times, hops)).mean((3, 5)).flatten(2)

    def encode(self, wave_BS: Tensor, memory: Memory | None = None) -> Tensor:
        """The codes_BKF (int64) of whole frames plus the lookahead."""
        semantic_BF, *chain = self.quantizer.encode(self.latents(wave_BS, memory))
        in_time = semantic_BF, self.listen(wave_BS, memory), *chain
        # Every codebook's codes of a frame become rows, one after the other.
        rows = [
            codes_BN.unflatten(1, (-1, count)).transpose(1, 2)
            for codes_BN, count in zip(in_time, self.config.codes_per_frame, strict=True)
        ]
        return torch.cat(rows, dim=1)

    def listen(self, wave_BS: Tensor, memory: Memory | None = None) -> Tensor:
        """The melody's codes_BF."""
        codes_BF, last_B = self.melody.encode(
            wave_BS, memory.get(self.melody) if memory is not None else None
        )
        if memory is not None:
            memory[self.melody] = last_B
        return codes_BF

    def decode_latents(
        self, latent_BFD: Tensor, acoustic_BFD: Tensor, log_pitch_BT: Tensor, memory: Memory | None = None
    ) -> Tensor:
        """The wave_BS of latents, acoustic entries and log2 of the pitch over 100 Hz at each hop (float64)."""
        x = self.decoder_in(latent_BFD)
        x = x + self.melody_in(log_pitch_BT.unflatten(1, (-1, self.config.hops_per_frame)).to(x.dtype))
        for layer in self.decoder:
            x = layer(x, memory)
        outline = self.outline(acoustic_BFD).unflatten(2, (self.config.hops_per_frame, -1)).flatten(1, 2)
        return self.voice(x, outline, 100 * 2**log_pitch_BT, memory)

    def decode(self, codes_BKF: Tensor, memory: Memory | None = None) -> Tensor:
        """The wave_BS of codes, `S = F * frame_samples`. Fewer than K codebooks (the first ones) give coarser sound."""
        counts = self.config.codes_per_frame
        given = list(accumulate(counts)).index(codes_BKF.shape[1]) + 1
        rows = codes_BKF.split(counts[:given], dim=1)
        semantic_BF, *others = [part_BKF.transpose(1, 2).flatten(1) for part_BKF in rows]
        semantic, acoustic = self.quantizer.entries([semantic_BF, *others[1:]])
        deep_B = torch.full(codes_BKF.shape[:1], given > 2, device=codes_BKF.device)
        latent = self.quantizer.merge(semantic, acoustic, deep_B)
        melody_BF = others[0] if others else self.melody.resting(*semantic_BF.shape)
        # In float64: phase adds up pitch for minutes, and pieces must give what the whole gives.
        log_pitch_BT = self.melody.log_pitch(melody_BF)
        return self.decode_latents(latent, acoustic, log_pitch_BT, memory)

    def phone_logits(self, semantic_BFD: Tensor) -> Tensor:
        """Scores (B, F * hops_per_frame, phones) of the phone at each hop, from semantic entries."""
        logits = self.phone_head(semantic_BFD)
        return logits.unflatten(-1, (self.config.hops_per_frame, -1)).flatten(1, 2)

    def num_parameters(self) -> int:
        """Weights that are shipped, codebooks included."""
        return sum(tensor.numel() for tensor in self.state_dict().values())


def _blocks(width: int, count: int, config: MiniConfig) -> list[nn.Module]:
    return [ConvNextBlock(width, config.kernel, config.expansion) for _ in range(count)]


def _encoder_layers(config: MiniConfig) -> list[nn.Module]:
    widths = config.encoder_widths
    layers: list[nn.Module] = [nn.Linear(config.num_mels, widths[0])]
    layers += _blocks(widths[0], config.encoder_blocks[0], config)
    for stage, (before, after) in enumerate(pairwise(widths)):
        layers.append(Downsample(before, after, config.factors[stage]))
        layers += _blocks(after, config.encoder_blocks[stage + 1], config)
    return layers


def _decoder_layers(config: MiniConfig) -> list[nn.Module]:
    widths = config.decoder_widths
    layers = _blocks(widths[0], config.decoder_blocks[0], config)
    for stage, (before, after) in enumerate(pairwise(widths)):
        layers.append(Upsample(before, after, config.factors[-1 - stage]))
        layers += _blocks(after, config.decoder_blocks[stage + 1], config)
    return layers


@torch.no_grad()
def start_as_cepstrum(acoustic_in: nn.Linear, outline: nn.Linear, config: MiniConfig) -> None:
    """Set the way from the outline to the entries to a cosine transform, and the way to the envelopes to its inverse.

    The rest of `acoustic_in` starts small: what the encoder adds should earn its place in the codes.
    """
    (times, bands), (time_terms, band_terms) = config.outline_grid, config.outline_terms
    terms = time_terms * band_terms
    forward = torch.einsum("it,jb->ijtb", _cosines(time_terms, times), _cosines(band_terms, bands))
    acoustic_in.weight.mul_(0.1)
    acoustic_in.weight[:terms, -times * bands :] = forward.reshape(terms, -1)
    # A hop's envelope is centred one hop before the encoder's window of that hop, in units of the grid.
    at_time = (torch.arange(config.hops_per_frame) - 0.5) * times / config.hops_per_frame
    at_band = (torch.linspace(0, config.num_mels, config.num_bands) + 0.5) * bands / config.num_mels
    times_back = _cosines(time_terms, times, at_time)
    bands_back = _cosines(band_terms, bands, at_band.clamp(0, bands))
    backward = 2 * torch.einsum("it,jb->tbij", times_back, bands_back)  # 2: `latents` halves log-mel
    outline.weight.mul_(0.1)
    outline.weight[:, :terms] = backward.reshape(-1, terms)


def _cosines(terms: int, points: int, at: Tensor | None = None) -> Tensor:
    """The first orthonormal cosine terms over `points`, (terms, points), or at other positions within [0, points]."""
    at = torch.arange(points) + 0.5 if at is None else at
    waves = torch.cos(math.pi / points * torch.arange(terms)[:, None] * at[None])
    return waves * torch.where(torch.arange(terms) == 0, 1.0, math.sqrt(2.0))[:, None] / math.sqrt(points)
