"""The loss vector on rows that are never trained on."""

from dataclasses import replace

import torch

from sodakit.data.config import DataConfig, SourceConfig
from sodakit.data.loader import Batch, Loader
from sodakit.model.transformer import Transformer
from sodakit.tokens.layouts.pattern import FLAT, Pattern
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.train.objective import LossVector, Objective
from sodakit.train.parallel import Ranks


class Validation:
    """A fixed set of rows from some sources."""

    def __init__(
        self,
        sources: tuple[SourceConfig, ...],
        data: DataConfig,
        rows: int,
        vocabulary: Vocabulary,
        pattern: Pattern = FLAT,
    ) -> None:
        """Take `rows` rows of the mixture, or fewer where the sources are small.

        Rows are cut no longer than the shortest source, so a small validation set is used rather than refused.
        """
        # One seed for all runs: those of other seeds, and of other weights, are compared on the same rows.
        config = replace(data, sources=sources, batch_rows=1, seed=0)
        shortest = min(
            s.num_positions for s in Loader(replace(config, context=2), vocabulary, pattern).streams
        )
        self._loader = Loader(replace(config, context=min(data.context, shortest)), vocabulary, pattern)
        available = sum(s.num_windows for s in self._loader.streams)
        self._batches: list[Batch] = [self._loader.batch(n) for n in range(min(rows, available))]

    @torch.no_grad()
    def __call__(
        self, model: Transformer, objective: Objective, vector: LossVector, ranks: Ranks | None = None
    ) -> dict[str, float]:
        """Mean nats by kind under `validation/…`, over the shares of all ranks."""
        rank, size = (ranks.rank, ranks.size) if ranks else (0, 1)
        for first in range(0, len(self._batches), size):
            # Sharded weights are gathered by all ranks together, so one without a row of its own left computes another's.
            own = first + rank < len(self._batches)
            targets = objective.targets(self._batches[first + rank if own else first], slice(None))
            _, nll_T = objective(model, targets)
            if own:
                vector.add(nll_T, targets.kinds_T)
        values = vector.read(ranks.sum if ranks else None)
        return {f"validation/{name}": value for name, value in values.items()}
