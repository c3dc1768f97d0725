"""Lists, tables and archives that are broken or hostile.

Rows are lines of a manifest with a part of what their quarantine says; archives are whole files with what is said of them.
"""

import datetime
import decimal
import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.hostile.bad_sounds import zipped
from tests.prepare.layouts import add_member
from tests.prepare.test_bad_input import sound_bytes


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
        (b'{"audio": "good.wav", "text": "one", "text": "two"}', "'text' comes twice"),
        (b'{"audio": "none.wav", "audio": "good.wav", "text": "one"}', "'audio' comes twice"),
        (b'{"audio": "good.wav", "text": "a", "b": {"c": 1, "c": 2}}', "'c' comes twice"),
        (b'{"audio": "good.wav", "text": "a", "speaker": ' + b"9" * 5000 + b"}", "4300 digits"),
        row("finite", duration=10**400), row("does not exist", audio="http://127.0.0.1:9/a.wav"),
        row("does not exist", audio="~/none.wav"), row("does not exist", audio="cat /etc/passwd |"),
        row("0 bytes", audio="/proc/self/environ"), row("is a device", audio="/dev/tty"),
        (b'{"audio": "good.wav", "text": "a", "start": 1e999}', "finite"), row("text too long for its sound", text="a" + "\u0301" * 5000),
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


def _parquet(columns: dict[str, object] | pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), buffer)
    return buffer.getvalue()


def bad_archives() -> dict[str, tuple[bytes, str]]:
    """Files of one archive each, and what is said of it."""
    sound = sound_bytes()
    pair = (("a.wav", sound), ("a.txt", b"words"))
    tar, rows = _tar(*pair), b'{"text": "a line of words"}\n' * 2000
    table = _parquet({"audio": [{"bytes": sound, "path": "a.wav"}] * 9, "text": ["words"] * 9})
    packed = gzip.compress(np.random.default_rng(0).bytes(2000).hex().encode() + b"\n" + rows)
    flipped, cells = bytearray(table), [{"bytes": sound, "path": "a.wav"}]
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
        "dictionary.parquet": (_parquet({"audio": pa.array([sound, sound]).dictionary_encode(), "text": ["a", "b"]}), "audio is dictionary"),
        "nested.parquet": (_parquet({"audio": [{"file": {"bytes": sound, "path": "a.wav"}}], "text": ["a"]}), "audio is struct<file"),
        "lists.parquet": (_parquet({"audio": [[{"bytes": sound, "path": "a.wav"}]], "text": ["a"]}), "audio is list"),
        "nulls.parquet": (_parquet({"audio": pa.nulls(2), "text": pa.nulls(2)}), "audio is null"),
        "decimals.parquet": (_parquet({"audio": cells, "text": [decimal.Decimal("1.5")]}), "needed: a string"),
        "times.parquet": (_parquet({"audio": cells, "text": [datetime.datetime(2020, 1, 1)]}), "needed: a string"),
        "binary.parquet": (_parquet({"audio": cells, "text": [b"words"]}), "needed: a string"),
        "maps.parquet": (_parquet({"audio": cells, "text": pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string()))}), "needed: a string"),
        "twice.parquet": (_parquet(pa.Table.from_arrays([pa.array(cells)] * 2 + [pa.array(["a"])], ["audio", "audio", "text"])), "two columns 'audio'"),
        "texts.parquet": (_parquet(pa.Table.from_arrays([pa.array(cells), pa.array(["a"]), pa.array(["b"])], ["audio", "text", "text"])), "two columns 'text'"),
        "paths.parquet": (_parquet({"audio": pa.array([{"bytes": sound, "path": b"a.wav"}], pa.struct({"bytes": pa.binary(), "path": pa.binary()})), "text": ["a"]}), "the path of audio is"),
        "encrypted.parquet": (b"PARE" + bytes(100) + b"PARE", "no complete parquet"),
        "empty.jsonl.gz": (b"", ""), "noise.jsonl.gz": (os.urandom(999), "cannot be read"),
        "cut.jsonl.gz": (packed[: len(packed) // 2], "cannot be read to its end"),
        "bomb.jsonl.gz": (gzip.compress(b" " * (70 << 20), 1), "a line of more than"),
        "plain.jsonl.gz": (rows, "cannot be read"), "noise.jsonl.zst": (os.urandom(999), "cannot be read"),
        "empty.jsonl": (b"", ""), "zeros.jsonl": (bytes(999), ""), "deep.jsonl": (b"[" * 200_000, "nested too deep"),
        "object.json": (b'{"a": 1}', ""), "deep.json": (b"[" * 200_000, "nested too deep"), "utf16.json": ("[".encode("utf-16"), ""),
        "empty.csv": (b"", "empty"), "noise.csv": (os.urandom(999), ""), "quotes.csv": (b'audio,text\n"a.wav,b\n' * 9, ""),
        "header.csv": (b"audio,text\n", ""), "twice.csv": (b"audio,text,text\na.wav,a,b\n", ""), "utf32.csv": ("audio,text\na.wav,a\n".encode("utf-32"), ""),
        "wide.csv": (b"audio,text" + b",x" * 30_000 + b"\na.wav,words" + b"," * 30_000 + b"\n", "30002 columns"), "columns.tsv": (b"x\ty\n1\t2\n", ""),
        "a.zip": (zipped({"a.wav": sound}), "no known kind of file"), "a.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(99), "no known kind"),
    }  # fmt: skip


def _tar_claim(sound: bytes) -> bytes:
    """A tar whose member claims more bytes than there are."""
    data = bytearray(_tar(("a.wav", sound)))
    data[124:136] = b"77777777777\0"
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    return bytes(data)
