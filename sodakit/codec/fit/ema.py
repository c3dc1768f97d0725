"""How codebooks learn: each entry follows the mean of the latents it attracts; entries nobody uses move house."""

import torch
from torch import Tensor

from sodakit.codec.quantizer import SplitQuantizer


class EntryAverages:
    """Running counts and sums of every codebook's entries.

    Source: van den Oord et al., arXiv:1711.00937, appendix A; revival of dead entries as in SoundStream,
    arXiv:2107.03312.
    """

    def __init__(self, quantizer: SplitQuantizer, decay: float = 0.99, dead_below: float = 0.03) -> None:
        self._codebooks = [quantizer.book(k) for k in range(len(quantizer.codebooks))]
        self._decay, self._dead_below = decay, dead_below
        entries = torch.stack([codebook.entries for codebook in self._codebooks])
        self.counts_KN = entries.new_ones(entries.shape[:2])
        self.sums_KND = entries.clone()
        self.started = False

    def observe(self, k: int, x_ND: Tensor, codes_N: Tensor) -> None:
        """Move codebook k's entries toward the latents x_ND that chose codes_N."""
        counts, sums, entries = self.counts_KN[k], self.sums_KND[k], self._codebooks[k].entries
        if not self.started:
            self._restart(k, torch.arange(len(entries)), x_ND)
            self.started = k == len(self._codebooks) - 1
            return
        seen = torch.zeros_like(counts).index_add_(0, codes_N, counts.new_ones(len(codes_N)))
        counts.mul_(self._decay).add_(seen, alpha=1 - self._decay)
        sums.mul_(self._decay).index_add_(0, codes_N, x_ND, alpha=1 - self._decay)
        entries.copy_(sums / counts.clamp_min(1e-5)[:, None])
        dead = torch.nonzero(counts < self._dead_below)[:, 0]
        # A few at a time: a crowd of newcomers would all sit on this one batch.
        self._restart(k, dead[torch.randperm(len(dead))[:16]], x_ND)

    def _restart(self, k: int, which: Tensor, x_ND: Tensor) -> None:
        if len(which) == 0:
            return
        chosen = x_ND[torch.randint(len(x_ND), (len(which),))]
        chosen = chosen + 0.1 * x_ND.std() * torch.randn_like(chosen)
        # Lent enough weight to survive until it has had its chance, about a hundred batches.
        start = 4 * self._dead_below
        self._codebooks[k].entries[which] = chosen
        self.counts_KN[k, which] = start
        self.sums_KND[k, which] = start * chosen

    def state(self) -> dict[str, Tensor]:
        """For the checkpoint."""
        return {"counts_KN": self.counts_KN, "sums_KND": self.sums_KND, "started": torch.tensor(self.started)}

    def load(self, state: dict[str, Tensor]) -> None:
        """From the checkpoint."""
        self.counts_KN.copy_(state["counts_KN"])
        self.sums_KND.copy_(state["sums_KND"])
        self.started = bool(state["started"])
