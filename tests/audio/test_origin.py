"""The mark of synthetic speech, and the hook for a watermark in the sound."""

import numpy as np
import pytest

from sodakit.audio.files import resample, write_wave
from sodakit.audio.origin import SYNTHETIC, origin_of, synthetic
from sodakit.audio.watermark import Watermark, load_watermark
from sodakit.audio.wave import Wave
from sodakit.audio.writing import write_blocks
from sodakit.errors import AudioError, ConfigError


def noise(duration_s=2.3, rate_hz=8000, origin=""):
    samples_S = np.random.default_rng(0).uniform(-0.3, 0.3, round(duration_s * rate_hz))
    return Wave(samples_S.astype(np.float32), rate_hz, origin)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_file_says_where_its_sound_comes_from_after_cutting_and_resampling(tmp_path, suffix):
    made = synthetic(model="starter", voice="of a recording, consent stated")
    wave = resample(noise(origin=made).cut(0.5, 1.5), 16_000)
    write_wave(tmp_path / f"a{suffix}", wave)
    write_blocks(tmp_path / f"b{suffix}", [noise()], 8000, made)
    write_wave(tmp_path / f"c{suffix}", noise())
    assert origin_of(tmp_path / f"a{suffix}") == origin_of(tmp_path / f"b{suffix}") == made
    assert "model: starter" in made and made.startswith(SYNTHETIC)
    assert origin_of(tmp_path / f"c{suffix}") == ""


def test_a_mark_is_ascii_whatever_the_model_is_called(tmp_path):
    """It goes into headers of HTTP."""
    made = synthetic(model="stimme-ä\n日本")
    write_wave(tmp_path / "a.wav", noise(origin=made))
    assert made.isascii() and made.isprintable() and origin_of(tmp_path / "a.wav") == made


def test_the_origin_of_what_is_no_sound_is_an_error(tmp_path):
    (tmp_path / "a.wav").write_text("nothing")
    with pytest.raises(AudioError, match=r"a\.wav cannot be read"):
        origin_of(tmp_path / "a.wav")


def louder(samples_S, sample_rate_hz):
    """Not the same for a part as in the whole: it shows where blocks begin."""
    return samples_S + 0.01 * np.arange(len(samples_S)) / sample_rate_hz


def test_sound_in_parts_gets_the_watermark_of_the_whole():
    wave, mark = noise(), load_watermark(f"{__name__}:louder")
    stream = mark.stream(wave.sample_rate_hz)
    parts = [stream.push(part_S) for part_S in np.array_split(wave.samples_S, 7)]
    joined_S = np.concatenate([*parts, stream.finish()])
    by_hand = [louder(wave.samples_S[at : at + 8000], 8000) for at in range(0, len(wave.samples_S), 8000)]
    np.testing.assert_array_equal(joined_S, np.concatenate(by_hand).astype(np.float32))
    np.testing.assert_array_equal(mark.of(wave).samples_S, joined_S)


@pytest.mark.parametrize(
    "name, told",
    [
        ("nothing", "No watermark 'nothing'"),
        ("no_such_package:embed", "cannot be loaded"),
        (f"{__name__}:absent", "cannot be loaded"),
        (f"{__name__}:SYNTHETIC", "is no function"),
    ],
)
def test_a_watermark_that_is_not_there_is_named(name, told):
    with pytest.raises(ConfigError, match=told):
        load_watermark(name)


@pytest.mark.parametrize("embed", [lambda s, r: s[:-1], lambda s, r: s * np.nan])
def test_a_watermark_that_loses_sound_is_an_error(embed):
    with pytest.raises(AudioError, match="as many finite samples"):
        Watermark("bad", embed).of(noise())
