"""Damages of folders that others made: voices of Piper and Kokoro, judges of quality, of voices and of words."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.hostile.damages import GARBAGE, Damage, cut, flip, gone, piped, set_value, write
from tests.voices.onnx_bytes import fake_kokoro, fake_p808, fake_p835, fake_piper

HUGE = 2**70


def _damaged(name: str) -> dict[str, Damage]:
    """One file of a folder, in every way that needs no knowledge of it."""
    found = {f"{name} {kind}": write(name, data) for kind, data in GARBAGE.items()}
    return found | {
        f"{name} cut": cut(name), f"{name} cut at the end": cut(name, 0.97), f"{name} gone": gone(name),
        f"{name} a pipe": piped(name), f"{name} a folder": lambda folder: ((folder / name).unlink(), (folder / name).mkdir()),
    }  # fmt: skip


def _network(name: str, *others: Callable[[Path], None]) -> dict[str, Damage]:
    """The same of a network, and other networks in its place."""

    def taken(make: Callable[[Path], None]) -> Damage:
        return lambda folder: make(folder / name)

    found = _damaged(name) | {f"{name} flipped at {share}": flip(name, share) for share in (0.0, 0.5)}
    return found | {f"{name} is {make.__name__}": taken(make) for make in others}


def bad_pipers() -> dict[str, Damage]:
    """Damages of a folder with `voice.onnx` and `voice.onnx.json`."""
    settings = "voice.onnx.json"
    values: tuple[tuple[tuple[str, ...], object], ...] = (
        (("audio",), 7), (("audio", "sample_rate"), 0), (("audio", "sample_rate"), -1), (("audio", "sample_rate"), float("nan")),
        (("audio", "sample_rate"), "fast"), (("audio", "sample_rate"), HUGE), (("espeak",), []), (("espeak", "voice"), 7),
        (("espeak", "voice"), "zz-none"), (("espeak", "voice"), "\ud800"), (("espeak", "voice"), "a\nb"), (("phoneme_id_map",), []),
        (("phoneme_id_map",), {}), (("phoneme_id_map", "_"), "x"), (("phoneme_id_map", "l"), ["x"]), (("phoneme_id_map", "l"), [HUGE]),
        (("phoneme_id_map", "l"), 7), (("phoneme_id_map", "l"), [[1]]), (("inference",), None), (("inference", "noise_scale"), "x"),
        (("inference", "noise_scale"), float("nan")), (("inference", "noise_w"), 1e308), (("inference", "length_scale"), float("inf")),
        (("num_speakers",), "two"), (("num_speakers",), float("nan")), (("num_speakers",), 5), (("speaker_id_map",), [1]),
    )  # fmt: skip
    found = _damaged(settings) | _network("voice.onnx", fake_kokoro, fake_p835)
    found |= {
        f"{'.'.join(keys)} {value!r:.20}": set_value(settings, *keys, value=value) for keys, value in values
    }
    return found | {"two networks": lambda folder: fake_piper(folder / "other.onnx")}


def bad_kokoros() -> dict[str, Damage]:
    """Damages of a folder with `model.onnx`, `vocab.json` and `voices.npz`."""

    def styles(**arrays: np.ndarray) -> Damage:
        return lambda folder: np.savez(folder / "voices.npz", **arrays)

    good = np.full((510, 1, 256), 1e-5, np.float32)
    found = _damaged("vocab.json") | _damaged("voices.npz") | _network("model.onnx", fake_piper, fake_p808)
    for value in ([], {}, 7, "abc", {"a": "b"}, {"l": HUGE}, {"l": [1]}, {"l": None}, {"l": 1.5}):
        found[f"vocab {value!r:.20}"] = set_value("vocab.json", "vocab", value=value)
    return found | {
        "styles of no rows": styles(af=good[:0]), "styles of another width": styles(af=good[..., :100]), "styles NaN": styles(af=good * np.nan),
        "styles infinite": styles(af=np.full_like(good, np.inf)), "styles of words": styles(af=np.array(["a"] * 256)),
        "styles of objects": styles(af=np.array([{"a": 1}] * 256)), "styles of dates": styles(af=np.zeros(256, "M8[s]")),
        "no styles": styles(), "a style too many zeros": _bomb, "a style with a path": styles(**{"../af": good}),
        "a style of lone halves": lambda folder: _zip(folder / "voices.npz", {"\udcff.npy": b""}),
        "no array": lambda folder: _zip(folder / "voices.npz", {"af.npy": b"words", "bf": b"words"}),
    }  # fmt: skip


def _zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.encode("utf-8", "replace").decode(), data)


def _bomb(folder: Path) -> None:
    """A style of 4 GB in 4 MB."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (2**22, 256)}
    )
    with (
        zipfile.ZipFile(folder / "voices.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("af.npy", "w", force_zip64=True) as member,
    ):
        member.write(head.getvalue())
        for _ in range(2**12):
            member.write(bytes(2**20))


_JUDGES = (
    _network("dnsmos/sig_bak_ovr.onnx", fake_p808, fake_piper)
    | _network("dnsmos/model_v8.onnx", fake_kokoro)
    | _damaged("speakers/pretrained.pt")
    | _damaged("judge.safetensors")
)
_KNOWN_BY = ("dnsmos/sig_bak_ovr.onnx", "speakers/pretrained.pt")
"""A folder without this file is no judge."""


def absent_judges() -> dict[str, Damage]:
    """Damages of a folder of judges after which a folder in it is none: it is left alone, and the others listen."""
    found = {
        f"{file} {how}": _JUDGES[f"{file} {how}"]
        for file in _KNOWN_BY
        for how in ("gone", "a pipe", "a folder")
    }

    def beside(make: Callable[[Path], object]) -> Damage:
        return lambda folder: ((folder / "x").mkdir(), make(folder / "x/config.json"))

    return found | {
        "a config that is deep": beside(lambda path: path.write_bytes(b"[" * 100_000)),
        "a config of a number": beside(lambda path: path.write_text('{"architectures": 7}')),
        "a config that is a list": beside(lambda path: path.write_text("[]")), "a config that is a pipe": beside(os.mkfifo),
    }  # fmt: skip


def bad_judges() -> dict[str, Damage]:
    """Damages of a folder of judges (`dnsmos/`, `speakers/pretrained.pt`, `judge.safetensors`), each refused by name."""
    found = {name: damage for name, damage in _JUDGES.items() if name not in absent_judges()}
    return found | {
        "speakers other weights": _other_weights(lambda tensor: tensor[:1]), "speakers NaN": _other_weights(lambda tensor: tensor * float("nan")),
        "speakers of code": write("speakers/pretrained.pt", b"cos\nsystem\n(S'touch /tmp/sodakit-was-here'\ntR."),
        "speakers of words": _other_weights(lambda tensor: "words"), "a Whisper of noise": _whisper,
    }  # fmt: skip


def _other_weights(change: Callable[[object], object]) -> Damage:
    def damage(folder: Path) -> None:
        import torch

        path = folder / "speakers/pretrained.pt"
        state = torch.load(path, weights_only=True)["model_state"]
        torch.save({"model_state": {name: change(value) for name, value in state.items()}}, path)

    return damage


def _whisper(folder: Path) -> None:
    (folder / "w").mkdir()
    for name in ("model.bin", "vocabulary.txt", "tokenizer.json", "config.json"):
        (folder / "w" / name).write_bytes(bytes(range(256)) * 9)
