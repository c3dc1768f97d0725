"""Documents whose words are text or speech by lot, drawn anew in each epoch, and their stream of windows."""

from collections.abc import Iterator
from ctypes import CDLL
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sodakit.data import native
from sodakit.data.config import ViewConfig
from sodakit.data.interleave import BLOCK, Spans, coin, span_law, stretches
from sodakit.data.native import NativeWindows
from sodakit.data.order import derive_key, permute_all
from sodakit.data.views import DocumentView
from sodakit.errors import ConfigError
from sodakit.store.reader import StoreReader
from sodakit.store.schema import Utterance
from sodakit.tokens.documents import Span, Speech, Text
from sodakit.tokens.layouts.contract import lay
from sodakit.tokens.layouts.pattern import FLAT, Pattern
from sodakit.tokens.vocabulary import Vocabulary


class InterleavedView(DocumentView):
    """The recordings of one split, each a document that changes between text and speech at words.

    An utterance whose words have no times is written whole, speech and transcript, as other views do.

    Raises:
        ConfigError: no utterance has times of words.
    """

    def __init__(
        self,
        reader: StoreReader,
        split: str,
        config: ViewConfig,
        vocabulary: Vocabulary,
        pattern: Pattern = FLAT,
    ) -> None:
        super().__init__(reader, split, config, vocabulary, pattern)
        self.law = span_law(config.interleave)
        if not any(len(shard.words.id_at) for shard in self.shards):
            raise ConfigError(
                f"{reader.folder}, {split}: no utterance has times of words, which interleave needs. "
                f"Make a store that has them: sodakit align {reader.folder} --out TIMED"
            )
        self.totals = np.zeros(3, np.int64)
        """Text ids, frames and spans of the first epoch; set by the stream."""

    @property
    def orders(self) -> int:
        """One document of each recording: which comes first is drawn."""
        return 1

    @property
    def num_tokens(self) -> int:
        """Ids of all documents in the first epoch; other epochs have nearly as many."""
        return sum(self.tokens_by_kind().values())

    @property
    def hours(self) -> float:
        """Sound that the documents tell in the first epoch."""
        return int(self.totals[1]) / self.frame_rate_hz / 3600

    def tokens_by_kind(self) -> dict[str, int]:
        """As of every view, in the first epoch."""
        text, frames, spans = self.totals.tolist()
        semantic = sum(k < self.template.num_codebooks for k in self.template.vocabulary.semantic_codebooks)
        edges = (2 + self.more_bos) * len(self) + 2 * spans
        acoustic = frames * (self.template.num_codebooks - semantic)
        return {"text": text, "semantic": frames * semantic, "acoustic": acoustic, "markers": edges}

    def document(self, index: int, key: int) -> np.ndarray:
        """int32 ids_T of a document in the epoch of that key: the definition. `native.cpp` is the fast way."""
        members = self.members(index).tolist()
        utterances = [self.utterances[n] for n in members]
        if len(utterances) == 1 and utterances[0].codes_KF.shape[1] == 0:
            ids_T = self.template.plain_text(utterances[0].text_ids_T)
        else:
            first = int(self.outline.first_G[index])
            ids_T = self.template.document(list(self._drawn(utterances, index, first, key)))
        return np.concatenate([np.repeat(ids_T[:1], self.more_bos), ids_T])

    def _drawn(self, utterances: list[Utterance], index: int, first: int, key: int) -> Iterator[Span]:
        for place, utterance in enumerate(utterances):
            if place % BLOCK == 0:
                spans = Spans(self.law, key, index, place // BLOCK)
            num_ids, num_frames = len(utterance.text_ids_T), utterance.codes_KF.shape[1]
            if not (utterance.words and num_ids and num_frames):
                drawn = coin(key, first + place)
                yield from self._spans(
                    utterance, drawn if self.config.order == "both" else self._text_first(0)
                )
                continue
            for part in stretches(utterance.words, num_ids, num_frames, self.frame_rate_hz, spans):
                if part.is_speech:
                    yield Speech(utterance.codes_KF[:, part.frames])
                else:
                    yield Text(utterance.text_ids_T[part.ids])


@dataclass(frozen=True)
class _Epoch:
    """Where the documents of an epoch begin, and who writes its windows."""

    key: int
    begins: np.ndarray
    """int64 (E + 1): of each entry of the index in the stream; then the stream's length."""
    totals: np.ndarray
    native: NativeWindows | None

    @property
    def num_positions(self) -> int:
        return int(self.begins[-1])


class InterleavedStream:
    """All documents of a view in one shuffled order, drawn anew in each epoch, as streams cut every `window_positions`.

    An epoch has as many windows as the first: its stream begins again where it is too short for them, and what is left of
    a longer one is not seen. The index of an epoch costs a pass over the words; the last two are kept.
    """

    def __init__(self, view: InterleavedView, window_positions: int, seed: int) -> None:
        self.view = view
        self.window_positions = window_positions
        self._seed = seed
        self._order_U = permute_all(len(view), derive_key("documents", seed))
        self._epochs: dict[int, _Epoch] = {}
        first = self.epoch(0)
        view.totals = first.totals
        self.num_positions = first.num_positions
        self.num_tokens = view.num_tokens
        if self.num_windows == 0:
            raise ConfigError(
                f"A source has {self.num_positions} positions in {len(view)} documents, less than one window of "
                f"{window_positions}. Use a shorter context or more data."
            )

    @property
    def num_windows(self) -> int:
        """Windows in an epoch."""
        return self.num_positions // self.window_positions

    @property
    def unseen_positions(self) -> int:
        """Positions at the end of the first epoch that fill no window."""
        return self.num_positions % self.window_positions

    def window(self, index: int, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """One window of an epoch: ids_PW int32, and the lengths of the document pieces in it (int64)."""
        ids_BPW = np.empty((1, self.window_positions, self.view.layout.width), np.int32)
        lengths = self.fill(np.array([index]), ids_BPW, np.array([0]), np.array([epoch]))
        return ids_BPW[0], np.array(lengths[0], np.int64)

    def fill(
        self,
        windows_B: np.ndarray,
        ids_BPW: np.ndarray,
        rows_B: np.ndarray,
        epochs_B: np.ndarray | None = None,
    ) -> list[tuple[int, ...]]:
        """Write some windows into rows of a batch. Many at once cost less each.

        Args:
            windows_B: their numbers.
            ids_BPW: int32, written to.
            rows_B: which row is for which window.
            epochs_B: of which epoch each is; default: the first.
        Returns:
            For each window, the lengths of the document pieces in it: they sum to `window_positions`.
        """
        epochs_B = np.zeros_like(windows_B) if epochs_B is None else epochs_B
        lengths: list[tuple[int, ...]] = [()] * len(windows_B)
        for number in np.unique(epochs_B).tolist():
            here_B = np.flatnonzero(epochs_B == number)
            found = self._fill(self.epoch(number), windows_B[here_B], ids_BPW, rows_B[here_B])
            for place, window_lengths in zip(here_B.tolist(), found, strict=True):
                lengths[place] = window_lengths
        return lengths

    def epoch(self, number: int) -> _Epoch:
        """The index of an epoch."""
        found = self._epochs.get(number)
        if found is None:
            found = self._indexed(derive_key("interleave", self._seed, number))
            self._epochs = dict(list(self._epochs.items())[-1:]) | {number: found}
        return found

    def _fill(
        self, epoch: _Epoch, windows_B: np.ndarray, ids_BPW: np.ndarray, rows_B: np.ndarray
    ) -> list[tuple[int, ...]]:
        if epoch.native is not None:
            return epoch.native.fill(windows_B, ids_BPW, rows_B)
        rows = zip(windows_B.tolist(), rows_B.tolist(), strict=True)
        return [self._write(epoch, window, ids_BPW[row]) for window, row in rows]

    def _write(self, epoch: _Epoch, window: int, ids_PW: np.ndarray) -> tuple[int, ...]:
        """One window by the definition, document by document: what machines without a compiler do."""
        start, size = window * self.window_positions % epoch.num_positions, self.window_positions
        place = int(epoch.begins.searchsorted(start, side="right")) - 1
        at, lengths = int(epoch.begins[place]) - start, []
        while at < size:
            ids_DW = lay(self.view.layout, self.view.document(int(self._order_U[place]), epoch.key))
            seen = slice(max(at, 0), min(at + len(ids_DW), size))
            ids_PW[seen] = ids_DW[seen.start - at : seen.stop - at]
            lengths.append(seen.stop - seen.start)
            at, place = at + len(ids_DW), (place + 1) % len(self._order_U)
        return tuple(lengths)

    def _indexed(self, key: int) -> _Epoch:
        library = native.compiled()
        if library is None or self._order_U.dtype != np.int32:
            return self._indexed_by_definition(key)
        _, _, entries, num_blocks = self._entries
        begins_E = np.zeros(len(entries) + 1, np.int64)
        windows = self._native_windows(library, key, begins_E)
        positions, totals = windows.draw_lengths(num_blocks)
        ends = positions.cumsum()
        begins_E[1:-1], begins_E[-1] = ends[entries[1:] - 1], ends[-1]
        return _Epoch(key, begins_E, totals, windows)

    def _indexed_by_definition(self, key: int) -> _Epoch:
        view, totals, lengths = self.view, np.zeros(3, np.int64), []
        for document in self._order_U.tolist():
            ids_T = view.document(document, key)
            lengths.append(len(lay(view.layout, ids_T)))
            kinds_T = view.template.vocabulary.kinds_V[ids_T]
            markers = int((kinds_T == 1).sum()) - 2 - view.more_bos
            audio = int((kinds_T > 1).sum())
            counts = [len(ids_T) - audio - markers - 2 - view.more_bos, audio // view.template.num_codebooks]
            totals += np.array([*counts, markers // 2])
        return _Epoch(key, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), totals, None)

    @cached_property
    def _entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Of each entry of the index the place of its document in the order and its block in it (int32), which of all
        blocks it is (int64); and how many blocks there are. There is an entry about every `BLOCK` utterances."""
        sizes_U = np.diff(self.view.outline.first_G)[self._order_U].astype(np.int64)
        blocks_U = -(-sizes_U // BLOCK)
        first_U = blocks_U.cumsum() - blocks_U
        orders = np.repeat(np.arange(len(sizes_U), dtype=np.int32), blocks_U)
        blocks = (np.arange(len(orders)) - first_U[orders]).astype(np.int32)
        before = (sizes_U.cumsum() - sizes_U)[orders] + blocks.astype(np.int64) * BLOCK
        entries = np.flatnonzero(np.diff(before // BLOCK, prepend=-1))
        return orders[entries], blocks[entries], entries, len(orders)

    def _native_windows(self, library: CDLL, key: int, begins_E: np.ndarray) -> NativeWindows:
        view, outline = self.view, self.view.outline
        orders_E, blocks_E, _, _ = self._entries
        return NativeWindows(
            library,
            view.shards,
            view.layout,
            {
                "begin_M": None,
                "first_G": outline.first_G,
                "plain_G": outline.plain_G,
                "utterance_M": outline.utterance_M,
                "order_U": self._order_U,
                "begins": None,
            },
            tables=view.law.tables(),
            drawn={
                "key": key,
                "share": view.law.threshold,
                "half_rate": view.frame_rate_hz / 2,
                "block": BLOCK,
                "entry_begins": begins_E,
                "entry_orders": orders_E,
                "entry_blocks": blocks_E,
                "drawn_order": view.config.order == "both",
            },
            num_groups=view.num_groups,
            num_documents=len(self._order_U),
            num_begins=0,
            stride=0,
            size=self.window_positions,
            stored=view.stored_codebooks,
            has_text=True,
            text_first=view.config.order == "text_first",
            more_bos=view.more_bos,
        )
