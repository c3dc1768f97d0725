"""A model adapted to recordings: what is new to it is named, epochs are reported, the best is kept, kills do no harm."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.checkpoint.about import About, write_about
from sodakit.checkpoint.load import latest_checkpoint, load_checkpoint
from sodakit.codec.toy import ToyCodec
from sodakit.commands.adapt import main
from sodakit.commands.demo import main as demo_main
from sodakit.data.language import open_language
from sodakit.errors import ConfigError
from sodakit.eval.voiceprints import SpectralSpeaker
from sodakit.files import read_json, read_json_lines
from sodakit.generate.speech_model import SpeechModel
from sodakit.model.any_config import family_config
from sodakit.model.config import model_size
from sodakit.prepare.stages import prepare
from sodakit.recipes import adapt_cost
from sodakit.recipes.adapt import Ears, adapt, open_adaptation
from sodakit.recipes.adapt_config import AdaptSettings, adapt_config, taught
from sodakit.recipes.demo import demo, recordings
from sodakit.train.config import LoraConfig
from sodakit.train.trainer import train
from tests.eval.small_judges import small_wav2vec2
from tests.stores import shaped_store
from tests.train.killed import assert_same_run, killed_at

TEXTS = ("open the door", "close the window", "turn on the lamp", "grüß dich")


class Parrot:
    """A judge that always hears the same."""

    name, fingerprint = "parrot", "parrot"

    def transcribe(self, waves):
        return ["open the door"] * len(waves)


def write_recordings(folder, count, seed=0, texts=TEXTS):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for n in range(count):
        samples_S = rng.normal(0, 0.1, int(rng.integers(5000, 9000))).astype(np.float32)
        write_wave(folder / f"{n:02d}.wav", Wave(samples_S, 8000))
        (folder / f"{n:02d}.txt").write_text(texts[n % len(texts)], encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("mine") / "rec", 12)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model of frames that was trained for two steps by the demo's recipe, and the store it was trained on."""
    folder = tmp_path_factory.mktemp("base")
    source = recordings(write_recordings(folder / "rec", 16, seed=5, texts=TEXTS[:3]), copies=0)
    prepare(source.items, folder / "store", ToyCodec(), source.options)
    _, vocabulary = open_language(folder / "store")
    config = demo(folder / "store", steps=2, family="depth")
    shape = model_size("nano", vocabulary.size, context=config.data.context, init_std=0.1)
    config = replace(
        config, model=family_config("depth", shape, vocabulary), listen_every_steps=None, precision="float32"
    )
    train(config, folder / "run", device="cpu")
    checkpoint = latest_checkpoint(folder / "run" / "checkpoints")
    write_about(checkpoint, About(name="tiny", languages=("en",), licence="CC0-1.0"))
    return folder


def settings_for(base, **more):
    return AdaptSettings(
        **{"epochs": 2, "least_steps": 2, "batch_rows": 2, "peak_lr": 1e-2, "variants": 1, "max_s": 1.0}
        | {"replay": str(base / "store"), "validation_fraction": 0.2, "test_fraction": 0.2}
        | {"consent": "My own voice.", **more}
    )


def adapted(base, mine, out, **more):
    work = open_adaptation(base / "run", mine, out, settings_for(base, **more), device="cpu")
    work.prepare()
    return adapt(work, Ears(Parrot(), SpectralSpeaker()), device="cpu"), work


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_epochs_are_reported_from_before_the_first_step_and_the_best_is_a_model(base, mine, tmp_path, lora):
    best, _ = adapted(base, mine, tmp_path / "me", lora=lora)
    rows = read_json_lines(tmp_path / "me/epochs.jsonl")
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert set(rows[0]["losses"]) == set(rows[0]["base"]) == {"asr_text_nats", "tts_semantic_nats"}
    assert rows[0]["scores"]["given"]["wer"] and rows[0]["judge"]["name"] == "parrot"
    kept = max(rows, key=lambda row: row["score"])
    checkpoint = load_checkpoint(tmp_path / "me")
    assert checkpoint.folder == best and checkpoint.state["step"] == kept["step"] > 0
    assert not any("lora" in name for name in checkpoint.weights())
    about = checkpoint.about
    assert (about.name, about.adapted_from, about.consent) == ("me", "tiny", "My own voice.")
    assert about.licence == "CC0-1.0"
    model = SpeechModel.load(tmp_path / "me", device="cpu")
    assert model.speak("open", max_s=0.5).wave.origin.endswith(
        "model: me; voice: the model was adapted to, consent stated"
    )
    result = read_json(tmp_path / "me/adapted.json")
    assert result["cases"] >= 2 and result["before"]["heard_wer"] and result["after"]["given"]["similarity"]
    page = (tmp_path / "me/report.html").read_text()
    assert page.count("<audio") >= 8 and "Before, voice given" in page and "After each epoch" in page


