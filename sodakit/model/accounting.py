"""What a model costs: parameters by every convention in use, FLOPs per token, bytes. No model is built.

Conventions differ by factors, so each has its own name and none is the default.
"""

from dataclasses import dataclass

from sodakit.model.any_config import AnyConfig
from sodakit.model.config import ModelConfig
from sodakit.model.frame.config import FrameConfig
from sodakit.units import format_count

TEXT_TOKENS_PER_AUDIO_S = 3.0
"""Of transcripts, as published; used where no store is at hand to count them."""
FRAMES_PER_S = 12.5
"""Of Mimi, likewise."""
FRAME_SHARE = FRAMES_PER_S / (FRAMES_PER_S + TEXT_TOKENS_PER_AUDIO_S)
"""Of the positions of transcribed speech that are frames, where a frame is one; likewise."""


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """Parameters of a model, in the parts that papers add up differently."""

    body_matrices: int
    """Attention and feed-forward matrices of all blocks."""
    norms: int
    """RMSNorm weights, those of queries and keys included."""
    embedding: int
    """V * D: one embedding, or one head where it has a row for every id."""
    tied: bool
    """Whether head and embedding are the same."""
    head_rows: int
    """The head, where it is not tied: `embedding`, or less where it tells some ids only."""
    depth_body: int = 0
    """Matrices that multiply every code inside a frame; those of its blocks are no part of `body_matrices`."""
    depth_tables: int = 0
    """Embedding and head of the codes inside a frame."""

    @property
    def total(self) -> int:
        """All that is trained and stored."""
        return self.non_embedding + self.embedding + (0 if self.tied else self.head_rows) + self.depth_tables

    @property
    def non_embedding(self) -> int:
        """Without embedding and head (Kaplan)."""
        return self.body_matrices + self.norms + self.depth_body

    @property
    def one_embedding(self) -> int:
        """With one of the two, whether tied or not: what the names 135M, 600M, 1.7B and 4B of the paper count."""
        return self.non_embedding + self.embedding

    @property
    def two_embeddings(self) -> int:
        """With both, whether tied or not: the N of the paper's scaling law."""
        return self.non_embedding + 2 * self.embedding

    @property
    def matmul(self) -> int:
        """Those that multiply every position: body matrices and head. FLOPs follow from this."""
        return self.body_matrices + self.head_rows

    def __str__(self) -> str:
        return (
            f"{format_count(self.total)} parameters ({format_count(self.non_embedding)} without embeddings)"
        )


def count_parameters(config: AnyConfig) -> ParameterCount:
    """The parameters of a config, equal to those of the model built from it."""
    shape = config.backbone
    matrices, norms = _blocks(shape)
    embedding = shape.vocab_size * shape.width
    if not isinstance(config, FrameConfig):
        return ParameterCount(
            body_matrices=matrices,
            norms=norms,
            embedding=embedding,
            tied=shape.tied_embeddings,
            head_rows=embedding,
        )
    depth_body = depth_tables = 0
    if config.depth:
        depth = config.depth_shape
        depth_matrices, depth_norms = _blocks(depth)
        depth_body, norms = depth_matrices + shape.width * depth.width, norms + depth_norms
        depth_tables = (2 * config.num_codebooks - 1) * config.codebook_size * depth.width
    return ParameterCount(
        body_matrices=matrices,
        norms=norms,
        embedding=embedding,
        tied=shape.tied_embeddings,
        head_rows=config.head_ids * shape.width,
        depth_body=depth_body,
        depth_tables=depth_tables,
    )


def _blocks(shape: ModelConfig) -> tuple[int, int]:
    """Weights in the matrices of all blocks, and in all norms with the final one."""
    attention = 2 * shape.width * (shape.query_width + shape.key_width)
    feed_forward = 3 * shape.width * shape.ffn_width
    norms = shape.layers * 2 * (shape.width + shape.head_width) + shape.width
    return shape.layers * (attention + feed_forward), norms


def training_flops_per_token(config: AnyConfig, attended_tokens: float, frame_share: float = 1.0) -> float:
    """Forward and backward FLOPs of one position, as computed: causal attention is half the square.

    Args:
        attended_tokens: the row length T where rows hold one document; for packed rows
            `Packing.attended_tokens`, the mean over positions of their document's length.
        frame_share: of the positions that are frames, where a frame is a position: only these cost a depth decoder.
    """
    shape = config.backbone
    body = 6 * _multiplied(config) + 6 * shape.layers * shape.query_width * attended_tokens
    return body + frame_share * depth_flops_per_frame(config)


def palm_flops_per_token(config: AnyConfig, row_tokens: int, frame_share: float = 1.0) -> float:
    """The same as PaLM, nanoGPT and most reports count it for "MFU": the full square of attention."""
    shape = config.backbone
    body = 6 * _multiplied(config) + 12 * shape.layers * shape.query_width * row_tokens
    return body + frame_share * depth_flops_per_frame(config)


def depth_flops_per_frame(config: AnyConfig) -> float:
    """Forward and backward FLOPs of the codes inside a frame, after its first; 0 where there is no depth decoder."""
    if not isinstance(config, FrameConfig) or config.depth is None:
        return 0.0
    depth, slots = config.depth_shape, config.num_codebooks - 1
    per_slot = _blocks(depth)[0] + config.codebook_size * depth.width
    attention = depth.layers * depth.query_width * slots
    return 6 * config.depth.share * (slots * (per_slot + attention) + config.backbone.width * depth.width)


def _multiplied(config: AnyConfig) -> int:
    """Weights that multiply a position. Heads side by side are all of them multiplied at a frame, and few at text."""
    return count_parameters(config).matmul


