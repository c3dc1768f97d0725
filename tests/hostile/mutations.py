"""Ways to damage the bytes of a file at random: each takes a generator, so that a seed says what comes of it."""

import gzip
import json
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np

Damage = Callable[[np.random.Generator, bytes], bytes]


def damage_bytes(random: np.random.Generator, original: bytes) -> bytes:
    """One to three of the usual ways: bits, numbers, cuts, repeats."""
    data = bytearray(original)
    # Headers are where damage hurts most.
    reach = len(data) if random.random() < 0.5 else min(len(data), 128)
    for _ in range(int(random.integers(1, 4))):
        place, way = int(random.integers(reach)), int(random.integers(7))
        if way == 0:
            data[place] ^= 1 << int(random.integers(8))
        elif way == 1:
            data[place] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF]))
        elif way == 2:
            data[place : place + 4] = bytes(random.integers(0, 256, 4, dtype=np.uint8))
        elif way == 3:
            data[place : place + 4] = int(random.choice([0, 1, 2**31 - 1, 2**32 - 1])).to_bytes(4, "little")
        elif way == 4:
            del data[place : place + int(random.integers(1, 400))]
        elif way == 5:
            data[place:place] = data[: int(random.integers(1, 400))]
        else:
            del data[max(16, place) :]
        reach = min(reach, len(data))
        if reach == 0:
            break
    return bytes(data)


def damage_ends(random: np.random.Generator, original: bytes) -> bytes:
    """The same, for files whose header stands at their end."""
    return (
        damage_bytes(random, original[::-1])[::-1]
        if random.random() < 0.5
        else damage_bytes(random, original)
    )


NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 1, 0.5, 2**31, -(2**63), 2**70, 1e308, float("nan"), float("inf"), "", "nan", "1e999", "\0",
    "../../etc/passwd", "/", "\ud800", "a" * 5000, "x\ny", [], [None], [[]], {}, {"a": 1}, {"": None},
)  # fmt: skip
"""Values that stand where others belong."""
DEEP = 100_000
"""Brackets that no parser may follow by recursion."""


def damage_json(random: np.random.Generator, original: bytes) -> bytes:
    """One to three values of a JSON text taken for others, taken out or doubled; or its bytes."""
    if random.random() < 0.3:
        return damage_bytes(random, original)
    value = json.loads(original)
    for _ in range(int(random.integers(1, 4))):
        value = _damaged_value(random, value)
    text = json.dumps(value)
    if random.random() < 0.03:
        text = text.replace("null", "[" * DEEP + "]" * DEEP, 1)
    return text.encode()


def damage_json_lines(random: np.random.Generator, original: bytes) -> bytes:
    """The same for one or two lines of many."""
    lines = original.splitlines()
    for _ in range(int(random.integers(1, 3))):
        place = int(random.integers(len(lines)))
        try:
            lines[place] = damage_json(random, lines[place])
        except (ValueError, RecursionError):  # damaged before
            lines[place] = damage_bytes(random, lines[place]) if lines[place] else b"{}"
    if random.random() < 0.2:
        lines.insert(0, lines[-1])
    return b"\n".join(lines) + b"\n"


def damage_text(random: np.random.Generator, original: bytes) -> bytes:
    """Lines doubled, dropped or exchanged, and words taken for others; or its bytes."""
    if random.random() < 0.4:
        return damage_bytes(random, original)
    lines = original.decode("utf-8").split("\n")
    for _ in range(int(random.integers(1, 4))):
        place, way = int(random.integers(len(lines))), int(random.integers(5))
        if way == 0:
            lines.insert(place, lines[place])
        elif way == 1 and len(lines) > 1:
            del lines[place]
        elif way == 2:
            other = int(random.integers(len(lines)))
            lines[place], lines[other] = lines[other], lines[place]
        else:
            words = _split(random, lines[place])
            words[int(random.integers(len(words)))] = str(NASTY[int(random.integers(len(NASTY)))])
            lines[place] = "".join(words)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _split(random: np.random.Generator, line: str) -> list[str]:
    """A line as words and what stands between them, so that joined they are the line."""
    marks = [i for i, c in enumerate(line) if not c.isalnum()]
    borders = sorted({0, *marks, *(m + 1 for m in marks), len(line)})
    return [line[a:b] for a, b in pairwise(borders)] or [""]


def _damaged_value(random: np.random.Generator, value: Any) -> Any:
    places = list(_places(value))
    if not places:
        return NASTY[int(random.integers(len(NASTY)))]
    holder, key = places[int(random.integers(len(places)))]
    way = int(random.integers(6))
    if way == 0:
        del holder[key]
    elif way == 1 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif way == 2 and isinstance(holder, list):
        holder.append(deepcopy(holder[key]))
    elif way == 3 and isinstance(holder[key], (int, float)):
        holder[key] = holder[key] * int(random.choice([-1, 2, 1000])) + int(random.integers(-1, 2))
    else:
        holder[key] = deepcopy(NASTY[int(random.integers(len(NASTY)))])
    return value


def _places(value: Any) -> Any:
    """Every place in a JSON value that can be changed: what holds it, and its key there."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def packed(damage: Damage) -> Damage:
    """The damage inside a gzip, or of it."""

    def inside(random: np.random.Generator, original: bytes) -> bytes:
        if random.random() < 0.4:
            return damage_bytes(random, original)
        return gzip.compress(damage(random, gzip.decompress(original)), mtime=0)

    return inside


def damage_tar(random: np.random.Generator, original: bytes) -> bytes:
    """A header's field taken for another with the checksum made good; or bytes."""
    if random.random() < 0.4:
        return damage_bytes(random, original)
    data = bytearray(original)
    heads = [n for n in range(0, len(data) - 512, 512) if data[n + 257 : n + 262] == b"ustar"]
    at = heads[int(random.integers(len(heads)))]
    fields = {"name": (0, 100), "size": (124, 12), "type": (156, 1), "link": (157, 100), "prefix": (345, 155)}
    begin, length = list(fields.values())[int(random.integers(len(fields)))]
    new = (
        b"../../x.wav", b"77777777777\0", b"-0000000001\0", b"\x80\0\0\0\0\0\0\0\xff\xff\xff\xff", b"1", b"2", b"x", b"g",
        b"L", b"K", b"S", b"5", b"\xff\xfe", b"a" * 155, b"\0", bytes(random.integers(0, 256, 8, dtype=np.uint8)),
    )[int(random.integers(16))]  # fmt: skip
    data[at + begin : at + begin + length] = new[:length].ljust(length, b"\0")
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


def damage_safetensors(random: np.random.Generator, original: bytes) -> bytes:
    """Its header of JSON, its weights, or any of its bytes."""
    length = int.from_bytes(original[:8], "little")
    way = random.random()
    if way < 0.4:
        header = damage_json(random, original[8 : 8 + length])
        return len(header).to_bytes(8, "little") + header + original[8 + length :]
    if way < 0.6:
        weights = np.frombuffer(
            original[8 + length :][: (len(original) - 8 - length) // 4 * 4], np.float32
        ).copy()
        value = (np.nan, np.inf, 1e38, 0.0)[int(random.integers(4))]
        weights[int(random.integers(len(weights))) :][: int(random.integers(1, 9999))] = value
        return original[: 8 + length] + weights.tobytes()
    return damage_bytes(random, original)
