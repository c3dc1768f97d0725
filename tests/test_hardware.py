"""What the machine is taken to be good at."""

import platform
import resource

import pytest
import torch

from sodakit import hardware
from sodakit.hardware import _is_slow_with_mkl, _multiplies_bfloat16_fast, gpu_named
from tests.memory import resident_bytes
from tests.train.ranks import apart


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({}, False),
        ({"avx512_f": True, "cpu_name": "Intel Xeon"}, False),
        ({"avx512_bf16": True, "amx_bf16": False, "cpu_name": "Intel Xeon"}, False),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, True),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, True),
        ({"bf16": True}, True),
    ],
)
def test_bfloat16_is_chosen_where_it_was_measured_to_be_faster(capabilities, fast):
    assert _multiplies_bfloat16_fast(capabilities) is fast


@pytest.mark.parametrize(
    ("capabilities", "slow"),
    [
        ({}, False),
        ({"avx512_f": True, "cpu_name": "Intel Xeon"}, False),
        ({"avx512_f": True, "cpu_name": "AMD EPYC"}, True),
        ({"avx512_f": False, "cpu_name": "AMD EPYC"}, False),
    ],
)
def test_onednn_multiplies_float32_where_mkl_was_measured_to_be_slow(capabilities, slow):
    assert _is_slow_with_mkl(capabilities) is slow


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA GB200", None),
        ("NVIDIA L40", None),
    ],
)
def test_a_card_has_the_data_sheet_of_no_other(name, listed):
    """The peak of a faster sibling would make every share of it too small."""
    found = gpu_named(name)
    assert (found and found.name) == listed


@pytest.mark.parametrize(
    ("driver", "built", "hidden", "said"),
    [
        (None, "13.0", None, None),
        ("535.104.05", "13.0", None, "built for CUDA 13.0. CUDA 13 needs a driver of 580"),
        ("580.65.06", None, None, "built for CPUs alone"),
        ("580.65.06", None, "", None),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_not_passed_over_in_silence(
    driver, built, hidden, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(hardware, "NVIDIA_PROC", tmp_path)
    monkeypatch.setattr(hardware, "NVIDIA_DEVICE", tmp_path / "nvidiactl")
    monkeypatch.setattr(torch.version, "cuda", built)
    if hidden is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    if driver:
        line = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Wed Sep  3 01:15:43 UTC 2025\n"
        (tmp_path / "version").write_text(line + "GCC version: gcc version 12.3.0\n")
    told = hardware.unused_gpu()
    assert (told is None) if said is None else (said in told and driver in told)
    hardware._say_that_a_gpu_is_unused.cache_clear()
    for _ in range(2):
        assert hardware.device_named(None) == "cpu"
    hardware._say_that_a_gpu_is_unused.cache_clear()
    heard = " ".join("".join(capsys.readouterr()).split())
    assert heard.count("Install") == (said is not None) and (told or "") in heard


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_serves_the_next_tensor_and_goes_back_at_the_end():
    """In a process of its own: how another test left the heap decides whether 64 MiB in a row are found in it."""
    process = apart(keep_and_give_back)
    process.join(60)
    assert process.exitcode == 0


def keep_and_give_back() -> None:
    """Pages that come anew are filled with zeros by the system: a seventh of a training step on a CPU."""
    plain = new_pages()
    with hardware.freed_memory_is_kept():
        kept = new_pages()
        held = torch.zeros(2**24)
        before = resident_bytes()
        del held
    assert kept < plain / 4
    assert resident_bytes() < before - 2**25


def new_pages(times: int = 20) -> int:
    """Pages that the system gives for tensors of 64 MiB, made and freed in turn."""
    torch.zeros(2**24).sum()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.zeros(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
