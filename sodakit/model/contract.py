"""What a family of models promises. Integers only: rows of positions, each W ids wide, -1 where one is absent.

A family embeds positions, turns them into states, and says which state tells which id through which rows of which
matrix. The loss, likelihoods and sampling are made from that, the same for all families.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sodakit.model.kv_cache import KVCache


@dataclass(frozen=True)
class Slot:
    """One softmax: which of the told ids it normalises and over which rows of the head."""

    positions_T: Tensor | slice
    rows: slice


@dataclass(frozen=True)
class Told:
    """Some ids, and what tells them: logits are `x_TD @ head_VD.T`."""

    x_TD: Tensor
    head_VD: Tensor
    targets_T: Tensor
    """int64, rows of the head."""
    slots: Sequence[Slot] | None = None
    """The softmaxes; None for one over the whole head."""
    is_first: bool = True
    """Whether the ids stand in column 0."""
    scale: float = 1.0
    """How many ids each of these stands for: more than 1 where others were left out to save time."""

    @property
    def num_ids(self) -> int:
        """Ids that may stand in column 0: those of its one softmax, the first rows of the head."""
        return self.slots[0].rows.stop if self.slots else len(self.head_VD)


class Targets(Protocol):
    """What some rows predict, as tensors that move to a device together."""

    @property
    def cells_T(self) -> Tensor:
        """int64, where each id stands, counted through rows, positions and columns, in the order they are told."""

    @property
    def first_ids_T(self) -> Tensor:
        """int64, those of them that stand in column 0: the first ones told."""

    def to(self, device: torch.device | str) -> Self:
        """The same on a device."""


class Decoder(Protocol):
    """A model as generation sees it: positions in, states out, scores and codes from states."""

    def __call__(self, ids_BPW: Tensor, /, *, cache: "KVCache") -> Tensor:
        """The final states of new positions of every row: x_BPD."""

    def logits(self, x_BD: Tensor, rows: slice) -> Tensor:
        """Scores of some of the ids that may stand in column 0: logits_BR."""

    def inside(self, x_BD: Tensor) -> "Inside":
        """The codes of the position after states x_BD, for a family whose positions hold several."""


class Inside(Protocol):
    """The codes of one position of several rows while they are chosen, column by column from 0 on."""

    def put(self, ids_B: Tensor) -> None:
        """The ids that stand in the next column, -1 where none does."""

    def logits(self, codebook: int) -> Tensor:
        """Scores of the codes of a codebook, from 1 on and each in turn: logits_BR."""


@runtime_checkable
class WholeFrames(Inside, Protocol):
    """Codes that can be written at once as well."""

    def write(self, first_B: Tensor, uniform_BS: Tensor, how: Sequence[tuple[float, float, int]]) -> Tensor:
        """The codes of every column after 0, instead of `put` and `logits` in turn.

        Args:
            first_B: the ids in column 0.
            uniform_BS: float64, a number in [0, 1) for each of the K - 1 codes.
            how: temperature, top_p and top_k of each, as `generate.sampling` means them.
        Returns:
            int64 (B, K - 1), codes counted from their codebook's first; -1 where scores are no numbers.
        """


def put(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the host on a device, without waiting for what was asked of that before."""
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
