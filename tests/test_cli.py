import os
import subprocess
import sys
from pathlib import Path

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


ENDINGS = {
    "help that nobody reads": ("{sodakit} --help | true; exit ${PIPESTATUS[0]}", 141, ""),
    "errors that nobody reads": ("{sodakit} describe none 2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}", 141, ""),
    "a full disk": ("{sodakit} --help > /dev/full", 2, "the disk is full"),
    "a full disk, buffered": ("{sodakit} --version > /dev/full", 2, "the disk is full"),
    "nothing open": ("{sodakit} describe none <&- >&- 2>&-", 2, ""),
    "a folder that is gone": ("mkdir x; cd x; rmdir ../x; {sodakit} describe none", 2, "is gone"),
    "a variable not set": ('{sodakit} prepare in --out "$NONE"', 2, "after '--out' is empty"),
    "another locale": ("PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 LC_ALL=C {sodakit} describe f\u00fc", 2, "Set LC_ALL=C.UTF-8"),
    "commands to the terminal": (r"{sodakit} describe $'a\e[31m\u202eb'", 2, r"a\x1b[31m\u202eb"),
    "no home": ("env -u HOME -u USER {sodakit} describe none", 2, "no store.json"),
    "a terminal without width": ("COLUMNS=1 {sodakit} describe none", 2, "no store.json"),
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="bash, /dev/full")
@pytest.mark.parametrize("name", ENDINGS)
def test_wherever_it_is_started_it_ends_in_a_line(name, tmp_path):
    command, status, says = ENDINGS[name]
    command = command.replace("{sodakit}", f"{sys.executable} -m sodakit")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "LC_ALL": "C.UTF-8"}
    found = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, env=env, check=False)
    said = found.stderr.decode() + found.stdout.decode()
    assert found.returncode == status and says in said and "Traceback" not in said, said


def test_what_is_opened_where_nothing_is_open_is_not_taken_for_the_place_of_errors(tmp_path):
    """The first file would get the number of standard error, and words of other programs."""
    script = "import os, sodakit.cli as c; c.main(['--version']); f = open('x', 'wb'); os._exit(f.fileno())"
    found = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "{script}" <&- >&- 2>&-'],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, check=False,
    )  # fmt: skip
    assert found.returncode > 2
