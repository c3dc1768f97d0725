from pathlib import Path

import numpy as np
import pytest
import torch

from sodakit.audio.files import read_wave
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.eval.voiceprints import (
    HubSpeaker,
    SpectralSpeaker,
    equal_error_rate,
    score_speakers,
    similarity,
)
from sodakit.files import read_json_lines
from sodakit.units import spread
from tests.eval.small_judges import small_speaker
from tests.eval.small_model import noise
from tests.recordings import recordings


def test_without_any_weights_two_real_voices_are_told_apart_more_often_than_not() -> None:
    folder = recordings("vctk")
    rows = read_json_lines(folder / "manifest.jsonl")
    waves = [read_wave(folder / row["audio"]) for row in rows]
    error = equal_error_rate(SpectralSpeaker().embed(waves), [row["speaker"] for row in rows])
    assert error is not None and error < 0.35


def test_the_equal_error_rate_is_0_for_apart_half_for_mixed_and_none_for_one_voice() -> None:
    apart = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert equal_error_rate(apart, ["a", "a", "b", "b"]) == 0
    same = np.tile([[1.0, 0]], (4, 1))
    assert equal_error_rate(same, ["a", "a", "b", "b"]) == pytest.approx(0.5)
    assert equal_error_rate(apart, ["a"] * 4) is None


def test_level_does_not_change_a_voice_and_another_voice_does() -> None:
    ear, wave = SpectralSpeaker(), noise(1, 1.0)
    louder = type(wave)(wave.samples_S * 3, wave.sample_rate_hz)
    tilted = type(wave)(np.cumsum(wave.samples_S).astype(np.float32) / 20, wave.sample_rate_hz)
    one, two, three = ear.embed([wave, louder, tilted])
    assert similarity(one[None], two[None])[0] == pytest.approx(1, abs=1e-4)
    assert similarity(one[None], three[None])[0] < 0.99


def test_a_speaker_model_in_a_folder_gives_its_own_vectors(tmp_path: Path) -> None:
    """The real classes at toy size: what is tested is the way in and out."""
    theirs, extractor = small_speaker(tmp_path)
    judge = HubSpeaker.load(str(tmp_path))
    waves = [noise(n, 0.5, 16_000) for n in range(2)]
    with torch.no_grad():
        inputs = [extractor(w.samples_S, sampling_rate=16_000, return_tensors="pt") for w in waves]
        raw = np.stack([theirs(**x).embeddings[0].double().numpy() for x in inputs])
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(judge.embed(waves), expected, atol=1e-5)
    assert (
        judge.name.startswith(tmp_path.name + "@")
        and judge.fingerprint == HubSpeaker.load(str(tmp_path)).fingerprint
    )
    short = noise(3, 0.1, 16_000)
    repeated = Wave(np.tile(short.samples_S, 5), 16_000)
    np.testing.assert_array_equal(judge.embed([short]), judge.embed([repeated]))
    with pytest.raises(ConfigError, match="x-vector"):
        HubSpeaker.load(str(tmp_path / "nothing"))


def vctk_clips(count: int) -> tuple[list[Wave], list[str]]:
    folder = recordings("vctk")
    rows = read_json_lines(folder / "manifest.jsonl")
    speakers = sorted({row["speaker"] for row in rows})
    rows = spread([row for speaker in speakers for row in rows if row["speaker"] == speaker], count)
    return [read_wave(folder / row["audio"]).cut(0, 4.0) for row in rows], [row["speaker"] for row in rows]


def test_copies_of_two_real_speakers_are_told_apart_and_a_swap_is_noticed() -> None:
    waves, speakers = vctk_clips(10)
    itself = score_speakers(waves, waves, speakers, SpectralSpeaker())
    swapped = score_speakers(waves, waves[::-1], speakers, SpectralSpeaker())
    assert itself is not None and swapped is not None
    assert itself.found_originals >= 0.9 and itself.found_copies == itself.found_originals
    assert itself.similarity == pytest.approx(1) and swapped.similarity < 0.3
    assert swapped.found_copies < 0.3


def test_one_speaker_or_an_unknown_one_gives_no_score() -> None:
    waves = [Wave(0.1 * np.random.default_rng(i).standard_normal(16_000), 16_000) for i in range(4)]
    assert score_speakers(waves, waves, ["a"] * 4, SpectralSpeaker()) is None
    assert score_speakers(waves, waves, ["a", "a", "", ""], SpectralSpeaker()) is None
