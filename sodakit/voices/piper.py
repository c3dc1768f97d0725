"""Piper's voices: a VITS network in ONNX form that reads the IPA of espeak-ng, which runs in its own process.

FOLDER/NAME.onnx  FOLDER/NAME.onnx.json     as Piper's own voices come; a MODEL_CARD beside names the licence
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.bounds import Bounded, Bounds, Count, Positive
from sodakit.config import from_plain
from sodakit.errors import AudioError, ConfigError
from sodakit.files import digest, file_sha256, read_json
from sodakit.voices.contract import Speech
from sodakit.voices.espeak import EspeakEngine
from sodakit.voices.onnx_session import Network, only_file, open_network

_PURPOSE = "A Piper voice"
_SOURCE = "Voices are at huggingface.co/rhasspy/piper-voices: NAME.onnx with NAME.onnx.json."
_BEGIN, _END, _PAD = "^", "$", "_"
_SENTENCE_ENDS = ".?!。！？"


@dataclass(frozen=True)
class PiperSettings(Bounded):
    """What stands beside a network, as far as it is used."""

    sample_rate_hz: Annotated[int, Bounds(least=1000, most=384_000)]
    language: str
    """What espeak-ng calls it."""
    phone_ids: dict[str, tuple[int, ...]]
    """Of each symbol of IPA, and of the marks of begin, end and padding."""
    noise_scale: float
    length_scale: Positive
    noise_w: float
    num_speakers: Count = 1
    speaker_ids: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for symbol in (_BEGIN, _END, _PAD):
            if symbol not in self.phone_ids:
                raise ConfigError(f"phoneme_id_map lacks {symbol!r}")
        if any(not 0 <= n < 2**31 for ids in self.phone_ids.values() for n in ids):
            raise ConfigError("phoneme_id_map holds numbers that are no ids")
        if not re.fullmatch(r"[\w-]+", self.language, re.ASCII):
            raise ConfigError(f"espeak.voice is {self.language!r}, no language")


@dataclass(frozen=True)
class PiperVoice:
    """One speaker of a Piper model."""

    folder: Path
    speaker: str = ""
    """Name or number of a speaker, for models of several; empty for the first."""

    @property
    def name(self) -> str:
        """For example `piper-en_US-joe-medium`."""
        return f"piper-{self._network.name.removesuffix('.onnx')}" + (
            f"-{self.speaker}" if self.speaker else ""
        )

    @property
    def engine(self) -> str:
        """piper."""
        return "piper"

    @property
    def languages(self) -> tuple[str, ...]:
        """The one it was trained on."""
        return (self.settings.language.split("-")[0],)

    @property
    def licence(self) -> str:
        """As the MODEL_CARD says."""
        return card_licence(self.folder)

    @property
    def fingerprint(self) -> str:
        """Of the weights and the speaker."""
        return digest(file_sha256(self._network), self.speaker)

    def in_language(self, language: str) -> "PiperVoice":
        """Itself for its own language."""
        if language.split("-")[0] not in self.languages:
            raise ConfigError(
                f"{self.name} speaks {self.languages[0]}, not {language!r}. Choose another voice."
            )
        return self

    @property
    def settings(self) -> PiperSettings:
        """What stands beside the network.

        Raises:
            ConfigError: it is missing, or not Piper's.
        """
        return _settings(self._network)

    @property
    def _network(self) -> Path:
        return only_file(self.folder, ".onnx", _PURPOSE, _SOURCE)

    @property
    def speaker_number(self) -> int | None:
        """Which speaker the network is told; None where it has one alone.

        Raises:
            ConfigError: no such speaker.
        """
        known, count = self.settings.speaker_ids, self.settings.num_speakers
        number = known.get(self.speaker, int(self.speaker) if self.speaker.isdecimal() else None)
        if self.speaker and (number is None or not 0 <= number < count):
            names = ", ".join(list(known)[:20]) or f"0 to {count - 1}"
            raise ConfigError(f"{self.folder} has no speaker {self.speaker!r}. Speakers: {names}.")
        return (number or 0) if count > 1 else None


class PiperEngine:
    """Piper models, each opened when first asked for."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._espeak = EspeakEngine()
        self._networks: dict[Path, Network] = {}

    def speak_many(self, items: Iterable[tuple[str, PiperVoice]]) -> Iterator[Speech]:
        """The sound of each text, sentence by sentence."""
        for text, voice in items:
            settings = voice.settings
            clauses = self._espeak.clauses(text, settings.language)
            said = [self._say(ids, voice, settings) for ids in _sentences(clauses, settings, text)]
            if not said:
                raise AudioError(f"{voice.name} says nothing for {text[:60]!r}. Give it words.")
            yield Speech(Wave(np.concatenate(said), settings.sample_rate_hz))

    def close(self) -> None:
        """End the reader of texts."""
        self._espeak.close()

    def _say(self, ids: list[int], voice: PiperVoice, settings: PiperSettings) -> np.ndarray:
        if voice.folder not in self._networks:
            path = only_file(voice.folder, ".onnx", _PURPOSE)
            self._networks[voice.folder] = open_network(path, _PURPOSE, self._seed)
        scales = [settings.noise_scale, settings.length_scale, settings.noise_w]
        inputs = {"input": np.array([ids], np.int64), "input_lengths": np.array([len(ids)], np.int64)}
        inputs["scales"] = np.array(scales, np.float32)
        if (number := voice.speaker_number) is not None:
            inputs["sid"] = np.array([number], np.int64)
        return self._networks[voice.folder].run(inputs).reshape(-1).astype(np.float32)


