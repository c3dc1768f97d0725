"""A model of frames that only decodes on a CPU, the blocks of backbone and depth decoder compiled."""

import torch
from torch import Tensor

from sodakit.model.compiled import CompiledBlocks, CompiledMatrix, Precision
from sodakit.model.cpu_decoder import CpuDecoder
from sodakit.model.frame.config import FrameConfig
from sodakit.model.frame.depth import DepthDecoder
from sodakit.model.frame.network import FrameTransformer
from sodakit.model.kv_cache import KVCache


class CpuFrameDecoder(CpuDecoder):
    """Called as a `FrameTransformer` with a cache. See `CpuDecoder`."""

    def __init__(self, model: FrameTransformer, precision: Precision = "float32") -> None:
        super().__init__(model, precision)
        self._frame = model.frame
        self._depth = None if model.depth is None else CpuDepth(model.depth, precision)

    def inside(self, x_BD: Tensor) -> "CpuDepthSteps | CpuSideHeads":
        """The codes of the position after states x_BD, column by column. See `contract.Inside`."""
        if self._depth is None:
            return CpuSideHeads(self, x_BD, self._frame)
        return CpuDepthSteps(self._depth, x_BD)


class CpuSideHeads:
    """Codes told by heads side by side. See `contract.Inside`."""

    def __init__(self, decoder: CpuDecoder, x_BD: Tensor, config: FrameConfig) -> None:
        self._decoder, self._x_BD, self._config = decoder, x_BD, config

    def put(self, ids_B: Tensor) -> None:
        """Nothing: a head does not see the codes beside it."""

    def logits(self, codebook: int) -> Tensor:
        """Scores of the codes of a codebook, from 1 on: logits_BR."""
        start = self._config.audio_base + codebook * self._config.codebook_size
        return self._decoder.logits(self._x_BD, slice(start, start + self._config.codebook_size))


class CpuDepth:
    """A depth decoder that only writes frames. See `CompiledBlocks`.

    Args:
        depth: on a CPU. Its embedding is used, its other weights are copied unless they are float32 already.
        precision: of the weights.
    """

    def __init__(self, depth: DepthDecoder, precision: Precision) -> None:
        self.depth = depth
        self.blocks = CompiledBlocks(
            depth.shape, depth.blocks, depth.final_norm, depth.rotary_tables(), precision
        )
        self.project = CompiledMatrix(depth.project.weight, precision)
        self.head = CompiledMatrix(depth.head.weight, precision)


class CpuDepthSteps:
    """One frame of several rows, written code by code. See `contract.Inside`."""

    def __init__(self, compiled: CpuDepth, x_BD: Tensor) -> None:
        self._compiled, depth = compiled, compiled.depth
        self._base_BD = compiled.project.product(x_BD)
        self._known = depth.known_codes(len(x_BD))
        dtype = compiled.blocks.cache_dtype
        self._cache = KVCache(depth.shape, len(x_BD), depth.num_slots, dtype=dtype)

    @torch.no_grad()
    def put(self, ids_B: Tensor) -> None:
        """The ids that stand in the next column, -1 where none does."""
        self._known.put(ids_B)

    @torch.no_grad()
    def logits(self, codebook: int) -> Tensor:
        """Scores of the codes of a codebook, from 1 on and each in turn: logits_BR."""
        size = self._compiled.depth.config.codebook_size
        x_B1D = (self._base_BD + self._known.before(codebook))[:, None].contiguous()
        state_BD = self._compiled.blocks(x_B1D, self._cache)[:, 0]
        return self._compiled.head.product(state_BD, (codebook - 1) * size, codebook * size)
