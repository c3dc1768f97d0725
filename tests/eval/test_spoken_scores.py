"""What is counted of outputs: every average by a plain loop, every failure as an error."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sodakit.audio.files import read_wave, write_wave
from sodakit.audio.wave import Wave
from sodakit.eval.cases import VoiceCase, read_recordings, read_voice_cases
from sodakit.eval.judges import heard_texts
from sodakit.eval.outputs import Output
from sodakit.eval.results import compare
from sodakit.eval.spoken_scores import speech_result, transcription_result
from sodakit.eval.voiceprints import SpectralSpeaker, equal_error_rate
from sodakit.eval.words import word_errors
from tests.eval.recordings import TEXTS, recordings_folder, voice_list
from tests.eval.small_model import noise


class Parrot:
    """A judge that hears by the length of a sound what it was told."""

    name, fingerprint = "parrot", "p"

    def __init__(self, texts: dict[float, str]) -> None:
        self.texts = texts

    def transcribe(self, waves: Sequence[Wave]) -> list[str]:
        return [self.texts.get(round(wave.duration_s, 2), "nothing known") for wave in waves]


def plain_edits(said: list[str], heard: list[str]) -> int:
    """Levenshtein's distance over words, the textbook table."""
    row = list(range(len(heard) + 1))
    for i, a in enumerate(said, start=1):
        before, row = row, [i]
        for j, b in enumerate(heard, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (a != b)))
    return row[-1]


SAID = ["It’s a well-known dog.", "It's here", "one two three four", "gone"]
HEARD = ["its a well known dog", "It's HERE!", "one three four five", None]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sodakit", [["its", "a", "wellknown", "dog"], ["its", "here"]]),
        ("soda", [["its", "a", "wellknown", "dog"], ["its", "here"]]),
        ("seed_tts_en", [["its", "a", "wellknown", "dog"], ["it's", "here"]]),
        ("none", [["It’s", "a", "well-known", "dog."], ["It's", "here"]]),
    ],
)
def test_rates_are_those_of_a_textbook_loop(name: str, words: list[list[str]]) -> None:
    from sodakit.eval.normalisers import normaliser

    said = [*words, ["one", "two", "three", "four"], ["gone"]]
    heard = [normaliser(name)(text or "").split() for text in HEARD]
    errors = [plain_edits(a, b) for a, b in zip(said, heard, strict=True)]
    rates = [e / len(a) for e, a in zip(errors, said, strict=True)]
    found = word_errors(SAID, HEARD, list("abcd"), name)
    assert found.micro.value == pytest.approx(sum(errors) / sum(map(len, said)))
    assert found.macro.value == pytest.approx(sum(rates) / 4)
    assert found.macro_without_failures is not None
    assert found.macro_without_failures.value == pytest.approx(sum(rates[:3]) / 3)


def test_a_missing_output_changes_the_worst_figure_and_not_the_skipped_one() -> None:
    there = word_errors(SAID[:3], HEARD[:3], list("abc"), "soda")
    missing = word_errors(SAID, HEARD, list("abcd"), "soda")
    assert missing.macro.value > there.macro.value
    assert missing.macro_without_failures == there.macro_without_failures


def test_intervals_of_word_errors_resample_speakers() -> None:
    """One speaker of many sentences is one draw, not many."""
    said, heard = ["a b"] * 40, ["a b"] * 20 + ["x y"] * 20
    alone = word_errors(said, heard, [str(n) for n in range(40)], "none").micro
    grouped = word_errors(said, heard, ["p"] * 20 + ["q"] * 20, "none").micro
    assert grouped.num_clusters == 2
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def outputs_of(ids: list[str], texts: list[str | None]) -> list[Output]:
    return [Output(id=i, text=t, problem=None if t else "context") for i, t in zip(ids, texts, strict=True)]


def test_two_transcribers_are_compared_over_the_same_recordings(tmp_path: Path) -> None:
    cases = read_recordings(recordings_folder(tmp_path))
    ids = [case.id for case in cases]
    settings = {"task": "asr", "data_digest": "d"}
    right = transcription_result(settings, cases, outputs_of(ids, [c.text for c in cases]), "sodakit")
    wrong = transcription_result(
        settings, cases, outputs_of(ids, [None, "x", *[c.text for c in cases[2:]]]), "sodakit"
    )
    assert right["scores"]["wer_micro"]["value"] == 0
    assert wrong["failures"] == [{"id": ids[0], "problem": "context"}]
    found = compare(wrong, right, "wer")
    words = sum(len(case.text.split()) for case in cases)
    lost = sum(len(case.text.split()) for case in cases[:2])
    assert found.value.value == pytest.approx(lost / words)
    assert 0 < found.p_value <= 1


def voice_cases(folder: Path) -> list[VoiceCase]:
    from sodakit.eval.cases import read_voice_cases

    return read_voice_cases(voice_list(folder))


