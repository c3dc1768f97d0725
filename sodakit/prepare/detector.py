"""The probability of speech in a sound of any length, heard part by part: silero-vad's network from faster-whisper."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.audio.files import Resampler, read_blocks
from sodakit.audio.wave import Wave
from sodakit.errors import MissingExtra
from sodakit.files import digest
from sodakit.prepare.pauses import RATE_HZ
from sodakit.prepare.recording import Item

PART_S = 300
"""Sound in memory at once, where it is no file. Whole seconds: parts meet at whole samples of every rate."""
FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64
"""Of the frame before, heard again with each frame."""
STATE_SHAPE = (1, 1, 128)
"""Of the recurrent layer's two states."""


def listen(item: Item) -> tuple[np.ndarray, float]:
    """Probability of speech in each 32 ms as float32 probabilities_F, and the seconds that were heard.

    Memory does not grow with the sound. The network's state and the resampler's go over from part to part, so the
    parts cannot be told from the result.

    Raises:
        AudioError: the sound cannot be decoded.
        MissingExtra: faster-whisper is not installed.
    """
    heard_s = 0.0

    def counted() -> Iterator[Wave]:
        nonlocal heard_s
        for wave in _parts(item):
            heard_s += wave.duration_s
            yield wave

    network = open_network()
    probabilities = list(_frame_probabilities(network, _resampled(counted())))
    return np.concatenate([np.zeros(0, np.float32), *probabilities]), heard_s


@cache
def open_network() -> Any:
    """The ONNX session with silero-vad, on one thread.

    Raises:
        MissingExtra: faster-whisper is absent, or older than the network it is asked for.
    """
    missing = MissingExtra("faster-whisper>=1.2.1", "asr", "Finding the pauses of a recording")
    try:
        from faster_whisper.vad import get_vad_model

        session = get_vad_model().session
    except (ImportError, AttributeError) as error:
        raise missing from error
    if [value.name for value in session.get_inputs()] != ["input", "h", "c"]:
        raise missing
    return session


def detector_name() -> str:
    """The network with a digest of its file: other weights find other pauses."""
    open_network()
    from faster_whisper.utils import get_assets_path

    paths = sorted(Path(get_assets_path()).glob("silero*.onnx"))
    return f"silero-vad@{digest(*(path.read_bytes() for path in paths))}"


def _parts(whole: Item) -> Iterator[Wave]:
    """The sound of a whole item, part by part."""
    if whole.audio is not None:
        yield from read_blocks(whole.audio)
        return
    for start_s in range(0, math.ceil(whole.sound_duration_s()), PART_S):
        yield replace(whole, start_s=start_s, end_s=start_s + PART_S).read()


def _resampled(waves: Iterable[Wave]) -> Iterator[np.ndarray]:
    """float32 samples_S at `RATE_HZ`, as if the waves were one."""
    resampler = None
    for wave in waves:
        resampler = resampler or Resampler(wave.sample_rate_hz, RATE_HZ)
        yield resampler.push(wave.samples_S)
    if resampler is not None:
        yield resampler.push(np.zeros(0, np.float32), last=True)


def _frame_probabilities(network: Any, sounds: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """probabilities_F of the sounds as one; the last frame is filled with silence."""
    states = [np.zeros(STATE_SHAPE, np.float32)] * 2
    context, rest = np.zeros(CONTEXT_SAMPLES, np.float32), np.zeros(0, np.float32)
    for samples_S in _with_silent_end(sounds):
        # NaN would stay in the network's state; the plan quarantines it with its reason.
        rest = np.concatenate([rest, np.nan_to_num(samples_S)])
        whole = len(rest) // FRAME_SAMPLES * FRAME_SAMPLES
        if whole == 0:
            continue
        frames = rest[:whole].reshape(-1, FRAME_SAMPLES)
        before = np.concatenate([context[None], frames[:-1, -CONTEXT_SAMPLES:]])
        inputs = {"input": np.concatenate([before, frames], axis=1), "h": states[0], "c": states[1]}
        probabilities_F, *states = network.run(None, inputs)
        yield probabilities_F.reshape(-1)
        context, rest = frames[-1, -CONTEXT_SAMPLES:], rest[whole:]


def _with_silent_end(sounds: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    length = 0
    for samples_S in sounds:
        length += len(samples_S)
        yield samples_S
    yield np.zeros(-length % FRAME_SAMPLES, np.float32)
