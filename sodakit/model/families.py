"""The families of models: a config, the network it describes, and how documents lie along its positions.

    flat     `ModelConfig`    every id has a position of its own
    frame    `FrameConfig`    a frame is one position; its codes are written by a depth decoder, or by heads side by side

A third one is a folder here, a row in each function below, and its config and name in `any_config.py`.
"""

import numpy as np

from sodakit.model.any_config import AnyConfig
from sodakit.model.compiled import Precision, supports
from sodakit.model.contract import Targets
from sodakit.model.cpu_decoder import CpuDecoder
from sodakit.model.flat import flat_targets, flat_targets_after
from sodakit.model.frame.config import FrameConfig
from sodakit.model.frame.cpu_decoder import CpuFrameDecoder
from sodakit.model.frame.network import FrameTransformer
from sodakit.model.frame.select import frame_targets, frame_targets_after
from sodakit.model.transformer import Transformer
from sodakit.tokens.layouts.pattern import FLAT, Pattern


def build_model(config: AnyConfig, *, seed: int = 0) -> Transformer:
    """The network of a config, with new weights."""
    return (
        FrameTransformer(config, seed=seed)
        if isinstance(config, FrameConfig)
        else Transformer(config, seed=seed)
    )


def can_compile(config: AnyConfig) -> bool:
    """Whether decoding on this machine's CPU is compiled for models of the config."""
    shapes = [config.backbone]
    if isinstance(config, FrameConfig) and config.depth:
        shapes.append(config.depth_shape)
    return all(supports(shape) for shape in shapes)


def cpu_decoder(model: Transformer, precision: Precision) -> CpuDecoder:
    """A model that only decodes on a CPU, at a precision of its weights.

    Raises:
        ConfigError: a shape that the compiled step does not take, or no compiler.
    """
    if isinstance(model, FrameTransformer):
        return CpuFrameDecoder(model, precision)
    return CpuDecoder(model, precision)


def pattern_of(config: AnyConfig) -> Pattern:
    """How documents are laid along its positions."""
    return Pattern(config.delays) if isinstance(config, FrameConfig) else FLAT


def targets_of(config: AnyConfig, ids_BPW: np.ndarray, scored_BP: np.ndarray) -> Targets:
    """What a model of the config predicts of some rows.

    Args:
        ids_BPW: rows of positions, -1 where an id is absent.
        scored_BP: bool, which positions are predicted. A row's first never is.
    """
    if isinstance(config, FrameConfig):
        share = config.depth.share if config.depth else 1.0
        return frame_targets(config, ids_BPW, scored_BP, share=share)
    return flat_targets(ids_BPW, scored_BP)


def targets_after(config: AnyConfig, states_Q: np.ndarray, ids_QW: np.ndarray) -> Targets:
    """The ids that came after some states, as targets. Cells count through Q and W.

    Args:
        states_Q: which state told each position.
        ids_QW: the ids that stand there, -1 where one is absent.
    """
    if isinstance(config, FrameConfig):
        return frame_targets_after(config, states_Q, ids_QW)
    return flat_targets_after(states_Q, ids_QW[:, 0])