def test_speech_is_heard_by_the_judge_and_the_judge_by_the_originals(tmp_path: Path) -> None:
    cases = voice_cases(tmp_path)
    # Recording n lasts 0.3 + n / 20 seconds, so the parrot knows what a person said, but for one of them.
    judge = Parrot({round(0.3 + 0.05 * n, 2): TEXTS[n] for n in range(5)})
    waves = [case_original(case) for case in cases]
    outputs = [Output(id=c.id, wave=w) for c, w in zip(cases, waves, strict=True)]
    outputs[0] = Output(id=cases[0].id, wave=Wave(np.zeros(0, np.float32), 8000), ended=False)
    settings = {"task": "tts", "data_digest": "d"}
    result = speech_result(settings, cases, outputs, judge, SpectralSpeaker(), "sodakit")
    scores = result["scores"]
    words = [len(case.text.split()) for case in cases]
    unheard = plain_edits(
        TEXTS[5].split(), ["nothing", "known"]
    )  # case 4 speaks the text the parrot does not know
    assert scores["wer_micro"]["value"] == pytest.approx((words[0] + unheard) / sum(words))
    assert scores["originals"]["wer_micro"]["value"] == pytest.approx(unheard / sum(words))
    assert scores["num_failed"] == 1 and scores["ended_fraction"] == pytest.approx(5 / 6)
    assert scores["duration_ratio"]["value"] == pytest.approx(5 / 6)  # a silent one has ratio 0
    assert scores["similarity"]["value"] < scores["similarity_without_failures"]["value"]
    assert result["judge"] == {"name": "parrot", "fingerprint": "p"}


def case_original(case: VoiceCase) -> Wave:
    from sodakit.eval.cases import original_of

    wave = original_of(case)
    assert wave is not None
    return wave


def test_a_failed_output_is_no_voice_for_a_paired_test_too(tmp_path: Path) -> None:
    voice_list(tmp_path)
    cases = read_voice_cases(tmp_path)
    sounds = [read_wave(case.original) for case in cases if case.original]
    whole = [Output(id=c.id, wave=w) for c, w in zip(cases, sounds, strict=True)]
    half = [o if n % 2 else Output(id=o.id, problem="too long") for n, o in enumerate(whole)]
    judge = Parrot({})
    a, b = (
        speech_result({}, cases, outputs, judge, SpectralSpeaker(), "sodakit") for outputs in (whole, half)
    )
    difference = compare(a, b, "similarity").value.value
    headlines = [result["scores"]["similarity"]["value"] for result in (a, b)]
    assert difference == pytest.approx(headlines[0] - headlines[1])
    assert difference > 0.2


@pytest.mark.parametrize("in_folders", [True, False])
def test_the_speaker_judge_s_own_error_is_there_whether_or_not_folders_tell_speakers(
    tmp_path: Path, in_folders: bool
) -> None:
    """Six prompts in one folder, as released sets have them, are six speakers; in three folders they are three."""
    lines = []
    for n in range(6):
        place = f"s{n % 3}/{n}.wav" if in_folders else f"{n}.wav"
        write_wave(tmp_path / place, noise(n, 0.5))
        write_wave(tmp_path / "wavs" / f"case-{n}.wav", noise(10 + n, 0.5))
        lines.append(f"case-{n}|one|{place}|two")
    (tmp_path / "meta.lst").write_text("\n".join(lines))
    cases = read_voice_cases(tmp_path)
    outputs = [Output(id=c.id, wave=noise(20, 0.5)) for c in cases]
    result = speech_result({}, cases, outputs, Parrot({}), SpectralSpeaker(), "sodakit")
    waves = [noise(10 + n, 0.5) for n in range(6)] + [noise(n, 0.5) for n in range(6)]
    names = [f"{n % 3 if in_folders else n}" for n in range(6)] * 2
    expected = equal_error_rate(SpectralSpeaker().embed(waves), names)
    assert expected is not None
    assert result["scores"]["originals"]["equal_error_rate"] == pytest.approx(expected, abs=0.02)


def test_words_heard_where_nothing_was_said_are_errors_over_the_words_of_the_others() -> None:
    """An empty reference has no word to share errors by: two errors over four words, not over five."""
    found = word_errors(["", "a b c d"], ["x y", "a b c d"], ["p", "q"], "none")
    assert found.micro.value == pytest.approx(2 / 4)
    # A draw of the empty reference alone has no rate, and takes no part in the interval.
    assert (found.micro.low, found.micro.high) == (0.0, 0.5)


def test_a_paired_test_counts_words_heard_where_nothing_was_said() -> None:
    """Its difference is that of the two scores; leaving such items out would hide who made the words up."""
    items = [{"id": "1", "cluster": "p", "words": 0}, {"id": "2", "cluster": "q", "words": 4}]
    talkative, silent = (
        {
            "task": "asr",
            "scores": {},
            "items": [i | {"errors": e} for i, e in zip(items, errors, strict=True)],
        }
        for errors in ((2, 0), (0, 0))
    )
    assert compare(talkative, silent, "wer").value.value == pytest.approx(2 / 4)


def test_a_click_is_no_speech_and_nobody_is_asked_about_it() -> None:
    """Recognisers make up words for sounds of a few milliseconds."""
    judge = Parrot({0.06: "a dog", 0.04: "made up"})
    damaged = Wave(np.full(16_000, np.nan, np.float32), 16_000)
    assert heard_texts(judge, [noise(1, 0.06), noise(2, 0.04), None, damaged]) == ["a dog", None, None, None]
