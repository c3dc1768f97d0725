"""What this machine can do, and how much of it to use."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
