"""Writing, speaking and going on: prompts, failures, and runs that are killed."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sodakit.audio.files import read_wave
from sodakit.commands.eval import main
from sodakit.errors import ConfigError
from sodakit.eval import generation
from sodakit.eval.cases import read_recordings, read_voice_cases
from sodakit.eval.generation import (
    ContinueConfig,
    SpeakConfig,
    TranscribeConfig,
    continue_cases,
    speak_cases,
    transcribe_cases,
)
from sodakit.eval.outputs import Output, generate_folder, outputs_digest, read_outputs
from sodakit.files import read_json
from sodakit.generate.engine import Request
from sodakit.generate.speech_model import SpeechModel
from sodakit.tokens.frames import codes_to_ids
from tests.eval.recordings import TEXTS, recordings_folder, voice_list
from tests.eval.small_model import noise, small_checkpoint, small_speech_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    return small_speech_model()


def prompts_of(model: SpeechModel, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The requests a task makes, as they are made."""
    asked: list[Request] = []
    generate = model.engine.generate

    def listen(requests: list[Request], batch: int = 16):  # type: ignore[no-untyped-def]
        asked.extend(requests)
        return generate(requests, batch)

    monkeypatch.setattr(model.engine, "generate", listen)
    return asked


def _one_by_one(model: SpeechModel, codes_KF: np.ndarray, most: int) -> str:
    request = model.text_request(model.template.transcribe_prompt(codes_KF), max_tokens=most)
    return model.tokenizer.decode(model.engine.generate([request])[0].ids_T)


def test_transcripts_are_those_the_model_gives_one_by_one(model: SpeechModel, tmp_path: Path) -> None:
    cases = read_recordings(recordings_folder(tmp_path / "data"))
    config = TranscribeConfig(max_new_tokens=12)
    outputs, _ = transcribe_cases(model, cases, tmp_path / "out", config, part_items=4)
    alone = [_one_by_one(model, model.encode(c.read()), 12) for c in cases]
    assert [o.text for o in outputs] == alone
    assert [o.id for o in outputs] == [c.id for c in cases]


