"""Inputs that are broken, hostile or odd, made by small functions; `run_bad_inputs.py` says what each must come to.

Sounds are bytes by file name with a part of what their quarantine says; rows are lines of a manifest with the same;
damages change a whole store, run or voice in place.
"""

import gzip
import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.audio.joined import encoded, speechlike, vbr_mp3
from tests.prepare.layouts import add_member
from tests.prepare.test_bad_input import BAD_SOUNDS, sound_bytes

Damage = Callable[[Path], object]


# --- sounds


def bad_sounds() -> dict[str, tuple[bytes, str]]:
    """Content of each bad file, and what its quarantine says: a part of reason or detail."""
    found = {name: (data, detail) for name, (data, _, detail) in BAD_SOUNDS.items()}
    random = np.random.default_rng(0)
    tone = speechlike(1.0)
    whole = {
        "wav": encoded(tone, "WAV", "PCM_16"), "flac": encoded(tone, "FLAC", "PCM_16"), "aiff": encoded(tone, "AIFF", "PCM_16"),
        "au": encoded(tone, "AU", "PCM_16"), "caf": encoded(tone, "CAF", "PCM_16"), "w64": encoded(tone, "W64", "PCM_16"),
        "ogg": encoded(tone, "OGG", "VORBIS"), "opus": encoded(tone, "OGG", "OPUS"), "mp3": vbr_mp3(1.0),
    }  # fmt: skip
    for ending, data in whole.items():
        found[f"nothing.{ending}"] = b"", "0 bytes"
        found[f"first.{ending}"] = data[:12], ""
        found[f"noise.{ending}"] = random.bytes(4000), ""
        found[f"zeros.{ending}"] = bytes(4000), ""
        found[f"page.{ending}"] = b"<!DOCTYPE html><title>404 Not Found</title>" * 40, ""
        found[f"shifted.{ending}"] = random.bytes(64) + data[64:200], ""
    for ending in ("m4a", "mp4", "aac", "webm", "wma", "amr", "sph"):
        found[f"nothing.{ending}"] = b"", "0 bytes"
        found[f"noise.{ending}"] = random.bytes(4000), ""
        found[f"words.{ending}"] = b"these are words and no sound " * 99, ""
    for ending in ("wav", "aiff", "w64", "caf"):
        found[f"half.{ending}"] = whole[ending][: len(whole[ending]) // 2], ""
    silent, loud = np.zeros(16_000, np.float32), np.full(16_000, 1.0, np.float32)
    found |= {
        "silent.wav": (encoded(silent, "WAV", "PCM_16"), "silent"),
        "still.wav": (encoded(silent + 0.3, "WAV", "FLOAT"), "silent"),
        "clipped.wav": (encoded(loud * np.sign(tone), "WAV", "PCM_16"), "clipped"),
        "huge.wav": (encoded(tone * 1e30, "WAV", "FLOAT"), "beyond full scale"),
        "infinite.wav": (encoded(np.where(tone > 0.1, np.inf, tone), "WAV", "FLOAT"), "NaN or infinite"),
        "hertz.wav": (encoded(tone, "WAV", "PCM_16", rate_hz=1), ""),
        "slow.wav": (encoded(tone, "WAV", "PCM_16", rate_hz=100), ""),
        "fast.wav": (_with_rate(whole["wav"], 2**31 - 1), ""),
        "no-rate.wav": (_with_rate(whole["wav"], 0), ""),
        "many.wav": (encoded(np.repeat(tone[:800, None], 200, 1), "WAV", "PCM_16"), "channels"),
        "zip.wav": (zipped({"a.wav": whole["wav"]}), ""),
        "elf.wav": (b"\x7fELF" + random.bytes(4000), ""),
        "gzip.flac": (gzip.compress(whole["flac"]), ""),
        "long.flac": (encoded(np.zeros(8000 * 130, np.int16), "FLAC", "PCM_16", rate_hz=8000), "too long"),
    }  # fmt: skip
    return found


GOOD_SOUNDS = ("good-a.wav", "good-b.flac", "good-c.wav")


def sound_corpus(folder: Path, sounds: dict[str, tuple[bytes, str]]) -> None:
    """The bad sounds and three good ones, each with a transcript beside it; and what is called a sound and is no file."""
    folder.mkdir(parents=True)
    for name, (data, _) in sounds.items():
        (folder / name).write_bytes(data)
    for name in GOOD_SOUNDS:
        (folder / name).write_bytes(sound_bytes(kind=name.rpartition(".")[2].upper()))
    for name in (*sounds, *GOOD_SOUNDS):
        (folder / f"{name}.txt").write_text(f"words of {name}")
    os.mkfifo(folder / "pipe.wav")
    (folder / "device.wav").symlink_to("/dev/zero")
    (folder / "nowhere.wav").symlink_to(folder / "none")
    (folder / "folder.wav").mkdir()


ODD = ("pipe.wav", "device.wav", "nowhere.wav", "folder.wav")


def _with_rate(wav: bytes, rate_hz: int) -> bytes:
    return wav[:24] + struct.pack("<II", rate_hz, min(2 * rate_hz, 2**32 - 1)) + wav[32:]


def zipped(members: dict[str, bytes]) -> bytes:
    """A zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


# --- rows


def bad_rows() -> list[tuple[bytes, str]]:
    """Lines of a manifest that lies beside good.wav (0.5 s), and what their quarantine says."""
    good = {"audio": "good.wav", "text": "words"}

    def row(says: str, **more: object) -> tuple[bytes, str]:
        return json.dumps(good | more).encode(), says

    return [
        row("does not exist", audio="none.wav"), row("does not exist", audio="../../none.wav"),
        row("File name too long", audio="x" * 5000 + ".wav"), row("is a device", audio="/dev/zero"),
        row("is a device", audio="/dev/null"), row("is a folder", audio="/tmp"), row("is a pipe", audio="pipe.wav"),
        row("", audio="a\0b.wav"), row("audio is 7", audio=7), row("audio is ['a']", audio=["a"]),
        row("audio is True", audio=True), row("text is 7", text=7), row("text is ['a']", text=["a"]),
        row("text is {'a': 1}", text={"a": 1}), row("speaker is {'a': 1}", speaker={"a": 1}),
        row("language is ['en']", language=["en"]), row("licence is False", licence=False),
        row("id is {'a': 1}", id={"a": 1}), row("recording is [1]", recording=[1]),
        row("no time in seconds", start="soon"), row("no time in seconds", start=[1]), row("no time", end=True),
        row("finite", start=float("nan")), row("finite", end=float("inf")), row("finite", duration=float("nan")),
        row("a duration of -1", duration=-1), row("before it begins", start=2, end=1),
        row("times outside the sound", start=-1, end=0.4), row("times outside the sound", start=100, end=101),
        row("times outside", start=0.1, duration=1e300), row("zero length", start=0.2, end=0.2),
        row("too short", start=0.2, end=0.21), row("wrong duration", duration=3600),
        row("transcript too long", text="a " * 100_000), row("text too long for its sound", text="words " * 60),
        row("control characters", text="a\u0007b"), row("control characters", text="\0" * 50),
        row("UTF-8", text="\ud800"), row("UTF-8", speaker="\udcff"), row("UTF-8", id="\ud800"),
        (b'{"audio": "good.wav", "text": "cut', "not JSON"), (b"{", "not JSON"), (b"}", "not JSON"),
        (b"[1, 2]", "needed: an object"), (b'"words"', "needed: an object"), (b"7", "needed: an object"),
        (b"null", "needed: an object"), (b"nan", "not JSON"), (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 50_000, "nested too deeply"), (b"\xff\xfe\xfd", "not UTF-8"),
        (b'{"audio": "good.wav", "text": "\xff"}', "not UTF-8"), (b"RIFF\x00\x00WAVE", "not JSON"),
        (b'{"text": "no sound"}', "without sound"), (b'{"audio": "", "text": "no sound"}', "no sound file"),
        (b'{"audio": null, "text": "no sound"}', "no sound file"), (b"{}", "no sound file"),
        (b'{"speaker": "p"}', "no sound file"), (b'{"file": "pipe.txt"}', "is a pipe"),
        (b'{"file": "none.txt"}', ""), (b'{"audio": {"path": 7}, "text": "a"}', "needed: a string"),
        (b'{"audio": {"bytes": "UklGRg=="}, "text": "a"}', ""),
    ]  # fmt: skip


def row_corpus(folder: Path) -> None:
    """A manifest of the bad rows between two good ones."""
    folder.mkdir(parents=True)
    (folder / "good.wav").write_bytes(sound_bytes())
    os.mkfifo(folder / "pipe.wav")
    os.mkfifo(folder / "pipe.txt")
    good = [
        json.dumps({"audio": "good.wav", "text": text}).encode() for text in ("first words", "last words")
    ]
    lines = [good[0], *(line for line, _ in bad_rows()), good[1]]
    (folder / "manifest.jsonl").write_bytes(b"\n".join(lines) + b"\n")


# --- archives: a file each, and what `prepare` says; status 2, or 0 where good neighbours come through


def _tar(*members: tuple[str, bytes], **more: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            add_member(tar, name, data, **more)
    return buffer.getvalue()


def _parquet(columns: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def bad_archives() -> dict[str, tuple[bytes, str]]:
    """Files of one archive each, and what is said of it."""
    sound = sound_bytes()
    pair = (("a.wav", sound), ("a.txt", b"words"))
    tar, rows = _tar(*pair), b'{"text": "a line of words"}\n' * 2000
    table = _parquet({"audio": [{"bytes": sound, "path": "a.wav"}] * 9, "text": ["words"] * 9})
    packed = gzip.compress(np.random.default_rng(0).bytes(2000).hex().encode() + b"\n" + rows)
    flipped = bytearray(table)
    flipped[len(table) // 3 : len(table) // 3 + 64] = bytes(64)
    return {
        "empty.tar": (b"", ""), "zeros.tar": (bytes(10240), ""), "noise.tar": (os.urandom(4096), "damaged"),
        "cut.tar": (tar[:700], ""), "packed.tar": (gzip.compress(tar), "damaged or compressed"),
        "words.tar": (b"no tar " * 999, ""), "outside.tar": (_tar(("../../a.wav", sound)), "leads out of the tar"),
        "absolute.tar": (_tar(("/etc/a.wav", sound)), "leads out of the tar"),
        "links.tar": (_tar(("a.wav", b""), type=tarfile.SYMTYPE, linkname="/etc/passwd"), "a link"),
        "devices.tar": (_tar(("a.wav", b""), type=tarfile.CHRTYPE), "a link, device"),
        "textless.tar": (_tar(("a.txt", b"words")), "without sound"),
        "json.tar": (_tar(("a.wav", sound), ("a.json", b"{")), "not JSON"),
        "deep.tar": (_tar(("a.wav", sound), ("a.json", b"[" * 200_000)), "nested too deep"),
        "long-claim.tar": (_tar_claim(sound), ""),
        "empty.parquet": (b"", "no complete parquet"), "magic.parquet": (b"PAR1PAR1", "no complete parquet"),
        "noise.parquet": (os.urandom(4096), "no complete parquet"), "cut.parquet": (table[:-20], "no complete parquet"),
        "half.parquet": (table[: len(table) // 2], "no complete parquet"), "flipped.parquet": (bytes(flipped), ""),
        "numbers.parquet": (_parquet({"audio": [1, 2], "text": ["a", "b"]}), "audio is int64"),
        "floats.parquet": (_parquet({"wav": [1.0, 2.0], "text": ["a", "b"]}), "wav is double"),
        "samples.parquet": (_parquet({"audio": [[0.1, 0.2]], "text": ["a"]}), "no column of sound files"),
        "pathonly.parquet": (_parquet({"audio": [{"bytes": None, "path": "a.wav"}], "text": ["a"]}), ""),
        "columnless.parquet": (_parquet({"x": [1]}), ""), "rowless.parquet": (_parquet({"text": pa.array([], "string")}), ""),
        "empty.jsonl.gz": (b"", ""), "noise.jsonl.gz": (os.urandom(999), "cannot be read"),
        "cut.jsonl.gz": (packed[: len(packed) // 2], "cannot be read to its end"),
        "bomb.jsonl.gz": (gzip.compress(b" " * (70 << 20), 1), "a line of more than"),
        "plain.jsonl.gz": (rows, "cannot be read"), "noise.jsonl.zst": (os.urandom(999), "cannot be read"),
        "empty.jsonl": (b"", ""), "zeros.jsonl": (bytes(999), ""), "deep.jsonl": (b"[" * 200_000, "nested too deep"),
        "object.json": (b'{"a": 1}', ""), "deep.json": (b"[" * 200_000, "nested too deep"), "utf16.json": ("[".encode("utf-16"), ""),
        "empty.csv": (b"", "empty"), "noise.csv": (os.urandom(999), ""), "quotes.csv": (b'audio,text\n"a.wav,b\n' * 9, ""),
        "header.csv": (b"audio,text\n", ""), "columns.tsv": (b"x\ty\n1\t2\n", ""),
        "a.zip": (zipped({"a.wav": sound}), "no known kind of file"), "a.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(99), "no known kind"),
    }  # fmt: skip


def _tar_claim(sound: bytes) -> bytes:
    """A tar whose member claims more bytes than there are."""
    data = bytearray(_tar(("a.wav", sound)))
    data[124:136] = b"77777777777\0"
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    return bytes(data)


# --- stores, runs, voices: what is done to a whole one


def _write(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def _cut(name: str, share: float = 0.5) -> Damage:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return damage


def _flip(name: str, share: float) -> Damage:
    def damage(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        for place in range(int(len(data) * share), int(len(data) * share) + 40):
            data[place % len(data)] ^= 0xFF
        (folder / name).write_bytes(data)

    return damage


def _gone(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def _piped(name: str) -> Damage:
    return lambda folder: ((folder / name).unlink(), os.mkfifo(folder / name))


def _set(name: str, *keys: str, value: object) -> Damage:
    """One value of a JSON file changed."""

    def damage(folder: Path) -> None:
        plain = node = json.loads((folder / name).read_text())
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value
        (folder / name).write_text(json.dumps(plain))

    return damage


GARBAGE = {
    "empty": b"",
    "brace": b"{",
    "list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "noise": bytes(range(256)),
}


def bad_stores() -> dict[str, Damage]:
    """Damages of a store, each of which `describe --verify`, `train` and `leaks` must refuse in a line."""
    shard = "train/shard-00000.arrow"
    found: dict[str, Damage] = {f"store.json {k}": _write("store.json", v) for k, v in GARBAGE.items()}
    found |= {f"shard {name}": _write(shard, v) for name, v in GARBAGE.items()}
    found |= {f"shard cut at {share}": _cut(shard, share) for share in (0.1, 0.5, 0.99)}
    found |= {f"shard flipped at {share}": _flip(shard, share) for share in (0.0, 0.02, 0.3, 0.6, 0.97)}
    return found | {
        "store.json cut": _cut("store.json"), "store.json gone": _gone("store.json"), "store.json a pipe": _piped("store.json"),
        "shard gone": _gone(shard), "shard a pipe": _piped(shard),
        "codebooks 0": _set("store.json", "codec", "num_codebooks", value=0),
        "codebooks NaN": _set("store.json", "codec", "num_codebooks", value=float("nan")),
        "codec a word": _set("store.json", "codec", value="toy"), "version 99": _set("store.json", "schema_version", value=99),
        "splits a list": _set("store.json", "splits", value=[]), "splits null": _set("store.json", "splits", value=None),
    }  # fmt: skip


def bad_checkpoints() -> dict[str, Damage]:
    """Damages of a checkpoint, each of which `transcribe` must refuse in a line."""
    weights = "model.safetensors"
    found: dict[str, Damage] = {}
    for name in ("contents.json", "config.json", "state.json", "codec.json", "vocabulary/vocabulary.json"):
        found |= {f"{name} {kind}": _write(name, data) for kind, data in GARBAGE.items() if kind != "list"}
        found |= {f"{name} cut": _cut(name), f"{name} a pipe": _piped(name)}
    for kind, data in GARBAGE.items():
        found[f"weights {kind}"] = _write(weights, data)
    found |= {f"weights cut at {share}": _cut(weights, share) for share in (0.01, 0.5, 0.99)}
    found |= {f"weights flipped at {share}": _flip(weights, share) for share in (0.0, 0.01, 0.5, 0.99)}
    return found | {
        "weights gone": _gone(weights), "config gone": _gone("config.json"), "contents gone": _gone("contents.json"),
        "no layers": _set("config.json", "model", "layers", value=0), "width NaN": _set("config.json", "model", "width", value=float("nan")),
        "width 1e30": _set("config.json", "model", "width", value=1e30), "heads -1": _set("config.json", "model", "heads", value=-1),
        "theta infinite": _set("config.json", "model", "rope_theta", value=float("inf")),
        "another width": _set("config.json", "model", "width", value=128),
        "NaN weights, digest renewed": _weights(float("nan")), "zero weights, digest renewed": _weights(0.0),
        "infinite weights, digest renewed": _weights(float("inf")),
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


def write_contents_again(folder: Path, write: Callable[[Path], object]) -> None:
    """The list of a checkpoint's files with digests of what is there now."""
    (folder / "contents.json").unlink()
    write(folder)


def bad_voices() -> dict[str, Damage]:
    """Damages of a folder with the voice `ann` (voice.json, voice.flac), each of which a server skips and names."""
    sound, plain = "voice.flac", "voice.json"
    found: dict[str, Damage] = {f"json {kind}": _write(plain, data) for kind, data in GARBAGE.items()}
    found |= {f"sound {kind}": _write(sound, data) for kind, data in GARBAGE.items()}
    return found | {
        "sound gone": _gone(sound), "sound cut": _cut(sound), "sound a pipe": _piped(sound), "json a pipe": _piped(plain),
        "name a number": _set(plain, "name", value=7), "name a path": _set(plain, "name", value="../ann"),
        "text a list": _set(plain, "text", value=[]), "time a word": _set(plain, "created", value="now"),
    }  # fmt: skip
