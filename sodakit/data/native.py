"""`native.cpp`, compiled for this machine when first needed, and its structures as Python sees them."""

import ctypes
from ctypes import POINTER, Structure, c_double, c_int32, c_int64, c_uint64, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.compiler import compile_library
from sodakit.errors import StoreError
from sodakit.store.flat import FlatShard
from sodakit.tokens.layouts.contract import Layout

SOURCE = Path(__file__).with_name("native.cpp")
SHORTEST_DOCUMENT = 3
"""BOS, one id of text, EOS."""


class Shard(Structure):
    """Codes, text ids and words of one shard, and how many there are."""

    _fields_ = (
        *((name, c_void_p) for name in ("codes", "code_offsets", "text_ids", "text_offsets")),
        *((name, c_int64) for name in ("num_codes", "num_text_ids")),
        *((name, c_void_p) for name in ("word_offsets", "word_ids", "word_starts", "word_ends")),
        ("num_words", c_int64),
    )


class Draw(Structure):
    """How the words of an epoch are drawn, and where the blocks of its index begin."""

    _fields_ = (
        ("key", c_uint64),
        ("share", c_uint64),
        ("tables", c_void_p * 4),
        ("sizes", c_int64 * 4),
        ("half_rate", c_double),
        ("block", c_int64),
        *((name, c_void_p) for name in ("entry_begins", "entry_orders", "entry_blocks")),
        ("num_entries", c_int64),
        ("drawn_order", c_int32),
    )


class Stream(Structure):
    """A shuffled stream of documents: the store, the view, the order, the language."""

    _fields_ = (
        ("shards", POINTER(Shard)),
        ("shard_ends", c_void_p),
        ("num_shards", c_int64),
        *((name, c_void_p) for name in ("begin_M", "first_G", "plain_G", "utterance_M")),
        ("num_groups", c_int64),
        ("order_U", c_void_p),
        ("num_documents", c_int64),
        ("begins", c_void_p),
        *((name, c_int64) for name in ("num_begins", "stride")),
        *((name, c_void_p) for name in ("bases", "delays")),
        *((name, c_int64) for name in ("size", "width", "beyond")),
        *((n, c_int32) for n in ("frame_positions", "stored", "used", "has_text", "text_first", "more_bos")),
        *((n, c_int32) for n in ("bos", "eos", "audio_start", "audio_end", "text_start", "text_end")),
        ("draw", POINTER(Draw)),
    )


@lru_cache(maxsize=1)
def compiled() -> ctypes.CDLL | None:
    """The compiled windows, or None where there is no C++ compiler that takes them."""
    library = compile_library(SOURCE, otherwise="Windows document by document, slower")
    if library is not None:
        for made in (library.sodakit_windows, library.sodakit_drawn_windows):
            made.restype = c_int64
            made.argtypes = (
                *(POINTER(Stream), c_void_p, c_void_p, c_int64),
                *(c_void_p, c_void_p, c_int64, c_void_p),
            )
        library.sodakit_draw_lengths.restype = c_int64
        library.sodakit_draw_lengths.argtypes = (POINTER(Stream), c_void_p, c_void_p)
    return library


