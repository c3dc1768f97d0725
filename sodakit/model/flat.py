"""What is predicted of flat rows: each id by the state before it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sodakit.model.contract import put


@dataclass(frozen=True)
class FlatTargets:
    """What some rows predict, through rows and positions. See `contract.Targets`."""

    states_T: Tensor
    """int64, position whose state tells each id."""
    ids_T: Tensor
    """int64."""
    cells_T: Tensor
    """int64, where each id stands."""

    @property
    def first_ids_T(self) -> Tensor:
        return self.ids_T

    def to(self, device: torch.device | str) -> "FlatTargets":
        return FlatTargets(*(put(tensor, device) for tensor in (self.states_T, self.ids_T, self.cells_T)))


def flat_targets(ids_BPW: np.ndarray, scored_BP: np.ndarray) -> FlatTargets:
    """The targets of some rows: ids_BP1, and a bool for each position. A row's first is never predicted."""
    wanted_BP = scored_BP.copy()
    wanted_BP[:, 0] = False
    places_T = np.flatnonzero(wanted_BP)
    ids_T = ids_BPW.reshape(-1)[places_T].astype(np.int64)
    return FlatTargets(*map(torch.from_numpy, (places_T - 1, ids_T, places_T)))


def flat_targets_after(states_Q: np.ndarray, ids_Q: np.ndarray) -> FlatTargets:
    """The ids that came after some states."""
    arrays = (states_Q.astype(np.int64), ids_Q.astype(np.int64), np.arange(len(ids_Q)))
    return FlatTargets(*map(torch.from_numpy, arrays))
