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

    @property
    def cells_T(self) -> Tensor:
        return self.states_T + 1

    @property
    def first_ids_T(self) -> Tensor:
        return self.ids_T

    def to(self, device: torch.device | str) -> "FlatTargets":
        return FlatTargets(put(self.states_T, device), put(self.ids_T, device))


def flat_targets(ids_BPW: np.ndarray, scored_BP: np.ndarray) -> FlatTargets:
    """The targets of some rows: ids_BP1, and a bool for each position. A row's first is never predicted."""
    wanted_BP = scored_BP.copy()
    wanted_BP[:, 0] = False
    places_T = np.flatnonzero(wanted_BP)
    ids_T = ids_BPW.reshape(-1)[places_T].astype(np.int64)
    return FlatTargets(torch.from_numpy(places_T - 1), torch.from_numpy(ids_T))
