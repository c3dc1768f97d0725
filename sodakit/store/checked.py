"""Which shards were found to be what `store.json` says: each is read whole once, then known by its size and time.

A flipped bit within range would train in silence, one in an offset would end the process. What was seen of large stores
is kept in the user's cache folder; small ones are read again by each process, in less than a tenth of a second.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from sodakit.codec.contract import CodecSpec
from sodakit.errors import ConfigError, StoreError
from sodakit.files import digest, file_sha256, read_json, user_cache, write_json
from sodakit.log import say, track
from sodakit.store.shard import ShardInfo, check_sound, flat_values, open_batch
from sodakit.units import format_bytes

SMALL_BYTES = 64 << 20
"""Shards of a split up to here are not worth a note in the cache."""
LARGE_BYTES = 1 << 30
"""From here on reading takes seconds, and a line says what is going on."""

Seen = dict[str, list]
"""Of each shard's path inside the store: bytes, time of change in ns, sha256."""
_seen: dict[Path, Seen] = {}  # by this process, of each store


def check_shards(
    folder: Path,
    shards: Iterable[ShardInfo],
    codec: CodecSpec,
    text_size: Callable[[], int | None],
    again: bool = False,
) -> None:
    """Compare each shard with its digest in `store.json`, and look whether what it holds can be.

    One that was checked and has not been written since is passed over.

    Args:
        folder: the store.
        shards: what `store.json` says of them.
        codec: what the codes are of.
        text_size: gives the size of the tokenizer, where one lies in the store.
        again: read every byte even so.
    Raises:
        StoreError: one is missing, cut off, changed or damaged; the message says which, and how to make it again.
    """
    shards = list(shards)
    check_sizes(folder, shards)
    seen = _load(folder)
    unread = [info for info in shards if again or not _known(folder, info, seen)]
    total = sum(info.bytes for info in unread)
    if total >= LARGE_BYTES:
        say(
            f"Reading {len(unread)} shards ({format_bytes(total)}) of {folder} once, to compare their digests"
        )
    ids = text_size() if unread else None
    for info in track(unread, "checking shards") if total >= LARGE_BYTES else unread:
        path = folder / info.file
        before = os.stat(path).st_mtime_ns
        found = file_sha256(path)
        if found != info.sha256:
            raise StoreError(
                f"{path} has sha256 {found[:12]}…; needed: {info.sha256[:12]}…: it was damaged or replaced after it was made. "
                f"Copy it again, or delete it and run the same `sodakit prepare … --out {folder}` again: only that shard "
                "is made anew."
            )
        # A store made elsewhere can have damage that its digests agree with. This adds a twentieth to the digest's time.
        batch = open_batch(path)
        check_sound(batch, path, codec, ids)
        _check_counts(batch, info, codec, folder)
        seen[info.file] = [info.bytes, before, found]
    if unread:
        _save(folder, seen, total)


def check_sizes(folder: Path, shards: Iterable[ShardInfo]) -> None:
    """Whether every shard is there and as long as `store.json` says; no byte is read.

    Raises:
        StoreError: one is missing or cut off; the message names it.
    """
    for info in shards:
        path = folder / info.file
        try:
            size = os.stat(path).st_size
        except FileNotFoundError as error:
            raise StoreError(
                f"{path} does not exist; store.json names it. Copy it back, or run the same "
                f"`sodakit prepare … --out {folder}` again."
            ) from error
        if size != info.bytes:
            raise StoreError(
                f"{path} is {size} bytes; store.json says {info.bytes}. "
                "Was the copy cut off? Copy it again, or delete it and run the same prepare again."
            )


def remember(folder: Path, shards: Iterable[ShardInfo]) -> None:
    """Note the shards as checked: their digests were just taken from the files."""
    shards = list(shards)
    new = {info.file: [info.bytes, os.stat(folder / info.file).st_mtime_ns, info.sha256] for info in shards}
    _save(folder, _load(folder) | new, sum(info.bytes for info in shards))


def _check_counts(batch: pa.RecordBatch, info: ShardInfo, codec: CodecSpec, folder: Path) -> None:
    codes, ids = (flat_values(batch, name)[0] for name in ("codes", "text_ids"))
    found = batch.num_rows, len(codes) // codec.num_codebooks, len(ids)
    if found != (info.rows, info.frames, info.text_tokens):
        raise StoreError(
            f"{folder / info.file} has {found[0]} rows, {found[1]} frames and {found[2]} text ids; store.json says "
            f"{info.rows}, {info.frames} and {info.text_tokens}. Delete store.json and run the same "
            f"`sodakit prepare … --out {folder}` again: it writes the file anew."
        )


def _known(folder: Path, info: ShardInfo, seen: Seen) -> bool:
    return seen.get(info.file) == [info.bytes, os.stat(folder / info.file).st_mtime_ns, info.sha256]


def _place(folder: Path) -> Path:
    return user_cache() / f"checked-{digest(str(folder.resolve()))}.json"


def _load(folder: Path) -> Seen:
    seen = dict(_seen.get(folder.resolve(), {}))
    try:
        plain = read_json(_place(folder))
    except (OSError, ConfigError):  # absent or damaged: everything is read again
        plain = {}
    return (plain if isinstance(plain, dict) else {}) | seen


def _save(folder: Path, seen: Seen, read_bytes: int) -> None:
    _seen[folder.resolve()] = seen
    if read_bytes > SMALL_BYTES:
        with suppress(OSError):  # read-only, or full: the shards are read again next time
            write_json(_place(folder), seen)
