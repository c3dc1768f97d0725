"""A keyed permutation: a shuffle of n items that costs no memory and can be asked for any position."""

import hashlib

import numpy as np

ROUNDS = 6
PIECE = 1 << 16
"""Positions permuted at a time, so that what is between fits the processor's cache."""


def derive_key(*parts: int | str) -> int:
    """A 64-bit key of the parts, stable across machines."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def permute(positions: np.ndarray, size: int, key: int) -> np.ndarray:
    """Where each position of 0 … size-1 goes: int64, a bijection for each key.

    A Feistel network over the next even number of bits; results outside the range walk on until they fall inside.

    Args:
        positions: integers in 0 … size-1, any shape.
        size: number of items.
        key: from `derive_key`.
    Raises:
        ValueError: a position outside the range.
    """
    values = np.asarray(positions, np.uint64).copy()
    if values.size and int(values.max()) >= size:
        raise ValueError(f"Position {int(values.max())} is outside 0 … {size - 1}.")
    half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    outside = np.ones(values.shape, bool)
    while outside.any():
        values[outside] = _feistel(values[outside], half_bits, key)
        outside = values >= size
    return values.astype(np.int64)


def permute_all(size: int, key: int) -> np.ndarray:
    """`permute` of every position, made piece by piece: int32 where that is enough, for it may be long."""
    order = np.empty(size, np.int32 if size <= np.iinfo(np.int32).max else np.int64)
    for first in range(0, size, PIECE):
        last = min(first + PIECE, size)
        order[first:last] = permute(np.arange(first, last), size, key)
    return order


def _feistel(values: np.ndarray, half_bits: int, key: int) -> np.ndarray:
    mask = np.uint64((1 << half_bits) - 1)
    left, right = values >> np.uint64(half_bits), values & mask
    for number in range(ROUNDS):
        left, right = right, left ^ (_mix(right, (key + number * 0x9E3779B97F4A7C15) % 2**64) & mask)
    return (left << np.uint64(half_bits)) | right


def _mix(values: np.ndarray, key: int) -> np.ndarray:
    # The finaliser of splitmix64: every input bit reaches every output bit.
    mixed = values ^ np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
