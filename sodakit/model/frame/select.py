"""What is predicted of rows of frames, found on the host: which state tells which id.

The first id of a position is told by the state before it; the other codes of a frame by the depth decoder, which gets
that state and the frame's own codes, or by heads on that state.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sodakit.model.contract import put
from sodakit.model.frame.config import FrameConfig


@dataclass(frozen=True)
class FrameTargets:
    """What some rows predict. Cells count through rows, positions and columns. int64 tensors."""

    first_states_T: Tensor
    """Position whose state tells each first id."""
    first_ids_T: Tensor
    first_cells_T: Tensor
    frame_states_F: Tensor
    """Position whose state tells each frame with codes to predict."""
    frame_codes_FK: Tensor
    """The codes that stand there, counted from `audio_base`; -1 where none does."""
    code_frames_T: Tensor
    """Which of the frames each code is of; codes of one codebook follow each other."""
    code_columns_T: Tensor
    code_ids_T: Tensor
    code_cells_T: Tensor
    code_ends: tuple[int, ...]
    """How many codes there are up to the end of each codebook from 1 on."""
    scale: float
    """How many frames each of these stands for."""

    @property
    def cells_T(self) -> Tensor:
        """Where each id stands: the first ones, then codebook after codebook."""
        return torch.cat([self.first_cells_T, self.code_cells_T])

    def to(self, device: torch.device | str) -> "FrameTargets":
        """The same as tensors on a device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: put(x, device) for name, x in values.items() if isinstance(x, Tensor)}
        return replace(self, **moved)


def frame_targets(
    config: FrameConfig, ids_BPW: np.ndarray, scored_BP: np.ndarray, *, share: float = 1.0
) -> FrameTargets:
    """The targets of some rows.

    Args:
        ids_BPW: rows of positions, -1 where an id is absent.
        scored_BP: bool, which positions are predicted. A row's first never is.
        share: of the frames whose codes after the first are predicted: every n-th, from one that the ids decide.
    """
    wanted_BPW = scored_BP[..., None] & (ids_BPW >= 0)
    wanted_BPW[:, 0] = False
    width = ids_BPW.shape[-1]
    ids_QW, wanted_QW = ids_BPW.reshape(-1, width), wanted_BPW.reshape(-1, width)
    return _selected(config, ids_QW, wanted_QW, np.arange(len(ids_QW)) - 1, round(1 / share))


def frame_targets_after(config: FrameConfig, states_Q: np.ndarray, ids_QW: np.ndarray) -> FrameTargets:
    """The ids that came after some states, every one of them a target. Cells count through Q and W."""
    return _selected(config, ids_QW, ids_QW >= 0, states_Q, 1)


def _selected(
    config: FrameConfig, ids_QW: np.ndarray, wanted_QW: np.ndarray, states_Q: np.ndarray, every: int
) -> FrameTargets:
    width = ids_QW.shape[-1]
    first_Q = np.flatnonzero(wanted_QW[:, 0])
    frames_F = np.flatnonzero(wanted_QW[:, 1:].any(1))
    num_frames = len(frames_F)
    if every > 1:
        frames_F = frames_F[int(ids_QW[frames_F].sum()) % every :: every]
    # Column by column, so that the codes of one codebook follow each other.
    column_T, frame_T = np.nonzero(wanted_QW[frames_F, 1:].T)
    column_T += 1
    codes_FK = ids_QW[frames_F].astype(np.int64) - config.audio_base
    codes_FK[(codes_FK < 0) | (codes_FK >= config.num_codebooks * config.codebook_size)] = -1
    arrays = {
        "first_states_T": states_Q[first_Q],
        "first_ids_T": ids_QW[first_Q, 0],
        "first_cells_T": first_Q * width,
        "frame_states_F": states_Q[frames_F],
        "frame_codes_FK": codes_FK,
        "code_frames_T": frame_T,
        "code_columns_T": column_T,
        "code_ids_T": ids_QW[frames_F[frame_T], column_T],
        "code_cells_T": frames_F[frame_T] * width + column_T,
    }
    tensors: dict[str, Any] = {n: torch.from_numpy(array.astype(np.int64)) for n, array in arrays.items()}
    return FrameTargets(
        **tensors,
        code_ends=tuple(np.searchsorted(column_T, np.arange(1, width), side="right").tolist()),
        scale=num_frames / max(len(frames_F), 1),
    )
