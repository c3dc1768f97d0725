"""Speech faster or slower, its pitch kept: ffmpeg's atempo (waveform similarity and overlap-add), through PyAV."""

from typing import Any

import numpy as np

from sodakit.serve.aac import as_frame, import_av

SLOWEST_STEP = 0.5
"""What one filter does at most; two in a row do more."""


class Tempo:
    """Samples in, samples out as they are ready; at speed 1 the same ones at once."""

    def __init__(self, sample_rate_hz: int, speed: float) -> None:
        self._rate_hz, self._place = sample_rate_hz, 0
        self._graph: Any = None if speed == 1 else self._filters(speed)

    def _filters(self, speed: float) -> Any:
        av = import_av(f"speed={speed:g}", "speed", "Leave speed out.")
        self._av, graph = av, av.filter.Graph()
        last = graph.add_abuffer(sample_rate=self._rate_hz, format="fltp", layout="mono")
        while speed != 1:
            step = max(speed, SLOWEST_STEP)
            speed /= step
            last.link_to(following := graph.add("atempo", f"{step:.6f}"))
            last = following
        last.link_to(graph.add("abuffersink"))
        graph.configure()
        return graph

    def write(self, samples_S: np.ndarray) -> np.ndarray:
        """What is ready after these samples."""
        if self._graph is None or not len(samples_S):
            return samples_S
        self._graph.push(as_frame(self._av.AudioFrame, samples_S, self._rate_hz, self._place))
        self._place += len(samples_S)
        return self._ready()

    def finish(self) -> np.ndarray:
        """What is left."""
        if self._graph is None or not self._place:
            return np.zeros(0, np.float32)
        self._graph.push(None)
        return self._ready()

    def _ready(self) -> np.ndarray:
        parts = [np.zeros(0, np.float32)]
        try:
            while True:
                parts.append(self._graph.pull().to_ndarray().reshape(-1))
        except (self._av.BlockingIOError, self._av.EOFError):
            return np.concatenate(parts)
