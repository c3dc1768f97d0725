"""The numbers of a codec: on recordings, on voices it has never heard, and what each codebook carries."""

import time
from collections.abc import Iterator
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.audio.files import read_wave, resample
from sodakit.audio.wave import Wave
from sodakit.codec.contract import Codec
from sodakit.codec.fit.sounds import audio_files, plain_phone
from sodakit.codec.quality import SoundDistance, codebook_use, compare
from sodakit.voices.catalogue import UNSEEN_VOICES
from sodakit.voices.espeak import Speech, Synthesizer
from sodakit.voices.household import sentences

_HELD_OUT_SEED = 999_983


def measure(codec: Codec, folders: tuple[Path, ...], clips: int) -> dict[str, Any]:
    """Distances of decoded sounds to their originals, use of each codebook, and speed; ready for JSON.

    Args:
        folders: recordings; `clips` from each, evenly spread.
        clips: also the number of sentences of the unseen voices.
    """
    spoken = list(_speak(clips))
    report: dict[str, Any] = {"codec": asdict(codec.spec), "sounds": {}}
    report["sounds"]["unseen voices"] = _distances(codec, [speech.wave for speech in spoken])
    for folder in folders:
        paths = audio_files((folder,))
        chosen = paths[:: max(1, len(paths) // clips)][:clips]
        report["sounds"][str(folder)] = _distances(codec, [read_wave(path) for path in chosen])
    codes_KF, phones_F = _labelled_codes(codec, list(_speak(10 * clips)))
    used = codebook_use(codes_KF, phones_F, codec.spec.codebook_size)
    report["codebooks"] = [{name: round(value, 4) for name, value in asdict(use).items()} for use in used]
    report["frames_of_codebooks"] = codes_KF.shape[1]
    report["speed"] = _speed(codec, spoken)
    return report


def _speak(count: int) -> Iterator[Speech]:
    texts = sentences(count, _HELD_OUT_SEED)
    with Synthesizer() as synthesizer:
        yield from synthesizer.speak_many(
            (text, UNSEEN_VOICES[i % len(UNSEEN_VOICES)]) for i, text in enumerate(texts)
        )


def _distances(codec: Codec, waves: list[Wave]) -> dict[str, float]:
    rows = []
    for wave in waves:
        original = resample(wave, codec.spec.sample_rate_hz)
        decoded = Wave(codec.decode(codec.encode(original.samples_S)), codec.spec.sample_rate_hz)
        rows.append(astuple(compare(original, decoded)))
    means = np.nanmean(np.array(rows), axis=0)
    names = [field.name for field in fields(SoundDistance)]
    return {name: round(float(value), 4) for name, value in zip(names, means, strict=True)}


def _labelled_codes(codec: Codec, spoken: list[Speech]) -> tuple[np.ndarray, list[str]]:
    """The codes_KF of all sentences in a row, and the phone in the middle of each frame."""
    codes, phones = [], []
    for speech in spoken:
        codes.append(codec.encode(resample(speech.wave, codec.spec.sample_rate_hz).samples_S))
        ends_s = np.array([span.end_s for span in speech.phones])
        middles_s = (np.arange(codes[-1].shape[1]) + 0.5) / codec.spec.frame_rate_hz
        which = np.searchsorted(ends_s, middles_s, side="right").clip(max=len(ends_s) - 1)
        phones += [plain_phone(speech.phones[i].phone) for i in which]
    return np.concatenate(codes, axis=1), phones


def _speed(codec: Codec, spoken: list[Speech]) -> dict[str, float]:
    """Seconds of sound per second, on one clip of 10 s, after a first pass."""
    spec = codec.spec
    joined_S = np.concatenate([resample(speech.wave, spec.sample_rate_hz).samples_S for speech in spoken])
    wave_S = joined_S[: 10 * spec.sample_rate_hz]
    codes_KF = codec.encode(wave_S)
    codec.decode(codes_KF)
    started_s = time.perf_counter()
    codec.encode(wave_S)
    encoded_s = time.perf_counter()
    codec.decode(codes_KF)
    decoded_s = time.perf_counter()
    duration_s = len(wave_S) / spec.sample_rate_hz
    return {
        "encode_x_real_time": round(duration_s / (encoded_s - started_s), 1),
        "decode_x_real_time": round(duration_s / (decoded_s - encoded_s), 1),
    }
