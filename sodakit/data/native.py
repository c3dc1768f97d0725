"""`native.cpp`, compiled for this machine when first needed, and its structures as Python sees them."""

import ctypes
from ctypes import POINTER, Structure, c_int32, c_int64, c_void_p
from functools import lru_cache
from pathlib import Path

import numpy as np

from sodakit.compiler import compile_library
from sodakit.errors import StoreError
from sodakit.store.flat import FlatShard
from sodakit.tokens.layouts.contract import Layout

SOURCE = Path(__file__).with_name("native.cpp")
SHORTEST_DOCUMENT = 3
"""BOS, one id of text, EOS."""


class Shard(Structure):
    """Codes and text ids of one shard, and how many there are."""

    _fields_ = (
        *((name, c_void_p) for name in ("codes", "code_offsets", "text_ids", "text_offsets")),
        *((name, c_int64) for name in ("num_codes", "num_text_ids")),
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
    )


@lru_cache(maxsize=1)
def compiled() -> ctypes.CDLL | None:
    """The compiled windows, or None where there is no C++ compiler that takes them."""
    library = compile_library(SOURCE, otherwise="Windows document by document, slower")
    if library is not None:
        library.sodakit_windows.restype = c_int64
        library.sodakit_windows.argtypes = (
            *(POINTER(Stream), c_void_p, c_void_p, c_int64),
            *(c_void_p, c_void_p, c_int64, c_void_p),
        )
    return library


class NativeWindows:
    """The windows of one stream, written by compiled code.

    Args:
        library: from `compiled`.
        shards: of the store.
        layout: how the documents lie along positions.
        columns: arrays of the fields of `Stream` that point to one.
        numbers: the other fields.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        shards: list[FlatShard],
        layout: Layout,
        columns: dict[str, np.ndarray | None],
        **numbers: int,
    ) -> None:
        self._call = library.sodakit_windows
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
        self._kept = (shards, columns)
        self._stream = Stream(
            shards=(Shard * len(shards))(*(_shard(s) for s in shards)),
            num_shards=len(shards),
            used=used,
            width=layout.width,
            beyond=layout.positions_after_end,
            frame_positions=layout.width > 1,
            **{name: getattr(vocabulary, name) for name in names},
            **{name: None if column is None else _address(column) for name, column in columns.items()},
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


def _shard(shard: FlatShard) -> Shard:
    arrays = (shard.codes, shard.code_offsets, shard.text_ids, shard.text_offsets)
    for array, kind in zip(arrays, (np.uint16, np.int64, np.int32, np.int64), strict=True):
        assert array.dtype == kind and array.flags.c_contiguous
    return Shard(*(_address(array) for array in arrays), len(shard.codes), len(shard.text_ids))


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