def test_examples_are_whole_documents_the_same_for_all(
    model: SpeechModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = read_recordings(recordings_folder(tmp_path / "data"))
    shots = read_recordings(recordings_folder(tmp_path / "shots", 50))
    asked = prompts_of(model, monkeypatch)
    transcribe_cases(model, cases, tmp_path / "out", TranscribeConfig(num_shots=2, max_new_tokens=3), shots)
    v = model.vocabulary
    ids = [request.prompt_T.tolist() for request in asked]
    assert all(i.count(v.bos) == 3 and i.count(v.eos) == 2 and i[-1] == v.text_start for i in ids)
    starts = [len(i) - i[::-1].index(v.bos) - 1 for i in ids]
    assert len({tuple(i[:start]) for i, start in zip(ids, starts, strict=True)}) == 1
    with pytest.raises(ConfigError, match="--shots-from"):
        transcribe_cases(model, cases, tmp_path / "o2", TranscribeConfig(num_shots=2), cases)


def test_a_voice_comes_before_the_sentence_as_text_and_speech(
    model: SpeechModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = read_voice_cases(voice_list(tmp_path / "data"))
    asked = prompts_of(model, monkeypatch)
    speak_cases(model, cases[:1], tmp_path / "out", SpeakConfig(max_s=0.2))
    v, said = model.vocabulary, model.tokenizer.encode
    codes_KF = model.encode(read_wave(cases[0].prompt))  # type: ignore[arg-type]
    voice = [v.audio_base + 8 * k + int(c) for f in codes_KF.T for k, c in enumerate(f)]
    expected = [v.bos, v.text_start, *said(TEXTS[0]), v.text_end, v.audio_start, *voice, v.audio_end]
    expected += [v.text_start, *said(TEXTS[1]), v.text_end, v.audio_start]
    assert asked[0].prompt_T.tolist() == expected
    assert (asked[0].closing, asked[0].seed, asked[0].semantic.top_p) == (v.audio_end, 42, 0.8)


def test_an_opening_is_cut_and_left_open(
    model: SpeechModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = read_recordings(recordings_folder(tmp_path / "data"))
    asked = prompts_of(model, monkeypatch)
    config = ContinueConfig(prompt_s=0.16, max_s=0.4)
    outputs, _ = continue_cases(model, cases[:2], tmp_path / "out", config)
    assert len(asked[0].prompt_T) == 2 + 2 * 2  # BOS and audio_start, two frames of two codes
    assert all(o.wave is not None and o.wave.duration_s <= 0.4 for o in outputs)


def test_a_recording_that_cannot_be_read_or_does_not_fit_is_an_output_with_a_problem(tmp_path: Path) -> None:
    model = small_speech_model(context=14)
    cases = read_recordings(recordings_folder(tmp_path / "data", damaged=2))
    outputs, _ = transcribe_cases(model, cases, tmp_path / "out", TranscribeConfig(max_new_tokens=4))
    problems = {o.id: o.problem for o in outputs if o.problem}
    assert len(outputs) == 6 and 2 <= len(problems) < 6
    assert any("context 14" in p for p in problems.values())
    assert sum(o.failed for o in outputs) >= len(problems)


def test_other_settings_are_refused_the_folder(model: SpeechModel, tmp_path: Path) -> None:
    cases = read_recordings(recordings_folder(tmp_path / "data"))
    transcribe_cases(model, cases, tmp_path / "out", TranscribeConfig(max_new_tokens=2))
    with pytest.raises(ConfigError, match=r"another settings \(settings.max_new_tokens was 2, now 3\)"):
        transcribe_cases(model, cases, tmp_path / "out", TranscribeConfig(max_new_tokens=3))


def test_outputs_come_back_as_they_were(tmp_path: Path) -> None:
    wave = noise(3, 0.25)
    given = [
        Output(id="a", text="héllo — ‘so’", num_tokens=3),
        Output(id="b", wave=wave, ended=False),
        Output(id="c", problem="prompt too long"),
    ]
    found = generate_folder(3, lambda part: [given[n] for n in part], tmp_path, {"task": "x"}, part_items=2)
    assert [(o.id, o.text, o.ended, o.problem, o.failed) for o in found] == [
        ("a", "héllo — ‘so’", True, None, False),
        ("b", None, False, None, False),
        ("c", None, True, "prompt too long", True),
    ]
    assert found[1].wave is not None
    np.testing.assert_allclose(found[1].wave.samples_S, wave.samples_S, atol=1e-4)
    with pytest.raises(ConfigError, match="no outputs"):
        read_outputs(tmp_path / "nothing")


@pytest.mark.parametrize("task", ["asr", "tts"])
def test_a_run_killed_at_half_and_started_again_ends_with_the_same_files(
    tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL in the middle, between two parts: no clean-up runs, and nothing may depend on it."""
    for function in ("transcribe_cases", "speak_cases"):
        monkeypatch.setitem(getattr(generation, function).__kwdefaults__, "part_items", 2)
    data = voice_list(tmp_path / "data", damaged=4)
    model = small_checkpoint(tmp_path / "model")
    monkeypatch.chdir(ROOT)
    words = [task, "--data", str(data), "--model", str(model)]
    words += ["--max-s", "0.4"] if task == "tts" else ["--max-new-tokens", "8", "--temperature", "1"]
    judge = tmp_path / "judge.safetensors"
    small_judge().save(judge)
    words += ["--judge", str(judge)] if task == "tts" else []
    killed = [sys.executable, "-m", "tests.eval.killed_run", "2", "2", *words, "--out", str(tmp_path / "a")]
    assert subprocess.run(killed, cwd=ROOT, capture_output=True, check=False).returncode == -signal.SIGKILL
    parts = sorted(p.name for p in (tmp_path / "a" / task).glob("part-*"))
    assert parts == ["part-00000.jsonl"] and not (tmp_path / "a" / f"{task}.json").exists()
    for out in "ab":
        main([*words, "--out", str(tmp_path / out)])
    assert outputs_digest(tmp_path / "a" / task) == outputs_digest(tmp_path / "b" / task)
    results = [(tmp_path / out / f"{task}.json").read_bytes() for out in "ab"]
    assert results[0] == results[1]
    assert json.loads(results[0])["scores"]["num_failed"] >= 1


def small_judge():  # type: ignore[no-untyped-def]
    import torch

    from sodakit.eval.judges import CtcJudge
    from sodakit.eval.recogniser import Recogniser

    torch.manual_seed(0)
    words = tuple(sorted({word for text in TEXTS for word in text.split()}))
    alphabet = "".join(sorted({" ", *"".join(words)}))
    return CtcJudge(Recogniser(len(alphabet)).eval(), alphabet, words)


def test_the_commands_print_intervals_judges_and_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = voice_list(tmp_path / "data", damaged=4)
    model = small_checkpoint(tmp_path / "model")
    small_judge().save(model / "judge.safetensors")  # beside the model, as the demo leaves it
    words = ["--data", str(data), "--model", str(model), "--out", str(tmp_path / "out")]
    main(["tts", *words, "--max-s", "0.4", "--language", "en"])
    main(["continue", *words, "--max-s", "0.4", "--prompt-s", "0.16"])
    main(["asr", *words, "--language", "es", "--max-new-tokens", "4"])
    written = read_json(tmp_path / "out" / "asr.json")
    assert (written["language"], written["normaliser"]) == ("es", "spoken_es")
    printed = capsys.readouterr().out
    assert "wer_micro" in printed and "cer_micro" in printed and "judge: CTC judge" in printed
    assert "speaker judge: spectral voice print (no download)" in printed
    assert "failed and count as errors" in printed
    result = read_json(tmp_path / "out" / "tts.json")
    assert {f["id"] for f in result["failures"]} >= {"case-4"}
    assert (result["language"], result["normaliser"]) == ("en", "spoken_en")
    assert read_json(tmp_path / "out" / "continuation.json")["language"] is None
    assert "wer_micro" in result["scores"]["originals"]
    main(["report", *(str(tmp_path / "out" / f"{n}.json") for n in ("tts", "continuation")),
          "--out", str(tmp_path / "page.html")])  # fmt: skip
    page = (tmp_path / "page.html").read_text()
    assert "case-4" in page and "<audio" in page and "Worst" in page and str(tmp_path) not in page


def test_the_seed_picks_the_examples(model: SpeechModel, tmp_path: Path) -> None:
    shots = read_recordings(recordings_folder(tmp_path / "shots", 50))
    picked = {
        seed: [
            d.tolist()
            for d in generation._examples(model, [], shots, TranscribeConfig(num_shots=2, seed=seed))
        ]
        for seed in (1, 2)
    }
    for seed, documents in picked.items():
        order = np.random.default_rng(seed).permutation(len(shots))[:2]
        codes = [codes_to_ids(model.encode(shots[int(n)].read()), model.vocabulary).tolist() for n in order]
        assert [d[2 : 2 + len(c)] for d, c in zip(documents, codes, strict=True)] == codes
    assert picked[1] != picked[2]


def test_seconds_are_rounded_to_the_nearest_frame_as_published(model: SpeechModel) -> None:
    """15 s are 187.5 frames at 12.5 a second: the paper has 188."""
    roomy = small_speech_model(context=2048)
    asked = generation._speech(roomy, SpeakConfig())(roomy.template.speak_prompt(roomy.text_ids("a dog")), 3)
    assert asked.max_new_tokens == 188 * 2 + 1 and asked.seed == 45


@pytest.mark.parametrize("wanted", [8, 9])
def test_a_limit_in_ids_is_one_of_whole_frames(model: SpeechModel, wanted: int) -> None:
    """Two codes a frame: four frames and the id that closes them, as for as many seconds."""
    ask = generation._speech(model, ContinueConfig(max_new_tokens=wanted))
    prompt_T = model.template.continue_prompt(np.zeros((2, 3), np.uint16))
    assert ask(prompt_T, 0).max_new_tokens == 4 * 2 + 1


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_seconds_that_are_none_are_refused(bad: float) -> None:
    for name in ("prompt_s", "max_s"):
        with pytest.raises(ConfigError, match=name):
            ContinueConfig(**{name: bad})