class NativeWindows:
    """The windows of one stream, written by compiled code.

    Args:
        library: from `compiled`.
        shards: of the store.
        layout: how the documents lie along positions.
        columns: arrays of the fields of `Stream` that point to one.
        tables: where words are drawn, the thresholds of `interleave.SpanLaw`.
        drawn: likewise, the other fields of `Draw`.
        numbers: the other fields of `Stream`.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        shards: list[FlatShard],
        layout: Layout,
        columns: dict[str, np.ndarray | None],
        tables: list[np.ndarray] | None = None,
        drawn: dict[str, Any] | None = None,
        **numbers: int,
    ) -> None:
        self._library = library
        self._call = library.sodakit_windows if drawn is None else library.sodakit_drawn_windows
        self._size = numbers["size"]
        self._width = layout.width
        vocabulary, used = layout.vocabulary, layout.num_codebooks
        base_K = vocabulary.audio_base + vocabulary.codebook_size * np.arange(used, dtype=np.int32)
        columns = columns | {
            "shard_ends": np.cumsum([len(s) for s in shards], dtype=np.int64),
            "bases": np.resize(base_K, self._size + used),
            "delays": np.array(layout.delays[:used], np.int64),
        }
        names = ("bos", "eos", "audio_start", "audio_end", "text_start", "text_end")
        # What the pointers point to must live as long as they do.
        self._kept = (shards, columns, tables, drawn)
        self._draw = None if drawn is None or tables is None else _draw(tables, drawn)
        self._stream = Stream(
            shards=(Shard * len(shards))(*(_shard(s) for s in shards)),
            num_shards=len(shards),
            used=used,
            width=layout.width,
            beyond=layout.positions_after_end,
            frame_positions=layout.width > 1,
            **{name: getattr(vocabulary, name) for name in names},
            **{name: None if column is None else _address(column) for name, column in columns.items()},
            draw=None if self._draw is None else ctypes.pointer(self._draw),
            **numbers,
        )
        self._reference = ctypes.byref(self._stream)

    def fill(self, windows_B: np.ndarray, ids_BPW: np.ndarray, rows_B: np.ndarray) -> list[tuple[int, ...]]:
        """Write each window into its row of `ids_BPW`; the lengths of the document pieces in each.

        Raises:
            StoreError: the shards are not what they were when the view was made.
        """
        count = len(windows_B)
        assert ids_BPW.flags.c_contiguous and ids_BPW.dtype == np.int32
        assert ids_BPW.shape[1:] == (self._size, self._width)
        assert len(rows_B) == count and (not count or 0 <= rows_B.min() <= rows_B.max() < len(ids_BPW))
        windows_B, rows_B = (np.ascontiguousarray(column, np.int64) for column in (windows_B, rows_B))
        lengths = np.empty(count * (self._size // SHORTEST_DOCUMENT + 2), np.int64)
        counts_B = np.empty(count, np.int64)
        where = (_address(ids_BPW), _address(lengths), len(lengths), _address(counts_B))
        made = self._call(self._reference, _address(windows_B), _address(rows_B), count, *where)
        if made < count:
            raise StoreError(
                f"Window {windows_B[made]} of a source leads outside the codes or text ids of its shard: the file is "
                "damaged, or was replaced while open. Copy it again, or delete it and run the same prepare again."
            )
        ends = counts_B.cumsum().tolist()
        every = lengths[: ends[-1] if ends else 0].tolist()
        return [tuple(every[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)]

    def draw_lengths(self, num_blocks: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of each block of the documents in their order, int64; and text ids, frames and spans of all of them.

        Raises:
            StoreError: the shards are not what they were when the view was made.
        """
        positions, totals = np.empty(num_blocks, np.int64), np.zeros(3, np.int64)
        made = self._library.sodakit_draw_lengths(self._reference, _address(positions), _address(totals))
        if made != num_blocks:
            raise StoreError(
                "The codes, text ids or words of a shard lead outside of it: the file is damaged, or was replaced while open. "
                "Copy it again, or delete it and run the same prepare again."
            )
        return positions, totals


def _draw(tables: list[np.ndarray], drawn: dict[str, Any]) -> Draw:
    fields = {n: _address(v) if isinstance(v, np.ndarray) else v for n, v in drawn.items()}
    draw = Draw(num_entries=len(drawn["entry_orders"]), **fields)
    for number, table in enumerate(tables):
        assert table.dtype == np.uint64 and table.flags.c_contiguous
        draw.tables[number], draw.sizes[number] = _address(table), len(table)
    return draw


def _shard(shard: FlatShard) -> Shard:
    words = shard.words
    arrays = (shard.codes, shard.code_offsets, shard.text_ids, shard.text_offsets)
    timed = (words.offsets, words.id_at, words.start_s, words.end_s)
    kinds = (np.uint16, np.int64, np.int32, np.int64, np.int64, np.int32, np.float32, np.float32)
    for array, kind in zip((*arrays, *timed), kinds, strict=True):
        assert array.dtype == kind and array.flags.c_contiguous
    return Shard(
        *(_address(array) for array in arrays),
        *(len(shard.codes), len(shard.text_ids)),
        *(_address(array) if len(words.id_at) else None for array in timed),
        len(words.id_at),
    )


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
