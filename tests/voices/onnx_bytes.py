"""ONNX networks of a few bytes, without the package onnx: protobuf by hand; and the folders of voices and judges of them."""

import json
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

FLOAT, INT64 = 1, 7
IPA = string.ascii_lowercase + "ˈˌːəɜɪʊʌɔɑɛæðθʃʒɹŋɾɚɐɡᵊ .,?!"


def _varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _node(kind: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    fields = [_field(1, name) for name in inputs] + [_field(2, output), _field(4, kind)]
    return b"".join([*fields, *(_field(5, attribute) for attribute in attributes)])


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_field(1, _field(1, d) if isinstance(d, int) else _field(2, d)) for d in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, dims)))


def write_model(
    path: Path,
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    output: bytes,
    initializers: Sequence[bytes] = (),
) -> None:
    """A network of opset 13."""
    graph = [_field(1, node) for node in nodes] + [_field(2, "g"), *(_field(5, i) for i in initializers)]
    graph += [_field(11, value) for value in inputs] + [_field(12, output)]
    path.write_bytes(_field(1, 7) + _field(7, b"".join(graph)) + _field(8, _field(2, 13)))


def _cast(source: str, output: str) -> bytes:
    return _node("Cast", [source], output, _field(1, "to") + _field(3, FLOAT) + _field(20, 2))


def fake_piper(path: Path) -> None:
    """Says each id as one sample, id / 1000 plus noise that depends on the seed and on what was said before."""
    ids = [
        _value("input", INT64, [1, "n"]),
        _value("input_lengths", INT64, [1]),
        _value("scales", FLOAT, [3]),
    ]
    small = _field(1, 1) + _field(2, FLOAT) + _field(8, "small") + _field(9, b"\x6f\x12\x83\x3a")  # 0.001
    tenth = _field(1, 1) + _field(2, FLOAT) + _field(8, "tenth") + _field(9, b"\xcd\xcc\xcc\x3d")
    nodes = [_cast("input", "f"), _node("Mul", ["f", "small"], "clean"), _node("RandomNormalLike", ["clean"], "noise"),
             _node("Mul", ["noise", "small"], "less"), _node("Mul", ["less", "tenth"], "faint"), _node("Add", ["clean", "faint"], "output")]  # fmt: skip
    write_model(path, nodes, ids, _value("output", FLOAT, [1, "n"]), [small, tenth])


def fake_kokoro(path: Path) -> None:
    """Says each id as one sample: the id times the sum of the style."""
    inputs = [
        _value("tokens", INT64, [1, "n"]),
        _value("style", FLOAT, [1, 256]),
        _value("speed", FLOAT, [1]),
    ]
    keep = _field(1, "keepdims") + _field(3, 0) + _field(20, 2)
    nodes = [_cast("tokens", "f"), _node("ReduceSum", ["style"], "s", keep), _node("Mul", ["f", "s"], "m"),
             _node("Mul", ["m", "speed"], "audio")]  # fmt: skip
    write_model(path, nodes, inputs, _value("audio", FLOAT, [1, "n"]))


def fake_p835(path: Path) -> None:
    """Says the mean sample plus 1, 2 and 3."""
    numbers = b"".join(bytes.fromhex(h) for h in ("0000803f", "00000040", "00004040"))
    more = _field(1, 3) + _field(2, FLOAT) + _field(8, "more") + _field(9, numbers)
    axes = _field(1, "axes") + _field(8, 1) + _field(20, 7)
    nodes = [_node("ReduceMean", ["input_1"], "m", axes), _node("Add", ["m", "more"], "out")]
    write_model(path, nodes, [_value("input_1", FLOAT, ["n", "s"])], _value("out", FLOAT, ["n", 3]), [more])


def fake_p808(path: Path) -> None:
    """Says the mean of the spectrogram."""
    axes = _field(1, "axes") + _field(8, 1) + _field(8, 2) + _field(20, 7)
    nodes = [_node("ReduceMean", ["input_1"], "m", axes), _node("Flatten", ["m"], "out")]
    write_model(path, nodes, [_value("input_1", FLOAT, ["n", "f", 120])], _value("out", FLOAT, ["n", 1]))


def piper_folder(folder: Path) -> Path:
    """A voice as Piper has it."""
    folder.mkdir()
    fake_piper(folder / "voice.onnx")
    ids = {c: [n] for n, c in enumerate("_^$" + IPA)}
    settings = {"audio": {"sample_rate": 22050}, "espeak": {"voice": "en-us"}, "phoneme_id_map": ids, "num_speakers": 1,
                "inference": {"noise_scale": 0.6, "length_scale": 1, "noise_w": 0.8}}  # fmt: skip
    (folder / "voice.onnx.json").write_text(json.dumps(settings))
    (folder / "MODEL_CARD").write_text("* License: CC0\n")
    return folder


def kokoro_folder(folder: Path) -> Path:
    """Two styles as Kokoro has them."""
    folder.mkdir()
    fake_kokoro(folder / "model.onnx")
    vocabulary = {c: n for n, c in enumerate(IPA + "IAWYOQʤʧ", start=1)}
    (folder / "vocab.json").write_text(json.dumps({"vocab": vocabulary}))
    styles = {name: np.full((510, 1, 256), level, np.float32) for name, level in (("af", 1e-5), ("bf", 3e-5))}
    np.savez(folder / "voices.npz", **styles)
    return folder


def dnsmos_folder(folder: Path) -> Path:
    """A judge of quality that rates 1, 2 and 3 more than the mean sample."""
    folder.mkdir()
    fake_p835(folder / "sig_bak_ovr.onnx")
    fake_p808(folder / "model_v8.onnx")
    return folder
