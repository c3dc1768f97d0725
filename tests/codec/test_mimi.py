from pathlib import Path

import numpy as np
import pytest
import torch

from sodakit.codec.load import load_codec
from sodakit.codec.mimi import MimiCodec
from sodakit.errors import CodecError


@pytest.fixture(scope="module")
def codec(mimi_folder: Path) -> MimiCodec:
    loaded = load_codec(str(mimi_folder))
    assert isinstance(loaded, MimiCodec)
    return loaded


def test_a_folder_with_a_mimi_checkpoint_gives_its_first_eight_codebooks(codec: MimiCodec) -> None:
    assert (codec.spec.num_codebooks, codec.spec.frame_samples, codec.spec.codebook_size) == (8, 1920, 64)


def test_codes_in_a_padded_batch_are_those_of_each_sound_alone(
    codec: MimiCodec, sounds: list[np.ndarray]
) -> None:
    """transformers ignores padding masks: a sound off the frame grid would change its last code."""
    for batched_KF, wave_S in zip(codec.encode_padded(sounds), sounds, strict=True):
        assert batched_KF.shape[1] == codec.spec.num_frames(len(wave_S))
        np.testing.assert_array_equal(batched_KF, codec.encode(wave_S))


def test_codes_in_chunks_are_those_of_transformers_in_one_piece(
    codec: MimiCodec, sounds: list[np.ndarray]
) -> None:
    wave_S = np.zeros(32 * 1920, np.float32)
    wave_S[: len(sounds[-1])] = sounds[-1]
    with torch.inference_mode():
        whole = (
            codec.model.encode(torch.from_numpy(wave_S)[None, None], num_quantizers=8).audio_codes[0].numpy()
        )
    assert len(np.unique(whole)) > 20
    np.testing.assert_array_equal(codec.encode(sounds[-1]), whole)


def test_decoding_equals_transformers(codec: MimiCodec) -> None:
    codes_KF = np.random.default_rng(1).integers(0, 64, (8, 40))
    with torch.inference_mode():
        reference = codec.model.decode(torch.from_numpy(codes_KF)[None]).audio_values[0, 0].numpy()
    assert np.abs(reference).max() > 1e-3
    np.testing.assert_allclose(codec.decode(codes_KF), reference, atol=1e-5 * np.abs(reference).max())


@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_a_stream_in_pieces_equals_decoding_at_once(codec: MimiCodec, chunk: int) -> None:
    """40 frames are 80 positions: four times the attention window, so a cache that forgets too early shows."""
    codes_KF = np.random.default_rng(2).integers(0, 64, (8, 40))
    stream = codec.stream()
    pieces = [stream.push(codes_KF[:, start : start + chunk]) for start in range(0, 40, chunk)]
    whole = codec.decode(codes_KF)
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5 * np.abs(whole).max())


def test_fewer_codebooks_are_the_first_ones_and_have_another_fingerprint(
    codec: MimiCodec, mimi_folder: Path, sounds: list[np.ndarray]
) -> None:
    small = load_codec(str(mimi_folder), num_codebooks=4)
    np.testing.assert_array_equal(small.encode(sounds[3]), codec.encode(sounds[3])[:4])
    assert small.spec.fingerprint != codec.spec.fingerprint
    assert load_codec(str(mimi_folder)).spec.fingerprint == codec.spec.fingerprint


def test_more_codebooks_than_the_checkpoint_has_are_refused(mimi_folder: Path) -> None:
    with pytest.raises(CodecError, match="has 12"):
        load_codec(str(mimi_folder), num_codebooks=13)
