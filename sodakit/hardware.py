"""What this machine can do, and how much of it to use."""

from collections.abc import Iterator
from contextlib import contextmanager


def has_fast_bfloat16() -> bool:
    """Whether it multiplies bfloat16 matrices faster than float32 ones: a GPU, or a CPU with AVX512-BF16 or AMX."""
    import torch

    if torch.cuda.is_available():
        return True
    # Emulated bfloat16 is slower than float32; newer versions of torch say what the processor can do.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


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
