"""What the codec learns from: a pool of sounds in memory, with the phone of every hop where it is known."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from sodakit.audio.files import AUDIO_SUFFIXES, read_wave, resample
from sodakit.audio.levels import peak
from sodakit.audio.wave import Wave
from sodakit.codec.fit.config import FitConfig
from sodakit.codec.fit.damage import damaged
from sodakit.codec.fit.speakers import speakers
from sodakit.codec.fit.teacher import Teacher
from sodakit.errors import AudioError, ConfigError
from sodakit.files import atomic_path, digest, read_json_lines, read_text_lines
from sodakit.log import say, track
from sodakit.voices.catalogue import UNSEEN_VOICES
from sodakit.voices.contract import Speech, Voice
from sodakit.voices.engines import Synthesizer
from sodakit.voices.household import sentences
from sodakit.voices.names import find_voices, held_apart

UNKNOWN = -100
"""The label of a hop whose phone nobody knows; cross-entropy leaves it out."""

_HOUSEHOLD_FRACTION = 0.35
_KEPT_TOGETHER = 25
"""Sounds whose features lie in one file."""


@dataclass(frozen=True)
class Sound:
    """One clip to cut from."""

    samples_S: np.ndarray
    """int16 at the codec's rate; int16 because hours of it stay in memory."""
    phones_T: np.ndarray
    """int16 index of the phone at each hop, or UNKNOWN."""
    features_ND: np.ndarray | None = field(default=None, repr=False)
    """float16, what the teacher makes of it; None without a teacher."""


def plain_phone(phone: str) -> str:
    """A phone without stress marks and length of pause: `'i:` is `i:`, every pause is `_`."""
    bare = phone.lstrip("',%=|;")
    return "_" if not bare or bare.startswith("_") else bare


def read_sentences(path: Path) -> list[str]:
    """The sentences of a .txt (one a line) or .jsonl (field `text`) file, either with .gz; 3 to 40 words each.

    Raises:
        ConfigError: no such file, or no sentence in it.
    """
    if not path.exists():
        raise ConfigError(f"{path} does not exist. --text needs a .txt or .jsonl file, plain or .gz.")
    if ".jsonl" in path.suffixes:
        texts = [str(row.get("text") or "") for row in read_json_lines(path, ours=False)]
    else:
        texts = read_text_lines(path)
    kept = [text for text in texts if 3 <= len(text.split()) <= 40]
    if not kept:
        raise ConfigError(f"{path} holds no sentence of 3 to 40 words. A .jsonl file needs the field `text`.")
    return kept


def synthetic(config: FitConfig) -> tuple[list[Sound], tuple[str, ...]]:
    """`voices_hours` of synthetic speech with phones where the voices tell them, and the phone inventory; the same for the same config.

    Half the clips are played faster or slower by up to 12%, which moves formants as other heads would.
    """
    draw = random.Random(config.seed + 1)
    rate_hz = config.network.sample_rate_hz
    inventory: dict[str, int] = {}
    sounds: list[Sound] = []
    left_s = config.voices_hours * 3600
    with Synthesizer() as synthesizer:
        for speech in synthesizer.speak_many(_script(config)):
            ratio = draw.uniform(0.88, 1.12) if draw.random() < 0.5 else 1.0
            sounds.append(_label(speech, ratio, config, inventory))
            left_s -= len(sounds[-1].samples_S) / rate_hz
            if left_s <= 0:
                break
    return sounds, tuple(inventory)


def recordings(config: FitConfig) -> list[list[Sound]]:
    """The sounds of each data folder, at `data_versions` speeds, their phones unknown."""
    draw = random.Random(config.seed + 2)
    return [_recorded(config, audio_files((folder,)), draw) for folder in config.data]


