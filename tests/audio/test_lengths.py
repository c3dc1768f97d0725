"""A sound is as long as what is decoded: guessed lengths are counted, joined sounds are all read or refused."""

import io
import os

import numpy as np
import pytest
import soundfile

from sodakit.audio.files import probe, read_blocks, read_part, read_wave
from sodakit.errors import AudioError, TooLong
from tests.audio.joined import encoded, speechlike, vbr_mp3, without_info


def both(data: bytes) -> tuple[float, float]:
    return probe(io.BytesIO(data)).duration_s, read_part(io.BytesIO(data)).duration_s


def test_an_mp3_of_variable_rate_without_a_count_is_read_to_its_end():
    data = without_info(vbr_mp3(20.0))
    guess = soundfile.info(io.BytesIO(data)).duration
    assert abs(guess - 20.0) > 2, "libsndfile guesses: the test would prove nothing"
    assert both(data) == pytest.approx((20.0, 20.0), abs=0.15)
    # Its end is sound, and the sound that it should be.
    heard_S, wanted_S = read_part(io.BytesIO(data)).samples_S, speechlike(20.0)
    assert np.square(heard_S[-16_000:]).mean() == pytest.approx(np.square(wanted_S[-16_000:]).mean(), rel=0.3)
    part = read_part(io.BytesIO(data), 15.0, 16.0)
    np.testing.assert_allclose(part.samples_S, heard_S[15 * 16_000 : 16 * 16_000], atol=1e-4)


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\x02\0" + bytes(256)])
def test_joined_mp3s_are_all_read(tag):
    one = tag + vbr_mp3(3.0)
    assert both(one) == pytest.approx((3.0, 3.0), abs=0.15)
    assert both(one + one) == pytest.approx((6.0, 6.0), abs=0.3)
    assert both(one + without_info(vbr_mp3(2.0)) + b"TAG" + bytes(125)) == pytest.approx((5.0, 5.0), abs=0.3)


