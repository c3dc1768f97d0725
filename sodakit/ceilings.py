"""What this machine's processor was measured to do at most: no run is faster, and a data sheet is not always right.

`sodakit doctor --bench` measures and keeps it in the user's cache folder, one entry for each kind of device. Training
tells its speed as a share of it, and a dry run with `--gpu here` takes it in place of a data sheet.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sodakit.errors import ConfigError
from sodakit.files import read_json, user_cache, write_json
from sodakit.hardware import host_memory_bytes, processor_name

if TYPE_CHECKING:
    import torch

WARM_UPS = 3
ROUNDS = 9


@dataclass(frozen=True)
class Ceilings:
    """Of one device."""

    device: str
    """Its name."""
    copy_bytes_per_s: float
    """Read and written, of a large copy."""
    bfloat16_flops_per_s: float
    """Of a product of large square matrices."""
    float32_flops_per_s: float
    """Likewise, with the precision of products as torch has it by default."""
    fp8_flops_per_s: float | None
    """Of 8-bit floats; None where there are no such products, or none that are worth it."""
    memory_bytes: float
    """All that it has."""
    torch: str
    """Version that it was measured with."""

    def flops_per_s(self, precision: str) -> float:
        """Of products in `bfloat16` or `float32`."""
        return self.bfloat16_flops_per_s if precision == "bfloat16" else self.float32_flops_per_s


def ceilings_file() -> Path:
    """Where they are kept."""
    return user_cache() / "ceilings.json"


def measured(device: str) -> Ceilings | None:
    """What was measured of a device of that name on this machine; None where nothing was."""
    try:
        return Ceilings(**read_json(ceilings_file())[device])
    except (ConfigError, OSError, KeyError, TypeError):
        return None


def keep(ceilings: Ceilings) -> None:
    """Remember them, beside those of other devices."""
    path = ceilings_file()
    try:
        known = read_json(path)
    except (ConfigError, OSError):
        known = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, known | {ceilings.device: vars(ceilings)})


def measure(device: "torch.device", *, side: int | None = None) -> Ceilings:
    """The ceilings of a device, in seconds.

    Args:
        side: of the matrices; default: 8192 on a GPU, 1536 on a CPU.
    """
    import torch

    on_gpu = device.type == "cuda"
    side = side or (8192 if on_gpu else 1536)
    source = torch.zeros(side * side * (4 if on_gpu else 8), dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    copy_s = timed(lambda: target.copy_(source), device)
    found = Ceilings(
        device=device_name(device),
        copy_bytes_per_s=2 * source.numel() * source.element_size() / copy_s,
        bfloat16_flops_per_s=_product(side, torch.bfloat16, device),
        float32_flops_per_s=_product(side, torch.float32, device),
        fp8_flops_per_s=None,
        memory_bytes=memory_bytes(device),
        torch=torch.__version__,
    )
    if on_gpu and torch.cuda.get_device_capability(device) >= (8, 9):
        found = replace(found, fp8_flops_per_s=_fp8_product(side, device))
    return found


def device_name(device: "torch.device") -> str:
    """The GPU's name, or the processor's."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()


def memory_bytes(device: "torch.device") -> float:
    """All memory of a device."""
    import torch

    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(host_memory_bytes())


def timed(work: Callable[[], Any], device: "torch.device", rounds: int | None = None) -> float:
    """Median seconds of some work, warm."""
    seconds = []
    for number in range((rounds or ROUNDS) + WARM_UPS):
        wait(device)
        start_s = time.perf_counter()
        work()
        wait(device)
        if number >= WARM_UPS:
            seconds.append(time.perf_counter() - start_s)
    return statistics.median(seconds)


def wait(device: "torch.device") -> None:
    """Until the device has done all it was asked."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def _product(side: int, dtype: "torch.dtype", device: "torch.device") -> float:
    import torch

    a = torch.randn(side, side, device=device).to(dtype)
    return 2 * side**3 / timed(lambda: a @ a, device)


def _fp8_product(side: int, device: "torch.device") -> float:
    import torch

    a = torch.randn(side, side, device=device).to(torch.float8_e4m3fn)
    one = torch.ones((), device=device)
    # The second matrix is stored column after column, as the kernels take it.
    work_s = timed(lambda: torch._scaled_mm(a, a.T, one, one, out_dtype=torch.bfloat16), device)
    return 2 * side**3 / work_s
