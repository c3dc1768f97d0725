"""Batches as a pure function of (config, step): any rank, any number of workers, any resume gives the same rows."""

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sodakit.data.config import DataConfig, SourceConfig
from sodakit.data.interleaved import InterleavedStream, InterleavedView
from sodakit.data.mixture import Mixture
from sodakit.data.order import derive_key, permute
from sodakit.data.packing import PackedStream
from sodakit.data.pairs import PairView
from sodakit.data.views import DocumentView
from sodakit.data.windows import TokenStream
from sodakit.data.workers import worker_batches
from sodakit.errors import ConfigError
from sodakit.store.reader import StoreReader
from sodakit.tokens.layouts.pattern import FLAT, Pattern
from sodakit.tokens.vocabulary import Vocabulary

ROWS_TOGETHER = 64
"""Rows made at once where many are asked for."""
PERMUTED_TOGETHER = 1024
"""Places of a source's order that are computed at once."""


@dataclass(frozen=True)
class Batch:
    """The rows of one step that one rank trains on."""

    ids_BPW: np.ndarray
    """int32, -1 where a position has no id in a column."""
    lengths: tuple[tuple[int, ...], ...]
    """For each row, the lengths of the document pieces in it: attention stays inside each."""
    step: int
    """Which step it belongs to."""


def open_stream(
    source: SourceConfig, vocabulary: Vocabulary, context: int, seed: int, pattern: Pattern = FLAT
) -> TokenStream | InterleavedStream | PackedStream:
    """The windows of a source: of whole pairs where its view has a task, else of the stream of its documents."""
    reader = StoreReader(Path(source.store), expect_tokenizer=vocabulary.tokenizer_fingerprint or None)
    if source.view.task:
        pairs = PairView(reader, source.split, source.view.task, vocabulary, pattern)
        return PackedStream(pairs, context, seed)
    if source.view.interleave.spans != "none":
        drawn = InterleavedView(reader, source.split, source.view, vocabulary, pattern)
        return InterleavedStream(drawn, context, seed)
    view = DocumentView(reader, source.split, source.view, vocabulary, pattern)
    return TokenStream(view, context, seed)


