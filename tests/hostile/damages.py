"""Ways to damage a folder that is whole: each changes it in place."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from sodakit.files import file_sha256
from sodakit.store.shard import open_batch

Damage = Callable[[Path], object]


def write(name: str, content: bytes) -> Damage:
    """A file with other bytes."""
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str, share: float = 0.5) -> Damage:
    """The end of a file gone."""

    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return damage


def flip(name: str, share: float) -> Damage:
    """Forty bytes of a file turned over."""

    def damage(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        for place in range(int(len(data) * share), int(len(data) * share) + 40):
            data[place % len(data)] ^= 0xFF
        (folder / name).write_bytes(data)

    return damage


def gone(name: str) -> Damage:
    """A file gone."""
    return lambda folder: (folder / name).unlink()


def piped(name: str) -> Damage:
    """A pipe where a file was."""
    return lambda folder: ((folder / name).unlink(), os.mkfifo(folder / name))


def set_value(name: str, *keys: str, value: object) -> Damage:
    """One value of a JSON file changed."""

    def damage(folder: Path) -> None:
        plain = node = json.loads((folder / name).read_text())
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value
        (folder / name).write_text(json.dumps(plain))

    return damage


def forged(
    change: Callable[[pa.RecordBatch], pa.RecordBatch] = lambda batch: batch, **told: object
) -> Damage:
    """The first training shard of a store changed and its digest made again, or other numbers in what is told of it."""

    def damage(folder: Path) -> None:
        path = folder / "train/shard-00000.arrow"
        new = change(open_batch(path))
        made = path.with_suffix(".new")
        with pa.OSFile(str(made), "wb") as sink, pa.ipc.new_file(sink, new.schema) as writer:
            writer.write_batch(new)
        made.replace(path)
        description = json.loads((folder / "store.json").read_text())
        shard = description["splits"]["train"]["shards"][0]
        shard |= {"bytes": path.stat().st_size, "sha256": file_sha256(path), **told}
        (folder / "store.json").write_text(json.dumps(description))

    return damage


def forged_column(name: str, change: Callable[[pa.Array], pa.Array]) -> Damage:
    """The same, of one column."""

    def changed(batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [
            change(column) if found == name else column
            for found, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    return forged(changed)


def forged_cell(name: str, value: object) -> Damage:
    """The same, of one cell."""

    def changed(column: pa.Array) -> pa.Array:
        cells = column.to_pylist()
        cells[1] = value
        return pa.array(cells, column.type)

    return forged_column(name, changed)


def forged_number(name: str, value: int | None) -> Damage:
    """The same, of one number in a column of lists."""

    def changed(column: pa.Array) -> pa.Array:
        values = column.values.to_pylist()
        values[5] = value
        return pa.LargeListArray.from_arrays(column.offsets, pa.array(values, column.values.type))

    return forged_column(name, changed)


def forged_offset(name: str, row: int, by: int) -> Damage:
    """The same, of where one list ends and the next begins."""

    def changed(column: pa.Array) -> pa.Array:
        offsets = column.offsets.to_numpy().copy()
        offsets[row] += by
        return pa.LargeListArray.from_arrays(pa.array(offsets), column.values)

    return forged_column(name, changed)


def forged_metadata(key: bytes, value: bytes) -> Damage:
    """The same, of what a shard says of itself."""
    return forged(lambda batch: batch.replace_schema_metadata({**batch.schema.metadata, key: value}))


GARBAGE = {
    "empty": b"",
    "brace": b"{",
    "list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "noise": bytes(range(256)),
}
