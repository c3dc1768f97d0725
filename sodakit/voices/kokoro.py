"""Kokoro's voices: StyleTTS 2 in ONNX form that reads IPA; a voice is a style vector, and a mixture of some is a new one.

FOLDER/*.onnx  FOLDER/vocab.json or config.json or tokenizer.json  FOLDER/voices*.npz, or voices/NAME.bin
"""

import lzma
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.config import from_plain
from sodakit.errors import AudioError, ConfigError, nearest
from sodakit.files import digest, file_sha256, read_json, refuse_odd
from sodakit.voices.contract import Speech
from sodakit.voices.espeak import EspeakEngine
from sodakit.voices.onnx_session import Network, only_file, open_network
from sodakit.voices.piper import card_licence

RATE_HZ = 24_000
MOST_PHONES = 510
MOST_STYLE_BYTES = 2**28
"""All published styles together take 28 MB."""
_PURPOSE = "A Kokoro voice"
_SOURCE = "All of it is at huggingface.co/onnx-community/Kokoro-82M-v1.0-ONNX."
_STYLE_WIDTH = 256

_ENGLISH = (
    ("aɪ", "I"), ("aʊ", "W"), ("eɪ", "A"), ("oʊ", "O"), ("əʊ", "Q"), ("ɔɪ", "Y"), ("dʒ", "ʤ"), ("tʃ", "ʧ"),
    ("ɜː", "ɜɹ"), ("ɜɹɹ", "ɜɹ"), ("ɚ", "əɹ"), ("ɪə", "iə"), ("əl", "ᵊl"), ("ɐ", "ə"), ("ɬ", "l"), ("ʔ", "t"), ("r", "ɹ"),
    ("x", "k"), ("ç", "k"), ("ː", ""), ("\u0303", ""), ("\u0329", ""), ("ʲ", ""), ("-", " "),
)  # fmt: skip
"""What its English training calls the phones of espeak-ng."""


@dataclass(frozen=True)
class KokoroVoice:
    """A style, or a weighted mixture of some."""

    folder: Path
    styles: tuple[tuple[str, float], ...]
    """Name and weight of each; the weights sum to 1."""
    language: str = "en-us"
    """What espeak-ng reads the text in."""

    @property
    def name(self) -> str:
        """For example `kokoro-jf_alpha` or `kokoro-0.6jf_alpha+0.4jm_kumo`."""
        if len(self.styles) == 1:
            return f"kokoro-{self.styles[0][0]}"
        return "kokoro-" + "+".join(f"{weight:g}{style}" for style, weight in self.styles)

    @property
    def engine(self) -> str:
        """kokoro."""
        return "kokoro"

    @property
    def languages(self) -> tuple[str, ...]:
        """The one it is set to; `in_language` gives the others."""
        return (self.language.split("-")[0],)

    @property
    def licence(self) -> str:
        """As a model card in the folder says."""
        return card_licence(self.folder)

    @property
    def fingerprint(self) -> str:
        """Of the weights, the style and the language."""
        style = style_vectors(self.folder, self.styles).tobytes()
        return digest(file_sha256(only_file(self.folder, ".onnx", _PURPOSE)), style, self.language)

    def in_language(self, language: str) -> "KokoroVoice":
        """The same style reading another language: well in those it was trained on."""
        return self if language in (*self.languages, self.language) else replace(self, language=language)


def check_folder(folder: Path) -> None:
    """Raise where the folder lacks a part: said at once, not at the first text.

    Raises:
        ConfigError: no styles, no network or no vocabulary.
    """
    _styles(folder)
    only_file(folder, ".onnx", _PURPOSE, _SOURCE)
    _vocabulary(folder)


