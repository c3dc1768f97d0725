"""Latents to codes and back: one semantic codebook beside a chain of residual acoustic ones.

The split is Mimi's (arXiv:2410.00037): were the semantic codebook the first level of the chain, the acoustic levels
would spend themselves on what it leaves out; side by side, it can carry phones and nothing else.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

Observer = Callable[[int, Tensor, Tensor], None]
"""Called in training with (codebook k, latents_ND, codes_N) of each level; learns the entries."""


class Codebook(nn.Module):
    """`size` entries; a vector's code is the nearest one."""

    entries: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        # Not a parameter: entries follow the mean of what they attract (codec/fit/ema.py), not a gradient.
        self.register_buffer("entries", torch.randn(size, width))

    def nearest(self, x_ND: Tensor) -> Tensor:
        """Codes (N,): the entry of least squared distance."""
        return (x_ND @ self.entries.T - 0.5 * self.entries.square().sum(-1)).argmax(-1)

    def forward(self, codes: Tensor) -> Tensor:
        """The entries of the codes, with one more axis of their width."""
        return functional.embedding(codes, self.entries)


class Quantized:
    """What the quantiser gives in training."""

    def __init__(self) -> None:
        self.codes: list[Tensor] = []
        """codes_BF of each codebook, fewer of one that is slower."""
        self.commitment = torch.zeros(())
        """Mean squared distance of latents to their entries, summed over codebooks."""
        self.semantic_BFD = torch.zeros(())
        """The semantic entries, straight-through."""
        self.latent_BFD = torch.zeros(())
        """What the decoder gets."""
        self.acoustic_BFD = torch.zeros(())
        """The sums of the acoustic entries, straight-through."""


