import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.codec.toy import ToyCodec
from sodakit.errors import CodecError


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(3, 200), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_every_code_survives_decoding_and_encoding(books: int, size: int, frames: int, seed: int) -> None:
    codec = ToyCodec(books, size)
    codes_KF = np.random.default_rng(seed).integers(0, size, (books, frames)).astype(np.uint16)
    np.testing.assert_array_equal(codec.encode(codec.decode(codes_KF)), codes_KF)


def test_a_stream_in_pieces_equals_decoding_at_once() -> None:
    codec = ToyCodec(8, 64, 24_000, 1920)
    codes_KF = np.random.default_rng(0).integers(0, 64, (8, 11))
    stream = codec.stream()
    pieces = [stream.push(codes_KF[:, start : start + 3]) for start in range(0, 11, 3)]
    np.testing.assert_array_equal(np.concatenate(pieces), codec.decode(codes_KF))


def test_louder_sound_has_higher_codes_and_silence_is_zero() -> None:
    codec = ToyCodec()
    tone_S = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000).astype(np.float32)
    quiet_KF, loud_KF = codec.encode_batch([0.01 * tone_S, 0.1 * tone_S])
    assert quiet_KF.shape == (4, 13) and loud_KF.sum() > quiet_KF.sum() > 0
    assert codec.encode(np.zeros(1300, np.float32)).tolist() == [[0, 0, 0]] * 4


def test_the_sound_is_never_louder_than_full_scale() -> None:
    codec = ToyCodec(4, 8)
    assert 0.3 < np.abs(codec.decode(np.full((4, 3), 7))).max() <= 1


def test_codecs_of_other_shapes_have_other_fingerprints() -> None:
    shapes = [(4, 32), (4, 33), (3, 32)]
    assert len({ToyCodec(*shape).spec.fingerprint for shape in shapes}) == 3
    assert ToyCodec(4, 32).spec.fingerprint == ToyCodec(4, 32).spec.fingerprint


def test_too_many_bands_for_a_frame_are_refused() -> None:
    with pytest.raises(CodecError, match="fewer codebooks"):
        ToyCodec(64, 8, 8000, 64)


def test_a_sound_in_parts_has_the_codes_of_the_whole() -> None:
    codec = ToyCodec()
    wave_S = np.random.default_rng(0).uniform(-1, 1, 20 * codec.spec.sample_rate_hz + 77).astype(np.float32)
    parts = [wave_S[start : start + 5000] for start in range(0, len(wave_S), 5000)]
    np.testing.assert_array_equal(
        np.concatenate(list(codec.encode_blocks(parts)), axis=1), codec.encode(wave_S)
    )
