"""A GPU that is not there: tensors with shapes, types and a device, and no memory behind them.

What reads a value back raises (`DataDependentOutputException`), and so does what makes a shape of values: code that runs
here never waits for the device. Backward passes of torch itself are not among it: its engine wants a driver. Use it in a
process of its own (`tests.train.ranks.together`): what is loaded for it stays.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

from sodakit.compiler import compile_library
from sodakit.train.objective import Objective

GUARD = Path(__file__).with_name("fake_cuda_guard.cpp")


@lru_cache(maxsize=1)
def is_possible() -> bool:
    """Whether such tensors can be had here: torch for CPUs needs a few lines compiled."""
    if torch.version.cuda is not None:
        return True
    root = Path(torch.__file__).parent
    flags = (f"-I{root / 'include'}", f"-L{root / 'lib'}", f"-Wl,-rpath,{root / 'lib'}")
    return compile_library(GUARD, "-Wl,--no-as-needed", *flags, "-lc10", otherwise="No fake GPU") is not None


@contextmanager
def fake_cuda(capability: tuple[int, int] = (9, 0)) -> Iterator[FakeTensorMode]:
    """Inside, `cuda` is such a device: an H100 without a driver, for which nothing is compiled."""
    assert is_possible()
    stubs = [
        patch("torch.cuda.is_available", lambda: True),
        patch("torch.cuda.get_device_capability", lambda device=None: capability),
        patch("torch.cuda.get_device_name", lambda device=None: "NVIDIA H100 80GB HBM3"),
        patch("torch.cuda.is_bf16_supported", lambda *_, **__: True),
        patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
        patch("sodakit.train.update.lacks_for_gpu", lambda: "a driver"),
        patch.object(Objective, "_host_targets", _on_the_host(Objective._host_targets)),
    ]
    # The mode first: it asks whether there is a GPU, and where there is none does without a driver.
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, ExitStack() as stack:
        # What is found on the host is real until it is about to move.
        pinned = patch.object(Tensor, "pin_memory", lambda self, *_: _pinned(mode, self))
        for stub in (*stubs, pinned):
            stack.enter_context(stub)
        yield mode


def _pinned(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    faked = tensor if isinstance(tensor, FakeTensor) else mode.from_tensor(tensor)
    faked.lies_in_pinned_memory = True  # type: ignore[attr-defined]
    return faked


def _on_the_host(work: Callable[..., Any]) -> Callable[..., Any]:
    """The same with real tensors, whose values can be read."""

    def real(*args: Any) -> Any:
        with unset_fake_temporarily():
            return work(*args)

    return real


class Crossings(TorchDispatchMode):
    """Notes every copy between host and device, and whether the host waits for it: a copy that does not wait by its words
    does so all the same where its source is memory that the system may move."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []
        self.waiting: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        # A 0-dim tensor of the host goes to a kernel by value.
        tensors = [t for t in (*args, out) if isinstance(t, Tensor) and t.ndim]
        if len({t.device.type for t in tensors}) > 1:
            told = f"{func} of {[tuple(t.shape) for t in tensors]}"
            self.copies.append(told)
            asks = not (kwargs or {}).get("non_blocking") and not (len(args) > 2 and args[2] is True)
            source = args[1] if func is torch.ops.aten.copy_.default else args[0]
            pageable = source.device.type == "cpu" and not hasattr(source, "lies_in_pinned_memory")
            if asks or pageable:
                self.waiting.append(told)
        return out
