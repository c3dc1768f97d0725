"""Whisper in CTranslate2 form: a small one is built with transformers, converted, and listened with."""

from pathlib import Path

import numpy as np
import pytest

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.eval.judges import WritingJudge, named_judge
from sodakit.eval.normalisers import normalise
from tests.eval.small_judges import small_faster_whisper

pytest.importorskip("faster_whisper")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Whisper of one layer, with the special tokens of the real ones, in CTranslate2 form."""
    return small_faster_whisper(tmp_path_factory.mktemp("whisper"))


def noise(seconds: int, seed: int) -> Wave:
    random = np.random.default_rng(seed)
    return Wave((0.1 * random.standard_normal(16_000 * seconds)).astype(np.float32), 16_000)


def test_a_converted_whisper_writes_by_name_whoever_its_neighbours_are(folder: Path) -> None:
    judge = named_judge(str(folder))
    assert isinstance(judge, WritingJudge) and judge.limit_s is None
    waves = [noise(1, 0), resample(noise(2, 1), 24_000)]
    written = judge.write(waves)
    assert all(written)
    assert judge.write(waves[1:]) == written[1:]
    assert judge.transcribe(waves) == [normalise(text) for text in written]
    assert judge.name.startswith("tiny@")


def test_its_fingerprint_is_of_its_weights(folder: Path, tmp_path: Path) -> None:
    judge = named_judge(str(folder))
    other = tmp_path / "other"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert named_judge(str(other)).fingerprint == judge.fingerprint
    weights = bytearray((other / "model.bin").read_bytes())
    weights[-1] ^= 1
    (other / "model.bin").write_bytes(weights)
    assert named_judge(str(other)).fingerprint != judge.fingerprint


def test_a_broken_one_is_explained(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:100])
    with pytest.raises(ConfigError, match="does not load as a Whisper in CTranslate2 form"):
        named_judge(str(tmp_path))
