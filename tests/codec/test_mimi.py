import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from sodakit.codec import mimi
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


def clips_of_different_length(count: int, longest_s: float) -> list[np.ndarray]:
    """Noise that swells and fades, no two clips of one length."""
    random = np.random.default_rng(5)
    lengths = np.linspace(0.05, longest_s, count) * 24_000 + random.integers(0, 500, count)
    clips = [
        random.standard_normal(int(length)) * np.abs(np.sin(np.arange(int(length)) / 9000))
        for length in lengths
    ]
    return [(0.2 * clips[i]).astype(np.float32) for i in random.permutation(count)]


def assert_batches_equal_clips_alone(codec: MimiCodec, clips: list[np.ndarray]) -> None:
    alone = [codec.encode(clip_S) for clip_S in clips]
    for ways in (codec.encode_batch(clips), codec.encode_checked(clips)):
        for ours_KF, alone_KF in zip(ways, alone, strict=True):
            np.testing.assert_array_equal(ours_KF, alone_KF)


def test_sixty_four_clips_have_the_same_codes_in_batches_as_alone(codec: MimiCodec) -> None:
    clips = clips_of_different_length(64, 1.0)
    assert len({len(clip_S) for clip_S in clips}) == 64
    assert_batches_equal_clips_alone(codec, clips)


def test_a_sound_on_the_border_between_two_entries_is_encoded_alone(
    codec: MimiCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two equal entries are the closest call there is: the batch must not be trusted with it."""
    clips = clips_of_different_length(4, 0.5)
    asked: list[int] = []
    padded = codec.encode_padded
    monkeypatch.setattr(codec, "encode_padded", lambda waves_S: asked.append(len(waves_S)) or padded(waves_S))
    monkeypatch.setattr(mimi, "_DOUBT", 0.0)
    codec.encode_checked(clips)
    assert asked == [], "no margin is below nought"
    monkeypatch.setattr(mimi, "_DOUBT", np.inf)
    codec.encode_checked(clips)
    assert asked == [1, 1, 1, 1]


def latents(codec: MimiCodec, clips: list[np.ndarray]) -> torch.Tensor:
    return torch.cat([latent for _, latent in codec._encode_chunks(clips) if latent is not None], dim=-1)


def test_latents_in_a_batch_differ_by_far_less_than_what_counts_as_doubt(codec: MimiCodec) -> None:
    clips = clips_of_different_length(8, 1.0)
    together = latents(codec, clips)
    for row_DF, clip_S in zip(together, clips, strict=True):
        alone_DF = latents(codec, [clip_S])[0]
        off_F = (row_DF[:, : alone_DF.shape[1]] - alone_DF).norm(dim=0) / alone_DF.norm(dim=0)
        assert float(off_F.max()) < mimi._DOUBT / 5


def test_memory_of_a_long_sound_is_that_of_a_chunk_and_a_window(codec: MimiCodec) -> None:
    """Half a minute of frames through an attention window of ten: what is kept between chunks must not grow."""
    wave_S = np.resize(clips_of_different_length(2, 2.0)[0], 30 * 24_000)
    kept = []
    for _ in codec._encode_chunks([wave_S]):
        gc.collect()
        # A list of them would keep them alive until the next chunk.
        kept.append(sum(value.numel() for value in gc.get_objects() if type(value) is torch.Tensor))
    assert len(kept) == 15 and kept[-1] <= 1.02 * kept[3]


@pytest.mark.slow
def test_the_real_architecture_gives_the_same_codes_in_batches_in_chunks_and_alone() -> None:
    """The published shape (32 codebooks of 2048, window of 250) with random weights and entries among its latents."""
    from transformers import MimiConfig, MimiModel

    torch.manual_seed(0)
    model = MimiModel(MimiConfig())
    for name, buffer in model.named_buffers():
        if name.endswith("embed_sum"):
            buffer.copy_(torch.randn_like(buffer))
    codec = MimiCodec(model, "mimi-random")
    clips = clips_of_different_length(64, 4.0)
    assert_batches_equal_clips_alone(codec, clips)
    # 30 s is 750 positions of the encoder's transformer: three attention windows.
    long_S = np.resize(clips[0], 30 * 24_000)
    with torch.inference_mode():
        wave_BCS = torch.from_numpy(long_S)[None, None]
        whole_KF = codec.model.encode(wave_BCS, num_quantizers=8).audio_codes[0].numpy()
    same = np.mean(codec.encode(long_S) == whole_KF)
    assert same > 0.999, f"{same:.4%} of the codes in chunks are those of one piece"


@pytest.mark.slow
def test_ten_minutes_begin_with_the_codes_of_their_first_two_in_one_piece(codec: MimiCodec) -> None:
    """Only two, because attention over ten minutes in one piece takes gigabytes: what chunks are there to avoid."""
    wave_S = np.resize(clips_of_different_length(2, 7.3)[0], 600 * 24_000)
    codes_KF = codec.encode(wave_S)
    with torch.inference_mode():
        wave_BCS = torch.from_numpy(wave_S[: 120 * 24_000])[None, None]
        first_KF = codec.model.encode(wave_BCS, num_quantizers=8).audio_codes[0].numpy()
    assert codes_KF.shape == (8, 7500)
    assert np.mean(codes_KF[:, :1500] == first_KF) > 0.999


@pytest.mark.parametrize("block", [1000, 24_000, 1 << 20])
def test_a_sound_in_parts_has_the_codes_of_the_whole(codec: MimiCodec, block: int) -> None:
    wave_S = (0.2 * np.random.default_rng(0).standard_normal(20 * 24_000 + 77)).astype(np.float32)
    parts = [wave_S[start : start + block] for start in range(0, len(wave_S), block)]
    found = list(codec.encode_blocks(parts))
    assert len(found) > 2
    np.testing.assert_array_equal(np.concatenate(found, axis=1), codec.encode(wave_S))
    assert list(codec.encode_blocks([])) == []
