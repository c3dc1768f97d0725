"""Whose a run folder is: what may change between two starts, what may not, and who holds it."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import sodakit
from sodakit.checkpoint.load import latest_checkpoint, load_checkpoint
from sodakit.errors import ConfigError
from sodakit.files import read_json, write_json
from sodakit.holding import hold
from sodakit.train import code, identity
from sodakit.train.code import computed
from sodakit.train.identity import claim_folder
from sodakit.train.trainer import train
from tests.stores import small_store
from tests.train.killed import assert_same_run, killed_at
from tests.train.test_trainer import config_for


def test_a_run_resumes_from_a_store_that_moved_or_is_named_in_another_way(store, tmp_path, monkeypatch):
    shutil.copytree(store, tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    claim_folder(Path("run"), config_for(Path("here")))
    claim_folder(Path("run"), config_for(tmp_path / "here"))
    Path("here").rename("there")
    claim_folder(Path("run"), config_for(Path("there")))
    assert read_json("run/config.json")["train"]["data"]["sources"][0]["store"] == "there"
    small_store(tmp_path / "other", recordings=40, seed=1)
    with pytest.raises(ConfigError, match=r"sources\[0\]\.store"):
        claim_folder(Path("run"), config_for(Path("other")))


def test_the_validation_data_and_the_first_weights_belong_to_a_run(store, tmp_path):
    config = config_for(store)
    small_store(tmp_path / "other", recordings=40, seed=1)
    claim_folder(tmp_path / "run", config)
    elsewhere = (replace(config.validation[0], store=str(tmp_path / "other")),)
    with pytest.raises(ConfigError, match="validation"):
        claim_folder(tmp_path / "run", replace(config, validation=elsewhere))
    for name in "ab":
        folder = tmp_path / name / "checkpoints" / "step_00000001"
        folder.mkdir(parents=True)
        (folder / "contents.json").write_text(json.dumps({"weights": name}))
    claim_folder(tmp_path / "tuned", replace(config, init_from=str(tmp_path / "a")))
    (tmp_path / "a").rename(tmp_path / "c")
    claim_folder(tmp_path / "tuned", replace(config, init_from=str(tmp_path / "c")))
    with pytest.raises(ConfigError, match="init"):
        claim_folder(tmp_path / "tuned", replace(config, init_from=str(tmp_path / "b")))
    with pytest.raises(ConfigError, match="init_from"):
        claim_folder(tmp_path / "tuned", config)


def test_comments_docstrings_and_messages_are_no_other_code_but_numbers_are(tmp_path):
    def fingerprint(text: str, name: str = "a.py") -> str:
        (tmp_path / name).write_text(text)
        return computed(tmp_path / name)

    plain = fingerprint("def f(x):\n    if x:\n        raise ValueError('no')\n    return x + 1\n")
    told = '"""Module."""\ndef f(x):\n    """Docs."""\n    # why\n    if x: raise ValueError("never")\n    return (x +\n 1)\n'
    assert fingerprint(told) == plain
    assert fingerprint(told.replace("1", "2")) != plain
    cpp = fingerprint('int f() { return 1; } // one\nchar* s = "// kept";\n', "a.cpp")
    assert fingerprint('int f() {  return 1; }\n/* two\nlines */ char* s = "// kept";\n', "a.cpp") == cpp
    assert fingerprint('int f() { return 2; }\nchar* s = "// kept";\n', "a.cpp") != cpp


def test_other_code_is_refused_by_name_of_the_option_and_noted_with_it(store, tmp_path, monkeypatch):
    claim_folder(tmp_path, config_for(store))
    monkeypatch.setattr(identity, "code_digest", lambda: "other")
    with pytest.raises(ConfigError, match="--other-code"):
        claim_folder(tmp_path, config_for(store))
    claim_folder(tmp_path, config_for(store), other_code=True)
    claim_folder(tmp_path, config_for(store))
    assert read_json(tmp_path / "config.json")["code"][-1] == "other"


def test_a_run_resumes_after_a_comment_and_not_after_another_formula(store, tmp_path, monkeypatch):
    """The package is copied, stopped runs go on with the copy: what it computes decides, not how it is written."""
    config = config_for(store, steps=6, save_every_steps=3, log_every_steps=1)
    whole, told, changed = (tmp_path / name for name in ("whole", "told", "changed"))
    train(config, whole, device="cpu")
    for run in (told, changed):
        with killed_at(run, 6):
            train(config, run, device="cpu")
    copy = tmp_path / "sodakit"
    for name in code.NUMERIC_PACKAGES:
        shutil.copytree(Path(sodakit.__file__).parent / name, copy / name)
    monkeypatch.setattr(code, "sodakit", SimpleNamespace(__file__=str(copy / "__init__.py")))
    monkeypatch.setattr(identity, "code_digest", code.code_digest.__wrapped__)
    optim, windows = copy / "train/optim.py", copy / "data/native.cpp"
    optim.write_text("# Why not SGD?\n" + optim.read_text().replace('"""One update of', '"""An update of'))
    windows.write_text(windows.read_text() + "\n// the end\n")
    train(config, told, device="cpu")
    assert_same_run(whole, told)
    assert len(read_json(told / "config.json")["code"]) == 1
    before = "ratio = lr / self.peak_lr if"
    assert optim.read_text().count(before) == 1
    optim.write_text(optim.read_text().replace(before, "ratio = lr / self.peak_lr / 2 if"))
    with pytest.raises(ConfigError, match=r"different version of sodakit.*--other-code"):
        train(config, changed, device="cpu")
    assert load_checkpoint(latest_checkpoint(changed / "checkpoints")).state["step"] == 3
    train(config, changed, device="cpu", other_code=True)
    assert len(read_json(changed / "config.json")["code"]) == 2


def test_a_field_that_came_later_is_no_other_setting_unless_it_is_set(store, tmp_path):
    config = config_for(store)
    claim_folder(tmp_path, config)
    path = tmp_path / "config.json"
    old = read_json(path)
    for source in (*old["train"]["data"]["sources"], *old["train"]["validation"]):
        del source["view"]["num_bos"]
    write_json(path, old)
    source = config.data.sources[0]
    doubled = replace(source, view=replace(source.view, num_bos=2))
    with pytest.raises(ConfigError, match=r"view\.num_bos: 1 there, 2 now"):
        claim_folder(tmp_path, replace(config, data=replace(config.data, sources=(doubled,))))
    claim_folder(tmp_path, config)
    assert read_json(path)["train"]["data"]["sources"][0]["view"]["num_bos"] == 1


@pytest.mark.parametrize("text", ['{"train": {"st', "[]", "{}"])
def test_a_damaged_config_names_a_way_that_works(store, tmp_path, text):
    config = config_for(store, steps=2, validation=())
    train(config, tmp_path, device="cpu")
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="Delete"):
        train(config, tmp_path, device="cpu")
    path.unlink()
    train(config, tmp_path, device="cpu")


@pytest.mark.parametrize("line", ["garbage", '{"loss/all": 1.0}', "[1]"])
def test_a_garbage_line_of_numbers_is_named(store, tmp_path, line):
    config = config_for(store, steps=2, validation=())
    train(config, tmp_path, device="cpu")
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(line + "\n" + whole)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl, (line|row) 1.*Delete that line"):
        train(config, tmp_path, device="cpu")
    path.write_text(whole)
    train(config, tmp_path, device="cpu")


def test_a_store_a_file_and_a_device_that_is_none_are_refused_in_a_line(store, tmp_path):
    with pytest.raises(ConfigError, match="is a store"):
        train(config_for(store), store, device="cpu")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        train(config_for(store), tmp_path / "file", device="cpu")
    with pytest.raises(ConfigError, match="device='zzz' is not here"):
        train(config_for(store), tmp_path / "run", device="zzz")


def test_a_folder_is_of_one_living_process(store, tmp_path):
    code = "import sys, time; from pathlib import Path; from sodakit.holding import hold\nwith hold(Path(sys.argv[1]), 'trained'):\n    print('held', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {other.pid}"):
            train(config_for(store), tmp_path, device="cpu")
        other.kill()
        other.wait()
        with hold(tmp_path, "trained"):
            pass
