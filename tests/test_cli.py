import subprocess
import sys

import pytest

from sodakit.cli import VERBS, main, usage
from tests.stores import small_store


def test_an_unknown_verb_gets_the_nearest_one(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["trainn"])
    assert stopped.value.code == 2
    assert "Did you mean 'train'" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    printed = capsys.readouterr().out
    assert stopped.value.code == 0 and "xample" in printed and verb in usage()


def test_a_user_s_mistake_is_one_line_and_status_2(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["transcribe", "a.wav", "--model", str(tmp_path / "none")])
    assert stopped.value.code == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_dry_run_prints_config_and_cost_and_trains_nothing(capsys, tmp_path):
    store = small_store(tmp_path / "store", recordings=40)
    main(
        [
            "train",
            "--data",
            str(store),
            "--out",
            str(tmp_path / "run"),
            "--dry-run",
            "data.context=64",
            "model.context=64",
        ]
    )
    printed = capsys.readouterr().out
    assert '"context": 64' in printed and "Parameters" in printed and "FLOPs" in printed
    assert not (tmp_path / "run").exists()


def test_python_dash_m_is_the_command():
    found = subprocess.run(
        [sys.executable, "-m", "sodakit", "--version"], capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("sodakit ")


def test_output_that_nobody_reads_any_more_is_no_error():
    command = [sys.executable, "-m", "sodakit", "eval", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # before a word of it is written
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["continue", "a.wav", "--model", "m", "--prompt-s", "nan"],
            "--prompt-s nan; needed: more than 0",
        ),
        (
            ["continue", "a.wav", "--model", "m", "--prompt-s", "-1"],
            "--prompt-s -1.0; needed: more than 0",
        ),
        (["prepare", "in", "--out", "o", "--validation", "nan"], "--validation nan"),
        (["prepare", "in", "--out", "o", "--verify-items", "-2"], "--verify-items -2"),
        (["describe", "s", "--weights", "1", "nan"], "--weights nan"),
        (["speak", "hello", "--model", "m", "--max-s", "inf"], "--max-s inf"),
        (["prepare", "in\udcff", "--out", "o"], "'in\\udcff' is no valid UTF-8"),
    ],
)
def test_a_number_or_name_that_no_option_can_have_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and message in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["train", "--data", "{store}", "--gpus", "8"], "--gpus"),
        (["train", "--data", "{store}", "steps=3", "steps=4"], "twice"),
        (["train", "--data", "{store}", "{store}"], "2 were given"),
        (["train", "--data", "{store}", "stepz=3"], "steps"),
        (["finetune", "--data", "{store}", "--judge-language", "en"], "--judge-language"),
        (["finetune", "--data", "{store}", "--size", "nano"], "--size"),
        (["demo", "--data", "{store}", "--sentences", "5"], "--sentences"),
        (["scale", "run", "{store}", "--data", "{store}", "--gpus-per-run", "1"], "--gpus-per-run"),
    ],
)
def test_what_is_given_and_not_used_is_an_error(words, named, capsys, tmp_path):
    store = str(small_store(tmp_path / "store", recordings=40))
    with pytest.raises(SystemExit) as stopped:
        main([word.format(store=store) for word in words] + ["--out", str(tmp_path / "run")])
    assert stopped.value.code == 2 and named in capsys.readouterr().err.replace("\n", " ")


def test_settings_are_read_wherever_they_stand(capsys, tmp_path):
    store = str(small_store(tmp_path / "store", recordings=40))
    for words in (["--data", store, "steps=7", "--dry-run"], ["--dry-run", "steps=7", "--data", store]):
        main(["train", *words])
        assert '"steps": 7' in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["train"], ["finetune"], ["demo"], ["s2st_demo"], ["scale", "run"], ["scale", "study"]]
)
def test_every_command_that_trains_can_resume_what_other_code_began(words, capsys):
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    assert "--other-code" in capsys.readouterr().out


@pytest.mark.parametrize(
    "setting",
    ["model.layers=9e15", "model.width=9e15", "model.ffn_width=9e15", 'lora={"rank":9000000000000}'],
)
def test_a_model_that_no_memory_holds_is_one_line(setting, capsys, tmp_path):
    store = str(small_store(tmp_path / "store", recordings=40))
    small = ["data.context=64", "model.context=64", "steps=1", "data.batch_rows=2"]
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--data", store, "--out", str(tmp_path / "run"), "--device", "cpu", *small, setting])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and ("not enough memory" in said or "needed" in said)


def test_a_design_without_a_run_says_why(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["scale", "design", "--min-batch-rows", str(10**18)])
    assert stopped.value.code == 2 and "No run is left" in capsys.readouterr().err