def _recorded(config: FitConfig, paths: list[Path], draw: random.Random) -> list[Sound]:
    rate_hz, hop = config.network.sample_rate_hz, config.network.hop_samples
    sounds = []
    for path in paths:
        try:
            wave = read_wave(path)
        except AudioError as error:
            say(f"Left out: {error}")
            continue
        for version in range(config.data_versions):
            ratio = draw.uniform(0.8, 1.25) if version else 1.0
            samples_S = resample(Wave(wave.samples_S, round(wave.sample_rate_hz * ratio)), rate_hz).samples_S
            unknown_T = np.full(-(-len(samples_S) // hop), UNKNOWN, np.int16)
            sounds.append(Sound(_as_int16(samples_S), unknown_T))
    return sounds


class Batches:
    """An endless draw of training rows."""

    def __init__(
        self,
        config: FitConfig,
        spoken: list[Sound],
        recorded: Sequence[list[Sound]],
        teacher: Teacher | None = None,
    ) -> None:
        self._config, self._teacher = config, teacher
        needed = (config.segment_frames + 1) * config.network.frame_samples
        self._spoken = [sound for sound in spoken if len(sound.samples_S) > needed]
        pools = [[sound for sound in pool if len(sound.samples_S) > needed] for pool in recorded]
        self._recorded = [pool for pool in pools if pool]
        if not self._spoken and not self._recorded:
            raise ConfigError(
                f"No sound is longer than {needed} samples. Lower segment_frames or give longer sounds."
            )

    def draw(self, random: np.random.Generator) -> "Batch":
        """`batch_rows` random cuts."""
        rows = [self._row(random) for _ in range(self._config.batch_rows)]
        parts = [torch.from_numpy(np.stack(part)).to(self._config.device) for part in zip(*rows, strict=True)]
        return Batch(*parts)

    def _row(self, random: np.random.Generator) -> tuple[np.ndarray, ...]:
        network = self._config.network
        use_real = bool(self._recorded) and (not self._spoken or random.random() < self._config.real_fraction)
        pool = self._recorded[random.integers(len(self._recorded))] if use_real else self._spoken
        sound = pool[random.integers(len(pool))]
        hops = self._config.segment_frames * network.hops_per_frame
        length = hops * network.hop_samples + network.lookahead_samples
        start = int(random.integers((len(sound.samples_S) - length) // network.hop_samples + 1))
        first = start * network.hop_samples
        wave_S = sound.samples_S[first : first + length].astype(np.float32) / 32768
        cut = slice(start, start + hops)
        whole_S = _change_microphone(wave_S, random)
        is_damaged = random.random() < self._config.damage_fraction
        heard_S = damaged(whole_S, network.sample_rate_hz, random) if is_damaged else whole_S
        row = heard_S, sound.phones_T[cut].astype(np.int64), whole_S, np.asarray(is_damaged)
        if self._teacher is None or sound.features_ND is None:
            return row
        frame_s = network.frame_samples / network.sample_rate_hz
        start_s = first / network.sample_rate_hz
        return *row, self._teacher.pool(sound.features_ND, start_s, self._config.segment_frames, frame_s)


@dataclass(frozen=True)
class Batch:
    """Cuts of sounds."""

    wave_BS: Tensor
    """float32, with the encoder's lookahead at the end."""
    phones_BT: Tensor
    """int64 phone at each hop, or UNKNOWN."""
    whole_BS: Tensor
    """float32, the same before any damage."""
    damaged_B: Tensor
    """bool: which rows were damaged."""
    features_BFD: Tensor | None = None
    """float32, the teacher's mean in each frame; None without a teacher."""


def taught(
    pools: Sequence[list[Sound]], teacher: Teacher, sample_rate_hz: int, keep: Path | None = None
) -> list[list[Sound]]:
    """The sounds with the teacher's features, each of its dimensions with mean 0 and variance 1 over all pools.

    A few dimensions of a speech encoder are tens of times as large as the others, and would be all that a cosine sees.

    Args:
        keep: folder for what was heard, some sounds a file, so that a run which goes on need not hear them again.
    """
    sounds = [sound for pool in pools for sound in pool]
    parts = [sounds[first : first + _KEPT_TOGETHER] for first in range(0, len(sounds), _KEPT_TOGETHER)]
    heard = [
        rows_ND for part in track(parts, "teacher") for rows_ND in _heard(part, teacher, sample_rate_hz, keep)
    ]
    count = max(1, sum(map(len, heard)))
    mean_D = sum((rows_ND.sum(0, dtype=np.float64) for rows_ND in heard), np.zeros(teacher.width)) / count
    squares_D = sum(
        (np.square(rows_ND - mean_D).sum(0, dtype=np.float64) for rows_ND in heard), np.zeros(teacher.width)
    )
    scale_D = np.sqrt(squares_D / count) + 1e-6
    even = iter(((rows_ND - mean_D) / scale_D).astype(np.float16) for rows_ND in heard)
    return [[replace(sound, features_ND=next(even)) for sound in pool] for pool in pools]


def _heard(sounds: list[Sound], teacher: Teacher, rate_hz: int, keep: Path | None) -> list[np.ndarray]:
    names = [str(number) for number in range(len(sounds))]
    key = digest(teacher.name, str(rate_hz), *(sound.samples_S.tobytes() for sound in sounds))
    path = keep / f"{key}.safetensors" if keep else None
    if path and path.exists():
        found = load_file(path)
        return [found[name] for name in names]
    heard = [teacher.features(_as_wave(sound, rate_hz)) for sound in sounds]
    if path:
        path.parent.mkdir(exist_ok=True)
        with atomic_path(path) as temporary:
            save_file(dict(zip(names, map(np.ascontiguousarray, heard), strict=True)), temporary)
    return heard


def _as_wave(sound: Sound, sample_rate_hz: int) -> Wave:
    return Wave(sound.samples_S.astype(np.float32) / 32768, sample_rate_hz)


def _change_microphone(wave_S: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Brighter or darker, peak between -10 and +2 dB (where that takes less than 18 dB), now and then faint noise."""
    if random.random() < 0.5:
        wave_S = wave_S + random.uniform(-0.6, 0.6) * np.append(np.float32(0), wave_S[:-1])
    gain = 10 ** (random.uniform(-10, 2) / 20) / max(0.05, peak(wave_S))
    wave_S = wave_S * min(gain, 8.0)
    if random.random() < 0.1:
        noise_S = random.standard_normal(len(wave_S)).astype(np.float32)
        wave_S = wave_S + noise_S * 10 ** (random.uniform(-70, -40) / 20)
    return wave_S.astype(np.float32)


def _script(config: FitConfig) -> Iterator[tuple[str, Voice]]:
    draw = random.Random(config.seed)
    general = [text for path in config.text for text in read_sentences(path)]
    household = sentences(20_000, config.seed)
    named = find_voices(config.voices)
    held_apart(named, UNSEEN_VOICES)
    for voice in speakers(config.seed, named):
        if general and draw.random() > _HOUSEHOLD_FRACTION:
            yield draw.choice(general), voice
        else:
            # Two in a row: one alone is shorter than some segments, and sentences follow each other in speech.
            yield " ".join(draw.sample(household, 2)), voice


def _label(speech: Speech, ratio: float, config: FitConfig, inventory: dict[str, int]) -> Sound:
    rate_hz, hop = config.network.sample_rate_hz, config.network.hop_samples
    source_hz = round(speech.wave.sample_rate_hz * ratio)
    samples_S = resample(Wave(speech.wave.samples_S, source_hz), rate_hz).samples_S
    # Played at source_hz, every time shrinks by the true ratio of the two rates.
    shrink = speech.wave.sample_rate_hz / source_hz
    ends_s = np.array([span.end_s for span in speech.phones]) * shrink
    if not speech.phones:
        samples_S = _as_int16(samples_S)
        return Sound(samples_S, np.full(-(-len(samples_S) // hop), UNKNOWN, np.int16))
    phones = [inventory.setdefault(plain_phone(span.phone), len(inventory)) for span in speech.phones]
    # The middle of the hop decides whose it is.
    middles_s = (np.arange(-(-len(samples_S) // hop)) + 0.5) * hop / rate_hz
    which = np.searchsorted(ends_s, middles_s, side="right").clip(max=len(phones) - 1)
    return Sound(_as_int16(samples_S), np.array(phones, np.int16)[which])


def _as_int16(samples_S: np.ndarray) -> np.ndarray:
    return (samples_S.clip(-1, 1) * 32767).astype(np.int16)


def audio_files(folders: tuple[Path, ...]) -> list[Path]:
    """The sound files under the folders, sorted.

    Raises:
        ConfigError: one of them is not a folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder} is not a folder. --data needs folders of recordings.")
    return sorted(p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
