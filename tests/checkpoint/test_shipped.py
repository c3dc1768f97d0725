"""The model that is simply there: found by name, said to be the one that answers, and missed with the ways out."""

import shutil

import pytest

from sodakit.audio.files import write_wave
from sodakit.audio.origin import origin_of
from sodakit.checkpoint import shipped
from sodakit.checkpoint.about import About, write_about
from sodakit.checkpoint.load import load_checkpoint
from sodakit.checkpoint.shipped import STARTER
from sodakit.cli import main
from sodakit.commands import doctor_checks
from sodakit.errors import CheckpointError
from sodakit.generate.speech_model import SpeechModel
from tests.eval.small_model import noise, small_checkpoint

ABOUT = About(name="starter", summary="5k parameters", can=("Say noise.",), cannot=("Say words.",))


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """An installation without the model, and a folder to work in."""
    monkeypatch.setattr(shipped, "_HERE", tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def package(nothing_here, monkeypatch):
    """The data package `sodakit_starter` on the path."""
    made = small_checkpoint(nothing_here / "made") / "checkpoints" / "step_00000001"
    folder = nothing_here / "site" / "sodakit_starter"
    shutil.copytree(made, folder)
    (folder / "__init__.py").touch()
    write_about(folder, ABOUT)
    monkeypatch.syspath_prepend(folder.parent)
    return folder


def test_without_a_name_the_commands_use_the_model_that_is_there_and_say_so(package, capsys):
    main(["speak", "Open the door.", "--max-s", "1", "--device", "cpu"])
    told = capsys.readouterr().err
    assert "starter answers (5k parameters). It can: Say noise. It cannot: Say words." in told
    assert "model: starter" in origin_of("speech.wav")
    write_wave("a.wav", noise(1))
    main(["transcribe", "a.wav", "--device", "cpu"])
    main(["continue", "a.wav", "--max-s", "1", "--device", "cpu"])
    assert capsys.readouterr().err.count("starter answers") == 2
    main(["transcribe", "a.wav", "--device", "cpu", "--model", str(package)])
    assert "starter answers" not in capsys.readouterr().err


def test_python_takes_the_name_and_a_folder_of_that_name_goes_first(package, nothing_here):
    assert load_checkpoint(STARTER).folder == package
    assert SpeechModel.load("starter", device="cpu").name == "starter"
    shutil.copytree(nothing_here / "made" / "checkpoints" / "step_00000001", nothing_here / "starter")
    assert load_checkpoint(STARTER).folder.resolve() == nothing_here / "starter"


def test_a_model_inside_the_package_is_found(package, nothing_here, monkeypatch):
    monkeypatch.setattr(shipped, "_HERE", nothing_here / "lib")
    shutil.move(package, nothing_here / "lib" / "starter")
    assert load_checkpoint(STARTER).folder == nothing_here / "lib" / "starter"


def test_where_it_is_absent_the_ways_out_are_named(nothing_here, capsys):
    for words in (["speak", "Hello."], ["serve"], ["finetune", "--data", "x"]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
    with pytest.raises(
        CheckpointError, match=r"(?s)not part of this installation.*sodakit demo.*import"
    ) as told:
        load_checkpoint(STARTER)
    assert "runs/demo/model" not in str(told.value)
    (nothing_here / "runs" / "demo" / "model").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="runs/demo/model is here: --model runs/demo/model"):
        load_checkpoint(STARTER)


def test_the_doctor_tries_it_where_it_is(package, monkeypatch):
    assert doctor_checks._starter().works is True and "5k parameters" in doctor_checks._starter().told
    (package / "model.safetensors").unlink()
    checked = doctor_checks._tried("starter", doctor_checks._starter)
    assert checked.works is False and "has lost model.safetensors" in checked.told
    monkeypatch.setattr(shipped, "shipped_folder", lambda name: None)
    assert doctor_checks._starter().works is None
