"""What a model costs: parameters by every convention in use, FLOPs per token, bytes. No model is built.

Conventions differ by factors, so each has its own name and none is the default.
"""

from dataclasses import dataclass

from sodakit.model.config import ModelConfig
from sodakit.units import format_count


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """Parameters of a model, in the parts that papers add up differently."""

    body_matrices: int
    """Attention and feed-forward matrices of all blocks."""
    norms: int
    """RMSNorm weights, those of queries and keys included."""
    embedding: int
    """V * D: one embedding, or one head."""
    tied: bool
    """Whether head and embedding are the same."""

    @property
    def total(self) -> int:
        """All that is trained and stored."""
        return self.non_embedding + self.embedding * (1 if self.tied else 2)

    @property
    def non_embedding(self) -> int:
        """Without embedding and head (Kaplan)."""
        return self.body_matrices + self.norms

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
        """Those that multiply every token: body matrices and head. FLOPs follow from this."""
        return self.body_matrices + self.embedding

    def __str__(self) -> str:
        return (
            f"{format_count(self.total)} parameters ({format_count(self.non_embedding)} without embeddings)"
        )


def count_parameters(config: ModelConfig) -> ParameterCount:
    """The parameters of a config, equal to those of the model built from it."""
    attention = 2 * config.width * (config.query_width + config.key_width)
    feed_forward = 3 * config.width * config.ffn_width
    norms = config.layers * 2 * (config.width + config.head_width) + config.width
    return ParameterCount(
        body_matrices=config.layers * (attention + feed_forward),
        norms=norms,
        embedding=config.vocab_size * config.width,
        tied=config.tied_embeddings,
    )


def training_flops_per_token(config: ModelConfig, attended_tokens: float) -> float:
    """Forward and backward FLOPs of one token, as computed: causal attention is half the square.

    Args:
        attended_tokens: the row length T where rows hold one document; for packed rows
            `Packing.attended_tokens`, the mean over tokens of their document's length.
    """
    return 6 * count_parameters(config).matmul + 6 * config.layers * config.query_width * attended_tokens


def palm_flops_per_token(config: ModelConfig, row_tokens: int) -> float:
    """The same as PaLM, nanoGPT and most reports count it for "MFU": the full square of attention."""
    return 6 * count_parameters(config).matmul + 12 * config.layers * config.query_width * row_tokens


def levanter_forward_flops_per_token(config: ModelConfig, row_tokens: int = 4096) -> float:
    """Forward FLOPs of one token by Levanter's accountant, which sized every run of the paper.

    It takes `width / heads` for the head width, even where it is not, and never halves attention. The sweep
    script's budgets are in this unit; the published ones are three times as large.
    """
    width, heads, rows = config.width, config.heads, row_tokens
    key_width = width * config.kv_heads / heads
    feed_forward = 6 * width * config.ffn_width
    projections = 2 * width * (width + 2 * key_width) + 2 * width**2
    attention = 4 * rows * width + 3 * rows * heads
    return config.layers * (feed_forward + projections + attention) + 2 * width * config.vocab_size


def soda_training_flops(config: ModelConfig, tokens: float, row_tokens: int = 4096) -> float:
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
    config: ModelConfig,
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
    stream = 2 * 4 * config.width
    attention = 2 * config.width + 3 * config.query_width + 3 * config.key_width
    feed_forward = 4 * config.ffn_width
    block = stream + itemsize * (attention + feed_forward)
    per_token = config.layers * 4 * config.width + block if recompute else config.layers * block
    count = count_parameters(config)
    states = 16 * count.total
    if lora_rank is not None:
        adapters = config.layers * lora_rank * sum(sum(sides) for sides in _matrices(config))
        states = 4 * count.total + 16 * adapters
        per_token += itemsize * lora_rank * len(_matrices(config)) * (1 if recompute else config.layers)
    if fp8_from_width is not None:
        low = sum(sides[0] for sides in _matrices(config) if min(sides) >= fp8_from_width)
        per_token += low * (1 if recompute else config.layers)
    gathered = 0 if shards == 1 else 8 * (count.body_matrices // config.layers + 2 * count.embedding)
    logits = min(batch_tokens, logits_tokens or batch_tokens) * config.vocab_size * (itemsize + 4)
    return TrainingMemory(
        states_bytes=states // shards + gathered,
        activations_bytes=batch_tokens * per_token,
        logits_bytes=logits,
    )


def _matrices(config: ModelConfig) -> list[tuple[int, int]]:
    """Numbers in and out of each matrix of a block: query, key, value, output, gate, up, down."""
    width, query, key, ffn = config.width, config.query_width, config.key_width, config.ffn_width
    return [
        (width, query),
        (width, key),
        (width, key),
        (query, width),
        (width, ffn),
        (width, ffn),
        (ffn, width),
    ]


def cache_bytes(config: ModelConfig, batch: int, max_tokens: int, *, itemsize: int = 2) -> int:
    """Memory of a `KVCache`, exactly."""
    return 2 * config.layers * config.key_width * batch * max_tokens * itemsize
