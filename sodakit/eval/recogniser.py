"""A small recogniser: log-mels, convolutions, CTC over characters (Graves et al. 2006), and a search over known words."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.hardware import torch_threads

# Letters of this file: F mel frames, 10 ms apart (40 ms after the subsampling); M mel bands; V characters.
RATE_HZ = 16_000
HOP_SAMPLES = 160
WINDOW_SAMPLES = 400
NUM_MELS = 64
SUBSAMPLING = 4
SILENCE_FRAMES = 20
"""Frames of silence set before and after every sound: a short word has more letters than it has frames."""


# ---------------------------------------------------------------------------------------------------- ears


@cache
def _mel_filters() -> Tensor:
    """Triangular filters, equally spaced in mel from 40 to 7600 Hz: (bins of a 512-point transform, M)."""
    edges_hz = 700 * np.expm1(np.linspace(np.log1p(40 / 700), np.log1p(7600 / 700), NUM_MELS + 2))
    bins_hz = np.fft.rfftfreq(512, 1 / RATE_HZ)[:, None]
    low, middle, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    triangles = np.minimum((bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle))
    return torch.from_numpy(np.maximum(0, triangles).astype(np.float32))


def log_mels(wave: Wave) -> Tensor:
    """What the judge sees: float32 mel_FM in [0, 1], from 60 dB under the loudest cell up to it.

    Relative to the loudest cell, so the gain of a recording does not matter, and silence is exactly 0.
    """
    samples_S = torch.from_numpy(np.ascontiguousarray(resample(wave, RATE_HZ).samples_S))
    samples_S = functional.pad(samples_S, (0, max(0, WINDOW_SAMPLES - len(samples_S))))
    spectrum = torch.stft(
        samples_S, 512, HOP_SAMPLES, WINDOW_SAMPLES, torch.hann_window(WINDOW_SAMPLES), return_complex=True,
        pad_mode="constant",
    )  # fmt: skip
    decibels_FM = 10 * torch.log10(spectrum.abs().square().T @ _mel_filters() + 1e-12)
    mel_FM = ((decibels_FM - decibels_FM.max()) / 60 + 1).clamp(min=0)
    if float(samples_S.abs().max()) < 1e-5:  # nothing but rounding noise has no loudest cell worth the name
        mel_FM = torch.zeros_like(mel_FM)
    return functional.pad(mel_FM, (0, 0, SILENCE_FRAMES, SILENCE_FRAMES))


def all_log_mels(waves: Sequence[Wave]) -> list[Tensor]:
    # The transforms of one sound are too small to share: on a busy machine a second thread only waits.
    with torch_threads(1):
        return [log_mels(wave) for wave in waves]


def vary(mel_FM: Tensor, random: np.random.Generator) -> Tensor:
    """The same words by a slightly different mouth, microphone and room.

    Speed and vocal tract by stretching, noise as a floor, equaliser and low-pass as slopes, smearing and
    grain for what codecs do: all on the mel picture, where each costs next to nothing.
    """
    frames = round(mel_FM.shape[0] * random.uniform(0.92, 1.08))
    bands = round(NUM_MELS * random.uniform(0.92, 1.08))
    stretched = functional.interpolate(mel_FM[None, None], (frames, bands), mode="bilinear")[0, 0]
    mel_FM = functional.pad(stretched[:, :NUM_MELS], (0, max(0, NUM_MELS - bands)))
    band_M = torch.linspace(-1, 1, NUM_MELS)
    mel_FM = mel_FM + random.normal(0, 0.08) * band_M + random.normal(0, 0.05) * band_M.square()
    if random.random() < 0.4:
        cutoff = int(random.integers(40, NUM_MELS))
        mel_FM = mel_FM - torch.arange(NUM_MELS).sub(cutoff).clamp(min=0) * random.uniform(0.02, 0.2)
    if random.random() < 0.5:
        floor_M = random.uniform(-0.2, 0.45) + random.normal(0, 0.1) * band_M
        mel_FM = torch.maximum(
            mel_FM, floor_M + 0.06 * torch.from_numpy(random.standard_normal(mel_FM.shape))
        )
    if random.random() < 0.5:
        mel_FM = mel_FM + random.uniform(0, 0.06) * torch.from_numpy(random.standard_normal(mel_FM.shape))
    if random.random() < 0.3:
        mel_FM = functional.avg_pool2d(mel_FM[None, None], (3, 3), stride=1, padding=1)[0, 0]
    start, width = random.integers(0, NUM_MELS - 8), random.integers(0, 9)
    mel_FM = mel_FM.clone()
    mel_FM[:, start : start + width] = 0
    return mel_FM.clamp(0, 1).float()


# ------------------------------------------------------------------------------------------------- network


class _Block(nn.Module):
    """A residual convolution over 5 frames, `dilation` apart. Nearly all its work is wide matrices."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Conv1d(width, 2 * width, 5, padding=2 * dilation, dilation=dilation)
        self.out = nn.Linear(2 * width, width)

    def forward(self, x_BFD: Tensor, mask_BF1: Tensor) -> Tensor:
        # Masked before every convolution, so a transcript never depends on what else is in the batch.
        mixed_BFH = self.mix((self.norm(x_BFD) * mask_BF1).transpose(1, 2)).transpose(1, 2)
        return x_BFD + self.out(functional.gelu(mixed_BFH))


