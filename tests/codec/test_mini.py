import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from sodakit.codec import mini
from sodakit.codec.load import load_codec
from sodakit.codec.mini import MiniCodec, load_mini
from sodakit.codec.network import MiniConfig
from sodakit.config import from_plain
from sodakit.errors import CodecError, ConfigError
from sodakit.files import read_json, write_json


@pytest.fixture(scope="module")
def shipped() -> MiniCodec:
    codec = load_codec("mini")
    assert isinstance(codec, MiniCodec)
    return codec


def clicks(duration_s: float, every_s: float, rate_hz: int = 24_000) -> np.ndarray:
    """Short bursts of noise, whose onsets show where sound comes out in time."""
    random = np.random.default_rng(3)
    wave_S = np.zeros(int(duration_s * rate_hz), np.float32)
    for start in np.arange(0.3, duration_s - 0.1, every_s):
        first = int(start * rate_hz)
        wave_S[first : first + rate_hz // 20] = 0.3 * random.standard_normal(rate_hz // 20)
    return wave_S


@pytest.mark.parametrize("chunk", [1, 5, 17])
def test_a_stream_in_pieces_equals_decoding_at_once(tiny_mini: MiniCodec, chunk: int) -> None:
    codes_KF = np.random.default_rng(0).integers(0, 64, (3, 60))
    stream = tiny_mini.stream()
    pieces = [stream.push(codes_KF[:, start : start + chunk]) for start in range(0, 60, chunk)]
    whole = tiny_mini.decode(codes_KF)
    assert whole.shape == (60 * 1920,) and whole.dtype == np.float32 and np.abs(whole).max() > 1e-3
    assert np.abs(np.concatenate(pieces) - whole).max() < 1e-5


def test_the_shipped_codec_streams_exactly_for_a_minute(shipped: MiniCodec) -> None:
    """Phase adds up pitch: in float32 the pieces would drift from the whole by the end of a minute."""
    codes_KF = np.random.default_rng(1).integers(0, 1024, (8, 750))
    stream = shipped.stream()
    pieces = [stream.push(codes_KF[:, start : start + 7]) for start in range(0, 750, 7)]
    assert np.abs(np.concatenate(pieces)[-24_000:] - shipped.decode(codes_KF)[-24_000:]).max() < 1e-5


def test_a_stream_gives_sound_for_every_frame_at_once(tiny_mini: MiniCodec) -> None:
    stream = tiny_mini.stream()
    codes_KF = np.zeros((3, 4), np.uint16)
    assert [len(stream.push(codes_KF[:, :n])) for n in (1, 0, 3)] == [1920, 0, 3 * 1920]


def test_codes_in_a_batch_are_those_of_each_sound_alone(
    tiny_mini: MiniCodec, sounds: list[np.ndarray]
) -> None:
    for batched_KF, wave_S in zip(tiny_mini.encode_batch(sounds), sounds, strict=True):
        assert batched_KF.shape == (3, -(-len(wave_S) // 1920)) and batched_KF.dtype == np.uint16
        np.testing.assert_array_equal(batched_KF, tiny_mini.encode(wave_S))


def test_long_sounds_encode_in_pieces_to_the_codes_of_the_whole(
    tiny_mini: MiniCodec, sounds: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_KF = tiny_mini.encode(sounds[-1])
    monkeypatch.setattr(mini, "_CHUNK_LATENTS", 3)
    np.testing.assert_array_equal(tiny_mini.encode(sounds[-1]), whole_KF)


def test_sixty_four_clips_have_the_same_codes_in_a_batch_as_alone(shipped: MiniCodec) -> None:
    random = np.random.default_rng(6)
    clips = [0.1 * random.standard_normal(n).astype(np.float32) for n in range(500, 64 * 400 + 500, 400)]
    together = shipped.encode_batch(clips)
    assert len(together) == 64
    for together_KF, clip_S in zip(together, clips, strict=True):
        np.testing.assert_array_equal(together_KF, shipped.encode(clip_S))


@pytest.mark.slow
def test_ten_minutes_encode_in_the_memory_of_one(shipped: MiniCodec) -> None:
    """Beyond the sound itself, peak memory of 10 minutes is that of 1; and the codes are those of the pieces."""
    program = (
        "import resource, sys, numpy as np; from sodakit.codec.load import load_codec; codec = load_codec('mini');"
        "wave_S = (0.1 * np.random.default_rng(0).standard_normal(int(sys.argv[1]) * 24_000)).astype(np.float32);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; codec.encode(wave_S);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    one, ten = (
        int(
            subprocess.run(
                [sys.executable, "-c", program, str(s)], capture_output=True, check=True, text=True
            ).stdout
        )
        for s in (60, 600)
    )
    padded_kib = 600 * 24_000 * 4 / 1024
    assert ten < one + 1.1 * padded_kib + 20_000


def test_codes_do_not_depend_on_sound_more_than_a_window_past_their_frame(tiny_mini: MiniCodec) -> None:
    random = np.random.default_rng(4)
    wave_S = (0.2 * random.standard_normal(20 * 1920)).astype(np.float32)
    changed_S = wave_S.copy()
    changed_S[10 * 1920 + 960 :] = 0
    before_KF, after_KF = tiny_mini.encode(wave_S), tiny_mini.encode(changed_S)
    np.testing.assert_array_equal(before_KF[:, :10], after_KF[:, :10])
    assert (before_KF[:, 11:] != after_KF[:, 11:]).any()


def test_a_saved_codec_loads_with_the_same_codes_and_fingerprint(
    tiny_mini: MiniCodec, tmp_path: Path
) -> None:
    tiny_mini.save(tmp_path / "mine")
    loaded = load_codec(str(tmp_path / "mine"))
    assert loaded.spec.name == "mine"
    assert loaded.spec.fingerprint == tiny_mini.spec.fingerprint
    again = load_mini(tmp_path / "mine", num_codebooks=2)
    assert again.spec.fingerprint != tiny_mini.spec.fingerprint
    wave_S = clicks(1.0, 0.2)
    np.testing.assert_array_equal(again.encode(wave_S), loaded.encode(wave_S)[:2])
    assert len(again.decode(again.encode(wave_S))) == 13 * 1920


def test_the_shipped_codec_is_a_kilobit_a_second_and_small(shipped: MiniCodec) -> None:
    spec = shipped.spec
    assert (spec.sample_rate_hz, spec.frame_samples, spec.num_codebooks, spec.codebook_size) == (
        24_000,
        1920,
        8,
        1024,
    )
    assert spec.bitrate_bps == 1000
    assert (mini.SHIPPED / "mini.safetensors").stat().st_size < 11_000_000


def test_the_shipped_codec_gives_sound_back_where_it_was(shipped: MiniCodec) -> None:
    """The decoder's delay and the encoder's lookahead must cancel: a shift would smear every edit and cut."""
    wave_S = clicks(8.0, 0.37)
    decoded_S = shipped.decode(shipped.encode(wave_S))
    assert len(decoded_S) == -(-len(wave_S) // 1920) * 1920
    envelopes = [np.abs(x[: len(wave_S)]).reshape(-1, 24).mean(1) for x in (wave_S, decoded_S)]
    envelopes = [envelope - envelope.mean() for envelope in envelopes]
    best_ms = int(np.correlate(*envelopes, mode="full").argmax()) - (len(envelopes[0]) - 1)
    assert abs(best_ms) <= 5


def test_silence_stays_silent(shipped: MiniCodec) -> None:
    decoded_S = shipped.decode(shipped.encode(np.zeros(48_000, np.float32)))
    assert np.abs(decoded_S[1920:]).max() < 0.01


@pytest.mark.parametrize("damage", ["nan", "zero", "cut"])
def test_weights_that_are_no_codec_are_refused_in_a_line(
    tiny_mini: MiniCodec, tmp_path: Path, damage: str
) -> None:
    tiny_mini.save(tmp_path)
    file = tmp_path / "mini.safetensors"
    tensors = load_file(file)
    largest = max(tensors, key=lambda name: tensors[name].numel())
    tensors[largest].fill_(float("nan") if damage == "nan" else 0)
    save_file(tensors, file)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        CodecError, match={"nan": "NaN", "zero": "zero throughout", "cut": "does not fit"}[damage]
    ):
        mini.load_mini(tmp_path)


def test_weights_of_another_shape_are_refused(tiny_mini: MiniCodec, tmp_path: Path) -> None:
    tiny_mini.save(tmp_path)
    config = read_json(tmp_path / "mini.json")
    write_json(tmp_path / "mini.json", config | {"code_width": 12})
    with pytest.raises(CodecError, match="does not fit"):
        load_mini(tmp_path)


def test_codes_of_another_codec_are_refused(tiny_mini: MiniCodec) -> None:
    with pytest.raises(CodecError, match="K=3"):
        tiny_mini.decode(np.zeros((8, 4), np.uint16))
    with pytest.raises(CodecError, match="entries 0 to 63"):
        tiny_mini.decode(np.full((3, 4), 64, np.uint16))


def test_a_config_with_stages_missing_names_the_field() -> None:
    with pytest.raises(ConfigError, match="decoder_widths"):
        from_plain(MiniConfig, {"decoder_widths": [16, 16]})


@pytest.mark.parametrize("block", [1000, 24_000, 1 << 20])
def test_a_sound_in_parts_has_the_codes_of_the_whole(tiny_mini: MiniCodec, block: int) -> None:
    wave_S = (0.2 * np.random.default_rng(0).standard_normal(20 * 24_000 + 77)).astype(np.float32)
    parts = [wave_S[start : start + block] for start in range(0, len(wave_S), block)]
    found = list(tiny_mini.encode_blocks(parts))
    assert len(found) > 2
    np.testing.assert_array_equal(np.concatenate(found, axis=1), tiny_mini.encode(wave_S))
    assert list(tiny_mini.encode_blocks([])) == []
