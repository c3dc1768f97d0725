"""The model: integers to logits. It knows ids and positions; what they mean is the business of `tokens`."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sodakit.errors import ConfigError
from sodakit.model.any_config import AnyConfig
from sodakit.model.attention import Attend, Attention, Packing, attend_packed
from sodakit.model.config import ModelConfig
from sodakit.model.contract import Inside, Told
from sodakit.model.init import initialise
from sodakit.model.kv_cache import KVCache, attend_cached
from sodakit.model.layers import FeedForward, Linear, RMSNorm, product, rotary_table

COMPILED_VARIANTS = 32
"""Of a block. Backbone and depth decoder, training and validation, rows and frames of other numbers make ten; beyond torch's
8 a new one would run uncompiled until the process ends."""


class Block(nn.Module):
    """Attention, then a feed-forward, each on a normed copy and added to the stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, config.norm_eps)
        self.attention = Attention(config)
        self.feed_forward_norm = RMSNorm(config.width, config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(self, x_BTD: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), cos, sin, attend)
        return x_BTD + self.feed_forward(self.feed_forward_norm(x_BTD))


class Transformer(nn.Module):
    """A Qwen3-style decoder, equal to transformers' `Qwen3ForCausalLM` on the same weights.

    Args:
        config: its shape.
        seed: of the weights at the start. Built under `torch.device("meta")` it has none, for loading.
    """

    def __init__(self, config: ModelConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config: AnyConfig = config
        self.embedding = nn.Embedding(
            config.vocab_size, config.width, _weight=torch.empty(config.vocab_size, config.width)
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = RMSNorm(config.width, config.norm_eps)
        self.head = None if config.tied_embeddings else Linear(config.width, config.vocab_size)
        self._rotary: tuple[Tensor, Tensor] | None = None
        self._attend = attend_packed
        if seed is not None:
            initialise(self, std=config.init_std, seed=seed, stds=config.init_stds)

    @property
    def head_VD(self) -> Tensor:
        """The weight that turns states into logits: the head's, or the embedding's where they are tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    def units(self) -> list[nn.Module]:
        """The blocks, which are compiled, recomputed and spread over ranks one by one."""
        return list(self.blocks)

    def compile_blocks(self, **options: Any) -> None:
        """Compile every block but its attention, whose shapes are those of the documents: new ones in each step.

        Args:
            options: for `torch.compile`.
        """
        # Not a decorator of the function: torch's compiler takes a second to import, and most commands never compile.
        self._attend = torch.compiler.disable(attend_packed)
        dynamo = torch._dynamo.config
        dynamo.recompile_limit = max(dynamo.recompile_limit, COMPILED_VARIANTS)
        for block in self.units():
            # Its forward, not the module: checkpoints and FSDP's hooks lie around it, and torch compiles nothing
            # that has a checkpoint inside.
            block.forward = torch.compile(block.forward, **options)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.weight.device

    def embed(self, ids: Tensor) -> Tensor:
        """The vectors that positions begin with, x_BTD: of ids_BT, or of ids_BT1 as a layout gives them."""
        return self.embedding(ids.flatten(1))

    def forward(self, ids_BT: Tensor, packing: Packing | None = None, cache: KVCache | None = None) -> Tensor:
        """The final states, normed: x_BTD. `logits` turns them into scores.

        Args:
            ids_BT: integers below V.
            packing: documents in the rows; default: each row is one. Positions run on through a row, but restart
                in each document where some go on from others.
            cache: earlier tokens of each row, to which these are added. Not together with `packing`.
        Raises:
            ConfigError: rows longer than the context, a packing of other rows, or packing with a cache.
        """
        batch, tokens = ids_BT.shape[:2]
        if cache is not None:
            if packing is not None:
                raise ConfigError("A packing and a cache in one call; decoding takes one document per row.")
            return self._decode(ids_BT, cache)
        packing = packing or Packing.from_rows(batch, tokens, ids_BT.device)
        if packing.num_positions != batch * tokens:
            raise ConfigError(
                f"A packing of {packing.num_positions} positions for ids of shape {batch} x {tokens}."
            )
        cos, sin = self._angles(packing, batch, tokens)
        attend = partial(self._attend, packing=packing)
        x_BTD = self.embed(ids_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, cos, sin, attend)
        return self.final_norm(x_BTD)

    def told(self, x_BTD: Tensor, targets: Any) -> list[Told]:
        """What tells the targets (`FlatTargets`): the state before each, through the head."""
        x_TD = x_BTD.reshape(-1, x_BTD.shape[-1])[targets.states_T]
        return [Told(x_TD, self.head_VD, targets.ids_T)]

    def inside(self, x_BD: Tensor) -> Inside:
        """Nothing: each position of a flat model holds one id.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("A position of a flat model holds one id, so there is nothing beside the first.")

    def logits(self, x_BTD: Tensor, rows: slice | Tensor | None = None) -> Tensor:
        """Scores of the next id: logits_BTV, or only the columns of some ids.

        Args:
            x_BTD: what `forward` returned, or some positions of it.
            rows: the ids wanted, as a slice (no copy) or an integer tensor. Inside a codec frame only one
                codebook's ids are legal, and the head is the largest matrix of a small model.
        """
        head_VD = self.head_VD if rows is None else self.head_VD[rows]
        return product(x_BTD, head_VD)

    def _decode(self, ids_BT: Tensor, cache: KVCache) -> Tensor:
        batch, tokens = ids_BT.shape[:2]
        cache.check_room(batch, tokens)
        step = cache.plan(tokens)
        cos, sin = (
            table[_places(step.start, step.span, step.positions_BT)] for table in self.rotary_tables()
        )
        x_BTD = self.embed(ids_BT)
        for layer, block in enumerate(self.blocks):
            attend = partial(attend_cached, cache=cache, layer=layer, step=step)
            # As its class has it: compiled, it would be compiled again for every layer and step until torch gives up.
            x_BTD = Block.forward(block, x_BTD, cos, sin, attend)  # type: ignore[arg-type]
        cache.advance(tokens)
        return self.final_norm(x_BTD)

    def _angles(self, packing: Packing, batch: int, tokens: int) -> tuple[Tensor, Tensor]:
        cos, sin = self.rotary_tables()
        if not packing.goes_on_from:
            self._check_tokens(tokens)
            return cos[:tokens], sin[:tokens]
        self._check_tokens(packing.longest)
        positions_BT = packing.positions_P.view(batch, tokens)
        return cos[positions_BT], sin[positions_BT]

    def _check_tokens(self, tokens: int) -> None:
        if tokens > self.config.context:
            raise ConfigError(
                f"Rows of {tokens} tokens; the model's context is {self.config.context}. "
                "Cut the rows, or set model.context."
            )

    def rotary_tables(self) -> tuple[Tensor, Tensor]:
        """cos and sin of every position of the context, as `layers.turned` takes them."""
        # Not a buffer: it belongs to no checkpoint, and must survive `to(bfloat16)` in float32.
        if self._rotary is None or self._rotary[0].device != self.device:
            # A tensor made in inference mode could never be used in training afterwards.
            with torch.inference_mode(False):
                self._rotary = rotary_table(self.config.backbone, self.config.context, self.device)
        return self._rotary


def _places(start: int | None, span: int, positions_BT: Tensor | None) -> slice | Tensor:
    return slice(start, span) if positions_BT is None else positions_BT
