"""What `sodakit doctor` says of this machine, and of one that lacks this or that."""

import importlib.util
import json
import shutil
from unittest.mock import patch

import pytest
import torch

from sodakit import ceilings
from sodakit.commands import doctor, doctor_checks
from sodakit.errors import ConfigError
from sodakit.train.cost import Machine
from tests.recorded_graphs import Recorded, recorded_graphs


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path


def look(tmp_path, *words: str) -> dict[str, dict]:
    out = tmp_path / "doctor.json"
    doctor.main(["--device", "cpu", "--storage", str(tmp_path / "disk"), "--out", str(out), *words])
    return {check["name"]: check for check in json.loads(out.read_text())["checks"]}


def test_this_machine_is_told_as_it_is(tmp_path, capsys):
    found = look(tmp_path)
    has_compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
    assert found["C++ compiler"]["works"] is has_compiler
    assert found["built-in codec"]["works"] and found["wav, flac, mp3, ogg"]["works"]
    assert found["attention over packed documents"]["works"]
    assert found["GPU"]["works"] is None and found["compiling for a GPU"]["works"] is None
    assert found["storage"]["works"] and not list((tmp_path / "disk").iterdir())
    spoken = importlib.util.find_spec("espeakng_loader") is not None
    assert found["built-in voices (espeak-ng)"]["works"] is spoken
    said = capsys.readouterr().out
    assert "yes  built-in codec: a second to codes and back" in said


def test_a_machine_without_compiler_ffmpeg_and_espeak_is_told_what_to_do(tmp_path, monkeypatch):
    plain = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "espeakng_loader" else plain(name, *a)
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    found = look(tmp_path)
    compiler, voices = found["C++ compiler"], found["built-in voices (espeak-ng)"]
    assert compiler["works"] is False and "g++" in compiler["advice"] and "int8" in compiler["told"]
    assert voices["works"] is False and "sodakit[voices]" in voices["advice"]
    assert found["ffmpeg"]["works"] is None and "nothing here needs it" in found["ffmpeg"]["told"]
    assert found["flite's voices"]["works"] is False
    assert found["built-in codec"]["works"]


def test_what_breaks_while_it_is_tried_is_a_no_and_the_others_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("sodakit.codec.load.load_codec", lambda *_, **__: 1 / 0)
    found = look(tmp_path)
    assert found["built-in codec"]["works"] is False and "division" in found["built-in codec"]["told"]
    assert found["storage"]["works"]


def test_a_gpu_without_what_compiles_for_it_is_a_no(monkeypatch):
    monkeypatch.setattr(doctor_checks, "lacks_for_gpu", lambda: "a C compiler (gcc or clang)")
    found = doctor_checks._compiles(torch.device("cuda"))
    assert found.works is False and "C compiler" in found.told and found.advice


def test_frames_by_graph_are_tried():
    """Right, refused by torch, and wrong: a graph that holds what it should read."""
    cpu = torch.device("cpu")
    assert doctor_checks._graphs(cpu).works is None
    with recorded_graphs() as made:
        assert doctor_checks._graphs(cpu).works and made[0].replays == 8
        with patch("sodakit.generate.graphs.capture", side_effect=RuntimeError("no")):
            assert "does not capture" in doctor_checks._graphs(cpu).told
        with patch.object(Recorded, "replay", lambda self: None):
            assert "other codes" in doctor_checks._graphs(cpu).told


def test_measured_ceilings_are_kept_and_counted_with(home, monkeypatch):
    assert ceilings.measured("this one") is None
    with pytest.raises(ConfigError, match="doctor --bench"):
        Machine.named("here")
    monkeypatch.setattr(ceilings, "ROUNDS", 1)
    found = ceilings.measure(torch.device("cpu"), side=64)
    assert min(found.copy_bytes_per_s, found.bfloat16_flops_per_s, found.float32_flops_per_s) > 0
    assert found.fp8_flops_per_s is None
    for name in ("another", found.device):
        ceilings.keep(ceilings.replace(found, device=name))
    assert ceilings.measured(found.device) == found
    monkeypatch.setattr("sodakit.train.cost.device_named", lambda name: "cpu")
    machine = Machine.named("here", num_gpus=2)
    assert machine.gpu.peak_flops == max(found.bfloat16_flops_per_s, found.float32_flops_per_s)
    assert (machine.gpu.name, machine.num_gpus, machine.device_type) == (found.device, 2, "cpu")
    ceilings.ceilings_file().write_text('{"this one": {"device": "cut off')
    assert ceilings.measured(found.device) is None
