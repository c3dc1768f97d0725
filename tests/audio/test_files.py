import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sodakit.audio.files import (
    RESAMPLER,
    Resampler,
    data_uri,
    probe,
    read_blocks,
    read_part,
    read_wave,
    resample,
    write_wave,
)
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError
from tests.recordings import recordings


def tone(rate_hz=16_000, duration_s=0.5, pitch_hz=440.0):
    time_s = np.arange(round(rate_hz * duration_s)) / rate_hz
    return Wave((0.5 * np.sin(2 * np.pi * pitch_hz * time_s)).astype(np.float32), rate_hz)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@given(samples=hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1, 1, width=32)))
def test_written_sound_is_read_back_to_sixteen_bits(suffix, samples, tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / f"a{suffix}"
    write_wave(path, Wave(samples, 8000))
    back = read_wave(path)
    assert back.sample_rate_hz == 8000 and len(back.samples_S) == len(samples)
    assert np.abs(back.samples_S - samples).max() <= 1 / 32767


def test_stereo_is_downmixed_and_resampled(tmp_path):
    left, right = tone().samples_S, tone().samples_S * 0.5
    soundfile.write(str(tmp_path / "a.wav"), np.stack([left, right], 1), 16_000, "FLOAT")
    wave = read_wave(tmp_path / "a.wav", 24_000)
    assert wave.sample_rate_hz == 24_000 and len(wave.samples_S) == 12_000
    expected = resample(Wave(left * 0.75, 16_000), 24_000).samples_S
    np.testing.assert_allclose(wave.samples_S, expected, atol=1e-6)


def test_resampling_keeps_a_tone_where_it_is():
    spectrum = np.abs(np.fft.rfft(resample(tone(8000, 1.0), 24_000).samples_S))
    assert abs(int(spectrum.argmax()) - 440) <= 1


def test_the_resampler_is_the_one_whose_name_is_kept_with_codes():
    """Its highest tones tell qualities apart: HQ keeps 90 % of the band and lets nothing from beyond through."""
    noise_S = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    found_S = resample(Wave(noise_S, 16_000), 8000).samples_S
    assert RESAMPLER == "soxr HQ"
    for quality in ("LQ", "MQ", "HQ", "VHQ"):
        same = np.array_equal(found_S, soxr.resample(noise_S, 16_000, 8000, quality=quality))
        assert same == (quality == "HQ"), quality
    stream = Resampler(16_000, 8000)
    parts = [stream.push(noise_S[i : i + 1000]) for i in range(0, 32_000, 1000)]
    np.testing.assert_array_equal(np.concatenate([*parts, stream.push(noise_S[:0], last=True)]), found_S)


def test_samples_that_no_sound_has_are_refused(tmp_path):
    for worst in (1e30, 32_767.0):
        samples_S = tone().samples_S.copy()
        samples_S[100] = worst
        soundfile.write(str(tmp_path / "a.wav"), samples_S, 16_000, "FLOAT")
        with pytest.raises(AudioError, match="full scale is 1"):
            read_wave(tmp_path / "a.wav")
    soundfile.write(str(tmp_path / "a.wav"), 4 * tone().samples_S, 16_000, "FLOAT")
    assert read_wave(tmp_path / "a.wav").samples_S.max() == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(("channels", "rate_hz"), [(1, 1), (1, 100), (200, 48_000), (1000, 4000)])
def test_odd_rates_and_channels_are_refused(channels, rate_hz):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((200, channels), np.int16), rate_hz, format="WAV")
    with pytest.raises(AudioError, match=f"{channels} channels at {rate_hz} Hz"):
        probe(buffer)


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 24_000, 44_100])
def test_blocks_at_another_rate_are_the_whole_at_that_rate(tmp_path, rate_hz):
    sound_SC = np.random.default_rng(0).uniform(-0.5, 0.5, (3 * 22_050 + 77, 2)).astype(np.float32)
    soundfile.write(str(tmp_path / "a.wav"), sound_SC, 22_050, "FLOAT")
    blocks = list(read_blocks(tmp_path / "a.wav", rate_hz))
    assert len(blocks) >= 3 and all(block.sample_rate_hz == rate_hz for block in blocks)
    expected_S = resample(read_part(tmp_path / "a.wav"), rate_hz).samples_S
    np.testing.assert_array_equal(np.concatenate([block.samples_S for block in blocks]), expected_S)


def test_what_is_no_sound_gets_a_clear_error(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF nothing")
    with pytest.raises(AudioError, match="cannot be decoded"):
        read_wave(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="does not exist"):
        probe(tmp_path / "b.wav")
    soundfile.write(str(tmp_path / "c.wav"), np.full(10, np.nan, np.float32), 8000, "FLOAT")
    with pytest.raises(AudioError, match="NaN"):
        read_wave(tmp_path / "c.wav")
    with pytest.raises(AudioError, match=r"\.wav or \.flac"):
        write_wave(tmp_path / "d.mp3", tone())


def test_a_data_address_plays_the_same_samples():
    encoded = data_uri(tone()).removeprefix("data:audio/flac;base64,")
    samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(encoded)))
    assert rate_hz == 16_000
    np.testing.assert_allclose(samples, tone().samples_S, atol=1 / 32000)


def test_a_wave_has_one_axis():
    with pytest.raises(AudioError, match="mono"):
        Wave(np.zeros((2, 3), np.float32), 8000)


def variants() -> Path:
    pytest.importorskip("av")  # their stand-ins are made with it
    return recordings("format_variants") / "audio"


def test_real_formats_are_read():
    readable = [
        p for p in sorted(variants().iterdir()) if p.suffix in {".wav", ".flac", ".mp3", ".ogg", ".aiff"}
    ]
    assert len(readable) >= 5
    for path in readable:
        assert abs(read_wave(path, 16_000).duration_s - probe(path).duration_s) < 0.1


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "mp3", "ogg", "aac", "mp4", "webm"])
def test_the_blocks_of_a_file_are_the_file(suffix, monkeypatch):
    path = variants() / f"p001.{suffix}"
    whole = read_part(path)
    monkeypatch.setattr("sodakit.audio.decode.BLOCK_VALUES", 1000)
    blocks = list(read_blocks(path))
    assert len(blocks) > 1 and all(len(b.samples_S) < 2 * whole.sample_rate_hz for b in blocks)
    assert (np.concatenate([b.samples_S for b in blocks]) == whole.samples_S).all()


def test_blocks_of_a_file_that_breaks_off_end_with_an_error(tmp_path):
    whole = (variants() / "p001.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 4])
    with pytest.raises(AudioError, match="damaged"):
        list(read_blocks(tmp_path / "cut.flac"))