class KokoroEngine:
    """Kokoro models, each opened when first asked for."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._espeak = EspeakEngine()
        self._networks: dict[Path, Network] = {}

    def speak_many(self, items: Iterable[tuple[str, KokoroVoice]]) -> Iterator[Speech]:
        """The sound of each text, in pieces of at most `MOST_PHONES` phones."""
        for text, voice in items:
            known = _vocabulary(voice.folder)
            clauses = self._espeak.clauses(text, voice.language)
            pieces = list(_pieces(_phones(clauses, voice.language), known, text))
            if not pieces:
                raise AudioError(f"{voice.name} says nothing for {text[:60]!r}. Give it words.")
            yield Speech(Wave(np.concatenate([self._say(ids, voice) for ids in pieces]), RATE_HZ))

    def close(self) -> None:
        """End the reader of texts."""
        self._espeak.close()

    def _say(self, ids: list[int], voice: KokoroVoice) -> np.ndarray:
        if voice.folder not in self._networks:
            path = only_file(voice.folder, ".onnx", _PURPOSE)
            self._networks[voice.folder] = open_network(path, _PURPOSE, self._seed)
        network = self._networks[voice.folder]
        styles_LD = style_vectors(voice.folder, voice.styles)
        inputs = {
            network.first_input: np.array([[0, *ids, 0]], np.int64),  # named by who exported it
            "style": styles_LD[min(len(ids), len(styles_LD)) - 1][None],
            "speed": np.ones(1, np.float32),
        }
        return network.run(inputs).reshape(-1).astype(np.float32)


def style_names(folder: Path) -> tuple[str, ...]:
    """The styles in a folder, sorted.

    Raises:
        ConfigError: it holds none.
    """
    return tuple(sorted(_styles(folder)))


@cache
def style_vectors(folder: Path, styles: tuple[tuple[str, float], ...]) -> np.ndarray:
    """float32 (phones, width): the weighted mean of the styles, for each length of text.

    Raises:
        ConfigError: a style that is not there.
    """
    known = _styles(folder)
    for name, _ in styles:
        if name not in known:
            raise ConfigError(f"{folder} has no style {name!r}.{nearest(name, sorted(known), 'Styles')}")
    weights_M = np.array([weight for _, weight in styles], np.float32)
    return np.tensordot(weights_M, np.stack([known[name] for name, _ in styles]), 1)


@cache
def _styles(folder: Path) -> dict[str, np.ndarray]:
    needed = f"Needed: voices.npz or voices/NAME.bin. {_SOURCE}"
    found: dict[str, np.ndarray] = {}
    try:
        for path in sorted((*folder.glob("voices*.npz"), *folder.glob("voices*.bin"))):
            _check_size(path)
            with np.load(path, allow_pickle=False) as styles:
                found |= {name: styles[name] for name in styles.files}
        for path in sorted((folder / "voices").glob("*.bin")):
            _check_size(path)
            found[path.stem] = np.fromfile(path, np.float32)
        if not found:
            raise ValueError("no such file")
        return {name: _style(name, values) for name, values in found.items()}
    except (
        ValueError, TypeError, OSError, EOFError, KeyError, AttributeError, NotImplementedError, RuntimeError,
        zipfile.BadZipFile, zlib.error, lzma.LZMAError, SyntaxError, RecursionError, MemoryError,
    ) as error:  # fmt: skip
        raise ConfigError(f"{folder} has no style vectors that can be read ({error}). {needed}") from error


def _check_size(path: Path) -> None:
    """Refuse what is no file, and what would fill the memory: a kilobyte may unpack to a gigabyte."""
    refuse_odd(path)
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    if size > MOST_STYLE_BYTES:
        raise ValueError(f"{path.name} holds {size} bytes; needed: at most {MOST_STYLE_BYTES}")


def _style(name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "f":
        raise ValueError(f"{name!r} is of {values.dtype}; needed: floating point numbers")
    rows_LD = values.reshape(-1, _STYLE_WIDTH).astype(np.float32)
    if not len(rows_LD) or not np.isfinite(rows_LD).all():
        raise ValueError(f"{name!r} has {len(rows_LD)} rows; needed: at least one, of finite numbers")
    if not re.fullmatch(r"[\w.-]+", name):  # files and speakers are called so
        raise ValueError(f"{name!r} is no name of a style")
    return rows_LD


@cache
def _vocabulary(folder: Path) -> dict[str, int]:
    for name in ("vocab.json", "config.json", "tokenizer.json"):
        path = folder / name
        if path.exists():
            found = read_json(path)
            model = found.get("model") if isinstance(found, dict) else None
            inside = model.get("vocab") if isinstance(model, dict) else None
            if vocabulary := (isinstance(found, dict) and found.get("vocab")) or inside:
                ids: dict[str, int] = from_plain(dict[str, int], vocabulary, f"{path}: vocab")
                if any(not 0 <= n < 2**31 for n in ids.values()):
                    raise ConfigError(f"{path}: vocab holds numbers that are no ids. Copy it again.")
                return ids
    raise ConfigError(
        f"{folder} has no vocabulary. {_PURPOSE} needs vocab.json or config.json with `vocab`. {_SOURCE}"
    )


def _phones(clauses: list[tuple[str, str]], language: str) -> list[str]:
    """Each clause with its mark, in Kokoro's symbols."""
    found = []
    for ipa, mark in clauses:
        ipa = re.sub(r"\([a-z-]+\)", "", ipa)  # a word read in another language
        for theirs, ours in _ENGLISH if language.startswith("en") else ():
            ipa = ipa.replace(theirs, ours)
        found.append(ipa.strip() + mark)
    return [phones for phones in found if any(c.isalpha() for c in phones)]


def _pieces(clauses: list[str], known: dict[str, int], text: str) -> Iterator[list[int]]:
    piece = ""
    for clause in clauses:
        unknown = sorted({c for c in clause if c not in known})
        if unknown or len(clause) > MOST_PHONES:
            why = f"no phone {unknown[0]!r}" if unknown else f"room for {MOST_PHONES} phones without a pause"
            raise AudioError(f"Kokoro has {why}, and {text[:60]!r} needs it. Change the text.")
        if len(piece) + 1 + len(clause) > MOST_PHONES:
            yield [known[c] for c in piece]
            piece = ""
        piece = f"{piece} {clause}" if piece else clause
    if piece:
        yield [known[c] for c in piece]
