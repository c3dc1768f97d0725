"""What every engine promises: voices by name, a sound for each text, and the times it knows.

An engine says the same list of texts with the same samples on every run: one that draws noise is seeded when it starts.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from sodakit.audio.wave import Wave


@dataclass(frozen=True)
class PhoneSpan:
    """One phone and when it sounds."""

    phone: str
    """The engine's own name for it, for example `t`, `aI` of espeak-ng; `_` and its kin, and `pau`, are pauses."""
    start_s: float
    end_s: float

    @property
    def is_pause(self) -> bool:
        """Whether this is silence between phones."""
        return self.phone.startswith("_") or self.phone in ("", "pau")


@dataclass(frozen=True)
class WordSpan:
    """One word as it is written, and when it sounds."""

    word: str
    start_s: float
    end_s: float
    confidence: float | None = None
    """How sure whoever tells the times is, 0 to 1; None where nothing is said of it."""


@dataclass(frozen=True)
class Speech:
    """What was spoken."""

    wave: Wave
    """At the engine's own rate."""
    phones: tuple[PhoneSpan, ...] = ()
    """In order, without gaps; the last ends with the sound. Empty where the engine does not tell them."""
    words: tuple[WordSpan, ...] = ()
    """In order; empty where the engine does not tell them."""


@runtime_checkable
class Voice(Protocol):
    """Who speaks. Frozen, hashable, and it pickles: other processes speak with it."""

    @property
    def name(self) -> str:
        """The speaker in a store: no slash, no space."""

    @property
    def engine(self) -> str:
        """Which engine speaks: a row of `engines.ENGINES`, and the source in a store."""

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639 codes of what it can say."""

    @property
    def licence(self) -> str:
        """Of what it says, as far as its makers tell; `unknown` where they do not."""

    @property
    def fingerprint(self) -> str:
        """Digest of all its sound depends on: settings and weights."""

    def in_language(self, language: str) -> "Voice":
        """The same voice speaking another language.

        Raises:
            ConfigError: it cannot.
        """


class Engine(Protocol):
    """A running synthesiser of one kind."""

    def speak_many(self, items: Iterable[tuple[str, Any]]) -> Iterator[Speech]:
        """The sound of each text in its voice, in order.

        Raises:
            AudioError: nothing to say in a text.
            ConfigError: no such voice.
        """

    def close(self) -> None:
        """End it."""
