"""The codes of a frame one after the other, by a small decoder that begins from the backbone's state.

Slot j is fed the state and what is known of the frame so far, and tells codebook j + 1. Frames know nothing of each
other here: they are the batch, and attention spans the K - 1 slots of one.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sodakit.model.frame.config import FrameConfig
from sodakit.model.kv_cache import KVCache, attend_cached
from sodakit.model.layers import Linear, RMSNorm, product, rotary_table
from sodakit.model.transformer import Block


class DepthDecoder(nn.Module):
    """From states of the backbone and the codes of their frames to states that tell the codes.

    Args:
        config: of the whole model.
    """

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        assert config.depth is not None
        self.config, self.settings, self.shape = config, config.depth, config.depth_shape
        shape = self.shape
        self.project = Linear(config.backbone.width, shape.width)
        self.embedding = nn.Embedding(
            shape.vocab_size, shape.width, _weight=torch.empty(shape.vocab_size, shape.width)
        )
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.final_norm = RMSNorm(shape.width, shape.norm_eps)
        self.head = Linear(shape.width, (config.num_codebooks - 1) * config.codebook_size)
        self._rotary: tuple[Tensor, Tensor] | None = None

    @property
    def num_slots(self) -> int:
        """K - 1: codes that it writes of a frame."""
        return self.config.num_codebooks - 1

    def forward(self, x_FD: Tensor, codes_FK: Tensor) -> Tensor:
        """States that tell the codes: (F, K - 1, width), slot k - 1 for codebook k.

        Args:
            x_FD: the backbone's state before each frame.
            codes_FK: the codes of each frame, counted from codebook 0's first; -1 where there is none.
        """
        x_FSD = self.project(x_FD)[:, None] + self._known(codes_FK)
        cos, sin = (table[: self.num_slots] for table in self.rotary_tables())
        for block in self.blocks:
            x_FSD = block(x_FSD, cos, sin, attend_slots)
        return self.final_norm(x_FSD)

    def _known(self, codes_FK: Tensor) -> Tensor:
        """What each slot is fed of the frame's codes: (F, K - 1, width)."""
        e_FKD = self.embedded(codes_FK)
        if self.settings.fed == "sum":
            e_FKD = e_FKD.cumsum(1)
        if self.settings.conditioning == "exact":
            return e_FKD[:, : self.num_slots]
        return F.pad(e_FKD[:, : self.num_slots - 1], (0, 0, 1, 0))

    def embedded(self, codes: Tensor) -> Tensor:
        """Vectors of codes counted from codebook 0's first; zeros for -1."""
        return self.embedding(codes.clamp(min=0)) * (codes >= 0)[..., None]

    def local(self, ids_B: Tensor, codebook: int | None = None) -> Tensor:
        """Ids as codes counted from codebook 0's first, or from that of one codebook; -1 where one is no code."""
        codes_B = ids_B - self.config.audio_base
        codes_B = torch.where((codes_B >= 0) & (codes_B < self.shape.vocab_size), codes_B, -1)
        if codebook:
            codes_B = torch.where(codes_B >= 0, codes_B - codebook * self.config.codebook_size, -1)
        return codes_B

    def known_codes(self, rows: int) -> "KnownCodes":
        """For frames of so many rows that are about to be written."""
        return KnownCodes(self, rows)

    def head_of(self, codebook: int) -> Tensor:
        """The rows of the head that tell one codebook, from 1 on."""
        size = self.config.codebook_size
        return self.head.weight[(codebook - 1) * size : codebook * size]

    def rotary_tables(self) -> tuple[Tensor, Tensor]:
        """cos and sin of every slot."""
        device = self.embedding.weight.device
        if self._rotary is None or self._rotary[0].device != device:
            with torch.inference_mode(False):
                self._rotary = rotary_table(self.shape, self.shape.context, device)
        return self._rotary


class KnownCodes:
    """What is fed of the codes of frames while they are written."""

    def __init__(self, depth: DepthDecoder, rows: int) -> None:
        self._depth = depth
        weight = depth.embedding.weight
        self._sum_BD = torch.zeros(rows, depth.shape.width, dtype=weight.dtype, device=weight.device)
        self._fed: list[Tensor] = []

    def put(self, ids_B: Tensor) -> None:
        """The ids of the next column, -1 where a row has none there."""
        embedded_BD = self._depth.embedded(self._depth.local(ids_B))
        self._sum_BD = self._sum_BD + embedded_BD
        self._fed.append(self._sum_BD if self._depth.settings.fed == "sum" else embedded_BD)

    def before(self, codebook: int) -> Tensor:
        """What the slot that tells a codebook is fed: (rows, width)."""
        last = codebook - 1 if self._depth.settings.conditioning == "exact" else codebook - 2
        return self._fed[last] if last >= 0 else torch.zeros_like(self._sum_BD)


class DepthSteps:
    """One frame of several rows, written code by code. See `contract.Inside`."""

    def __init__(self, depth: DepthDecoder, x_BD: Tensor) -> None:
        self._depth = depth
        self._base_BD = depth.project(x_BD)
        self._known = depth.known_codes(len(x_BD))
        self._cache = KVCache(depth.shape, len(x_BD), depth.num_slots, x_BD.device, self._base_BD.dtype)

    def put(self, ids_B: Tensor) -> None:
        """The ids that stand in the next column, -1 where none does."""
        self._known.put(ids_B)

    def logits(self, codebook: int) -> Tensor:
        """Scores of the codes of a codebook, from 1 on and each in turn: logits_BR."""
        depth, slot = self._depth, codebook - 1
        x_B1D = (self._base_BD + self._known.before(codebook))[:, None]
        step = self._cache.plan(1)
        cos, sin = (table[slot : slot + 1] for table in depth.rotary_tables())
        for layer, block in enumerate(depth.blocks):
            attend = partial(attend_cached, cache=self._cache, layer=layer, step=step)
            x_B1D = Block.forward(block, x_B1D, cos, sin, attend)  # type: ignore[arg-type]  # never compiled
        self._cache.advance(1)
        return product(depth.final_norm(x_B1D)[:, 0], depth.head_of(codebook))


def attend_slots(q_FSNH: Tensor, k_FSGH: Tensor, v_FSGH: Tensor) -> Tensor:
    """Causal attention inside each frame: out_FSNH."""
    q, k, v = (x.transpose(1, 2) for x in (q_FSNH, k_FSGH, v_FSGH))
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped).transpose(1, 2)
