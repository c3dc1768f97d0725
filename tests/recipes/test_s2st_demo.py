"""The translation experiment: nothing tested was trained on, and the whole of it runs."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sodakit.checkpoint.load import latest_checkpoint
from sodakit.codec.load import load_codec
from sodakit.eval.voiceprints import SpectralSpeaker
from sodakit.files import read_json
from sodakit.recipes.s2st_demo import Experiment, S2stDemoConfig, make_texts, run, teach_judge
from sodakit.recipes.s2st_report import write_s2st_report
from sodakit.recipes.street import Stopwatch
from sodakit.voices.catalogue import UNSEEN_VOICES
from tests.train.killed import assert_same_run, killed_at

TINY = S2stDemoConfig(
    base_sentences=40, held_out_sentences=4, train_pairs=24, validation_pairs=2, test_pairs=4, size="nano",
    pretrain_steps=4, epochs=1, max_s=3.0,
)  # fmt: skip


def test_no_sentence_is_in_two_parts_and_only_the_test_hears_unseen_voices():
    texts = make_texts(S2stDemoConfig())
    english = [d.text.texts["en"] for d in texts.dialogues]
    assert len(set(english)) == len(english)
    said = [s for r in texts.readings for s in r.sentences]
    assert len(set(said)) == len(said)
    assert not set(said) & {t for d in texts.dialogues for t in d.text.texts.values()}
    unseen = {v.name for v in UNSEEN_VOICES}
    assert {d.split for d in texts.dialogues if d.voice.name in unseen} == {"test"}
    assert {(d.source, d.target) for d in texts.dialogues} == {("es", "en"), ("de", "en")}


def test_a_named_judge_is_not_taught(tmp_path):
    ear, watch = Ear(), Stopwatch(tmp_path / "stages.json")
    experiment = Experiment(TINY, tmp_path, load_codec("toy"), watch, ear, SpectralSpeaker())
    teach_judge(experiment)
    assert experiment.judge is ear and not (tmp_path / "judge.safetensors").exists()


class Ear:
    """Hears the same whatever is said."""

    name, fingerprint = "ear", "e"

    def transcribe(self, waves):
        return ["a house" for _ in waves]


def test_an_experiment_killed_in_its_second_fine_tuning_ends_as_one_left_alone(tmp_path):
    """What was finished before is taken as it is, what was begun is resumed, the rest is made."""
    least = replace(
        TINY, sources=("es",), base_sentences=16, held_out_sentences=2, train_pairs=12, validation_pairs=1,
        test_pairs=2, max_s=1.0,
    )  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    _, scores = run(least, whole, load_codec("toy"), Ear())
    for name in ("tokenizer", "base_store", "pair_store"):
        shutil.copytree(whole / name, killed / name)
    second = Path("finetuned_pretrained_replay")
    steps = read_json(whole / second / "config.json")["train"]["steps"]
    with killed_at(killed / second, steps):
        run(least, killed, load_codec("toy"), Ear())
    assert not (killed / "finetuned_scratch").exists() and not (killed / "scores.json").exists()
    finished = latest_checkpoint(killed / "finetuned_pretrained" / "checkpoints")
    made_ns = finished.stat().st_mtime_ns
    _, again = run(least, killed, load_codec("toy"), Ear())
    assert finished.stat().st_mtime_ns == made_ns
    for name in ("pretrained", "finetuned_pretrained", second, "finetuned_scratch"):
        assert_same_run(whole / name, killed / name)
    assert again | {"seconds": 0} == scores | {"seconds": 0}


@pytest.mark.slow
def test_the_experiment_compares_every_system_and_reports_what_it_cost(tmp_path):
    experiment, scores = run(TINY, tmp_path, load_codec("mini"))
    assert set(scores["systems"]) == {"pretrained", "pretrained, replay", "scratch", "cascade"}
    assert set(scores["systems"]["scratch"]) == {"all", "es-en", "de-en"}
    assert set(scores["base"]) == {"before", "pretrained", "pretrained, replay"}
    assert set(scores["base"]["before"]) == {"en", "es", "de"}
    page = write_s2st_report(experiment, scores).read_text()
    assert page.count("<audio") > 8 and "What fine-tuning cost" in page
