"""Damages of what sodakit itself has written: stores, checkpoints, runs, a server's voices."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.hostile.damages import (
    GARBAGE,
    Damage,
    cut,
    flip,
    forged,
    forged_cell,
    forged_metadata,
    forged_number,
    forged_offset,
    gone,
    piped,
    set_value,
    write,
)


def bad_stores() -> dict[str, Damage]:
    """Damages of a store, each of which `describe --verify`, `train` and `leaks` must refuse in a line."""
    shard = "train/shard-00000.arrow"
    found: dict[str, Damage] = {f"store.json {k}": write("store.json", v) for k, v in GARBAGE.items()}
    found |= {f"shard {name}": write(shard, v) for name, v in GARBAGE.items()}
    found |= {f"shard cut at {share}": cut(shard, share) for share in (0.1, 0.5, 0.99)}
    found |= {f"shard flipped at {share}": flip(shard, share) for share in (0.0, 0.02, 0.3, 0.6, 0.97)}
    return found | {
        "store.json cut": cut("store.json"), "store.json gone": gone("store.json"), "store.json a pipe": piped("store.json"),
        "shard gone": gone(shard), "shard a pipe": piped(shard),
        "codebooks 0": set_value("store.json", "codec", "num_codebooks", value=0),
        "codebooks NaN": set_value("store.json", "codec", "num_codebooks", value=float("nan")),
        "codec a word": set_value("store.json", "codec", value="toy"), "version 99": set_value("store.json", "schema_version", value=99),
        "splits a list": set_value("store.json", "splits", value=[]), "splits null": set_value("store.json", "splits", value=None),
    }  # fmt: skip


def forged_stores() -> dict[str, Damage]:
    """Stores whose digests agree with what their writer never writes: refused as the damaged ones are."""
    found = {
        f"{name} missing": forged_cell(name, None)
        for name in ("id", "recording", "start_s", "speaker", "source", "codes", "text_ids")
    }
    found |= {
        f"{name} first of row {row}": forged_offset("codes", row, by)
        for name, row, by in (("codes", 0, 1), ("codes", 2, 1), ("codes", -1, -1))
    }
    return found | {
        "a code beyond the codebook": forged_number("codes", 2048), "a code of 65535": forged_number("codes", 65535), "no code": forged_number("codes", None),
        "a text id beyond the tokenizer": forged_number("text_ids", 290), "a text id of a million": forged_number("text_ids", 10**6),
        "a negative text id": forged_number("text_ids", -5), "begins at NaN": forged_cell("start_s", float("nan")), "ends at infinity": forged_cell("end_s", float("inf")),
        "rejected a list": forged_metadata(b"rejected", b"[1, 2]"), "rejected an object": forged_metadata(b"rejected", b'{"a": 1}'),
        "rejected deep": forged_metadata(b"rejected", b"[" * 100_000), "codec in Latin-1": forged_metadata(b"codec_fingerprint", b"\xff"),
        "no rows": forged(lambda batch: batch.slice(0, 0)), "a row less": forged(lambda batch: batch.slice(1)),
        "rows -1": forged(rows=-1), "rows 99": forged(rows=99), "frames -5": forged(frames=-5), "frames 1e12": forged(frames=10**12), "ids 1e15": forged(text_tokens=10**15),
    }  # fmt: skip


def bad_checkpoints() -> dict[str, Damage]:
    """Damages of a checkpoint, each of which `transcribe` must refuse in a line."""
    weights = "model.safetensors"
    found: dict[str, Damage] = {}
    for name in ("contents.json", "config.json", "state.json", "codec.json", "vocabulary/vocabulary.json"):
        found |= {f"{name} {kind}": write(name, data) for kind, data in GARBAGE.items() if kind != "list"}
        found |= {f"{name} cut": cut(name), f"{name} a pipe": piped(name)}
    for kind, data in GARBAGE.items():
        found[f"weights {kind}"] = write(weights, data)
    found |= {f"weights cut at {share}": cut(weights, share) for share in (0.01, 0.5, 0.99)}
    found |= {f"weights flipped at {share}": flip(weights, share) for share in (0.0, 0.01, 0.5, 0.99)}
    return found | {
        "weights gone": gone(weights), "config gone": gone("config.json"), "contents gone": gone("contents.json"),
        "no layers": set_value("config.json", "model", "layers", value=0), "width NaN": set_value("config.json", "model", "width", value=float("nan")),
        "width 1e30": set_value("config.json", "model", "width", value=1e30), "heads -1": set_value("config.json", "model", "heads", value=-1),
        "theta infinite": set_value("config.json", "model", "rope_theta", value=float("inf")),
        "another width": set_value("config.json", "model", "width", value=128),
        "NaN weights, digest renewed": _weights(float("nan")), "zero weights, digest renewed": _weights(0.0),
        "infinite weights, digest renewed": _weights(float("inf")), "weights of whole numbers": _first_tensor(dtype="I32"),
        "weights beyond the file": _first_tensor(data_offsets=[0, 10**12]), "weights at the same place": _first_tensor(data_offsets=[0, 4]),
        "weights of 2^80": _first_tensor(shape=[2**40, 2**40]), "weights of nothing": _first_tensor(shape=[0, 2**40]),
        "weights of another shape": _first_tensor(shape=[1, 4096]), "a header of 100 MB": _first_tensor(space=100 << 20),
    }  # fmt: skip


def _weights(value: float) -> Damage:
    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        from sodakit.checkpoint.contents import write_contents

        tensors = load_file(folder / "model.safetensors")
        tensors[max(tensors, key=lambda name: tensors[name].numel())].fill_(value)
        save_file(tensors, folder / "model.safetensors")
        write_contents_again(folder, write_contents)

    return damage


def _first_tensor(space: int = 0, **changes: object) -> Damage:
    """Another header, of which the list of files tells the digest."""

    def damage(folder: Path) -> None:
        from sodakit.checkpoint.contents import write_contents

        path = folder / "model.safetensors"
        whole = path.read_bytes()
        length = int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8 : 8 + length])
        next(tensor for name, tensor in header.items() if name != "__metadata__").update(changes)
        written = json.dumps(header).encode() + b" " * space
        path.write_bytes(len(written).to_bytes(8, "little") + written + whole[8 + length :])
        write_contents_again(folder, write_contents)

    return damage


def write_contents_again(folder: Path, write: Callable[[Path], object]) -> None:
    """The list of a checkpoint's files with digests of what is there now."""
    (folder / "contents.json").unlink()
    write(folder)


def bad_voices() -> dict[str, Damage]:
    """Damages of a folder with the voice `ann` (voice.json, voice.flac), each of which a server skips and names."""
    sound, plain = "voice.flac", "voice.json"
    found: dict[str, Damage] = {f"json {kind}": write(plain, data) for kind, data in GARBAGE.items()}
    found |= {f"sound {kind}": write(sound, data) for kind, data in GARBAGE.items()}
    return found | {
        "sound gone": gone(sound), "sound cut": cut(sound), "sound a pipe": piped(sound), "json a pipe": piped(plain),
        "name a number": set_value(plain, "name", value=7), "name a path": set_value(plain, "name", value="../ann"),
        "text a list": set_value(plain, "text", value=[]), "time a word": set_value(plain, "created", value="now"),
    }  # fmt: skip