def test_a_run_that_makes_nothing_better_keeps_the_model_as_it_was(base, mine, tmp_path):
    best, _ = adapted(base, mine, tmp_path / "me", peak_lr=50.0, patience=1)
    rows = read_json_lines(tmp_path / "me/epochs.jsonl")
    assert [row["stopped"] for row in rows] == [False, True]
    before, after = load_checkpoint(base / "run").weights(), load_checkpoint(best).weights()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_the_model_has_not_met_is_named(base, mine, tmp_path):
    work = open_adaptation(base / "run", mine, tmp_path / "me", settings_for(base, replay=None), device="cpu")
    items = [replace(item, language="de") for item in work.source.items]
    told = replace(work, source=replace(work.source, items=items)).warnings()
    assert any("'ü' (3), 'ß' (3): it spells them by bytes" in line for line in told)
    assert any("in de; tiny was trained on en" in line for line in told)
    assert any("forgets is not counteracted" in line for line in told)
    alone = shaped_store(tmp_path / "alone", [[(0, 9, 3)]])
    (told,) = replace(
        work, settings=settings_for(base, replay=str(alone)), source=replace(work.source, items=[])
    ).warnings()
    assert "holds nothing out for validation" in told
    assert not replace(work, settings=settings_for(base), source=replace(work.source, items=[])).warnings()


def test_documents_and_loss_are_those_that_the_model_was_taught(base, mine, tmp_path):
    work = open_adaptation(base / "run", mine, tmp_path / "me", settings_for(base), device="cpu")
    work.prepare()
    config = adapt_config(work.settings, work.store, work.checkpoint)
    loss, views, _ = taught(work.checkpoint)
    assert loss.slot_softmax and loss.kind_weights and len(views) == 4
    shares = {}
    for source in config.data.sources:
        shares[source.store] = shares.get(source.store, 0) + source.weight
    assert shares[str(base / "store")] == pytest.approx(0.2) and sum(shares.values()) == pytest.approx(1)
    assert {source.view for source in config.data.sources} == set(views)


def test_a_test_folder_of_ones_own_is_tested_on_and_never_trained_on(base, mine, tmp_path):
    others = write_recordings(tmp_path / "others", 3, seed=9)
    work = open_adaptation(base / "run", mine, tmp_path / "me", settings_for(base), test=others, device="cpu")
    splits = {split: 0 for split in ("train", "validation", "test")}
    for item in work.source.items:
        splits[item.fields["demo_split"]] += "variant_of" not in item.fields
        assert (item.fields["demo_split"] == "test") == item.id.startswith("test/")
    assert splits["test"] == 3 and splits["train"] + splits["validation"] == 12


def test_too_few_recordings_are_refused(base, tmp_path):
    few = write_recordings(tmp_path / "few", 2)
    work = open_adaptation(base / "run", few, tmp_path / "me", settings_for(base), device="cpu")
    with pytest.raises(ConfigError, match="too few to hold some out"):
        work.prepare()


def words_for(base, mine, tmp_path):
    if not (tmp_path / "ear").exists():
        small_wav2vec2(tmp_path / "ear")
    return [str(mine), "--model", str(base / "run"), "--device", "cpu", "--judge", str(tmp_path / "ear"),
            "--epochs", "1", "--variants", "0", "--lr", "1e-2", "--report-cases", "1", "--test-cases", "1",
            "--replay", str(base / "store")]  # fmt: skip


def test_the_command_killed_goes_on_to_the_end_of_one_left_alone(base, mine, tmp_path, capsys):
    words = words_for(base, mine, tmp_path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    main([*words, "--out", str(whole)])
    told = capsys.readouterr().err
    assert "consent unstated" in told and "'ü'" in told and "before," in told
    (*_, last) = read_json_lines(whole / "epochs.jsonl")
    with killed_at(killed, last["step"]):
        main([*words, "--out", str(killed)])
    main([*words, "--out", str(killed), "--consent", "Mine."])
    assert_same_run(whole, killed)
    assert read_json_lines(whole / "epochs.jsonl") == read_json_lines(killed / "epochs.jsonl")
    assert load_checkpoint(whole).about.consent is None
    assert load_checkpoint(killed).about.consent == "Mine."


def test_a_dry_run_says_what_it_costs_and_writes_nothing(base, mine, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(adapt_cost, "TRIED", 3)
    main([*words_for(base, mine, tmp_path), "--out", str(tmp_path / "me"), "--dry-run", "--lora", "2"])
    told = capsys.readouterr().out
    assert "at most 20 steps" in told and "Time" in told and "train 10" in told.replace("\n", " ")
    assert not (tmp_path / "me").exists()


def test_the_demo_starts_from_a_model_when_told_to(base, mine, tmp_path, monkeypatch):
    small_wav2vec2(tmp_path / "ear")
    words = ["--data", str(mine), "--start", str(base / "run"), "--out", str(tmp_path / "me")]
    asked = []
    monkeypatch.setattr("sodakit.commands.adapt.run", asked.append)
    demo_main([*words, "--judge", str(tmp_path / "ear"), "--seed", "3"])
    (options,) = asked
    assert (options.data, options.model, options.out) == (mine, base / "run", tmp_path / "me")
    assert options.judge == str(tmp_path / "ear") and options.seed == 3
    with pytest.raises(ConfigError, match="--steps: no effect with --start"):
        demo_main([*words, "--steps", "3"])
    with pytest.raises(ConfigError, match="--start needs --data"):
        demo_main(words[2:])
