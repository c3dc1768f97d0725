"""The whole way on a handful of real recordings: every stage runs, nothing is lost, the page is whole."""

import json
import re
import shutil

import pytest

from sodakit.cli import main
from sodakit.files import read_json, read_json_lines
from sodakit.units import spread
from tests.recordings import recordings
from tests.train.killed import assert_same_run, killed_at


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Sixty spoken digits and one file that is no sound, through `sodakit demo --data`."""
    folder = tmp_path_factory.mktemp("digits")
    digits = recordings("fsdd")
    rows = spread(read_json_lines(digits / "manifest.jsonl"), 60)
    lines = [{**row, "audio": str((digits / row["audio"]).resolve())} for row in rows]
    (folder / "broken.wav").write_bytes(b"RIFF of nothing")
    lines.append({"audio": "broken.wav", "text": "nine", "speaker": "george"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path_factory.mktemp("runs") / "demo"
    arguments = ["demo", "--data", str(folder), "--out", str(out), "--codec", "toy", "--steps", "6"]
    main(arguments)
    return out, arguments


def test_every_stage_leaves_its_result(demo):
    out, _ = demo
    scores = read_json(out / "scores.json")["seen voices"]
    assert scores["cases"] >= 4 and 0 <= scores["guess_wer"] <= 1 and "CTC judge" in scores["judge"]
    for name in (
        "store/store.json",
        "judge.safetensors",
        "model/metrics.jsonl",
        "report.html",
        "stages.json",
    ):
        assert (out / name).exists()
    assert list((out / "model/samples").glob("step_*/samples.json"))


def test_a_corrupt_file_is_listed_with_its_reason_and_the_run_goes_on(demo):
    out, _ = demo
    rows = read_json_lines(out / "store/quarantine.jsonl")
    assert len(rows) == 1 and "broken.wav" in json.dumps(rows[0]) and rows[0]["reason"]


def test_the_page_is_self_contained(demo):
    out, _ = demo
    page = (out / "report.html").read_text()
    assert page.count("<audio") >= 6 and page.count("<svg") >= 1
    assert not re.search(r'(src|href)="https?://', page)


def test_a_second_run_makes_nothing_again_and_may_bring_a_second_judge(demo, tmp_path):
    first, words = demo
    out = tmp_path / "demo"
    shutil.copytree(first, out)
    arguments = [str(out) if word == str(first) else word for word in words]
    before = (out / "model/metrics.jsonl").read_text(), (out / "judge.safetensors").stat().st_mtime_ns
    assert read_json(out / "scores.json")["seen voices"]["second_opinion"] is None
    main([*arguments, "--judge", str(out / "judge.safetensors")])  # itself: it hears what it heard
    scores, page = read_json(out / "scores.json")["seen voices"], (out / "report.html").read_text()
    second = scores["second_opinion"]
    assert (second["speaking_wer"], second["judge"]) == (scores["speaking_wer"], scores["judge"])
    assert second["judge_on_originals_wer"] == scores["judge_on_originals_wer"]
    assert 0 <= scores["voices"]["equal_error_rate"] <= 1 and "Why two judges disagree" in page
    assert before == (
        (out / "model/metrics.jsonl").read_text(),
        (out / "judge.safetensors").stat().st_mtime_ns,
    )


def test_a_demo_killed_in_training_ends_as_one_left_alone(demo, tmp_path):
    out, arguments = demo
    again = tmp_path / "demo"
    shutil.copytree(out / "store", again / "store")
    shutil.copy(out / "judge.safetensors", again)
    words = [str(again) if word == str(out) else word for word in arguments]
    with killed_at(again / "model", step=4):
        main(words)
    assert not (again / "scores.json").exists()
    main(words)
    assert_same_run(out / "model", again / "model")
    assert read_json(again / "scores.json") == read_json(out / "scores.json")
    assert (again / "judge.safetensors").read_bytes() == (out / "judge.safetensors").read_bytes()


def test_the_model_can_be_used_from_the_command_line(demo, tmp_path, capsys):
    out, _ = demo
    model = ["--model", str(out / "model")]
    recording = str(next((recordings("fsdd") / "audio").glob("*.wav")))
    main(["transcribe", recording, *model])
    assert capsys.readouterr().out.count("\n") == 1
    main(
        [
            "speak",
            "seven",
            "--voice",
            recording,
            "--voice-text",
            "zero",
            "--max-s",
            "1",
            "--out",
            str(tmp_path / "a.wav"),
            *model,
        ]
    )
    main(["continue", recording, "--max-s", "1", "--out", str(tmp_path / "b.wav"), *model])
    assert (tmp_path / "a.wav").exists() and (tmp_path / "b.wav").exists()
