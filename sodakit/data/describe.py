"""A mixture as a tree: what each source holds, how it is counted, and how often a budget passes through it."""

from rich.text import Text
from rich.tree import Tree

from sodakit.data.config import DataConfig
from sodakit.data.interleaved import InterleavedStream, InterleavedView
from sodakit.data.loader import Loader
from sodakit.data.packing import PackedStream
from sodakit.data.windows import TokenStream
from sodakit.units import format_count


def mixture_tree(loader: Loader, budget_tokens: float | None = None) -> Tree:
    """Sources with hours, unique and counted tokens, tokens by kind, packing waste, and epochs at the budget.

    Counted tokens are those of all documents: with both orders every second of audio counts twice, as published token
    counts do (arXiv 2602.16687). Unique ones are those of one order.
    """
    config = loader.config
    steps = None if budget_tokens is None else round(budget_tokens / config.batch_positions)
    tree = Tree(Text(_title(config, steps)))
    weights = [source.weight for source in config.sources]
    epochs = loader.epochs(steps) if steps is not None else None
    for number, (source, stream) in enumerate(zip(config.sources, loader.streams, strict=True)):
        branch = tree.add(Text(f"{source.title}: {weights[number] / sum(weights):.2%} of the tokens"))
        for line in pair_lines(stream) if isinstance(stream, PackedStream) else source_lines(stream):
            branch.add(line)
        if epochs is not None:
            capped = f", at most {source.max_epochs:g}" if source.max_epochs is not None else ""
            branch.add(f"epochs at the budget: {epochs[number]:.2f}{capped}")
    for phase in config.phases:
        total = sum(phase.weights.values())
        shares = ", ".join(f"{name} {weight / total:.2%}" for name, weight in phase.weights.items())
        tree.add(Text(f"from step {phase.from_step}: {shares}"))
    hours = sum(stream.view.hours for stream in loader.streams)
    counted = sum(stream.view.num_tokens for stream in loader.streams)
    tree.add(f"all: {hours:,.2f} h, {format_count(counted)} tokens counted")
    return tree


def source_lines(stream: TokenStream | InterleavedStream) -> list[str]:
    """What one source holds, line by line; of words by lot what the first epoch holds."""
    view = stream.view
    counted, unique = view.num_tokens, view.num_tokens // view.orders
    if isinstance(view, InterleavedView):
        lot = view.config.interleave
        orders = f"words by lot, {lot.spans}, {view.law.share:.1%} of them speech; of the first epoch"
    else:
        orders = "both orders counted" if view.orders == 2 else f"{view.config.order} only"
    kinds = ", ".join(
        f"{kind} {format_count(count)} ({count / counted:.1%})"
        for kind, count in view.tokens_by_kind().items()
    )
    waste = f"{stream.unseen_positions} positions of a pass ({stream.unseen_positions / stream.num_positions:.2%})"
    return [
        f"{view.hours:,.2f} h, {len(view):,} documents ({view.config.composition.replace('_', '+')})",
        f"{format_count(unique)} unique tokens, {format_count(counted)} counted ({orders})",
        f"by kind: {kinds}",
        f"{stream.num_windows:,} windows of {stream.window_positions}; packing waste: {waste}",
    ]


def pair_lines(stream: PackedStream) -> list[str]:
    """The same of a source of pairs, whose documents are packed whole."""
    view = stream.view
    places = stream.num_windows * stream.window_positions
    return [
        f"{view.hours:,.2f} h, {len(view):,} pairs as documents of {view.task.name}; {view.num_left_out} recordings left out",
        f"{format_count(view.num_tokens)} tokens; {stream.num_left_out} documents longer than a window",
        f"{stream.num_windows:,} windows of {stream.window_positions}; padding: {1 - stream.packed_positions / places:.2%}",
    ]


def _title(config: DataConfig, steps: int | None) -> str:
    if steps is None:
        return "mixture"
    return f"mixture: {format_count(steps * config.batch_positions)} tokens, {steps:,} steps of {format_count(config.batch_positions)}"
