"""What this machine can do, and how much of it to use."""

import ctypes
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sodakit.errors import ConfigError, first_line
from sodakit.log import say

NVIDIA_PROC, NVIDIA_DEVICE = Path("/proc/driver/nvidia"), Path("/dev/nvidiactl")


def device_named(name: str | None) -> str:
    """The device of that name; None is the GPU where there is one, else the CPU.

    Raises:
        ConfigError: no such device here.
    """
    import torch

    if name is None:
        if torch.cuda.is_available():
            return "cuda"
        _say_that_a_gpu_is_unused()
        return "cpu"
    try:
        torch.zeros(1, device=name).item()  # meta tensors hold nothing
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error)
        raise ConfigError(
            f"device={name!r} is not here ({reason[:120]}). Use cpu, or cuda where there is a GPU."
        ) from None
    return name


def convolve_in_float32() -> None:
    """From now on this process convolves float32 on a GPU as a CPU does.

    By default torch keeps 10 bits of what it convolves there (TF32). A codec then decides for other codes than on a CPU, and
    for others in a batch than alone.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False


@lru_cache(maxsize=1)
def _say_that_a_gpu_is_unused() -> None:
    """Once: hours on a CPU beside a GPU are nobody's wish."""
    if reason := unused_gpu():
        say(reason)


def unused_gpu() -> str | None:
    """Why torch does not use the NVIDIA GPU of this machine, and what to do; None where there is none, or it does."""
    import torch

    driver = nvidia_driver()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if driver is None or torch.cuda.is_available() or hidden in ("", "-1"):
        return None
    built = torch.version.cuda
    beginning = (
        f"This machine has an NVIDIA GPU (driver {driver}), and torch {torch.__version__} cannot use it"
    )
    if built is None:
        return f"{beginning}: it is built for CPUs alone. Install torch for CUDA (pip install torch --index-url https://download.pytorch.org/whl/cu126)."
    return (
        f"{beginning}: it is built for CUDA {built}. CUDA 13 needs a driver of 580 or newer, CUDA 12 one of 525 or newer. Install a "
        "newer driver, or torch for an older CUDA (pip install torch --index-url https://download.pytorch.org/whl/cu126). Until "
        "then everything runs on the CPU."
    )


def nvidia_driver() -> str | None:
    """The version of the loaded NVIDIA driver, `unknown` where it does not say; None where there is none."""
    told = NVIDIA_PROC / "version"
    if told.exists():
        numbers = re.findall(r"\b\d{3}\.\d+(?:\.\d+)?\b", told.read_text())
        return numbers[0] if numbers else "unknown"
    return "unknown" if NVIDIA_DEVICE.exists() else None


def out_of_memory(error: BaseException) -> str | None:
    """What to tell the user of an error that says there is not enough memory; None of any other."""
    words = str(error).lower()
    told = ("allocate memory", "out of memory", "size calculation overflowed")
    if not isinstance(error, MemoryError) and not any(part in words for part in told):
        return None
    first = first_line(error)
    return f"There is not enough memory ({first[:160]}). Choose a smaller model, smaller batches or less at once."


def has_fast_bfloat16() -> bool:
    """Whether it multiplies bfloat16 matrices faster than float32 ones: a GPU, or a CPU with units for it."""
    import torch

    if torch.cuda.is_available():
        return True
    # Newer versions of torch say what the processor can do.
    return _multiplies_bfloat16_fast(getattr(torch.cpu, "get_capabilities", dict)())


def _multiplies_bfloat16_fast(capabilities: dict[str, Any]) -> bool:
    """AMX, Arm's BF16, or AVX512-BF16, except Intel's: without AMX that one halves the speed of float32 (LOG.md)."""
    if capabilities.get("amx_bf16") or capabilities.get("bf16"):
        return True
    return bool(capabilities.get("avx512_bf16")) and "Intel" not in capabilities.get("cpu_name", "")


@lru_cache(maxsize=1)
def has_slow_float32_blas() -> bool:
    """Whether torch's own float32 matrix products leave half of this processor unused, and oneDNN's do not.

    torch multiplies float32 with Intel's MKL, which keeps its AVX-512 kernels from processors of AMD; oneDNN asks
    only what a processor can do.
    """
    import torch

    if not torch.backends.mkldnn.is_available() or not torch.backends.mkl.is_available():
        return False
    return _is_slow_with_mkl(getattr(torch.cpu, "get_capabilities", dict)())


def _is_slow_with_mkl(capabilities: dict[str, Any]) -> bool:
    return bool(capabilities.get("avx512_f")) and "AMD" in capabilities.get("cpu_name", "")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch with `count` threads inside the block, and as many as before after it.

    Left behind, another number of threads would change the last digits of everything computed later.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def freed_memory_is_kept() -> Iterator[None]:
    """Inside, the memory of freed tensors serves those that come next, and goes back to the system at the end.

    A training step on a CPU makes and frees the same large tensors again and again. By default glibc gives those of 32 MiB and
    more back at once, and the system fills the pages of the next with zeros: a seventh of a step at 135M (LOG.md). Where the
    C library cannot be told so, nothing changes.
    """
    library = ctypes.CDLL(None) if platform.system() == "Linux" else None
    if not all(hasattr(library, name) for name in ("mallopt", "malloc_trim")):
        yield
        return
    assert library is not None
    for option, value in _KEPT.items():
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in _GIVEN_BACK.items():
            library.mallopt(option, value)
        library.malloc_trim(0)


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4  # numbers of <malloc.h>
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
_GIVEN_BACK = {_MMAP_MAX: 2**16, _TRIM_THRESHOLD: 64 * 2**20, _TOP_PAD: 2**17, _MMAP_THRESHOLD: 32 * 2**20}
"""As glibc's own thresholds stand once it has seen large blocks; set at all, they no longer adapt."""


@dataclass(frozen=True)
class Gpu:
    """A GPU as its data sheet has it."""

    name: str
    peak_flops: float
    """Dense bfloat16 matrix products, FLOPs per second."""
    memory_bytes: float


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("B200", 2250e12, 180e9),
        Gpu("H200", 989e12, 141e9),
        Gpu("H200 NVL", 835e12, 141e9),
        Gpu("H100", 989e12, 80e9),
        Gpu("H100 NVL", 835e12, 94e9),
        Gpu("H100 PCIe", 756e12, 80e9),
        Gpu("A100", 312e12, 80e9),
        Gpu("L40S", 362e12, 48e9),
        Gpu("RTX 4090", 165e12, 24e9),
    )
}
"""By the name their maker gives them; without more words the SXM version."""

OTHER_CARDS = {"LAPTOP", "D", "MIG", "TI", "SUPER", "MOBILE"}
"""Words of names that mean another card, or a part of one."""


def gpu_named(name: str) -> Gpu | None:
    """The data sheet of a device name such as `NVIDIA H200`; None for one that is not listed: unknown stays unknown."""
    words = set(re.split(r"[\s-]+", name.upper()))
    if words & OTHER_CARDS:
        return None
    found = [gpu for key, gpu in GPUS.items() if set(key.upper().split()) <= words]
    # The PCIe and NVL versions are slower, and say so.
    return max(found, key=lambda gpu: len(gpu.name.split()), default=None)


def processor_name() -> str:
    """The processor as it calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def host_memory_bytes() -> int:
    """Memory of this machine, or of the container that holds us, whichever is smaller."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    words = limit.read_text().strip() if limit.exists() else ""
    return min(total, int(words)) if words.isdigit() else total