class Recogniser(nn.Module):
    """Mel frames to character log-probabilities, 25 a second; entry 0 is the CTC blank."""

    def __init__(
        self, num_characters: int, width: int = 192, dilations: Sequence[int] = (1, 1, 2, 2)
    ) -> None:
        super().__init__()
        self.stem = nn.Conv1d(NUM_MELS, width, 2 * SUBSAMPLING, stride=SUBSAMPLING, padding=SUBSAMPLING // 2)
        self.blocks = nn.ModuleList(_Block(width, dilation) for dilation in dilations)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_characters + 1)

    def forward(self, mel_BFM: Tensor, lengths_B: Tensor) -> Tensor:
        """float32 log-probabilities_BFV; rows are valid for `lengths_B // SUBSAMPLING` frames."""
        x_BFD = self.stem((mel_BFM - 0.4).transpose(1, 2)).transpose(1, 2)
        frames_F = torch.arange(x_BFD.shape[1])
        mask_BF1 = (frames_F < (lengths_B // SUBSAMPLING)[:, None])[..., None].to(x_BFD.dtype)
        for block in self.blocks:
            x_BFD = block(x_BFD, mask_BF1)
        return self.head(self.norm(x_BFD)).float().log_softmax(-1)


def pad_mels(mels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    lengths_B = torch.tensor([len(mel_FM) for mel_FM in mels])
    mel_BFM = torch.zeros(len(mels), -(-int(lengths_B.max()) // SUBSAMPLING) * SUBSAMPLING, NUM_MELS)
    for row_FM, mel_FM in zip(mel_BFM, mels, strict=True):
        row_FM[: len(mel_FM)] = mel_FM
    return mel_BFM, lengths_B


# -------------------------------------------------------------------------------------------------- search


class Lexicon:
    """The most likely sequence of known words: an exact Viterbi search over a tree of spellings.

    States are the tree's nodes, each sounding (its letter) or resting (the CTC blank). The root sounds the
    space between words. Instead of back-pointers, each state carries the words that led to it.
    """

    def __init__(self, words: Sequence[str], alphabet: str) -> None:
        nodes: dict[str, int] = {"": 0}
        for word in words:
            for end in range(1, len(word) + 1):
                nodes.setdefault(word[:end], len(nodes))
        letter = {character: i for i, character in enumerate(alphabet, start=1)}
        self.letters = np.array([letter[prefix[-1:] or " "] for prefix in nodes])
        self.parents = np.array([nodes[prefix[:-1]] for prefix in nodes])
        self.ends = np.array([nodes[word] for word in words])
        self.words = list(words)
        # CTC: a letter after the same letter needs a blank between. The root follows ends, not its parent.
        self._doubled = self.letters == self.letters[self.parents]

    def search(self, log_probs_FV: np.ndarray) -> str:
        """The words, separated by spaces; '' if silence is likeliest."""
        size = len(self.letters)
        sounding, resting = np.full(size, -np.inf), np.full(size, -np.inf)
        resting[0] = 0.0
        sounding_words, resting_words = np.zeros(size, np.int64), np.zeros(size, np.int64)
        histories: list[tuple[int, int]] = [(0, -1)]  # (what came before, word)
        for frame_V in log_probs_FV:
            entering, entering_words = resting[self.parents], resting_words[self.parents]
            direct = np.where(self._doubled, -np.inf, sounding[self.parents])
            entering_words = np.where(direct > entering, sounding_words[self.parents], entering_words)
            entering = np.maximum(direct, entering)
            last, before = self._finish(sounding, resting, sounding_words, resting_words)
            entering[0], entering_words[0] = last[0], len(histories)
            histories.append((before, last[1]))
            new_resting_words = np.where(sounding > resting, sounding_words, resting_words)
            new_resting = np.maximum(sounding, resting) + frame_V[0]
            sounding_words = np.where(entering > sounding, entering_words, sounding_words)
            sounding = np.maximum(entering, sounding) + frame_V[self.letters]
            resting, resting_words = new_resting, new_resting_words
        (score, word), history = self._finish(sounding, resting, sounding_words, resting_words)
        if max(sounding[0], resting[0]) >= score:  # ends in a space, or nothing was said
            history, word = int((sounding_words if sounding[0] > resting[0] else resting_words)[0]), -1
        heard = [self.words[word]] if word >= 0 else []
        while history:
            history, word = histories[history]
            heard.append(self.words[word])
        return " ".join(reversed(heard))

    def _finish(
        self, sounding: np.ndarray, resting: np.ndarray, sounding_words: np.ndarray, resting_words: np.ndarray
    ) -> tuple[tuple[float, int], int]:
        """((score, word), history before it) of the likeliest path that completes a word here."""
        scores = np.maximum(sounding[self.ends], resting[self.ends])
        word = int(scores.argmax())
        end = self.ends[word]
        history = sounding_words[end] if sounding[end] > resting[end] else resting_words[end]
        return (float(scores[word]), word), int(history)


def greedy(log_probs_FV: np.ndarray, alphabet: str) -> str:
    """The likeliest character of each frame, repeats and blanks dropped: letters as heard, words or not."""
    best_F = log_probs_FV.argmax(-1)
    kept = best_F[(best_F != 0) & (best_F != np.roll(best_F, 1) * (np.arange(len(best_F)) > 0))]
    return " ".join("".join(alphabet[i - 1] for i in kept).split())
