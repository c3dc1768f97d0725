"""A model that only decodes on a CPU, its blocks compiled."""

import torch
from torch import Tensor

from sodakit.errors import ConfigError
from sodakit.model.compiled import CompiledBlocks, CompiledMatrix, Precision
from sodakit.model.contract import Inside
from sodakit.model.kv_cache import KVCache
from sodakit.model.transformer import Transformer


class CpuDecoder:
    """Called as a `Transformer` with a cache, and many times faster at small batches. See `CompiledBlocks`.

    Args:
        model: on a CPU. Its embedding is used, its other weights are copied unless they are float32 already.
        precision: of the weights.
    Raises:
        ConfigError: a shape that the compiled step does not take, or no compiler.
    """

    def __init__(self, model: Transformer, precision: Precision = "float32") -> None:
        shape, self.precision = model.config.backbone, precision
        self._blocks = CompiledBlocks(shape, model.blocks, model.final_norm, model.rotary_tables(), precision)
        self.cache_dtype = self._blocks.cache_dtype
        self._embed = model.embed
        self._head = CompiledMatrix(model.head_VD, precision)

    @torch.no_grad()
    def __call__(self, ids: Tensor, cache: KVCache) -> Tensor:
        """The final states of new positions, normed: x_BTD, float32. See `Transformer.forward`.

        Raises:
            ConfigError: another number of rows than the cache has, or no room in it.
        """
        return self._blocks(self._embed(ids).float().contiguous(), cache)

    def inside(self, x_BD: Tensor) -> Inside:
        """See `Transformer.inside`."""
        raise ConfigError("A position of a flat model holds one id, so there is nothing beside the first.")

    def logits(self, x_BD: Tensor, rows: slice) -> Tensor:
        """Scores of the ids in `rows`: logits_BR, float32."""
        first, last, _ = rows.indices(len(self._head.weight_RC))
        return self._head.product(x_BD, first, last)
