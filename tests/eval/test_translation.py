import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.commands.eval import main
from sodakit.errors import ConfigError
from sodakit.eval.translation import compare_translations, read_translation_cases, translation_result
from sodakit.eval.voiceprints import SpectralSpeaker
from sodakit.files import read_json, write_json, write_json_lines
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
    result = translation_result(cases, Ear(), SpectralSpeaker())
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
    assert scores["wer_micro"]["value"] == scores["originals"]["wer_micro"]["value"] == pytest.approx(4 / 21)
    assert [item["errors"] for item in result["items"]] == [0, 2, 2]


def test_a_missing_output_is_an_empty_translation_and_is_named(tmp_path: Path) -> None:
    whole = translation_result(read_translation_cases(cases_folder(tmp_path / "a")), Ear())
    torn = translation_result(read_translation_cases(cases_folder(tmp_path / "b", missing=0)), Ear())
    assert torn["scores"]["asr_bleu"]["value"] < whole["scores"]["asr_bleu"]["value"]
    assert [f["id"] for f in torn["failures"]] == ["c0"]
    assert torn["scores"]["wer_micro"]["value"] == pytest.approx(11 / 21), "all its words are deleted"
    assert torn["scores"]["wer_macro_without_failures"]["num_items"] == 2


def test_a_translation_that_is_not_there_has_no_voice(tmp_path: Path) -> None:
    """It counts 0; the mean over those that are there stands beside it."""
    cases = read_translation_cases(cases_folder(tmp_path, missing=0))
    scores = translation_result(cases, Ear(), SpectralSpeaker())["scores"]
    there, every = scores["similarity_without_failures"], scores["similarity"]
    assert (there["num_items"], every["num_items"]) == (len(cases) - 1, len(cases))
    assert every["value"] == pytest.approx(there["value"] * (len(cases) - 1) / len(cases))


@pytest.mark.parametrize(
    ("last", "problem"),
    [
        ('{"id": "a", "reference": "a dog", "output": "a.wav"}', "names a again"),
        ('{"id": "b", "reference": "a dog", "out', "line 2"),
        ('["b", "a dog"]', "line 2"),
        ('{"id": "b", "reference": " "}', "needed are"),
        ('{"id": "b", "reference": 7}', "`reference` is 7"),
        ('{"id": "b", "reference": "a dog", "output": ["b.wav"]}', "`output` is"),
    ],
)
def test_a_list_is_read_whole_or_refused(tmp_path: Path, last: str, problem: str) -> None:
    (tmp_path / "o.jsonl").write_text(f'{{"id": "a", "reference": "a dog"}}\n{last}')
    with pytest.raises(ConfigError, match=problem):
        read_translation_cases(tmp_path / "o.jsonl")


def test_a_pipe_or_a_folder_as_sound_is_a_failure_and_nobody_waits_for_it(tmp_path: Path) -> None:
    data = cases_folder(tmp_path)
    for n, make in enumerate((os.mkfifo, Path.mkdir)):
        for name in (f"out{n}.wav", f"src{n}.wav"):
            (tmp_path / name).unlink()
            make(tmp_path / name)
    result = translation_result(read_translation_cases(data), Ear(), SpectralSpeaker())
    assert [f["id"] for f in result["failures"]] == ["c0", "c1"] and result["num_cases"] == 3


def test_a_row_without_a_reference_is_refused(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "o.jsonl", [{"id": "a", "output": "a.wav"}])
    with pytest.raises(ConfigError, match="row 1"):
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


def heard_result(texts: Sequence[str], references: Sequence[str]) -> dict[str, object]:
    """As much of a result as a comparison reads."""
    rows = zip(texts, references, strict=True)
    return {
        "task": "s2st",
        "data_digest": "d",
        "items": [
            {"id": f"c{n}", "cluster": f"c{n}", "reference": r, "heard": t, "similarity": None}
            for n, (t, r) in enumerate(rows)
        ],
        "scores": {},
    }


def test_two_models_are_compared_by_the_bleu_of_exchanged_sentences() -> None:
    """Twelve sentences, so that every exchange can be listed: the p-value is then a count."""
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    references = [" ".join(words[(n + k) % 10] for k in range(7)) for n in range(12)]
    good = [r if n % 3 else r.replace("four", "for") for n, r in enumerate(references)]
    poor = [" ".join(r.split()[: 6 - n % 3]) for n, r in enumerate(references)]
    a, b = heard_result(good, references), heard_result(poor, references)

    def bleu(texts: Sequence[str]) -> float:
        return float(sacrebleu.corpus_bleu(list(texts), [references]).score)

    found = compare_translations(a, b, "asr_bleu")
    observed = bleu(good) - bleu(poor)
    assert found.value.value == pytest.approx(observed)
    assert found.value.low < observed < found.value.high
    exchanges = [
        abs(bleu([p if s else g for s, g, p in zip(bits, good, poor, strict=True)])
            - bleu([g if s else p for s, g, p in zip(bits, good, poor, strict=True)]))
        for bits in product((0, 1), repeat=12)
    ]  # fmt: skip
    exact = sum(e >= observed - 1e-9 for e in exchanges) / len(exchanges)
    assert found.p_value == pytest.approx(exact, abs=0.01)
    same = compare_translations(a, a, "chrf")
    assert same.value.value == 0.0 and same.p_value == 1.0
    with pytest.raises(ConfigError, match="other cases"):
        compare_translations(a, heard_result(good[:5], references[:5]), "asr_bleu")
    with pytest.raises(ConfigError, match="data_digest"):
        compare_translations(a, {**b, "data_digest": "e"}, "asr_bleu")


def test_translations_are_compared_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, missing in (("whole", None), ("torn", 0)):
        cases = read_translation_cases(cases_folder(tmp_path / name, missing))
        write_json(tmp_path / f"{name}.json", translation_result(cases, Ear(), SpectralSpeaker()))
    whole, torn = (read_json(tmp_path / f"{name}.json")["scores"] for name in ("whole", "torn"))
    # The digest is of sources and spoken references: these are the outputs too here, of which one is gone.
    found = read_json(tmp_path / "torn.json")
    write_json(
        tmp_path / "torn.json", found | {"data_digest": read_json(tmp_path / "whole.json")["data_digest"]}
    )
    main(["compare", str(tmp_path / "whole.json"), str(tmp_path / "torn.json")])
    printed = capsys.readouterr().out
    assert f"asr_bleu: {whole['asr_bleu']['value'] - torn['asr_bleu']['value']:+.2f} (" in printed
    assert "chrf: " in printed
    assert f"similarity: {whole['similarity']['value'] - torn['similarity']['value']:+.4f} (" in printed
