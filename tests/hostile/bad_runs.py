"""Damages of a run folder, and what comes of the commands that go on with it."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.damages import GARBAGE, Damage, cut, flip, gone, piped, set_value, write

LAST = "checkpoints/step_00000004"
EITHER, WELL, REFUSED = (0, 2), (0,), (2,)


@dataclass(frozen=True)
class Outcome:
    """Statuses that commands may end with."""

    resumed: tuple[int, ...]
    """`train` with the same settings."""
    model: tuple[int, ...] = ()
    """Whatever needs the model's weights; nothing if the damage is none of theirs."""
    scale: tuple[int, ...] = EITHER
    """`scale`, which reads configs and numbers."""
    says: str = ""
    """Words of `train`."""


def bad_runs() -> dict[str, tuple[Damage, Outcome]]:
    """Each with what comes of it."""
    refused, passed_over = Outcome(REFUSED, scale=REFUSED), Outcome(WELL, REFUSED, says="Passed over")
    found: dict[str, tuple[Damage, Outcome]] = {}
    for kind, data in GARBAGE.items():
        found[f"config {kind}"] = write("config.json", data), refused
        found[f"contents {kind}"] = write(f"{LAST}/contents.json", data), passed_over
        found[f"state {kind}"] = (
            write(f"{LAST}/state.json", data),
            passed_over,
        )
        found[f"optimizer {kind}"] = write(f"{LAST}/optimizer.safetensors", data), passed_over
        found[f"weights {kind}"] = write(f"{LAST}/model.safetensors", data), passed_over
        found[f"environment {kind}"] = write("environment.json", data), Outcome(WELL)
        found[f"metrics {kind}"] = write("metrics.jsonl", data), Outcome(EITHER)
    for name, value in (("steps", 1e300), ("steps", "many"), ("steps", None), ("data", []), ("model", None), ("model", {}),
                        ("validation", 7), ("schedule", "x"), ("seed", 10**400), ("init_from", [1])):  # fmt: skip
        found[f"config {name} {value!r:.12}"] = (
            set_value("config.json", "train", name, value=value),
            Outcome(REFUSED),
        )
    for name, value in (("train", "x"), ("train", None), ("stores", []), ("stores", None), ("stores", {"a": 1}), ("code", 7), ("code", [7]),
                        ("code", {}), ("init", 7), ("digest", None)):  # fmt: skip
        found[f"config's {name} {value!r:.12}"] = set_value("config.json", name, value=value), Outcome(EITHER)
    for name, value in (("step", -1), ("step", 10**30), ("step", float("nan")), ("step", "4"), ("step", None), ("updates", "x"),
                        ("audio_frames", float("inf")), ("loss_vectors", []), ("loss_vectors", 7), ("tokens", "x"), ("step", 2.5), ("step", 3)):  # fmt: skip
        found[f"state's {name} {value!r:.12}"] = (
            set_value(f"{LAST}/state.json", name, value=value),
            Outcome(EITHER),
        )
    rows = {"step NaN": {"step": float("nan")}, "step a word": {"step": "4"}, "step 1e400": {"step": 10**400}, "no step": {}, "a step below": {"step": -5},
            "loss a list": {"step": 4, "loss/all": [1]}, "tokens a word": {"step": 4, "tokens": "x", "positions": "y", "loss/all": "z"},
            "positions endless": {"step": 4, "tokens": 1, "positions": 10**400, "audio_hours": 1e-320}}  # fmt: skip
    for name, row in rows.items():
        found[f"metrics {name}"] = _appended("metrics.jsonl", json.dumps(row)), Outcome(EITHER)
    return found | {
        "config cut": (cut("config.json"), refused), "config a pipe": (piped("config.json"), refused),
        "config a folder": (_folder("config.json"), refused), "config gone": (gone("config.json"), Outcome(WELL, scale=REFUSED)),
        "metrics cut": (cut("metrics.jsonl"), Outcome(WELL)), "metrics a pipe": (piped("metrics.jsonl"), Outcome(REFUSED)),
        "metrics a folder": (_folder("metrics.jsonl"), Outcome(REFUSED)), "metrics gone": (gone("metrics.jsonl"), Outcome(WELL)),
        "metrics in Latin-1": (_appended("metrics.jsonl", '{"step": 4, "a": "\udce9"}'), Outcome(EITHER)),
        "a row of a megabyte": (_appended("metrics.jsonl", '{"step": 4, "a": "' + "a" * 10**6), Outcome(REFUSED)),
        "environment a folder": (_folder("environment.json"), Outcome(EITHER)), "page a folder": (_folder("run.html"), Outcome(EITHER)),
        "curves a file": (_file("tensorboard"), Outcome(EITHER)), "checkpoints a file": (_file("checkpoints"), Outcome(EITHER, REFUSED)),
        "checkpoints a loop": (_loop("checkpoints"), Outcome(EITHER, REFUSED)), "checkpoint a file": (_file(LAST), Outcome(EITHER, EITHER)),
        "checkpoint a loop": (_loop(LAST), Outcome(EITHER, EITHER)), "checkpoint empty": (_emptied(LAST), Outcome(EITHER, EITHER)),
        "a step of thirty digits": (_copied(LAST, "checkpoints/step_" + "9" * 30), Outcome(EITHER, EITHER)),
        "a step of digits elsewhere": (_copied(LAST, "checkpoints/step_٤٤٤"), Outcome(EITHER, EITHER)),
        "samples nonsense": (_sampled(b"{"), Outcome(EITHER)), "samples of a step that is none": (_sampled(b"[]", "step_x"), Outcome(EITHER)),
        "samples a list of numbers": (_sampled(b"[1, 2]"), Outcome(EITHER)),
        "optimizer cut": (cut(f"{LAST}/optimizer.safetensors"), passed_over), "optimizer gone": (gone(f"{LAST}/optimizer.safetensors"), passed_over),
        "optimizer a pipe": (piped(f"{LAST}/optimizer.safetensors"), passed_over), "optimizer flipped": (flip(f"{LAST}/optimizer.safetensors", 0.5), passed_over),
        "weights flipped": (flip(f"{LAST}/model.safetensors", 0.5), passed_over), "weights gone": (gone(f"{LAST}/model.safetensors"), passed_over),
        "vocabulary gone": (gone(f"{LAST}/vocabulary/vocabulary.json"), Outcome(WELL, REFUSED)),
        "both checkpoints": (_all_of("contents.json", b"{"), Outcome(REFUSED, REFUSED)),
        "both optimizers": (_all_of("optimizer.safetensors", b""), Outcome(REFUSED, REFUSED)),
        "optimizer of NaN": (_tensors("optimizer.safetensors", lambda t: t.fill_(float("nan"))), Outcome(EITHER)),
        "optimizer of other shapes": (_tensors("optimizer.safetensors", lambda t: t.reshape(-1)[:1].clone()), Outcome(EITHER)),
        "optimizer of whole numbers": (_tensors("optimizer.safetensors", lambda t: t.long()), Outcome(EITHER)),
        "optimizer of nothing": (_tensors("optimizer.safetensors", None), Outcome(EITHER)),
    }  # fmt: skip