def test_an_mp3_that_changes_its_rate_or_breaks_off_is_refused():
    with pytest.raises(AudioError, match="changes from 16000 Hz to 24000 Hz"):
        probe(io.BytesIO(vbr_mp3() + vbr_mp3(2.0, 24_000)))
    whole = vbr_mp3(5.0)
    with pytest.raises(AudioError, match=r"breaks off after .* its header promises"):
        probe(io.BytesIO(whole[: len(whole) // 2]))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_joined_oggs_are_all_read(subtype):
    one, two = (encoded(speechlike(s), "OGG", subtype) for s in (1.0, 2.0))
    # The same file twice has the same serial number twice.
    for data, duration_s in ((one, 1.0), (one + two, 3.0), (one + one, 2.0), (two + one + two, 5.0)):
        assert both(data) == pytest.approx((duration_s, duration_s), abs=0.02)
    wanted_S = read_part(io.BytesIO(two)).samples_S
    whole = read_part(io.BytesIO(one + two)).samples_S
    np.testing.assert_array_equal(whole[-len(wanted_S) :], wanted_S)
    middle_S = read_part(io.BytesIO(one + two), 0.5, 1.5).samples_S
    np.testing.assert_allclose(middle_S, whole[8000:24_000], atol=1e-3)


def test_joined_oggs_of_two_rates_are_refused():
    data = encoded(speechlike(), "OGG", "VORBIS") + encoded(speechlike(), "OGG", "VORBIS", 24_000)
    with pytest.raises(AudioError, match="several sounds joined"):
        probe(io.BytesIO(data))


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC", "AU", "CAF", "W64", "RF64"])
def test_joined_files_of_other_kinds_are_refused(kind):
    one = encoded(speechlike(), kind, "PCM_16")
    assert both(one) == (2.0, 2.0)
    with pytest.raises(AudioError, match="joined"):
        read_part(io.BytesIO(one + one))


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC", "AU", "CAF", "W64", "RF64", "OGG"])
def test_files_that_break_off_are_refused_by_every_reader(kind):
    whole = encoded(speechlike(), kind, None if kind == "OGG" else "PCM_16")
    cut = whole[: len(whole) * 6 // 10]
    for read in (read_part, read_wave, lambda source: list(read_blocks(source))):
        with pytest.raises(AudioError, match=r"breaks off|damaged"):
            read(io.BytesIO(cut))


def test_a_flac_whose_sound_is_not_that_of_its_checksum_is_refused():
    whole = bytearray(encoded(speechlike(), "FLAC", "PCM_16"))
    assert both(bytes(whole)) == (2.0, 2.0)
    wrong = bytes(whole[:26]) + bytes(15) + b"\1" + bytes(whole[42:])
    with pytest.raises(AudioError, match="MD5"):
        read_part(io.BytesIO(wrong))
    unsaid = bytearray(whole[:26]) + bytes(16) + whole[42:]
    assert both(bytes(unsaid)) == (2.0, 2.0)
    np.testing.assert_array_equal(
        read_part(io.BytesIO(unsaid)).samples_S, read_part(io.BytesIO(whole)).samples_S
    )
    assert read_part(io.BytesIO(unsaid), 0.5, 1.0).duration_s == 0.5
    unsaid[24:26] = (31_000).to_bytes(2, "big")
    with pytest.raises(AudioError, match="promises 31000 samples, more are there"):
        read_part(io.BytesIO(unsaid))
    whole[24:26] = (16_000).to_bytes(2, "big")  # half of its samples
    with pytest.raises(AudioError, match="MD5"):
        read_part(io.BytesIO(bytes(whole)))


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_the_checksum_does_not_change_what_is_read(subtype):
    data = encoded(np.stack([speechlike(), -0.3 * speechlike(seed=1)], 1), "FLAC", subtype)
    expected_SC, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    np.testing.assert_allclose(read_part(io.BytesIO(data)).samples_S, expected_SC.mean(1), atol=1e-7)


def test_a_codec_that_cannot_seek_is_read():
    data = encoded(speechlike(2.0, 8000), "WAV", "GSM610", 8000)
    whole = read_part(io.BytesIO(data))
    assert whole.duration_s == pytest.approx(2.0, abs=0.02)
    np.testing.assert_array_equal(read_part(io.BytesIO(data), 0.5, 1.0).samples_S, whole.samples_S[4000:8000])


def test_a_sound_longer_than_allowed_is_given_up():
    data = encoded(speechlike(), "WAV", "PCM_16")
    assert read_wave(io.BytesIO(data), longest_s=2.0).duration_s == 2.0
    with pytest.raises(TooLong, match=r"longer than 1\.5 s"):
        read_wave(io.BytesIO(data), longest_s=1.5)


def test_pipes_folders_and_devices_are_no_sounds(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path, tmp_path / "pipe.wav", "/dev/zero"):
        with pytest.raises(AudioError, match=r"is a (folder|pipe|device)"):
            probe(path)


@pytest.mark.parametrize(("kind", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_blocks_and_parts_of_a_compressed_sound_are_those_of_the_whole(kind, subtype, monkeypatch):
    """Decoders need what came before: a seek into an mp3 spoils the samples that follow."""
    bursts_S = np.sin(np.arange(6 * 48_000) / 1600) > 0.8
    data = encoded(speechlike(6.0, 48_000) * bursts_S, kind, subtype, 48_000)
    whole_S = read_part(io.BytesIO(data)).samples_S
    for start_s in np.arange(0.3, 5.4, 0.1):
        part_S = read_part(io.BytesIO(data), start_s, start_s + 0.5).samples_S
        start = round(start_s * 48_000)
        np.testing.assert_allclose(part_S, whole_S[start : start + 24_000], atol=2e-6)
    monkeypatch.setattr("sodakit.audio.decode.BLOCK_VALUES", 1000)
    np.testing.assert_array_equal(
        np.concatenate([wave.samples_S for wave in read_blocks(io.BytesIO(data))]), whole_S
    )


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_short_file_that_ends_early_is_refused(tmp_path, kept):
    """A second is missing, or a fifth of one: less than a long file might lack."""
    path = tmp_path / "cut.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000, "PCM_16")
    whole = path.read_bytes()
    path.write_bytes(whole[: round(kept * len(whole))])
    with pytest.raises(AudioError):
        read_wave(path)
