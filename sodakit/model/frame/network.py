"""A backbone over frames: a position is a frame, a text id or a marker, and its state tells what comes next."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sodakit.model.contract import Slot, Told
from sodakit.model.frame.config import FrameConfig
from sodakit.model.frame.depth import DepthDecoder, DepthSteps
from sodakit.model.frame.select import FrameTargets
from sodakit.model.init import initialise
from sodakit.model.layers import Linear, product
from sodakit.model.transformer import Transformer


class FrameTransformer(Transformer):
    """A `Transformer` that reads ids_BPW and writes the first id of a position; a depth decoder or heads the others.

    Args:
        config: its shape.
        seed: of the weights at the start. Built under `torch.device("meta")` it has none, for loading.
    """

    def __init__(self, config: FrameConfig, *, seed: int = 0) -> None:
        super().__init__(config.backbone, seed=None)
        self.config = self.frame = config
        if not config.backbone.tied_embeddings:
            self.head = Linear(config.backbone.width, config.head_ids)
        self.depth = DepthDecoder(config) if config.depth else None
        initialise(self, std=config.backbone.init_std, seed=seed, stds=config.backbone.init_stds)

    @property
    def head_VD(self) -> Tensor:
        # A slice of all rows would cost a gradient of that size in zeros.
        whole_VD = super().head_VD
        return whole_VD if len(whole_VD) == self.frame.head_ids else whole_VD[: self.frame.head_ids]

    def units(self) -> list[nn.Module]:
        return [*self.blocks, *(self.depth.blocks if self.depth else ())]

    def embed(self, ids_BPW: Tensor) -> Tensor:
        """The sum of the embeddings of the ids of each position: x_BPD."""
        present_BPW = ids_BPW >= 0
        if ids_BPW.is_cuda:
            return self._embed_all(ids_BPW, present_BPW)
        counts_BP = present_BPW.sum(-1)
        offsets_Q = F.pad(counts_BP.flatten().cumsum(0)[:-1], (1, 0))
        sums_QD = F.embedding_bag(
            ids_BPW[present_BPW], self.embedding.weight, offsets_Q, mode="sum", sparse=self.embedding.sparse
        )
        return sums_QD.view(*counts_BP.shape, -1)

    def _embed_all(self, ids_BPW: Tensor, present_BPW: Tensor) -> Tensor:
        """The same, absent ids counted with a weight of 0: how many are present is known on the device alone."""
        ids_QW, present_QW = ids_BPW.flatten(0, 1).clamp(min=0), present_BPW.flatten(0, 1)
        weight_VD = self.embedding.weight
        sums_QD = F.embedding_bag(
            ids_QW, weight_VD, mode="sum", per_sample_weights=present_QW.to(weight_VD.dtype)
        )
        return sums_QD.view(*ids_BPW.shape[:2], -1)

    def told(self, x_BPD: Tensor, targets: FrameTargets) -> list[Told]:
        """What tells the targets: the first ids, then the codes beside them."""
        t, config = targets, self.frame
        x_QD, head_VD = x_BPD.flatten(0, 1), super().head_VD
        softmax = Slot(slice(None), slice(0, config.first_ids))
        first = Told(x_QD[t.first_states_T], head_VD, t.first_ids_T, [softmax])
        size = config.codebook_size
        if not len(t.code_ids_T):
            return [first, *self._no_codes(x_QD)]
        x_FD = x_QD[t.frame_states_F]
        if self.depth is None:
            x_TD, base = x_FD[t.code_frames_T], config.audio_base
        else:
            x_TD = self.depth(x_FD, t.frame_codes_FK)[t.code_frames_T, t.code_columns_T - 1]
            head_VD, base = self.depth.head.weight, -size
        slots = [
            Slot(slice(start, end), slice(base + k * size, base + (k + 1) * size))
            for k, (start, end) in enumerate(pairwise((0, *t.code_ends)), start=1)
            if end > start
        ]
        targets_T = t.code_ids_T - config.audio_base + base
        return [first, Told(x_TD, head_VD, targets_T, slots, is_first=False, scale=t.scale)]

    def _no_codes(self, x_QD: Tensor) -> list[Told]:
        """The depth decoder over a frame that nobody counts.

        Ranks gather its weights and exchange its gradients together, so one whose rows hold no frame comes by here too.
        """
        if self.depth is None:
            return []
        x_FSD = self.depth(x_QD[:1], torch.full((1, self.frame.num_codebooks), -1, device=x_QD.device))
        if not torch.is_grad_enabled():
            return []
        none_T = torch.zeros(0, dtype=torch.int64, device=x_QD.device)
        return [Told(x_FSD[:0, 0], self.depth.head.weight, none_T, is_first=False)]

    def inside(self, x_BD: Tensor) -> "DepthSteps | SideHeads":
        """The codes of the position after states x_BD, column by column."""
        return SideHeads(self, x_BD) if self.depth is None else DepthSteps(self.depth, x_BD)

    def codebook_head(self, codebook: int) -> Tensor:
        """The rows of the backbone's head that tell one codebook."""
        config = self.frame
        start = config.audio_base + codebook * config.codebook_size
        return self.head_VD[start : start + config.codebook_size]


class SideHeads:
    """Codes told by heads side by side, each from the backbone's state alone. See `contract.Inside`."""

    def __init__(self, model: FrameTransformer, x_BD: Tensor) -> None:
        self._model, self._x_BD = model, x_BD

    def put(self, ids_B: Tensor) -> None:
        """Nothing: a head does not see the codes beside it."""

    def logits(self, codebook: int) -> Tensor:
        """Scores of the codes of a codebook, from 1 on: logits_BR."""
        return product(self._x_BD, self._model.codebook_head(codebook))