def levanter_forward_flops_per_token(config: AnyConfig, row_tokens: int = 4096) -> float:
    """Forward FLOPs of one position by Levanter's accountant, which sized every run of the paper.

    Of a model of frames every position counts as a frame, K positions of its depth decoder among it, as published.

    It takes `width / heads` for the head width, even where it is not, and never halves attention. The sweep
    script's budgets are in this unit; the published ones are three times as large.
    """
    if not isinstance(config, FrameConfig):
        return _levanter_blocks(config, row_tokens) + 2 * config.width * config.vocab_size
    width = config.backbone.width
    backbone = _levanter_blocks(config.backbone, row_tokens) + 2 * width * config.head_ids
    if config.depth is None:
        return backbone
    depth, books = config.depth_shape, config.num_codebooks
    heads = (books - 1) * 2 * depth.width * config.codebook_size
    return backbone + books * _levanter_blocks(depth, books) + heads + 2 * width * depth.width


def _levanter_blocks(shape: ModelConfig, row_tokens: int) -> float:
    width, heads, rows = shape.width, shape.heads, row_tokens
    key_width = width * shape.kv_heads / heads
    feed_forward = 6 * width * shape.ffn_width
    projections = 2 * width * (width + 2 * key_width) + 2 * width**2
    attention = 4 * rows * width + 3 * rows * heads
    return shape.layers * (feed_forward + projections + attention)


def soda_training_flops(config: AnyConfig, tokens: float, row_tokens: int = 4096) -> float:
    """The C of the paper: three times Levanter's forward count, for a run over `tokens`."""
    return 3 * levanter_forward_flops_per_token(config, row_tokens) * tokens


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Estimated bytes of one training process that holds the whole model."""

    states_bytes: int
    """float32 weights, gradients and two moments: 16 bytes per parameter, and what is gathered where they are spread."""
    activations_bytes: int
    """What the backward pass of the blocks needs."""
    logits_bytes: int
    """Logits in float32 and what is kept of them, of as many positions as the loss takes at once."""

    @property
    def total_bytes(self) -> int:
        """All of it. Libraries, batches and fragmentation come on top."""
        return self.states_bytes + self.activations_bytes + self.logits_bytes


def training_memory(
    config: AnyConfig,
    batch_tokens: int,
    *,
    itemsize: int = 2,
    logits_tokens: int | None = None,
    recompute: bool = False,
    shards: int = 1,
    lora_rank: int | None = None,
    fp8_from_width: int | None = None,
) -> TrainingMemory:
    """Estimated memory to train on `batch_tokens` positions at once.

    Args:
        itemsize: bytes of an activation: 2 under bfloat16, 4 in float32. The stream between blocks has 4.
        logits_tokens: positions whose logits exist at once; default: all.
        recompute: only the input of each block is kept, and the rest of one block at a time.
        shards: ranks over which the states are spread; one block's weights are gathered at a time, and the head.
        lora_rank: width of adapters, which alone have gradients and moments; None trains every weight.
        fp8_from_width: blocks' matrices with both sides of at least this keep what they read once more, in 8 bits.
    """
    # At most every position is a frame; its codes are the positions of the depth decoder.
    parts = [(config.backbone, 1.0)]
    if isinstance(config, FrameConfig) and config.depth:
        parts.append((config.depth_shape, (config.num_codebooks - 1) * config.depth.share))
    per_token = adapters = 0.0
    for shape, positions in parts:
        kept = _activations(shape, itemsize, recompute)
        blocks = 1 if recompute else shape.layers
        if lora_rank is not None:
            adapters += shape.layers * lora_rank * sum(sum(sides) for sides in _matrices(shape))
            kept += itemsize * lora_rank * len(_matrices(shape)) * blocks
        if fp8_from_width is not None:
            kept += blocks * sum(sides[0] for sides in _matrices(shape) if min(sides) >= fp8_from_width)
        per_token += positions * kept
    count = count_parameters(config)
    states = 16 * count.total if lora_rank is None else 4 * count.total + 16 * round(adapters)
    layers = config.backbone.layers
    gathered = 0 if shards == 1 else 8 * (count.body_matrices // layers + 2 * count.embedding)
    logits = min(batch_tokens, logits_tokens or batch_tokens) * config.vocab_size * (itemsize + 4)
    return TrainingMemory(
        states_bytes=states // shards + gathered,
        activations_bytes=round(batch_tokens * per_token),
        logits_bytes=logits,
    )


def _matrices(shape: ModelConfig) -> list[tuple[int, int]]:
    """Numbers in and out of each matrix of a block: query, key, value, output, gate, up, down."""
    width, query, key, ffn = shape.width, shape.query_width, shape.key_width, shape.ffn_width
    return [
        (width, query),
        (width, key),
        (width, key),
        (query, width),
        (width, ffn),
        (width, ffn),
        (ffn, width),
    ]


def _activations(shape: ModelConfig, itemsize: int, recompute: bool) -> float:
    """Bytes that the backward pass of the blocks needs of a position."""
    stream = 2 * 4 * shape.width
    attention = 2 * shape.width + 3 * shape.query_width + 3 * shape.key_width
    feed_forward = 4 * shape.ffn_width
    block = stream + itemsize * (attention + feed_forward)
    return shape.layers * 4 * shape.width + block if recompute else shape.layers * block


def cache_bytes(config: AnyConfig, batch: int, max_tokens: int, *, itemsize: int = 2) -> int:
    """Memory of a `KVCache`, exactly."""
    shape = config.backbone
    return 2 * shape.layers * shape.key_width * batch * max_tokens * itemsize
