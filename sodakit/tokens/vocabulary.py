"""The ids of the model's language: text, markers, audio.

    0 … text_size-1            text, with BOS and EOS among it
    text_start … audio_end     four markers
    audio_base …               codebook 0, then codebook 1, …: audio_base + codebook_size * codebook + code

The `soda` preset is the published layout (arXiv 2602.16687): 128,256 text ids, four markers, 8 x 2,048 codes.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.config import from_plain
from sodakit.errors import ConfigError, VocabularyError
from sodakit.files import digest, read_json, write_json

TEXT_KIND = 0
MARKER_KIND = 1
FIRST_AUDIO_KIND = 2
MOST_IDS = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Which id means what. Immutable; stored in every checkpoint."""

    text_size: int
    """Text ids are 0 … text_size-1, BOS and EOS included."""
    bos: int
    """Begins every document."""
    eos: int
    """Ends every document."""
    text_start: int
    """Opens a transcript."""
    text_end: int
    """Closes a transcript."""
    audio_start: int
    """Opens speech."""
    audio_end: int
    """Closes speech; only at a frame boundary."""
    audio_base: int
    """Id of code 0 of codebook 0."""
    num_codebooks: int
    """K: codebooks with ids of their own. A document may use the first few only."""
    codebook_size: int
    """Ids per codebook."""
    semantic_codebooks: tuple[int, ...] = (0,)
    """Codebooks counted as semantic in reports."""
    tokenizer_fingerprint: str = ""
    """Which text tokenizer the text ids belong to."""

    def __post_init__(self) -> None:
        markers = (self.text_start, self.text_end, self.audio_start, self.audio_end)
        if len({*markers, self.bos, self.eos}) != 6:
            raise VocabularyError(f"BOS, EOS and the four markers need six different ids; got {self}.")
        if self.num_codebooks < 1 or self.codebook_size < 1:
            raise VocabularyError(f"num_codebooks and codebook_size must be at least 1; got {self}.")
        if self.size > MOST_IDS:
            raise VocabularyError(f"Ids are 32-bit numbers, so at most {MOST_IDS} of them; got {self}.")
        audio = range(self.audio_base, self.audio_base + self.num_codebooks * self.codebook_size)
        if self.audio_base < self.text_size or any(
            m in audio or m < 0 for m in (*markers, self.bos, self.eos)
        ):
            raise VocabularyError(f"The audio block overlaps text or markers: {self}.")

    @classmethod
    def layout(
        cls,
        *,
        text_size: int,
        bos: int,
        eos: int,
        num_codebooks: int,
        codebook_size: int,
        semantic_codebooks: tuple[int, ...] = (0,),
        tokenizer_fingerprint: str = "",
    ) -> "Vocabulary":
        """Text, then text_start, text_end, audio_start, audio_end, then the audio block."""
        return cls(
            text_size=text_size,
            bos=bos,
            eos=eos,
            text_start=text_size,
            text_end=text_size + 1,
            audio_start=text_size + 2,
            audio_end=text_size + 3,
            audio_base=text_size + 4,
            num_codebooks=num_codebooks,
            codebook_size=codebook_size,
            semantic_codebooks=semantic_codebooks,
            tokenizer_fingerprint=tokenizer_fingerprint,
        )

    @property
    def size(self) -> int:
        """V: one more than the largest id."""
        return max(self.audio_base + self.num_codebooks * self.codebook_size, self.audio_end + 1)

    @property
    def markers(self) -> tuple[int, int, int, int]:
        """text_start, text_end, audio_start, audio_end."""
        return (self.text_start, self.text_end, self.audio_start, self.audio_end)

    @property
    def fingerprint(self) -> str:
        """Digest of the layout and the text tokenizer."""
        return digest(repr(sorted(asdict(self).items())))

    def codebook_range(self, codebook: int) -> tuple[int, int]:
        """First id of a codebook, and one past its last."""
        start = self.audio_base + codebook * self.codebook_size
        return start, start + self.codebook_size

    @cached_property
    def kinds_V(self) -> np.ndarray:
        """int8 kind of every id: 0 text, 1 markers (with BOS and EOS), 2+k codebook k."""
        kinds_V = np.full(self.size, TEXT_KIND, np.int8)
        kinds_V[[*self.markers, self.bos, self.eos]] = MARKER_KIND
        for codebook in range(self.num_codebooks):
            start, stop = self.codebook_range(codebook)
            kinds_V[start:stop] = FIRST_AUDIO_KIND + codebook
        return kinds_V

    @property
    def kind_names(self) -> tuple[str, ...]:
        """Names of the kinds, in order: text, markers, semantic, acoustic_1, …"""
        names = [
            ("semantic" if self.semantic_codebooks == (k,) else f"semantic_{k}")
            if k in self.semantic_codebooks
            else f"acoustic_{k}"
            for k in range(self.num_codebooks)
        ]
        return ("text", "markers", *names)

    def is_audio(self, ids: np.ndarray) -> np.ndarray:
        """Which ids are codes (bool, same shape)."""
        return (ids >= self.audio_base) & (ids < self.audio_base + self.num_codebooks * self.codebook_size)

    def to_plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"semantic_codebooks": list(self.semantic_codebooks)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Vocabulary":
        """Inverse of `to_plain`.

        Raises:
            ConfigError: a field is unknown, missing or of another type.
            VocabularyError: ids that overlap.
        """
        return from_plain(cls, plain, "vocabulary")

    def save(self, folder: Path) -> None:
        """Write `vocabulary.json`."""
        write_json(folder / "vocabulary.json", self.to_plain())

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """Read `vocabulary.json`.

        Raises:
            VocabularyError: the folder has none, or a damaged one.
        """
        path = folder / "vocabulary.json"
        if not path.exists():
            raise VocabularyError(f"{folder} has no vocabulary.json. Is it a checkpoint written by sodakit?")
        try:
            return cls.from_plain(read_json(path))
        except ConfigError as error:
            raise VocabularyError(f"{path} is damaged: {error} Copy it again.") from error


def qwen3x_vocabulary() -> Vocabulary:
    """The published layout of warm starts: Qwen3's text with its end-of-text at 151,643, a BOS at 151,670, Mimi's codes."""
    return Vocabulary.layout(
        text_size=151_671, bos=151_670, eos=151_643, num_codebooks=8, codebook_size=2_048
    )


def soda_vocabulary(tokenizer_fingerprint: str = "") -> Vocabulary:
    """The published layout: 144,644 ids (recipe: Llama-3 text, BOS 128000, EOS 128001, Mimi with 8 codebooks)."""
    return Vocabulary.layout(
        text_size=128_256,
        bos=128_000,
        eos=128_001,
        num_codebooks=8,
        codebook_size=2_048,
        tokenizer_fingerprint=tokenizer_fingerprint,
    )
