"""What a run will cost, before it runs."""

from sodakit.data.language import open_language
from sodakit.data.loader import Loader
from sodakit.model.accounting import (
    count_parameters,
    soda_training_flops,
    training_flops_per_token,
    training_memory,
)
from sodakit.train.config import TrainConfig
from sodakit.units import format_bytes, format_count


def describe_cost(config: TrainConfig) -> str:
    """Parameters by every convention, FLOPs, tokens, hours of audio and memory, as lines of text."""
    store, vocabulary = open_language(config.data.sources[0].store)
    count = count_parameters(config.model)
    loader = Loader(config.data, vocabulary)
    rows = [loader.row(number) for number in range(min(64, 4 * config.data.batch_rows))]
    lengths = [length for _, row in rows for length in row]
    attended = sum(n * n for n in lengths) / sum(lengths)
    audio_share = sum(float(vocabulary.is_audio(ids_T).mean()) for ids_T, _ in rows) / len(rows)
    tokens_per_s = store.codec_spec.frame_rate_hz * store.codec_spec.num_codebooks
    flops = training_flops_per_token(config.model, attended) * config.tokens
    micro_tokens = (config.micro_rows or config.data.batch_rows) * config.data.context
    memory = training_memory(config.model, micro_tokens)
    lines = {
        "Parameters": f"{format_count(count.total)} in all; {format_count(count.non_embedding)} without embeddings, "
        f"{format_count(count.one_embedding)} with one, {format_count(count.two_embeddings)} with two, "
        f"{format_count(count.matmul)} in matrix products",
        "Tokens": f"{format_count(config.tokens)} in {config.steps} steps of {format_count(config.data.batch_tokens)}",
        "Passes": ", ".join(f"{e:.2f}" for e in loader.epochs(config.steps)) + " over the sources",
        "Audio": f"about {config.tokens * audio_share / tokens_per_s / 3600:,.1f} hours heard",
        "Compute": f"{flops:.2e} FLOPs (documents of {attended:.0f} tokens on average); "
        f"{soda_training_flops(config.model, config.tokens, config.data.context):.2e} as the paper counts",
        "Memory": f"about {format_bytes(memory.total_bytes)} for {format_count(micro_tokens)} tokens at a time",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())