def card_licence(folder: Path) -> str:
    """The licence that a model card in the folder names; `unknown` without one."""
    for card in sorted(folder.glob("*")):
        if card.name.upper().startswith(("MODEL_CARD", "README", "LICENSE", "LICENCE")) and card.is_file():
            found = re.search(r"licen[sc]e:\s*(.+)", card.read_text("utf-8", "replace"), re.IGNORECASE)
            if found:
                return found[1].strip()
    return "unknown"


@cache
def _settings(network: Path) -> PiperSettings:
    beside = network.with_name(network.name + ".json")
    if not beside.is_file():
        raise ConfigError(f"{beside} does not exist. {_PURPOSE} needs it beside the network.")
    found = read_json(beside)
    try:
        plain = {
            "sample_rate_hz": found["audio"]["sample_rate"],
            "language": found["espeak"]["voice"],
            "phone_ids": found["phoneme_id_map"],
            "num_speakers": found.get("num_speakers", 1),
            "speaker_ids": found.get("speaker_id_map") or {},
            **{name: found["inference"][name] for name in ("noise_scale", "length_scale", "noise_w")},
        }
        settings: PiperSettings = from_plain(PiperSettings, plain, str(beside))
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{beside} is not the .onnx.json that Piper writes ({error}). Copy it again."
        ) from error
    return settings


def _sentences(clauses: list[tuple[str, str]], settings: PiperSettings, text: str) -> Iterator[list[int]]:
    """The ids of each sentence: every phone is followed by the pad.

    Raises:
        AudioError: a phone that the model does not know.
    """
    known, phones = settings.phone_ids, ""
    for n, (ipa, mark) in enumerate(clauses):
        phones += ipa + mark
        if (mark and mark in _SENTENCE_ENDS) or n == len(clauses) - 1:
            # A phone and its diacritic are two symbols.
            symbols = unicodedata.normalize("NFD", _LANGUAGE_SWITCH.sub("", phones)).strip()
            if any(c.isalpha() for c in symbols):
                unknown = sorted({c for c in symbols if c not in known})
                if unknown:
                    raise AudioError(
                        f"The Piper voice has no phone {unknown[0]!r}, needed for {text[:60]!r}."
                    )
                yield [i for c in (_BEGIN, *symbols) for i in (*known[c], *known[_PAD])] + [*known[_END]]
            phones = ""
        else:
            phones += " "


_LANGUAGE_SWITCH = re.compile(r"\([a-z-]+\)")
"""espeak-ng marks a word that it reads in another language: `(en)`."""