class Loader:
    """The mixture, ready to be asked for any step.

    Args:
        config: what is read.
        vocabulary: what ids mean.
        pattern: how the model's family lays documents along positions.
    """

    def __init__(self, config: DataConfig, vocabulary: Vocabulary, pattern: Pattern = FLAT) -> None:
        self.config = config
        self.vocabulary = vocabulary
        self.pattern = pattern
        self.width = pattern.layout(vocabulary, 1).width
        self.streams = [
            open_stream(s, vocabulary, config.context, derive_key("stream", config.seed, number), pattern)
            for number, s in enumerate(config.sources)
        ]
        self._mixture = Mixture(
            self._row_weights([s.weight for s in config.sources]),
            config.seed,
            changes=[
                (
                    p.from_step * config.batch_rows,
                    self._row_weights([p.weights.get(s.title, 0.0) for s in config.sources]),
                )
                for p in config.phases
            ],
            limits=[
                None if s.max_epochs is None else int(s.max_epochs * stream.num_windows)
                for s, stream in zip(config.sources, self.streams, strict=True)
            ],
        )
        self._orders: dict[int, tuple[tuple[int, int], np.ndarray]] = {}

    def _row_weights(self, weights: list[float]) -> list[float]:
        """Shares of rows that make these shares of ids: a row of frames holds more ids than one of text."""
        ids = [stream.num_tokens / stream.num_positions for stream in self.streams]
        return [weight / per_position for weight, per_position in zip(weights, ids, strict=True)]

    def __reduce__(self) -> tuple[type["Loader"], tuple[DataConfig, Vocabulary, Pattern]]:
        # Another process opens the stores itself: memory maps do not travel.
        return type(self), (self.config, self.vocabulary, self.pattern)

    def row(self, number: int) -> tuple[np.ndarray, tuple[int, ...]]:
        """Row `number` of the run: ids_PW and the lengths of its document pieces."""
        ids_BPW, lengths = self._rows([range(number, number + 1)])
        return ids_BPW[0], lengths[0]

    def _rows(self, ranges: Sequence[range]) -> tuple[np.ndarray, list[tuple[int, ...]]]:
        """The rows of some ranges of numbers, made together: ids_BPW and the lengths of each row's pieces."""
        located = [self._mixture.locate_rows(numbers) for numbers in _joined(ranges)]
        source_B, nth_B = (np.concatenate(column) for column in zip(*located, strict=True))
        ids_BPW = np.empty((len(source_B), self.config.context, self.width), np.int32)
        lengths: list[tuple[int, ...]] = [()] * len(source_B)
        for source in np.flatnonzero(np.bincount(source_B)).tolist():
            rows_B = np.flatnonzero(source_B == source)
            windows_B, epochs_B = self._windows(source, nth_B[rows_B])
            lengths_of = self.streams[source].fill(windows_B, ids_BPW, rows_B, epochs_B)
            for row, row_lengths in zip(rows_B.tolist(), lengths_of, strict=True):
                lengths[row] = row_lengths
        return ids_BPW, lengths

    def _windows(self, source: int, nth_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which windows of a source are its rows of these numbers, and of which epochs."""
        epoch_B, place_B = np.divmod(nth_B, self.streams[source].num_windows)
        piece_B = place_B // PERMUTED_TOGETHER
        windows_B = np.empty_like(nth_B)
        for epoch, piece in sorted(set(zip(epoch_B.tolist(), piece_B.tolist(), strict=True))):
            here_B = (epoch_B == epoch) & (piece_B == piece)
            windows_B[here_B] = self._order(source, epoch, piece)[place_B[here_B] % PERMUTED_TOGETHER]
        return windows_B, epoch_B

    def _order(self, source: int, epoch: int, piece: int) -> np.ndarray:
        """The windows at a piece of the places of an epoch; the latest of each source is kept."""
        key, windows = self._orders.get(source, ((-1, -1), np.zeros(0, np.int64)))
        if key != (epoch, piece):
            size = self.streams[source].num_windows
            first = piece * PERMUTED_TOGETHER
            places = np.arange(first, min(first + PERMUTED_TOGETHER, size))
            windows = permute(places, size, derive_key("windows", self.config.seed, source, epoch))
            self._orders[source] = ((epoch, piece), windows)
        return windows

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """The rows of `step` that fall to `rank`.

        Raises:
            ConfigError: batch_rows does not divide by the number of ranks.
        """
        return next(self.batches(range(step, step + 1), rank, world_size))

    def batches(self, steps: range, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        """The batches of `steps` one after the other, several made at once: quicker, and the same.

        Raises:
            ConfigError: batch_rows does not divide by the number of ranks.
        """
        if self.config.batch_rows % world_size:
            raise ConfigError(
                f"batch_rows={self.config.batch_rows} does not divide among {world_size} ranks."
            )
        share = self.config.batch_rows // world_size
        together = max(1, ROWS_TOGETHER // share)
        for begin in range(0, len(steps), together):
            group = steps[begin : begin + together]
            firsts = [step * self.config.batch_rows + rank * share for step in group]
            ids_BPW, lengths = self._rows([range(first, first + share) for first in firsts])
            for number, step in enumerate(group):
                rows = slice(number * share, (number + 1) * share)
                yield Batch(ids_BPW[rows], tuple(lengths[rows]), step)

    def epochs(self, step: int) -> list[float]:
        """How often each source has been read after `step` steps.

        With the order `both` a pass holds every recording once each way, and text without sound twice in the same
        words: that counts as twice.
        """
        rows = self._mixture.rows_before(step * self.config.batch_rows)
        times = [2 if isinstance(s.view, DocumentView) and s.view.writes_twice else 1 for s in self.streams]
        return [float(r * n / s.num_windows) for r, n, s in zip(rows, times, self.streams, strict=True)]


def _joined(ranges: Sequence[range]) -> list[range]:
    """The same numbers in fewer ranges, where one follows the other."""
    joined: list[range] = []
    for numbers in ranges:
        if joined and joined[-1].stop == numbers.start:
            joined[-1] = range(joined[-1].start, numbers.stop)
        else:
            joined.append(numbers)
    return joined


def prefetch(
    loader: Loader, steps: range, rank: int = 0, world_size: int = 1, depth: int = 4, workers: int = 0
) -> Iterator[Batch]:
    """The batches of `steps`, made ahead so that the model never waits. An error there is raised here.

    Args:
        loader: makes them.
        steps: which, in this order.
        rank: this process's number among those that train.
        world_size: how many train.
        depth: batches made ahead; by each worker where there are some.
        workers: processes that make them; 0 is a thread of this one. The batches are the same.
    """
    if workers:
        yield from worker_batches(loader, steps, rank, world_size, depth, workers)
        return
    ready: queue.Queue[Batch | Exception] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def produce() -> None:
        batches = loader.batches(steps, rank, world_size)
        for _ in steps:
            try:
                item: Batch | Exception = next(batches)
            except Exception as error:
                item = error
            while not stopped.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if stopped.is_set() or isinstance(item, Exception):
                return

    thread = threading.Thread(target=produce, name="sodakit-loader", daemon=True)
    thread.start()
    try:
        for _ in steps:
            item = ready.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join(timeout=5)
