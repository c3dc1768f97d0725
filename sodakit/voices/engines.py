"""The one entry point: texts in any voices, of any engines, in order."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby, tee
from types import TracebackType

import numpy as np

from sodakit.audio.origin import synthetic
from sodakit.errors import AudioError
from sodakit.voices.contract import Engine, Speech, Voice
from sodakit.voices.espeak import EspeakEngine
from sodakit.voices.flite import FliteEngine
from sodakit.voices.kokoro import KokoroEngine
from sodakit.voices.piper import PiperEngine

ENGINES: dict[str, Callable[[int], Engine]] = {
    "espeak-ng": lambda seed: EspeakEngine(),
    "flite": lambda seed: FliteEngine(),
    "piper": PiperEngine,
    "kokoro": KokoroEngine,
}
"""By name, started with a seed. Each file here is one kind."""

DRAW_NOISE = ("piper", "kokoro")
"""Those whose samples depend on what they said since they were started. To the others each text is the first."""

SLOWNESS = {"espeak-ng": 1, "flite": 5, "piper": 50, "kokoro": 200}
"""About how many times as long as espeak-ng each takes for a text."""


class Synthesizer:
    """Engines that start when a voice first needs them. Use it in a `with` block, or `close()` it."""

    def __init__(self, seed: int = 0) -> None:
        """
        Args:
            seed: of the noise that some engines draw: the same list of texts gives the same samples.
        """
        self._seed = seed
        self._running: dict[str, Engine] = {}

    def speak(self, text: str, voice: Voice) -> Speech:
        """The sound of `text` in `voice`.

        Raises:
            MissingExtra: what its engine needs is not installed.
            ConfigError: the engine has no such voice.
            AudioError: nothing to say, no sound came of it, or the engine died.
        """
        return next(self.speak_many([(text, voice)]))

    def speak_many(self, items: Iterable[tuple[str, Voice]]) -> Iterator[Speech]:
        """The sound of each text in its voice, in order; engines with a process of their own speak ahead."""
        for engine, group in groupby(items, key=lambda item: item[1].engine):
            ahead, asked = tee(group)
            for speech, (text, voice) in zip(self._engine(engine).speak_many(ahead), asked, strict=False):
                samples_S = speech.wave.samples_S
                if not len(samples_S) or not np.isfinite(samples_S).all():
                    raise AudioError(f"{voice.name} gives no sound, or NaN, for {text[:60]!r}.")
                origin = synthetic(voice=voice.name)
                yield replace(speech, wave=replace(speech.wave, origin=origin))

    def close(self) -> None:
        """End every engine."""
        for engine in self._running.values():
            engine.close()
        self._running.clear()

    def __enter__(self) -> "Synthesizer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _engine(self, name: str) -> Engine:
        if name not in self._running:
            self._running[name] = ENGINES[name](self._seed)
        return self._running[name]
