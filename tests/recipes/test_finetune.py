"""Fine-tuning on pairs: the published settings, the best epoch kept, early stops, kills, and what a loss is taken on."""

import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sodakit.audio.wave import Wave
from sodakit.checkpoint.load import latest_checkpoint, load_checkpoint
from sodakit.codec.toy import ToyCodec
from sodakit.commands.finetune import main
from sodakit.data.language import open_language
from sodakit.data.loader import Loader
from sodakit.errors import CheckpointError, ConfigError
from sodakit.files import read_json_lines
from sodakit.generate.translate import Translator, Wanted, directions_of, task_of
from sodakit.model.any_config import family_config
from sodakit.model.config import model_size
from sodakit.recipes.finetune import finetune
from sodakit.recipes.finetune_config import FinetuneSettings, finetune_config
from sodakit.tokens.tasks import TASKS, Task
from sodakit.train.config import LoraConfig, TrainConfig
from sodakit.train.objective import Objective
from sodakit.train.schedule import learning_rate
from sodakit.train.trainer import train
from tests.eval.small_judges import small_speaker, small_wav2vec2
from tests.pair_stores import pair_store
from tests.stores import small_store
from tests.train.killed import assert_same_run, killed_at
from tests.train.ranks import apart

ROOT = Path(__file__).parents[2]


class Parrot:
    """A judge that always hears the same."""

    name, fingerprint = "parrot", "parrot"

    def transcribe(self, waves):
        return ["hello house"] * len(waves)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return pair_store(tmp_path_factory.mktemp("pairs"), pairs=24)


@pytest.fixture(scope="module")
def base(store, tmp_path_factory):
    """A model that was trained on the recordings, not on the pairs."""
    run = tmp_path_factory.mktemp("base")
    config = config_for(store, None, "full")
    whole = replace(config.data.sources[0], view=replace(config.data.sources[0].view, task=""))
    pretraining = replace(config, data=replace(config.data, sources=(whole,)), validation=(), steps=2)
    train(replace(pretraining, loss=replace(config.loss, given_spans=0)), run, device="cpu")
    return run


def settings_for(kind: str) -> FinetuneSettings:
    lora = LoraConfig(rank=2) if kind == "lora" else None
    return FinetuneSettings(
        epochs=3, patience=3, batch_rows=2, peak_lr=1e-2, lora=lora, report_cases=2, max_s=1.0
    )


def config_for(store: Path, init: Path | None, kind: str) -> TrainConfig:
    _, vocabulary = open_language(store)
    shape = model_size("nano", vocabulary.size, context=256)
    config = finetune_config(settings_for(kind), store, init, shape)
    return replace(config, precision="float32", log_every_steps=1, save_every_steps=2)


def run_finetune(store: str, init: str, kind: str, out: str) -> Path:
    """What the killed process runs."""
    settings = settings_for(kind)
    config = config_for(Path(store), Path(init), kind)
    return finetune(config, settings, Path(out), ToyCodec(), Parrot(), device="cpu")


def test_the_defaults_are_the_published_settings(store):
    config = finetune_config(
        FinetuneSettings(), store, None, model_size("nano", open_language(store)[1].size)
    )
    optim, schedule = config.optim, config.schedule
    assert (schedule.peak_lr, optim.weight_decay, optim.beta1, optim.beta2, optim.eps) == (
        2e-5,
        0.01,
        0.9,
        0.999,
        1e-8,
    )
    assert (config.data.batch_rows, config.loss.z_loss, optim.clip_norm, config.loss.given_spans) == (
        64,
        1e-4,
        1.0,
        1,
    )
    assert config.micro_rows == "auto"  # 64 rows of 4,096 of a 1.7B take 118 GB at once
    rates = [learning_rate(step, 1000, schedule) / 2e-5 for step in (0, 29, 515, 999)]
    assert rates == pytest.approx([1 / 30, 1.0, 0.55, 0.1], abs=0.002)


