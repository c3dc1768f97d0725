"""What every aligner promises: when each word of a text is said in a sound that says it."""

from collections.abc import Sequence
from typing import Protocol

from sodakit.audio.wave import Wave
from sodakit.voices.contract import WordSpan


class Aligner(Protocol):
    """Whoever finds known words in a sound."""

    @property
    def name(self) -> str:
        """What stores and tables call it."""

    @property
    def fingerprint(self) -> str:
        """Digest of everything its times depend on."""

    def align(
        self, waves: Sequence[Wave], texts: Sequence[str], languages: Sequence[str]
    ) -> list[tuple[WordSpan, ...]]:
        """The words of each text in order, with times from the beginning of its sound and how sure they are.

        Args:
            waves: mono, at any rate.
            texts: what is said in each.
            languages: ISO 639 codes; empty where nobody knows.
        Returns:
            For each sound the words that were found; () where none was.
        """