def _appended(name: str, line: str) -> Damage:
    def damage(folder: Path) -> None:
        with open(folder / name, "a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(line + "\n")

    return damage


def _folder(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return damage


def _file(name: str) -> Damage:
    def damage(folder: Path) -> None:
        shutil.rmtree(folder / name)
        (folder / name).write_bytes(b"words")

    return damage


def _loop(name: str) -> Damage:
    def damage(folder: Path) -> None:
        shutil.rmtree(folder / name)
        (folder / name).symlink_to(folder / name)

    return damage


def _emptied(name: str) -> Damage:
    def damage(folder: Path) -> None:
        shutil.rmtree(folder / name)
        (folder / name).mkdir()

    return damage


def _copied(name: str, to: str) -> Damage:
    return lambda folder: shutil.copytree(folder / name, folder / to)


def _sampled(data: bytes, step: str = "step_00000002") -> Damage:
    def damage(folder: Path) -> None:
        (folder / "samples" / step).mkdir(parents=True)
        (folder / "samples" / step / "samples.json").write_bytes(data)

    return damage


def _all_of(name: str, data: bytes) -> Damage:
    def damage(folder: Path) -> None:
        for checkpoint in (folder / "checkpoints").iterdir():
            (checkpoint / name).write_bytes(data)

    return damage


def _tensors(name: str, change: object) -> Damage:
    """The tensors of the last checkpoint changed, with its digests renewed."""

    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        from sodakit.checkpoint.contents import write_contents

        path = folder / LAST / name
        tensors = {n: change(t) for n, t in load_file(path).items()} if callable(change) else {}
        save_file(tensors, path)
        (folder / LAST / "contents.json").unlink()
        write_contents(folder / LAST)

    return damage
