"""Scores of translations: what fails counts, voices are compared with others, systems on the same sentences."""

import numpy as np
import pytest

from sodakit.audio.files import read_wave
from sodakit.audio.levels import silence_share
from sodakit.audio.wave import Wave
from sodakit.codec.toy import ToyCodec
from sodakit.eval.cascade import cascade, learn_table
from sodakit.eval.translated import (
    PairCase,
    bleu_difference,
    listen_to,
    scores_of,
    write_outputs,
)
from sodakit.eval.translation import compare_translations, read_translation_cases
from sodakit.generate.long_form import Transcript
from sodakit.generate.speech_model import Spoken
from sodakit.generate.translate import Translation
from sodakit.voices.parallel import parallel_sentences

RATE_HZ = 8000
REFERENCES = [
    "open the door in the hall",
    "close the window at noon",
    "wash the cups before lunch",
    "find the shoes today",
]


def tone(hz: float, duration_s: float = 0.5) -> Wave:
    time_s = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    return Wave(0.5 * np.sin(2 * np.pi * hz * time_s), RATE_HZ)


class Reader:
    """A judge that hears what it is given, in order."""

    name, fingerprint = "reader", "reader"

    def __init__(self, texts):
        self.texts = texts

    def transcribe(self, waves):
        assert len(waves) == len(self.texts)
        return self.texts


class Pitch:
    """Voices by pitch alone: low or high."""

    name, fingerprint = "pitch", "pitch"

    def embed(self, waves):
        high = [np.abs(np.diff(np.sign(w.samples_S))).sum() / 2 / w.duration_s > 600 for w in waves]
        return np.array([[0.0, 1.0] if h else [1.0, 0.0] for h in high])


def cases() -> list[PairCase]:
    return [
        PairCase(
            id=f"c{n}",
            source_language=("es", "de")[n % 2],
            target_language="en",
            source_text="x",
            reference=reference,
            speaker=("low", "high")[n // 2],
            source=tone((200.0, 900.0)[n // 2]),
            codes_KF=np.zeros((1, 1), np.uint16),
            spoken_reference=tone(200.0),
        )
        for n, reference in enumerate(REFERENCES)
    ]


def made(wave: Wave, text: str = "") -> Translation:
    return Translation("es", "x", "en", text, Spoken(wave, np.zeros((1, 1), np.uint16), True))


def test_right_words_in_the_right_voice_score_full_marks():
    outputs = [made(c.source, c.reference) for c in cases()]
    scores = scores_of(listen_to(cases(), outputs, Reader(REFERENCES), Pitch()))
    assert set(scores) == {"all", "de-en", "es-en"} and scores["es-en"]["num_cases"] == 2
    assert scores["all"]["asr_bleu"]["value"] == pytest.approx(100) and scores["all"]["wer"]["value"] == 0
    assert scores["all"]["similarity_gap"]["value"] == 1 and scores["all"]["duration_ratio"]["value"] == 1


def test_an_output_without_sound_is_a_failure_and_all_its_words_are_wrong():
    outputs = [made(c.source, c.reference) for c in cases()]
    outputs[0] = made(Wave(np.zeros(0, np.float32), RATE_HZ), REFERENCES[0])
    scores = scores_of(listen_to(cases(), outputs, Reader(REFERENCES[1:]), Pitch()))["all"]
    assert scores["num_failed"] == 1
    assert scores["wer"]["value"] == pytest.approx(6 / 20)
    assert scores["asr_bleu"]["value"] < 85 < scores["text_bleu"]["value"]


def test_a_task_that_writes_fails_where_nothing_is_written():
    """Speech to text makes no sound, and must not be counted as silent."""
    outputs = [Translation(text=text) for text in (*REFERENCES[:3], " ")]
    scores = scores_of(listen_to(cases(), outputs, Reader([])))["all"]
    assert scores["num_failed"] == 1 and "asr_bleu" not in scores and scores["text_bleu"]["value"] > 50


def test_the_difference_of_two_systems_is_paired_over_the_cases():
    good = listen_to(cases(), [made(c.source) for c in cases()], Reader(REFERENCES))
    bad = listen_to(cases(), [made(c.source) for c in cases()], Reader(["nothing of the kind"] * 4))
    assert bleu_difference(good, good).low == bleu_difference(good, good).high == 0
    assert bleu_difference(good, bad).low > 50
    with pytest.raises(ValueError, match="different cases"):
        bleu_difference(good, bad[:2])


def test_two_systems_differ_by_as_much_here_as_by_their_result_files():
    """`sodakit eval compare` and the report of a fine-tune once gave two intervals for one pair."""
    some = [*REFERENCES[:2], "find the lamp today", "wash the door"]
    first, second = (
        listen_to(cases(), [made(c.source) for c in cases()], Reader(t)) for t in (REFERENCES, some)
    )
    results = [
        {"items": [{"id": r.case.id, "reference": r.case.reference, "heard": r.heard} for r in side]}
        for side in (first, second)
    ]
    assert bleu_difference(first, second) == compare_translations(*results, "asr_bleu").value


def test_outputs_are_read_back_by_the_scorer_of_folders(tmp_path):
    results = listen_to(cases(), [made(c.source) for c in cases()], Reader(REFERENCES))
    write_outputs(results, tmp_path)
    back = read_translation_cases(tmp_path / "cases.jsonl")
    assert [c.reference for c in back] == REFERENCES
    assert read_wave(back[0].output).duration_s == pytest.approx(0.5)


def test_silence_is_counted_by_frames_far_under_the_loudest():
    half = np.concatenate([tone(300).samples_S, np.zeros(RATE_HZ // 2, np.float32)])
    assert silence_share(Wave(half, RATE_HZ)) == pytest.approx(0.5, abs=0.03)
    assert silence_share(Wave(np.zeros(0, np.float32), RATE_HZ)) == 1.0 and silence_share(tone(300)) == 0.0


def test_a_table_learns_the_words_of_parallel_sentences():
    texts = [t.texts for t in parallel_sentences(300, 0)]
    table = learn_table([(t["es"], t["en"]) for t in texts])
    assert (table.words["cocina"], table.words["tazas"]) == ("kitchen", "cups")
    assert table.translate("Quizás, cocina") == "quizás kitchen"


def test_a_cascade_that_has_no_word_to_say_is_scored_as_silence():
    """A model that writes nothing known made the whole report fail, for want of scores of speech."""

    class Deaf:
        codec = ToyCodec()

        def transcribe_codes(self, codes):
            return [Transcript(()) for _ in codes]

        def speak_many(self, texts, **more):
            return [pytest.fail("nothing is to be said") for _ in texts]

    asked = cases()
    tables = {case.pair: learn_table([("hola", "hello")]) for case in asked}
    scores = scores_of(listen_to(asked, cascade(Deaf(), tables, asked), Reader([]), None))["all"]
    assert scores["asr_bleu"]["value"] == 0 and scores["wer"]["value"] == 1
    assert scores["num_failed"] == len(asked)