def test_the_loss_is_taken_on_the_answers_alone_unless_told_otherwise(store):
    config = config_for(store, None, "full")
    _, vocabulary = open_language(store)
    batch = Loader(config.data, vocabulary).batch(0)
    counts = {}
    for given in (0, 1):
        loss = replace(config.loss, given_spans=given)
        objective = Objective(vocabulary, loss, config.model, torch.device("cpu"), torch.float32)
        targets = objective.targets(batch, slice(None)).targets
        counts[given] = len(targets.ids_T)
        assert objective.total_weights(batch) == [counts[given]]
        assert not (given and vocabulary.bos in targets.ids_T)
    padding = sum(
        row[-1]
        for ids_T, row in zip(batch.ids_BPW[..., 0], batch.lengths, strict=True)
        if ids_T[-row[-1]] == vocabulary.eos
    )
    assert counts[0] == batch.ids_BPW.size - len(batch.ids_BPW) - padding
    assert counts[1] < 0.8 * counts[0]


def test_each_epoch_is_reported_and_the_best_opens_as_a_plain_translator(store, base, tmp_path):
    best = run_finetune(str(store), str(base), "lora", str(tmp_path))
    rows = read_json_lines(tmp_path / "epochs.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {"asr_bleu", "wer", "duration_ratio", "silence_share", "num_unended"} <= set(
        rows[0]["scores"]["all"]
    )
    assert set(rows[0]["scores"]) == {"all", "es-en"}
    assert (tmp_path / "report.html").read_text().count("<audio") >= 4
    assert list((tmp_path / "samples").glob("step_*/*_output.wav"))
    assert not any("lora" in name for name in load_checkpoint(best).weights())
    assert task_of(best) == task_of(tmp_path) == "s2st"
    assert directions_of(best) == directions_of(tmp_path) == (("es", "en"),)
    assert directions_of(tmp_path / "checkpoints") == ()
    before, after = (
        load_checkpoint(latest_checkpoint(base / "checkpoints")).weights(),
        load_checkpoint(best).weights(),
    )
    assert torch.equal(before["embedding.weight"], after["embedding.weight"])
    assert not torch.equal(
        before["blocks.0.attention.query.weight"], after["blocks.0.attention.query.weight"]
    )
    made = Translator.load(tmp_path, codec=ToyCodec(), device="cpu").translate_codes(
        [np.zeros((4, 3), np.uint16)], to="en", max_s=0.5, max_text_tokens=8
    )[0]
    assert made.spoken is not None and made.spoken.codes_KF.shape[1] <= 6


@pytest.mark.parametrize("family", ["depth", "delay"])
def test_a_model_of_frames_is_fine_tuned_with_adapters_and_replay_and_translates(store, tmp_path, family):
    _, vocabulary = open_language(store)
    shape = family_config(family, model_size("nano", vocabulary.size, context=128), vocabulary)
    plain = FinetuneSettings(batch_rows=2, epochs=1)
    pretraining = finetune_config(plain, store, None, shape)
    whole = replace(pretraining.data.sources[0], view=replace(pretraining.data.sources[0].view, task=""))
    train(
        replace(
            pretraining,
            data=replace(pretraining.data, sources=(whole,)),
            loss=replace(pretraining.loss, given_spans=0),
            validation=(),
            listen_every_steps=None,
            steps=2,
        ),
        tmp_path / "base",
        device="cpu",
    )
    settings = replace(settings_for("lora"), base=str(store), replay_fraction=0.3, epochs=2)
    config = replace(finetune_config(settings, store, tmp_path / "base"), log_every_steps=1)
    # Frames are shorter in positions: an epoch has fewer steps than of a flat model's rows.
    flat = finetune_config(settings, store, None, replace(shape.backbone))
    assert config.validate_every_steps < flat.validate_every_steps
    best = finetune(config, settings, tmp_path / "run", ToyCodec(), Parrot(), device="cpu")
    assert [row["epoch"] for row in read_json_lines(tmp_path / "run/epochs.jsonl")] == [1, 2]
    before, after = load_checkpoint(tmp_path / "base").weights(), load_checkpoint(best).weights()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "blocks.0.attention.query.weight" in changed and "embedding.weight" not in changed
    assert ("depth.blocks.0.attention.query.weight" in changed) == (family == "depth")
    translator = Translator.load(tmp_path / "run", codec=ToyCodec(), device="cpu")
    wave = Wave(np.sin(np.arange(8000) / 9).astype(np.float32) / 4, 8000)
    assert translator.translate(wave, to="en", max_s=0.5).spoken is not None


