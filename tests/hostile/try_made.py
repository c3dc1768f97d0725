"""Damaged stores, checkpoints, runs and voices through the commands that would use them."""

import io
import logging
import re
import shutil
from functools import partial
from pathlib import Path

from sodakit.audio.files import read_wave
from sodakit.files import read_json
from sodakit.generate.speech_model import VoiceSample
from sodakit.serve.voices import Voices
from tests.eval.small_model import small_checkpoint, small_speech_model
from tests.hostile import bad_made
from tests.hostile.trial import CPU, Trial, expect
from tests.prepare.test_bad_input import sound_bytes
from tests.stores import small_store

STORES = bad_made.bad_stores() | {f"forged, {k}": v for k, v in bad_made.forged_stores().items()}


def make_whole(folder: Path) -> None:
    """A whole store and checkpoint, to be damaged."""
    small_store(folder / "store", codebooks=8, size=2048)
    small_checkpoint(folder / "run")


def store_used(name: str, whole: Path, folder: Path) -> int:
    shutil.copytree(whole / "store", folder / "s")
    STORES[name](folder / "s")
    small = ["data.context=64", "model.context=64", "steps=1", "data.batch_rows=2"]
    expect(2, str(folder / "s"), ["describe", folder / "s", "--verify"])
    expect(
        2,
        str(folder / "s"),
        ["train", "--data", folder / "s", "--out", folder / "r", "--device", "cpu", *small],
    )
    expect(2, str(folder / "s"), ["leaks", folder / "s", "--against", whole / "store"])
    expect(2, str(folder / "s"), ["documents", folder / "s", "--out", folder / "d"])
    return 1


def checkpoint_used(name: str, whole: Path, folder: Path) -> int:
    shutil.copytree(whole / "run", folder / "r")
    (checkpoint,) = (folder / "r/checkpoints").iterdir()
    bad_made.bad_checkpoints()[name](checkpoint)
    (folder / "good.wav").write_bytes(sound_bytes())
    said = expect(2, "", ["transcribe", folder / "good.wav", "--model", checkpoint, *CPU])
    assert str(folder / "r") in re.sub(r"\s+", "", said), said[-600:]
    return 1


def voice_skipped(name: str, whole: Path, folder: Path) -> int:
    model, shelf = small_speech_model(), folder / "v"
    sample = VoiceSample(read_wave(io.BytesIO(sound_bytes()), 8000), "words")
    for voice in ("ann", "ben"):
        Voices(model, 9, shelf).add(voice, sample)
    for path in shelf.glob("*.json"):
        if read_json(path)["name"] == "ann":
            for suffix in (".json", ".flac"):
                path.with_suffix(suffix).rename(shelf / f"voice{suffix}")
    bad_made.bad_voices()[name](shelf)
    said, handler = [], logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("sodakit.serve").addHandler(handler)
    try:
        found = [voice.name for voice in Voices(model, 9, shelf).all()]
    finally:
        logging.getLogger("sodakit.serve").removeHandler(handler)
    assert found == ["ben"] and len(said) == 1 and "voice" in said[0], (found, said)
    return 1


def trials() -> dict[str, Trial]:
    """Every trial by name."""
    groups = (
        ("store", store_used, STORES),
        ("checkpoint", checkpoint_used, bad_made.bad_checkpoints()),
        ("voice", voice_skipped, bad_made.bad_voices()),
    )
    return {f"{group}: {name}": partial(trial, name) for group, trial, things in groups for name in things}
