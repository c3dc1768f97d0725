"""Batches as a pure function of (config, step): any rank, any number of workers, any resume gives the same rows."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sodakit.data.mixture import Mixture
from sodakit.data.order import derive_key, permute
from sodakit.data.packing import PackedStream
from sodakit.data.pairs import PairView
from sodakit.data.views import DocumentView, ViewConfig
from sodakit.data.windows import TokenStream
from sodakit.errors import ConfigError
from sodakit.store.reader import StoreReader
from sodakit.tokens.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One ingredient of the mixture: a store, seen in one way."""

    store: str
    """Folder of the store."""
    weight: float = 1.0
    """Share of the tokens, relative to the other sources."""
    view: ViewConfig = ViewConfig()
    """How its utterances are written as documents."""
    split: str = "train"
    """Which split."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a run reads."""

    sources: tuple[SourceConfig, ...]
    """The mixture."""
    context: int = 4096
    """T: tokens in a row."""
    batch_rows: int = 8
    """B: rows in a step, over all ranks."""
    seed: int = 0
    """Keys every shuffle."""

    def __post_init__(self) -> None:
        if self.context < 2 or self.batch_rows < 1 or not self.sources:
            raise ConfigError(
                f"context={self.context}, batch_rows={self.batch_rows}, {len(self.sources)} sources; "
                "needed: at least 2, 1 and 1."
            )

    @property
    def batch_tokens(self) -> int:
        """Tokens in a step, over all ranks."""
        return self.batch_rows * self.context


@dataclass(frozen=True)
class Batch:
    """The rows of one step that one rank trains on."""

    ids_BT: np.ndarray
    """int32."""
    lengths: tuple[tuple[int, ...], ...]
    """For each row, the lengths of the document pieces in it: attention stays inside each."""
    step: int
    """Which step it belongs to."""


def open_stream(
    source: SourceConfig, vocabulary: Vocabulary, context: int, seed: int
) -> TokenStream | PackedStream:
    """The windows of a source: of whole pairs where its view has a task, else of the stream of its documents."""
    reader = StoreReader(Path(source.store), expect_tokenizer=vocabulary.tokenizer_fingerprint or None)
    if source.view.task:
        return PackedStream(PairView(reader, source.split, source.view.task, vocabulary), context, seed)
    return TokenStream(DocumentView(reader, source.split, source.view, vocabulary), context, seed)


class Loader:
    """The mixture, ready to be asked for any step."""

    def __init__(self, config: DataConfig, vocabulary: Vocabulary) -> None:
        self.config = config
        self.vocabulary = vocabulary
        self.streams = [
            open_stream(s, vocabulary, config.context, derive_key("stream", config.seed, number))
            for number, s in enumerate(config.sources)
        ]
        self._mixture = Mixture([s.weight for s in config.sources], config.seed)

    def row(self, number: int) -> tuple[np.ndarray, tuple[int, ...]]:
        """Row `number` of the run: ids_T and the lengths of its document pieces."""
        source, nth = self._mixture.locate(number)
        stream = self.streams[source]
        epoch, place = divmod(nth, stream.num_windows)
        key = derive_key("windows", self.config.seed, source, epoch)
        window = int(permute(np.array([place]), stream.num_windows, key)[0])
        ids_T, lengths = stream.window(window)
        return ids_T, tuple(lengths.tolist())

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """The rows of `step` that fall to `rank`.

        Raises:
            ConfigError: batch_rows does not divide by the number of ranks.
        """
        if self.config.batch_rows % world_size:
            raise ConfigError(
                f"batch_rows={self.config.batch_rows} does not divide among {world_size} ranks."
            )
        share = self.config.batch_rows // world_size
        first = step * self.config.batch_rows + rank * share
        rows = [self.row(number) for number in range(first, first + share)]
        return Batch(np.stack([ids_T for ids_T, _ in rows]), tuple(lengths for _, lengths in rows), step)

    def epochs(self, step: int) -> list[float]:
        """How often each source has been passed through after `step` steps."""
        rows = np.array([s.weight for s in self.config.sources])
        rows = rows / rows.sum() * step * self.config.batch_rows
        return [float(r / s.num_windows) for r, s in zip(rows, self.streams, strict=True)]


def prefetch(
    loader: Loader, steps: range, rank: int = 0, world_size: int = 1, depth: int = 4
) -> Iterator[Batch]:
    """The batches of `steps`, made ahead in a thread so that the model never waits. An error there is raised here."""
    ready: queue.Queue[Batch | Exception] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def produce() -> None:
        for step in steps:
            try:
                item: Batch | Exception = loader.batch(step, rank, world_size)
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
