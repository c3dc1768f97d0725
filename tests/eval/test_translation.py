from collections.abc import Sequence
from pathlib import Path

import pytest

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.commands.eval import main
from sodakit.errors import ConfigError
from sodakit.eval.translation import read_translation_cases, translation_result
from sodakit.eval.voiceprints import SpectralSpeaker
from sodakit.files import read_json, write_json_lines
from tests.eval.small_judges import small_speaker, small_whisper
from tests.eval.small_model import noise

sacrebleu = pytest.importorskip("sacrebleu")

REFERENCES = [
    "The cat sat on the mat, again.",
    "A dog ran all the way home today.",
    "They don't know each other well.",
]


class Ear:
    """Hears what it is told by the length of a sound in tenths of seconds."""

    name, fingerprint = "ear", "e"
    texts = ("the cat sat on the mat again", "a dog ran all the way to home", "they know each other")

    def transcribe(self, waves: Sequence[Wave]) -> list[str]:
        return [self.texts[round(wave.duration_s * 10) % 3] for wave in waves]


def cases_folder(folder: Path, missing: int | None = None) -> Path:
    rows = []
    for n, reference in enumerate(REFERENCES):
        write_wave(folder / f"out{n}.wav", noise(n, 0.3 + 0.1 * n))
        write_wave(folder / f"src{n}.wav", noise(9 + n, 0.6 + 0.2 * n))
        rows.append({"id": f"c{n}", "reference": reference, "output": f"out{n}.wav", "source": f"src{n}.wav",
                     "spoken_reference": f"out{n}.wav"})  # fmt: skip
    if missing is not None:
        (folder / f"out{missing}.wav").unlink()
    write_json_lines(folder / "outputs.jsonl", rows)
    return folder / "outputs.jsonl"


def test_scores_are_sacrebleu_s_on_what_the_judge_heard(tmp_path: Path) -> None:
    cases = read_translation_cases(cases_folder(tmp_path))
    result = translation_result(cases, Ear(), SpectralSpeaker(), draws=50)
    heard = list(Ear.texts)
    said = [
        "the cat sat on the mat again",
        "a dog ran all the way home today",
        "they dont know each other well",
    ]
    scores = result["scores"]
    assert scores["asr_bleu"]["value"] == pytest.approx(sacrebleu.corpus_bleu(heard, [said]).score)
    assert scores["chrf"]["value"] == pytest.approx(sacrebleu.corpus_chrf(heard, [said]).score)
    assert scores["duration_ratio"]["value"] == pytest.approx(0.5, abs=0.01)
    assert scores["asr_bleu"]["low"] <= scores["asr_bleu"]["value"] <= scores["asr_bleu"]["high"]
    assert scores["originals"]["asr_bleu"]["value"] == scores["asr_bleu"]["value"]
    assert "version:" in result["signatures"]["asr_bleu"]


def test_a_missing_output_is_an_empty_translation_and_is_named(tmp_path: Path) -> None:
    whole = translation_result(read_translation_cases(cases_folder(tmp_path / "a")), Ear(), draws=10)
    torn = translation_result(
        read_translation_cases(cases_folder(tmp_path / "b", missing=0)), Ear(), draws=10
    )
    assert torn["scores"]["asr_bleu"]["value"] < whole["scores"]["asr_bleu"]["value"]
    assert [f["id"] for f in torn["failures"]] == ["c0"]


def test_a_translation_that_is_not_there_has_no_voice(tmp_path: Path) -> None:
    """It counts 0; the mean over those that are there stands beside it."""
    cases = read_translation_cases(cases_folder(tmp_path, missing=0))
    scores = translation_result(cases, Ear(), SpectralSpeaker(), draws=10)["scores"]
    there, every = scores["similarity_without_failures"], scores["similarity"]
    assert (there["num_items"], every["num_items"]) == (len(cases) - 1, len(cases))
    assert every["value"] == pytest.approx(there["value"] * (len(cases) - 1) / len(cases))


def test_a_row_without_a_reference_is_refused(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "o.jsonl", [{"id": "a", "output": "a.wav"}])
    with pytest.raises(ConfigError, match="line 1"):
        read_translation_cases(tmp_path / "o.jsonl")


def test_the_command_listens_with_models_in_folders_also_to_sounds_longer_than_they_hear(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = cases_folder(tmp_path / "data")
    write_wave(tmp_path / "data" / "out0.wav", noise(5, 2.5))  # the small Whisper hears two seconds at once
    small_whisper(tmp_path / "whisper")
    small_speaker(tmp_path / "wavlm")
    main(["s2st", "--data", str(data), "--out", str(tmp_path / "out"),
          "--judge", str(tmp_path / "whisper"), "--speaker-judge", str(tmp_path / "wavlm")])  # fmt: skip
    result = read_json(tmp_path / "out" / "s2st.json")
    assert result["judge"]["name"].startswith("whisper@")
    assert result["speaker_judge"]["name"].startswith("wavlm@")
    assert not (tmp_path / "out" / "judge.safetensors").exists()
    assert "speaker judge: wavlm@" in capsys.readouterr().out
