"""A teacher from a folder: what it hears, where in time, and that codebook 0 learns from it."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

from sodakit.audio.wave import Wave
from sodakit.codec.fit.config import FitConfig
from sodakit.codec.fit.sounds import Batches, taught
from sodakit.codec.fit.teacher import Teacher
from sodakit.codec.fit.trainer import Fit
from sodakit.errors import ConfigError
from tests.codec.conftest import TINY
from tests.codec.test_fit import hum


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained WavLM of two layers with the front of the real ones."""
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        conv_dim=(32,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("teacher") / "wavlm"
    WavLMModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Teacher:
    return Teacher.load(str(folder))


def test_a_feature_stands_in_the_middle_of_what_it_hears(teacher: Teacher) -> None:
    assert teacher.step_s == 0.02
    assert teacher.first_s == pytest.approx(0.0125)  # 400 samples, as the paper of wav2vec 2.0 says
    assert teacher.features(Wave(np.zeros(16_000, np.float32), 16_000)).shape == (49, 32)


def test_long_sounds_lose_no_time_between_pieces(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sodakit.codec.fit.teacher._PIECE_S", 1.0)
    long = Wave(np.random.default_rng(0).standard_normal(16_000 * 5 // 2).astype(np.float32), 16_000)
    features_ND = teacher.features(long)
    assert len(features_ND) == 50 + 50 + 24
    assert np.array_equal(features_ND[50:99], teacher.features(long.cut(1.0, 2.0)))


@pytest.mark.parametrize("start_s", [0.0, 0.01, 0.37])
def test_a_frame_has_the_mean_of_the_features_inside_it(teacher: Teacher, start_s: float) -> None:
    times_N = teacher.first_s + teacher.step_s * np.arange(100)
    pooled_FD = teacher.pool(times_N[:, None].astype(np.float16), start_s, 6, 0.08)
    middles_F = start_s + 0.08 * (np.arange(6) + 0.5)
    assert np.abs(pooled_FD[:, 0] - middles_F).max() <= 0.5 * teacher.step_s + 1e-3


def test_frames_beyond_the_end_or_without_a_feature_take_the_nearest_before(teacher: Teacher) -> None:
    features_ND = np.arange(10, dtype=np.float16)[:, None]
    assert teacher.pool(features_ND, 0.19, 3, 0.08)[-1, 0] == 9
    assert teacher.pool(features_ND, 0.0, 8, 0.01)[:, 0].tolist() == [0, 0, 0, 1, 1, 2, 2, 3]


def test_codebook_0_learns_to_foretell_the_teacher(teacher: Teacher, tmp_path: Path) -> None:
    config = FitConfig(
        out=tmp_path,
        steps=80,
        network=replace(TINY, phones=()),
        batch_rows=4,
        segment_frames=8,
        warmup_steps=5,
    )
    (sounds,) = taught([[hum(100.0, 1), hum(240.0, 2)]], teacher, TINY.sample_rate_hz)
    fit = Fit(config, Batches(config, sounds, [], teacher), teacher.width)
    losses = [fit.train_step()["teacher"] for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    fit.save()
    again = Fit(config, Batches(config, sounds, [], teacher), teacher.width)
    assert again.resume()
    assert again.train_step()["total"] == fit.train_step()["total"]


def test_features_of_all_pools_have_mean_0_and_variance_1_together(teacher: Teacher) -> None:
    pools = taught([[hum(100.0, 1)], [], [hum(240.0, 2), hum(90.0, 3)]], teacher, TINY.sample_rate_hz)
    assert [len(pool) for pool in pools] == [1, 0, 2]
    together = np.concatenate([s.features_ND.astype(np.float64) for pool in pools for s in pool])
    assert np.abs(together.mean(0)).max() < 1e-3 and np.abs(together.std(0) - 1).max() < 1e-3
    raw_ND = teacher.features(Wave(hum(240.0, 2).samples_S / 32768, TINY.sample_rate_hz))
    even_ND = pools[2][0].features_ND
    for d in range(3):
        assert np.corrcoef(raw_ND[:, d], even_ND[:, d])[0, 1] > 0.999


def test_a_run_that_goes_on_hears_no_sound_again(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sodakit.codec.fit.sounds._KEPT_TOGETHER", 2)
    pools = [[hum(100.0, 1), hum(240.0, 2)], [hum(90.0, 3)]]
    first = taught(pools, teacher, TINY.sample_rate_hz, tmp_path / "teacher")

    def deaf(samples_S: np.ndarray) -> np.ndarray:
        raise AssertionError("it was heard already")

    again = taught(pools, replace(teacher, hear=deaf), TINY.sample_rate_hz, tmp_path / "teacher")
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(a.features_ND, b.features_ND) for a, b in zip(one, other, strict=True))
    with pytest.raises(AssertionError, match="heard already"):
        taught([[hum(91.0, 3)]], replace(teacher, hear=deaf), TINY.sample_rate_hz, tmp_path / "teacher")


class EarOfWhisper:
    """As `faster_whisper.WhisperModel`: mels of 10 ms, a feature for two of them: their mean."""

    class Mels:
        hop_length = 160

        def __call__(self, samples_S: np.ndarray) -> np.ndarray:
            count = len(samples_S) // 160
            levels_T = np.abs(samples_S[: count * 160]).reshape(count, 160).mean(1)
            return np.repeat(np.append(levels_T, 0)[None], 4, 0)  # one frame too many, as it makes them

    feature_extractor = Mels()

    def encode(self, mel_DT: np.ndarray) -> np.ndarray:
        assert mel_DT.shape[1] % 2 == 0
        return mel_DT.T.reshape(1, -1, 2, 4).mean(2)


def test_a_whisper_teaches_too_and_its_features_stand_where_the_sound_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.bin").touch()
    (tmp_path / "vocabulary.txt").touch()
    ear = EarOfWhisper(), tmp_path
    monkeypatch.setattr("sodakit.codec.fit.teacher.load_faster_whisper", lambda *_, **__: ear)
    whisper = Teacher.load(str(tmp_path))
    assert (whisper.width, whisper.step_s, whisper.first_s) == (4, 0.02, 0.0)
    wave_S = np.zeros(32_000, np.float32)
    wave_S[16_000:17_600] = 0.5
    features_ND = whisper.features(Wave(wave_S, 16_000))
    assert features_ND.shape == (100, 4)
    assert features_ND[50:55].min() > 0.4 and np.delete(features_ND, slice(50, 55), 0).max() == 0
    (tmp_path / "model.bin").write_bytes(b"other weights")
    assert Teacher.load(str(tmp_path)).name != whisper.name
    with pytest.raises(ConfigError, match="only the last"):
        Teacher.load(str(tmp_path), layer=3)


def test_another_model_in_the_same_folder_is_another_teacher(folder: Path, tmp_path: Path) -> None:
    """What a teacher heard is kept by its name: a run must not go on with features of other weights."""
    shutil.copytree(folder, tmp_path / "wavlm")
    same = Teacher.load(str(tmp_path / "wavlm"))
    assert same.name == Teacher.load(str(folder)).name, "it was moved, and is the same"
    assert same.name != Teacher.load(str(folder), layer=1).name
    changed = WavLMModel.from_pretrained(folder)
    changed.feature_projection.projection.bias.data += 1
    changed.save_pretrained(tmp_path / "wavlm")
    assert Teacher.load(str(tmp_path / "wavlm")).name != same.name


def test_a_teacher_that_lacks_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    """transformers would draw them at random, with a warning only."""
    shutil.copytree(folder, tmp_path / "wavlm")
    weights = tmp_path / "wavlm" / "model.safetensors"
    tensors = load_file(weights)
    del tensors["encoder.layers.1.final_layer_norm.weight"]
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(ConfigError, match="lacks 1 weights of a speech encoder"):
        Teacher.load(str(tmp_path / "wavlm"))


def test_what_is_no_speech_encoder_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not load as a speech encoder"):
        Teacher.load(str(tmp_path))
    with pytest.raises(ConfigError, match="hidden states 0 to 2"):
        Teacher.load(str(folder), layer=3)
