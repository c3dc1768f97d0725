"""The translation experiment: nothing tested was trained on, and the whole of it runs."""

import pytest

from sodakit.codec.load import load_codec
from sodakit.eval.voiceprints import SpectralSpeaker
from sodakit.recipes.s2st_demo import Experiment, S2stDemoConfig, make_texts, run, teach_judge
from sodakit.recipes.s2st_report import write_s2st_report
from sodakit.recipes.street import Stopwatch
from sodakit.voices.catalogue import UNSEEN_VOICES

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
    class Ear:
        name, fingerprint = "ear", "e"

        def transcribe(self, waves):
            return ["" for _ in waves]

    ear, watch = Ear(), Stopwatch(tmp_path / "stages.json")
    experiment = Experiment(TINY, tmp_path, load_codec("toy"), watch, ear, SpectralSpeaker())
    teach_judge(experiment)
    assert experiment.judge is ear and not (tmp_path / "judge.safetensors").exists()


@pytest.mark.slow
def test_the_experiment_compares_every_system_and_reports_what_it_cost(tmp_path):
    experiment, scores = run(TINY, tmp_path, load_codec("mini"))
    assert set(scores["systems"]) == {"pretrained", "pretrained, replay", "scratch", "cascade"}
    assert set(scores["systems"]["scratch"]) == {"all", "es-en", "de-en"}
    assert set(scores["base"]) == {"before", "pretrained", "pretrained, replay"}
    assert set(scores["base"]["before"]) == {"en", "es", "de"}
    page = write_s2st_report(experiment, scores).read_text()
    assert page.count("<audio") > 8 and "What fine-tuning cost" in page
