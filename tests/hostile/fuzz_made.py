"""Damage to what sodakit itself has written: stores, runs, checkpoints, codecs, corpora, outputs, a server's voices.

    python -m tests.hostile.fuzz_made --minutes 10 --keep /tmp/fuzz

Each file is damaged in a folder that is whole otherwise, and the folder is used as the commands use it. Status 1 if one
crashed, hung, or raised something other than a SodakitError (`fuzzing.py`).
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.checkpoint.contents import CONTENTS
from sodakit.checkpoint.hf_folder import export_folder, import_folder
from sodakit.checkpoint.load import load_checkpoint
from sodakit.codec.load import load_codec
from sodakit.codec.toy import ToyCodec
from sodakit.data.config import DataConfig, SourceConfig
from sodakit.data.language import open_language
from sodakit.data.loader import Loader
from sodakit.errors import ConfigError
from sodakit.eval.judges import CtcJudge, Recogniser
from sodakit.eval.outputs import Output, generate_folder
from sodakit.eval.results import estimates, load_result
from sodakit.files import read_json, write_json, write_json_lines
from sodakit.generate.speech_model import SpeechModel, VoiceSample
from sodakit.prepare.leaks import read_evaluation
from sodakit.prepare.notebook import Notebook, note
from sodakit.prepare.recording import Item
from sodakit.prepare.stages import prepare
from sodakit.prepare.synthesis import Line, SynthesisConfig, synthesise
from sodakit.scaling.records import read_runs
from sodakit.serve.voices import Voices
from sodakit.store.reader import StoreReader
from sodakit.store.summary import store_tree
from sodakit.store.writer import StoreWriter
from sodakit.train.identity import claim_folder
from sodakit.train.metrics import Metrics
from sodakit.train.page import page
from sodakit.train.trainer import train
from sodakit.voices.kokoro import style_names
from sodakit.voices.names import find_voices
from tests.codec.conftest import untrained_mini
from tests.eval.small_model import noise, small_checkpoint, small_speech_model
from tests.hostile import mutations as mutate
from tests.hostile.fuzzing import Target, fuzz
from tests.hostile.mutations import Damage
from tests.prepare.test_stages import options, tone, toy
from tests.stores import small_store
from tests.train.test_trainer import config_for

Use = Callable[[Path], object]
SMALL = ToyCodec(2, 32)
ITEMS = [tone(f"t{n}", 0.3 + n / 10) for n in range(4)] + [Item(id="bad", problem="no sound")]
PREPARED = options(shard_duration_s=0.6, text_vocab_size=280, max_failed_fraction=0.5)
VOICES = ("anna", "frank")
TEXTS = [Line(f"{n}", f"Number {n}.", "en") for n in range(3)]
SYNTHESIS = SynthesisConfig(shard_lines=1, workers=1)
OUTPUTS = [Output(id=f"{n}", text="say ah", wave=noise(n, 0.1)) for n in range(2)]


@cache
def base_store(folder: Path) -> Path:
    return folder / "base" / "store"


def make(folder: Path) -> None:
    """Every folder, whole, below `folder/base`."""
    base = folder / "base"
    small_store(base / "store")
    rejected = {"id": "a", "reason": "too short", "detail": "0.01 s", "audio": "a.wav", "source": "c"}
    write_json_lines(base / "store" / "quarantine.jsonl", [rejected, rejected | {"id": "b"}])
    prepare(ITEMS, base / "prepared", toy(), PREPARED)
    config = run_config(folder)
    train(config, base / "run")
    small_checkpoint(base / "model")
    untrained_mini().save(base / "codec")
    export_folder(load_checkpoint(base / "model"), base / "exported", check=False)
    CtcJudge(Recogniser(4).eval(), ("", *"ab "), ("ab",)).save(base / "judge" / "judge.safetensors")
    Voices(small_speech_model(), 9, base / "voices").add("ann", VoiceSample(noise(1, 0.3), "say ah"))
    synthesise(TEXTS, find_voices(VOICES), base / "corpus", SYNTHESIS)
    generate_folder(
        2, lambda part: [OUTPUTS[n] for n in part], base / "outputs", {"a": {"b": 1}}, part_items=1
    )
    notebook = Notebook(base / "notebook")
    notebook.begin({"detector": "energy", "min_s": 0.2})
    notebook.write("a.wav", [note(ITEMS[0], start_s=0.1, end_s=0.2, text="say ah")])
    (base / "kokoro").mkdir()
    styles = np.ones((3, 1, 256), np.float32)
    np.savez(base / "kokoro" / "voices.npz", af=styles, am=2 * styles)
    score = {
        "accuracy": {"value": 0.7, "low": 0.6, "high": 0.8},
        "num_ties": 0,
        "num_missing": 1,
        "parts": {},
    }
    write_json(
        base / "results" / "salmon.json", {"task": "salmon", "questions": [], "scores": {"mean": score}}
    )


def run_config(folder: Path) -> Any:
    config = config_for(base_store(folder))
    return replace(config, steps=4, save_every_steps=2, validate_every_steps=2)


# ------------------------------------------------------------------------------------------- how each is used


def open_store(folder: Path) -> int:
    """Described, verified, and read as utterances and as windows."""
    reader = StoreReader(folder)
    store_tree(reader)
    read = sum(len(utterance.codes_KF) for split in reader.splits for utterance in reader.utterances(split))
    vocabulary = open_language(folder)[1]
    data = DataConfig(sources=(SourceConfig(store=str(folder)),), context=64, batch_rows=4)
    loader = Loader(data, vocabulary)
    loader.batch(0)
    read_evaluation(folder)
    reader.verify()
    return read


def seal_shards(folder: Path) -> object:
    """As `prepare` takes up shards that an earlier run made."""
    store = read_json(folder / "store.json")
    spec = StoreReader(base_store(folder.parent.parent)).codec_spec
    writer = StoreWriter(folder, spec, store["tokenizer_fingerprint"])
    rejected = [writer.shard_rejected("train", n) for n in (0, 1) if writer.has_shard("train", n)]
    writer.seal()
    return open_store(folder), rejected


def prepare_again(folder: Path) -> object:
    return prepare(ITEMS, folder, toy(), PREPARED)


def look_at_run(folder: Path) -> object:
    """As its page, the table of runs, and the start of `train` read it."""
    config = run_config(folder.parent)
    claim_folder(folder, config, other_code=True)
    page(folder, config, finished=True)
    read_runs(folder)
    Metrics(folder, 2).close()
    return True


def resume_run(folder: Path) -> object:
    newest = max((folder / "checkpoints").iterdir())
    return train(run_config(folder.parent), folder, other_code=True) or newest


def open_model(folder: Path) -> object:
    """With digests of its weights renewed: an older sodakit wrote none."""
    step = next((folder / "checkpoints").iterdir())
    try:
        contents = read_json(step / CONTENTS)
    except ConfigError:  # damaged itself
        contents = None
    if isinstance(contents, dict) and isinstance(contents.get("files"), dict):
        contents.pop("sha256", None)
        contents["files"] |= {p.name: p.stat().st_size for p in step.glob("*.safetensors")}
        (step / CONTENTS).write_text(json.dumps(contents), encoding="utf-8")
    model = SpeechModel.load(folder, codec=SMALL, device="cpu")
    load_checkpoint(folder).optimizer_state()
    return model.tokenizer.encode("say ah") and model.model


def open_codec(folder: Path) -> object:
    codec = load_codec(str(folder))
    codec.decode(codec.encode_batch([noise(0, 0.2, codec.spec.sample_rate_hz).samples_S])[0])
    return codec


def take_model(folder: Path) -> object:
    return import_folder(folder, folder / "taken", codec={"name": "toy"})


def open_judge(folder: Path) -> object:
    return CtcJudge.load(folder / "judge.safetensors").transcribe([noise(0, 0.2, 16_000)])


def open_voices(folder: Path) -> object:
    shelf = Voices(_served(), 9, folder)
    return [voice.to_plain() for voice in shelf.all()]


@cache
def _served() -> SpeechModel:
    return small_speech_model()


def say_again(folder: Path) -> object:
    return synthesise(TEXTS, find_voices(VOICES), folder, SYNTHESIS)


def answer_again(folder: Path) -> object:
    return generate_folder(2, lambda part: [OUTPUTS[n] for n in part], folder, {"a": {"b": 1}}, part_items=1)


def open_notebook(folder: Path) -> object:
    Notebook(folder).begin({"detector": "energy", "min_s": 0.2})
    return Notebook(folder).rows()


def open_styles(folder: Path) -> object:
    return style_names(folder)


def show_result(folder: Path) -> object:
    return estimates(load_result(folder / "salmon.json"))


USES: dict[str, dict[str, tuple[Use, ...]]] = {
    "store": {
        "store.json": (open_store,),
        "train/shard-00000.arrow": (open_store, seal_shards),
        "tokenizer/tokenizer.json": (open_store,),
        "quarantine.jsonl": (open_store,),
    },
    "prepared": {
        "plan.json": (prepare_again,),
        "store.json": (prepare_again,),
        "quarantine.jsonl": (prepare_again,),
        "verify.json": (prepare_again,),
        "tokenizer/tokenizer.json": (prepare_again,),
        "train/shard-00000.arrow": (prepare_again,),
    },
    "run": {
        "config.json": (look_at_run,),
        "metrics.jsonl": (look_at_run,),
        "checkpoints/step_00000004/state.json": (resume_run,),
        "checkpoints/step_00000004/contents.json": (resume_run,),
        "checkpoints/step_00000004/optimizer.safetensors": (resume_run,),
    },
    "model": {
        "checkpoints/step_00000001/contents.json": (open_model,),
        "checkpoints/step_00000001/config.json": (open_model,),
        "checkpoints/step_00000001/state.json": (open_model,),
        "checkpoints/step_00000001/codec.json": (open_model,),
        "checkpoints/step_00000001/model.safetensors": (open_model,),
        "checkpoints/step_00000001/vocabulary/vocabulary.json": (open_model,),
        "checkpoints/step_00000001/vocabulary/tokenizer.json": (open_model,),
    },
    "codec": {"mini.json": (open_codec,), "mini.safetensors": (open_codec,)},
    "exported": {
        name: (take_model,)
        for name in ("config.json", "model.safetensors", "tokenizer.json", "vocabulary.json", "codec.json")
    },
    "judge": {"judge.safetensors": (open_judge,)},
    "voices": {"*.json": (open_voices,), "*.flac": (open_voices,)},
    "corpus": {"synthesis.json": (say_again,), "shards/00000/rows.jsonl": (say_again,)},
    "outputs": {"outputs.json": (answer_again,), "part-00000.jsonl": (answer_again,)},
    "notebook": {"settings.json": (open_notebook,), "*.jsonl": (open_notebook,)},
    "kokoro": {"voices.npz": (open_styles,)},
    "results": {"salmon.json": (show_result,)},
}
"""Folders, their files, and how each is used when that file is damaged."""
DAMAGE: dict[str, Damage] = {
    ".json": mutate.damage_json,
    ".jsonl": mutate.damage_json_lines,
    ".safetensors": mutate.damage_safetensors,
    ".arrow": mutate.damage_ends,
    ".npz": mutate.damage_ends,
    ".flac": mutate.damage_bytes,
}
numbers = count()


def _use(folder: Path, name: str, file: str, use: Use, data: bytes) -> object:
    here = folder / f"{os.getpid()}-{next(numbers)}"
    try:
        # One level down, so that nothing a use writes beside its folder stays.
        shutil.copytree(folder / "base" / name, here / name)
        (here / name / file).write_bytes(data)
        if name in ("store", "run"):
            here.joinpath("base").symlink_to(folder / "base")
        return use(here / name)
    finally:
        shutil.rmtree(here, ignore_errors=True)


def _all(folder: Path) -> Iterator[tuple[str, Target]]:
    for name, files in USES.items():
        for pattern, uses in files.items():
            path = next((folder / "base" / name).glob(pattern))
            file = path.relative_to(folder / "base" / name).as_posix()
            for use in uses:
                short = f"{name}: {path.name} ({use.__name__})"
                yield (
                    short,
                    Target(path.read_bytes(), partial(_use, folder, name, file, use), DAMAGE[path.suffix]),
                )


def targets(folder: Path) -> dict[str, Target]:
    """All of them; what they lie in is made first."""
    if not (folder / "base").exists():
        make(folder)
    return dict(_all(folder))


if __name__ == "__main__":
    sys.exit(fuzz("tests.hostile.fuzz_made", "Damage to what sodakit itself has written.", targets))