class SplitQuantizer(nn.Module):
    """Codebook 0 on one projection of the latent, the others a residual chain on another.

    A level of stride n has one code for n latents: the entry nearest to the mean of what is left of them, which is the
    one of least squared error over them all.
    Source of codebooks of several rates: SNAC, arXiv:2410.14411.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        code_width: int,
        num_codebooks: int,
        codebook_size: int,
        search_paths: int = 1,
        acoustic_strides: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.search_paths = search_paths
        self.strides = (1, *(acoustic_strides or (1,) * (num_codebooks - 1)))
        self.semantic_in = nn.Linear(width_in, code_width)
        self.semantic_out = nn.Linear(code_width, width_out)
        self.acoustic_in = nn.Linear(width_in, code_width)
        self.acoustic_out = nn.Linear(code_width, width_out)
        self.codebooks = nn.ModuleList(Codebook(codebook_size, code_width) for _ in range(num_codebooks))

    def book(self, k: int) -> Codebook:
        """Codebook k; 0 is the semantic one."""
        codebook = self.codebooks[k]
        assert isinstance(codebook, Codebook)
        return codebook

    def encode(self, latent_BFD: Tensor) -> list[Tensor]:
        """The codes_BF of each codebook, fewer of one that is slower.

        The nearest entry at one level can leave a residual that the next levels say badly. With `search_paths` above 1
        the chain's codes are searched for together: 8 chains kept at each level leave a quarter less squared error
        than one, and cost the decoder nothing, but such codes are harder to predict (LOG.md, 2026-11-25).
        """
        semantic_BF = self.book(0).nearest(self.semantic_in(latent_BFD))
        if max(self.strides) > 1:
            return [semantic_BF, *self._slow_chain(self.acoustic_in(latent_BFD))]
        residual_BFPD = self.acoustic_in(latent_BFD)[:, :, None]
        chains_BFPK = semantic_BF[:, :, None, None]
        for k in range(1, len(self.codebooks)):
            entries_ND = self.book(k).entries
            error_BFPN = residual_BFPD.square().sum(-1, keepdim=True) - 2 * residual_BFPD @ entries_ND.T
            error_BFN = (error_BFPN + entries_ND.square().sum(-1)).flatten(2)
            best_BFP = error_BFN.topk(min(self.search_paths, error_BFN.shape[-1]), largest=False).indices
            path_BFP, code_BFP = best_BFP // len(entries_ND), best_BFP % len(entries_ND)
            residual_BFPD = _take(residual_BFPD, path_BFP) - self.book(k)(code_BFP)
            chains_BFPK = torch.cat([_take(chains_BFPK, path_BFP), code_BFP[..., None]], dim=-1)
        return list(chains_BFPK[:, :, 0].unbind(-1))

    def _slow_chain(self, residual_BFD: Tensor) -> list[Tensor]:
        codes = []
        for k in range(1, len(self.codebooks)):
            codes.append(self.book(k).nearest(_slowed(residual_BFD, self.strides[k])))
            residual_BFD = residual_BFD - _held(self.book(k)(codes[-1]), self.strides[k])
        return codes

    def entries(self, codes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The semantic entries and the sums of the acoustic ones, each (B, F, code_width) at the rate of latents.

        Args:
            codes: codes_BF of each codebook; fewer than K (the first ones) are allowed, and are coarser.
        """
        semantic = self.book(0)(codes[0])
        acoustic = torch.zeros_like(semantic)
        for k in range(1, len(codes)):
            acoustic = acoustic + _held(self.book(k)(codes[k]), self.strides[k])
        return semantic, acoustic

    def merge(self, semantic_BFD: Tensor, acoustic_BFD: Tensor, deep_B: Tensor) -> Tensor:
        """The decoder's latent_BFD; rows that are not `deep` have no acoustic codes."""
        return self.semantic_out(semantic_BFD) + _mask(deep_B) * self.acoustic_out(acoustic_BFD)

    def forward(
        self,
        latent_BFD: Tensor,
        depth_B: Tensor,
        bypass_B: Tensor,
        semantic_gradient: float,
        observe: Observer | None = None,
    ) -> Quantized:
        """Quantise in training, straight-through.

        Args:
            depth_B: acoustic levels each row keeps, 0 to K - 1 (quantiser dropout).
            bypass_B: rows whose acoustic latent goes to the decoder as it is, so that it learns to carry more than
                the chain can yet say.
            semantic_gradient: fraction of the decoder's gradient that reaches the semantic branch.
            observe: told what each codebook saw.
        """
        result = Quantized()
        semantic = self.semantic_in(latent_BFD).float()
        result.semantic_BFD = _straight_through(semantic, self._level(0, semantic, result, observe))
        held_back = result.semantic_BFD.detach()
        lessened = held_back + semantic_gradient * (result.semantic_BFD - held_back)
        acoustic = residual = self.acoustic_in(latent_BFD).float()
        total = torch.zeros_like(acoustic)
        for k in range(1, len(self.codebooks)):
            stride = self.strides[k]
            entries = _held(self._level(k, _slowed(residual, stride), result, observe), stride)
            residual = residual - entries
            total = total + _mask(depth_B >= k) * entries
        through = _straight_through(acoustic, torch.where(bypass_B[:, None, None], acoustic, total))
        result.acoustic_BFD = _mask(depth_B >= 1) * through
        result.latent_BFD = self.merge(lessened, through, depth_B >= 1)
        return result

    def _level(self, k: int, x_BFD: Tensor, result: Quantized, observe: Observer | None) -> Tensor:
        """The nearest entries of codebook k, without gradient; codes and commitment go to `result`."""
        flat = x_BFD.detach().flatten(0, 1)
        codes = self.book(k).nearest(flat)
        entries = self.book(k)(codes).view_as(x_BFD)
        if observe is not None:
            observe(k, flat, codes)
        result.codes.append(codes.view(x_BFD.shape[:2]))
        result.commitment = result.commitment + functional.mse_loss(x_BFD, entries)
        return entries


def _slowed(x_BFD: Tensor, stride: int) -> Tensor:
    """The mean of every `stride` latents."""
    return x_BFD if stride == 1 else x_BFD.unflatten(1, (-1, stride)).mean(2)


def _held(x_BFD: Tensor, stride: int) -> Tensor:
    """Each latent `stride` times."""
    return x_BFD if stride == 1 else x_BFD.repeat_interleave(stride, dim=1)


def _take(x_BFPD: Tensor, path_BFP: Tensor) -> Tensor:
    return x_BFPD.gather(2, path_BFP[..., None].expand(*path_BFP.shape, x_BFPD.shape[-1]))


def _straight_through(x_BFD: Tensor, entries_BFD: Tensor) -> Tensor:
    return x_BFD + (entries_BFD - x_BFD).detach()


def _mask(rows_B: Tensor) -> Tensor:
    return rows_B.float()[:, None, None]
