"""The causal layers of Mimi and EnCodec, piece by piece: what each remembers of the sound before."""

from typing import Any

import torch
from torch import Tensor, nn


class CausalLayers:
    """Runs layers of a SEANet so that pieces, joined, are what the whole gives.

    Told apart by what they hold, since transformers has a class of each for every codec: a convolution that pads, a
    transposed one, a residual block, a recurrent layer. Everything else works on each position alone.
    """

    def __init__(self) -> None:
        self._kept: dict[nn.Module, Any] = {}

    def __call__(self, layer: Any, x: Tensor) -> Tensor:
        if hasattr(layer, "padding_total"):
            return self._convolution(layer, x)
        if isinstance(getattr(layer, "conv", None), nn.ConvTranspose1d):
            return self._transposed(layer, x)
        if hasattr(layer, "block"):
            inner = x
            for part in layer.block:
                inner = self(part, inner)
            return self(layer.shortcut, x) + inner
        if hasattr(layer, "lstm"):
            y_TBD = x.permute(2, 0, 1)
            z_TBD, self._kept[layer] = layer.lstm(y_TBD, self._kept.get(layer))
            return (z_TBD + y_TBD).permute(1, 2, 0)
        return layer(x)

    def _convolution(self, layer: Any, x: Tensor) -> Tensor:
        past = int(layer.padding_total)
        if layer in self._kept:
            x = torch.cat([self._kept[layer], x], dim=-1)
        elif layer.pad_mode == "constant":
            x = torch.cat([x.new_zeros(*x.shape[:2], past), x], dim=-1)
        else:
            x = layer._pad1d(x, (past, 0), mode=layer.pad_mode)
        self._kept[layer] = x[..., x.shape[-1] - past :].clone()
        return layer.conv(x)

    def _transposed(self, layer: Any, x: Tensor) -> Tensor:
        """Each input spreads over `kernel` outputs; those that the next input also reaches wait for it."""
        stride, kernel = layer.conv.stride[0], layer.conv.kernel_size[0]
        y = layer.conv(x)
        if layer in self._kept:
            y[..., : kernel - stride] += self._kept[layer]
        ready = x.shape[-1] * stride
        waiting = y[..., ready:].clone()
        # Both the waiting part and the next one carry the bias: it must count once.
        self._kept[layer] = waiting if layer.conv.bias is None else waiting - layer.conv.bias[:, None]
        return y[..., :ready]
