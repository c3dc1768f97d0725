"""How far a network of convolutions sees, asked of its layers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

_PROBE_FRAMES = 64


def reach(network: nn.Module, run: Callable[[nn.Module, int], Any]) -> tuple[int, int]:
    """Frames to the left and to the right that an output of convolutions depends on, at most.

    Every convolution is asked for its own reach: the sum is right for those in a row, and too much for those side by
    side.
    """
    left = right = 0.0
    for layer, per_frame in _heard(network, run, lambda m: isinstance(m, (nn.Conv1d, nn.ConvTranspose1d))):
        span, padding = (layer.kernel_size[0] - 1) * layer.dilation[0], layer.padding[0]
        before, after = padding, span - padding
        if isinstance(layer, nn.ConvTranspose1d):
            before, after = -(-(span - padding) // layer.stride[0]), -(-padding // layer.stride[0])
        left, right = left + before / per_frame, right + after / per_frame
    return int(np.ceil(left)), int(np.ceil(right))


def mirrored_frames(network: nn.Module, run: Callable[[nn.Module, int], Any]) -> int:
    """Frames that must be there at once at the start: every convolution that mirrors needs more than it mirrors."""
    needed = 1
    for layer, per_frame in _heard(network, run, lambda m: getattr(m, "pad_mode", "constant") != "constant"):
        needed = max(needed, int(np.ceil((int(layer.padding_total) + 1) / per_frame)))
    return needed


@torch.inference_mode()
def _heard(
    network: nn.Module, run: Callable[[nn.Module, int], Any], asked: Callable[[nn.Module], bool]
) -> list[tuple[Any, float]]:
    """Layers in the order in which they work, and the positions that each hears of a frame."""
    found: list[tuple[Any, float]] = []
    hooks = [
        module.register_forward_pre_hook(
            lambda layer, inputs: found.append((layer, inputs[0].shape[-1] / _PROBE_FRAMES))
        )
        for module in network.modules()
        if asked(module)
    ]
    try:
        run(network, _PROBE_FRAMES)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def on_sound(frame_samples: int) -> Callable[[nn.Module, int], Any]:
    """Runs an encoder over so many frames of sound."""
    return lambda encoder, frames: encoder(torch.zeros(1, 1, frames * frame_samples))


def on_codes(decoder: nn.Module, frames: int) -> Any:
    """Runs a decoder over what so many frames of codes stand for."""
    width = next(m.in_channels for m in decoder.modules() if isinstance(m, nn.Conv1d))
    return decoder(torch.zeros(1, width, frames))