def test_a_text_that_fills_the_context_is_a_failed_translation_and_no_error(store, base, tmp_path):
    """An early epoch writes on and on; its safety report must say so rather than end the run."""
    run_finetune(str(store), str(base), "full", str(tmp_path))
    translator = Translator.load(tmp_path, codec=ToyCodec(), device="cpu")
    context = translator.model.model.config.context
    codes = [np.zeros((4, frames), np.uint16) for frames in (3, (context - 12) // 4, context)]
    made = translator.translate_codes(codes, max_s=0.5, max_text_tokens=8)
    assert [m.ended for m in made[1:]] == [False, False]
    assert made[2].spoken is not None and len(made[2].spoken.wave.samples_S) == 0
    plan = translator.plan(codes[0], Wanted(max_s=0.5, max_text_tokens=8))
    answer = next(plan)
    with pytest.raises(StopIteration) as end:  # one at a time, as a server drives it
        while True:
            answer = plan.send(translator.model.engine.generate([answer])[0])
    assert end.value.value.text == made[0].text
    np.testing.assert_array_equal(end.value.value.spoken.codes_KF, made[0].spoken.codes_KF)
    long = translator.translate(Wave(np.zeros(8000 * 60, np.float32), 8000), max_s=0.5)
    assert not long.ended and "its translation is cut off" in long.stopped[0]


def test_the_task_that_the_page_adds_is_trained_and_translates(store, base, tmp_path, monkeypatch):
    """docs/howto/add_a_task.md promises that one row is enough, and that no such task is there yet."""
    page = (ROOT / "docs/howto/add_a_task.md").read_text(encoding="utf-8")
    row = re.search(r"^ +(Task\(.+\))$", page, re.MULTILINE)
    assert row is not None
    added = eval(row[1], {"Task": Task})
    assert added.name not in TASKS and added.spans not in {kind.spans for kind in TASKS.values()}
    monkeypatch.setitem(TASKS, added.name, added)
    settings = replace(settings_for("full"), task=added.name, epochs=1)
    config = replace(finetune_config(settings, store, base), precision="float32")
    finetune(config, settings, tmp_path, ToyCodec(), Parrot(), device="cpu")
    translator = Translator.load(tmp_path, codec=ToyCodec(), device="cpu")
    (made,) = translator.translate_codes([np.zeros((4, 3), np.uint16)], max_s=0.5, max_text_tokens=8)
    assert translator.task == added and made.spoken is not None and not made.text


def test_a_model_that_was_not_fine_tuned_does_not_translate(base):
    with pytest.raises(CheckpointError, match="sodakit finetune"):
        Translator.load(base, codec=ToyCodec())


def test_training_stops_when_no_epoch_is_better(store, base, tmp_path):
    """The parrot's score never changes, so the first epoch stays the best."""
    settings = replace(settings_for("full"), patience=1)
    config = config_for(store, base, "full")
    best = finetune(config, settings, tmp_path, ToyCodec(), Parrot(), device="cpu")
    rows = read_json_lines(tmp_path / "epochs.jsonl")
    assert [row["stopped"] for row in rows] == [False, True]
    assert load_checkpoint(best).state["step"] == rows[0]["step"]
    assert finetune(config, settings, tmp_path, ToyCodec(), Parrot(), device="cpu") == best
    assert len(read_json_lines(tmp_path / "epochs.jsonl")) == 2


def test_the_command_listens_with_models_in_folders_and_epochs_are_heard_by_the_same(store, base, tmp_path):
    small_wav2vec2(tmp_path / "ear")
    small_wav2vec2(tmp_path / "other", seed=1)
    small_speaker(tmp_path / "voices")
    out = tmp_path / "run"
    words = ["--data", str(store), "--model", str(base), "--out", str(out), "--batch-rows", "2", "--codec", "toy",
             "--report-cases", "2", "--speaker-judge", str(tmp_path / "voices"), "--device", "cpu",
             "--epochs", "1"]  # fmt: skip
    settings = ["precision=float32", "model.context=256", "data.context=256"]
    main([*words, "--judge", str(tmp_path / "ear"), *settings])
    (row,) = read_json_lines(out / "epochs.jsonl")
    assert row["judge"]["name"].startswith("ear@") and row["speaker_judge"]["name"].startswith("voices@")
    page = (out / "report.html").read_text()
    assert (
        "Heard by ear@" in page and "voices by voices@" in page and not (out / "judge.safetensors").exists()
    )
    with pytest.raises(ConfigError, match=r"holds scores by ear@.*, and now other@"):
        main([*words, "--judge", str(tmp_path / "other"), *settings])


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_killed_fine_tuning_goes_on_to_the_same_end(store, base, tmp_path, kind):
    """SIGKILL in the second epoch: weights and reports at the end equal those of a run left alone, bit for bit."""
    run_finetune(str(store), str(base), kind, str(tmp_path / "whole"))
    words = (str(store), str(base), kind, str(tmp_path / "killed"))
    process = apart(run_finetune, *words, threads=torch.get_num_threads())
    deadline_s = time.monotonic() + 300
    while process.is_alive() and time.monotonic() < deadline_s:
        if (tmp_path / "killed" / "epochs.jsonl").exists():
            process.kill()
            break
        time.sleep(0.005)
    process.join()
    assert process.exitcode == -signal.SIGKILL, "the run ended before it could be killed"
    run_finetune(str(store), str(base), kind, str(tmp_path / "killed"))
    ends = [
        load_checkpoint(latest_checkpoint(tmp_path / n / "checkpoints")).weights()
        for n in ("whole", "killed")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    rows = [read_json_lines(tmp_path / n / "epochs.jsonl") for n in ("whole", "killed")]
    assert rows[0] == rows[1]


def test_the_command_killed_in_its_second_epoch_ends_as_one_left_alone(store, base, tmp_path):
    small_wav2vec2(tmp_path / "ear")
    words = ["--data", str(store), "--model", str(base), "--batch-rows", "2", "--codec", "toy", "--epochs", "2",
             "--report-cases", "2", "--device", "cpu", "--judge", str(tmp_path / "ear"), "--lr", "1e-2",
             "precision=float32", "model.context=256", "data.context=256", "log_every_steps=1"]  # fmt: skip
    runs = [tmp_path / name for name in ("whole", "killed")]
    main([*words, "--out", str(runs[0])])
    (_, last) = read_json_lines(runs[0] / "epochs.jsonl")
    with killed_at(runs[1], last["step"]):
        main([*words, "--out", str(runs[1])])
    main([*words, "--out", str(runs[1])])
    assert_same_run(*runs)
    epochs = [read_json_lines(run / "epochs.jsonl") for run in runs]
    assert len(epochs[0]) == 2 and epochs[0] == epochs[1]
    best = [load_checkpoint(run / "best").weights() for run in runs]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


def test_pairs_of_another_tokenizer_are_refused(base, tmp_path):
    other = small_store(tmp_path, codebooks=4, size=32)
    with pytest.raises(ConfigError, match="--tokenizer"):
        finetune_config(FinetuneSettings(), other, base)


def test_replay_needs_a_store_to_replay():
    with pytest.raises(ConfigError, match="--base"):
        FinetuneSettings(replay_fraction=0.2)
