"""A watermark in the sound of synthetic speech: the hook for a package that makes one. None comes with sodakit.

Such a package gives one function, by the entry point `sodakit.watermarks` or as `package.module:function`:

    def embed(samples_S: np.ndarray, sample_rate_hz: int) -> np.ndarray: ...

It gets float32 samples in about [-1, 1] and returns as many. Sound comes in consecutive blocks of a second, the last
one shorter, also where it is sent while it is being made; a function that wants others has an attribute `block_s`.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError, nearest

GROUP = "sodakit.watermarks"
"""The group of entry points."""
BLOCK_S = 1.0

Embed = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Watermark:
    """A function that puts a watermark into sound, and what it is called."""

    name: str
    embed: Embed

    def stream(self, sample_rate_hz: int) -> "WatermarkStream":
        """A fresh stream of sound to be marked."""
        return WatermarkStream(self, sample_rate_hz)

    def of(self, wave: Wave) -> Wave:
        """The whole sound, marked."""
        stream = self.stream(wave.sample_rate_hz)
        samples_S = np.concatenate([stream.push(wave.samples_S), stream.finish()])
        return Wave(samples_S, wave.sample_rate_hz, wave.origin)


class WatermarkStream:
    """Samples in, marked samples out, in blocks: joined, those of the whole sound."""

    def __init__(self, watermark: Watermark, sample_rate_hz: int) -> None:
        self._watermark, self._rate_hz = watermark, sample_rate_hz
        self._block = max(1, round(getattr(watermark.embed, "block_s", BLOCK_S) * sample_rate_hz))
        self._held_S = np.zeros(0, np.float32)

    def push(self, samples_S: np.ndarray) -> np.ndarray:
        """The marked blocks that these samples complete."""
        self._held_S = np.concatenate([self._held_S, samples_S])
        whole = len(self._held_S) // self._block * self._block
        blocks_S = [self._marked(self._held_S[at : at + self._block]) for at in range(0, whole, self._block)]
        self._held_S = self._held_S[whole:]
        return np.concatenate([np.zeros(0, np.float32), *blocks_S])

    def finish(self) -> np.ndarray:
        """What was left, marked."""
        rest_S, self._held_S = self._held_S, np.zeros(0, np.float32)
        return self._marked(rest_S) if len(rest_S) else rest_S

    def _marked(self, block_S: np.ndarray) -> np.ndarray:
        marked_S = np.asarray(self._watermark.embed(block_S.copy(), self._rate_hz), np.float32)
        if marked_S.shape != block_S.shape or not np.isfinite(marked_S).all():
            raise AudioError(
                f"The watermark {self._watermark.name} made shape {marked_S.shape} of {len(block_S)} samples, or NaN; "
                "needed: as many finite samples. Leave it out, or mend its package."
            )
        return marked_S


def load_watermark(name: str) -> Watermark:
    """The watermark of that name: an entry point of `sodakit.watermarks`, or `package.module:function`.

    Raises:
        ConfigError: no such entry point, module or function.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    try:
        if name in found:
            return _checked(name, found[name].load())
        module, colon, function = name.partition(":")
        if not (module and colon and function):
            hint = nearest(name, found, "Installed")
            raise ConfigError(f"No watermark {name!r}.{hint} Or name a function, as package.module:function.")
        return _checked(name, getattr(importlib.import_module(module), function))
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"The watermark {name!r} cannot be loaded ({error}). Install its package, or name another."
        ) from error


def _checked(name: str, embed: Embed) -> Watermark:
    if not callable(embed):
        raise ConfigError(f"The watermark {name!r} is no function; needed: embed(samples_S, sample_rate_hz).")
    return Watermark(name, embed)
