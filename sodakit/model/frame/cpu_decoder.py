"""A model of frames that only decodes on a CPU, the blocks of backbone and depth decoder compiled."""

import ctypes
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from sodakit.model import native
from sodakit.model.compiled import CompiledBlocks, CompiledMatrix, Precision, cache_of, call, threads_for
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
        self._embedding_VD = depth.embedding.weight.detach().float().contiguous()
        settings = depth.settings
        self.frame = native.Frame(
            self.blocks.model,
            self.project.rows(),
            self.head.rows(),
            self._embedding_VD.data_ptr(),
            depth.config.num_codebooks,
            depth.config.codebook_size,
            settings.fed == "sum",
            settings.conditioning == "shifted",
        )
        """All of it as compiled code sees it."""


class CpuDepthSteps:
    """One frame of several rows, written code by code. See `contract.Inside`."""

    def __init__(self, compiled: CpuDepth, x_BD: Tensor) -> None:
        self._compiled, depth = compiled, compiled.depth
        self._x_BD = x_BD.float().contiguous()
        self._known = depth.known_codes(len(x_BD))
        dtype = compiled.blocks.cache_dtype
        self._cache = KVCache(depth.shape, len(x_BD), depth.num_slots, dtype=dtype)

    def write(self, first_B: Tensor, uniform_BS: Tensor, how: Sequence[tuple[float, float, int]]) -> Tensor:
        """All codes in one call. See `contract.WholeFrames`."""
        c, slots, count = self._compiled, uniform_BS.shape[1], len(first_B)
        codes_BK = torch.full((count, slots + 1), -1, dtype=torch.int64)
        codes_BK[:, 0] = c.depth.local(first_B, 0)
        uniform_BS = uniform_BS.contiguous()
        settings = (native.Sampling * slots)(*(native.Sampling(*h) for h in how))
        work = count * (c.blocks.num_weights + c.depth.config.codebook_size * c.depth.shape.width)
        fine = call(
            "sodakit_frame",
            ctypes.byref(c.frame),
            ctypes.byref(cache_of(self._cache)),
            c.blocks.kind,
            int(c.blocks.cache_dtype == torch.bfloat16),
            count,
            ctypes.c_void_p(self._x_BD.data_ptr()),
            ctypes.c_void_p(codes_BK.data_ptr()),
            ctypes.c_void_p(uniform_BS.data_ptr()),
            settings,
            threads_for(work),
        )
        return codes_BK[:, 1:] if fine else torch.full((count, slots), -1)

    @torch.no_grad()
    def put(self, ids_B: Tensor) -> None:
        """The ids that stand in the next column, -1 where none does."""
        self._known.put(ids_B)

    @cached_property
    def _base_BD(self) -> Tensor:
        return self._compiled.project.product(self._x_BD)

    @torch.no_grad()
    def logits(self, codebook: int) -> Tensor:
        """Scores of the codes of a codebook, from 1 on and each in turn: logits_BR."""
        size = self._compiled.depth.config.codebook_size
        x_B1D = (self._base_BD + self._known.before(codebook))[:, None].contiguous()
        state_BD = self._compiled.blocks(x_B1D, self._cache)[:, 0]
        return self._compiled.head.product(state_BD, (codebook - 1) * size, codebook * size)
