"""Every class of codec in transformers behind the contract, on small checkpoints with random weights."""

import json
import pickle
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file

from sodakit.audio.wave import Wave
from sodakit.codec import adapter
from sodakit.codec.adapter import CausalEncodec, HubCodec
from sodakit.codec.kinds import KINDS, kaldi_features
from sodakit.codec.load import load_codec, load_codec_of
from sodakit.data.config import ViewConfig
from sodakit.data.language import open_language
from sodakit.data.views import DocumentView
from sodakit.data.windows import TokenStream
from sodakit.errors import CodecError, SodakitError
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import prepare
from sodakit.tokens.frames import ids_to_codes
from tests.codec.hub_codecs import MAKERS, random_model, save

SHAPES = {
    "encodec": (24_000, 320, 8, 64),
    "encodec-both-sides": (24_000, 320, 8, 64),
    "dac": (44_100, 400, 3, 64),
    "xcodec": (16_000, 80, 3, 64),
    "higgs_audio_v2_tokenizer": (16_000, 320, 3, 64),
    "xcodec2": (16_000, 320, 1, 65_536),
    "neucodec": (24_000, 480, 1, 65_536),
    "wavtokenizer": (24_000, 600, 1, 64),
}
SEES_ALL = [kind for kind in MAKERS if kind not in ("encodec", "dac")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("codecs")


@pytest.fixture(scope="module")
def codec_of(folder: Path):
    @cache
    def load(kind: str) -> HubCodec:
        loaded = load_codec(str(save(kind, folder / kind)))
        assert isinstance(loaded, HubCodec)
        return loaded

    return load


def noise(frames: float, codec: HubCodec, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades."""
    count = round(frames * codec.spec.frame_samples)
    swell = np.abs(np.sin(np.arange(count) / 900))
    return (0.2 * swell * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def published(codec: HubCodec, wave_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and sound of whole frames as transformers makes them, all at once."""
    model = random_model(codec.spec.name)
    wave_BCS = torch.from_numpy(wave_S)[None, None]
    with torch.inference_mode():
        if codec.spec.name.startswith("encodec"):
            codes = model.encode(wave_BCS, bandwidth=model.config.target_bandwidths[-1]).audio_codes
            codes = codes[:, :, : codec.spec.num_codebooks]
            return codes[0, 0].numpy(), model.decode(codes, [None]).audio_values.reshape(-1).numpy()
        codes = codec.kind.encode(model, wave_BCS)
        return codes[0].numpy(), model.decode(audio_codes=codes).audio_values.reshape(-1).numpy()


def test_every_kind_is_tried() -> None:
    assert {kind.split("-")[0] for kind in MAKERS} == set(KINDS) and set(SHAPES) == set(MAKERS)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_spec_is_that_of_the_checkpoint(kind: str, codec_of) -> None:
    spec = codec_of(kind).spec
    shape = (spec.sample_rate_hz, spec.frame_samples, spec.num_codebooks, spec.codebook_size)
    assert shape == SHAPES[kind] and spec.semantic_codebooks == (0,)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_codec_can_be_sent_to_another_process(kind: str, codec_of) -> None:
    """As `prepare --workers` does."""
    codec = codec_of(kind)
    sent = pickle.loads(pickle.dumps(codec))
    wave_S = noise(9.5, codec)
    np.testing.assert_array_equal(sent.encode(wave_S), codec.encode(wave_S))
    np.testing.assert_array_equal(sent.decode(codec.encode(wave_S)), codec.decode(codec.encode(wave_S)))


@pytest.mark.parametrize("kind", MAKERS)
def test_thirty_two_clips_have_the_same_codes_together_as_alone(kind: str, codec_of) -> None:
    codec = codec_of(kind)
    clips = [noise(0.3 + 0.37 * i, codec, i) for i in np.random.default_rng(3).permutation(32)]
    assert len({len(clip_S) for clip_S in clips}) == 32
    together = codec.encode_batch([*clips, np.zeros(0, np.float32)])
    assert together.pop().shape == (codec.spec.num_codebooks, 0)
    for clip_S, codes_KF in zip(clips, together, strict=True):
        assert codes_KF.shape[1] == codec.spec.num_frames(len(clip_S))
        np.testing.assert_array_equal(codes_KF, codec.encode(clip_S))
    assert len(np.unique(np.concatenate(together, axis=1)[0])) > 5


@pytest.mark.parametrize("kind", MAKERS)
def test_codes_and_sound_are_those_of_transformers_in_one_piece(kind: str, codec_of) -> None:
    codec = codec_of(kind)
    wave_S = noise(40, codec)
    codes_KF, sound_S = published(codec, wave_S)
    np.testing.assert_array_equal(codec.encode(wave_S), codes_KF)
    made_S = codec.decode(codes_KF)
    assert len(made_S) == 40 * codec.spec.frame_samples and np.abs(sound_S).max() > 1e-3
    np.testing.assert_allclose(
        made_S[: len(sound_S)], sound_S[: len(made_S)], atol=2e-5 * np.abs(sound_S).max()
    )


@pytest.mark.parametrize("kind", MAKERS)
def test_long_sounds_in_any_parts_have_the_same_codes_and_streams_the_same_sound(
    kind: str, codec_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows of a few frames, so that a short sound has many."""
    codec = codec_of(kind)
    monkeypatch.setattr(adapter, "WINDOW_S", 24 / codec.spec.frame_rate_hz)
    monkeypatch.setattr(adapter, "DECODED_S", 12 / codec.spec.frame_rate_hz)
    if isinstance(codec, CausalEncodec):
        monkeypatch.setattr(codec, "_chunk_frames", 24)
    else:
        sees = (6, 6)
        monkeypatch.setattr(codec, "_encoder_sees", codec._encoder_sees if codec.kind.encoder else sees)
        monkeypatch.setattr(codec, "_decoder_sees", codec._decoder_sees if codec.kind.decoder else sees)
    wave_S = noise(99.4, codec)
    codes_KF = codec.encode(wave_S)
    for block in (777, 40 * codec.spec.frame_samples):
        parts = [wave_S[start : start + block] for start in range(0, len(wave_S), block)]
        pieces = list(codec.encode_blocks(parts))
        assert len(pieces) > 3
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1), codes_KF)
    assert list(codec.encode_blocks([])) == []
    if codec.kind.encoder or isinstance(codec, CausalEncodec):
        whole_KF, _ = published(codec, np.pad(wave_S, (0, -len(wave_S) % codec.spec.frame_samples)))
        np.testing.assert_array_equal(codes_KF, whole_KF)
    whole_S = codec.decode(codes_KF)
    assert len(whole_S) == 100 * codec.spec.frame_samples
    for piece in (1, 7):
        stream = codec.stream()
        heard = [stream.push(codes_KF[:, start : start + piece]) for start in range(0, 100, piece)]
        held = sum(map(len, heard))
        made_S = np.concatenate([*heard, stream.finish()])
        assert held % codec.spec.frame_samples == 0
        np.testing.assert_allclose(made_S, whole_S, atol=2e-5 * np.abs(whole_S).max())


@pytest.mark.parametrize("kind", ["encodec", "dac", "xcodec", "higgs_audio_v2_tokenizer"])
def test_a_stream_waits_for_no_more_than_the_stated_frames(kind: str, codec_of) -> None:
    codec = codec_of(kind)
    codes_KF = np.random.default_rng(1).integers(0, 64, (codec.spec.num_codebooks, 40))
    stream = codec.stream()
    ahead = codec.lookahead_frames
    assert 0 < ahead < 20
    assert len(stream.push(codes_KF[:, :ahead])) == 0
    assert len(stream.push(codes_KF[:, ahead : ahead + 1])) == (
        (ahead + 1) * codec.spec.frame_samples if kind == "encodec" else codec.spec.frame_samples
    )


@pytest.mark.parametrize("kind", SEES_ALL)
def test_what_sees_everything_says_how_long_a_stream_waits(kind: str, codec_of) -> None:
    codec = codec_of(kind)
    wait_s = codec.lookahead_frames / codec.spec.frame_rate_hz
    assert wait_s < 0.4 if codec.kind.decoder else wait_s == pytest.approx(12, abs=0.1)


@pytest.mark.parametrize("kind", MAKERS)
def test_sounds_come_back_from_a_store_through_views_and_rows(kind: str, codec_of, tmp_path: Path) -> None:
    codec = codec_of(kind)
    rate_hz = codec.spec.sample_rate_hz
    sounds = {f"talk{i}": noise(0.2 * codec.spec.frame_rate_hz + 5.3 * i, codec, i) for i in range(3)}
    items = [Item(id=name, wave=Wave(wave_S, rate_hz), text=name) for name, wave_S in sounds.items()]
    prepare(items, tmp_path, codec, PrepareOptions(split=SplitRule(validation_fraction=0, test_fraction=0)))
    store, vocabulary = open_language(tmp_path)
    assert store.codec_spec == codec.spec
    view = DocumentView(store, "train", ViewConfig(order="audio_first"), vocabulary)
    ids_T = TokenStream(view, view.num_positions, seed=0).window(0)[0].reshape(-1)
    begins = np.flatnonzero(ids_T == vocabulary.audio_start) + 1
    ends = np.flatnonzero(ids_T == vocabulary.audio_end)
    spans = [ids_to_codes(ids_T[begin:end], vocabulary) for begin, end in zip(begins, ends, strict=True)]
    for wave_S, codes_KF in zip(sounds.values(), sorted(spans, key=lambda c: c.shape[1]), strict=True):
        np.testing.assert_array_equal(codes_KF, codec.encode(wave_S))
        sound_S = codec.decode(codes_KF)
        assert 0 <= len(sound_S) - len(wave_S) < codec.spec.frame_samples and np.abs(sound_S).max() > 0


def test_fewer_codebooks_are_the_first_and_have_another_fingerprint(codec_of, folder: Path) -> None:
    for kind in ("encodec", "dac", "xcodec"):
        codec = codec_of(kind)
        small = load_codec(str(folder / kind), num_codebooks=2)
        wave_S = noise(20, codec)
        np.testing.assert_array_equal(small.encode(wave_S), codec.encode(wave_S)[:2])
        assert len(small.decode(small.encode(wave_S))) == len(wave_S)
        assert small.spec.fingerprint != codec.spec.fingerprint
        assert load_codec(str(folder / kind)).spec.fingerprint == codec.spec.fingerprint
    with pytest.raises(CodecError, match="has 3"):
        load_codec(str(folder / "dac"), num_codebooks=4)


def test_a_causal_and_a_two_sided_codec_of_the_same_weights_are_two(codec_of) -> None:
    assert codec_of("encodec").spec.fingerprint != codec_of("encodec-both-sides").spec.fingerprint


def test_mels_are_kaldis() -> None:
    """Against the slow loop of transformers, which agrees with torchaudio's."""
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    wave_S = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    filters = mel_filter_bank(257, 80, 20, 8000, 16_000, None, "kaldi", True)
    mels_FM = spectrogram(
        wave_S * 2**15,
        window_function(400, "povey", periodic=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    ).T
    mels_FM = (mels_FM - mels_FM.mean(0)) / np.sqrt(mels_FM.var(0, ddof=1) + 1e-7)
    ours = kaldi_features(torch.from_numpy(wave_S)[None])[0].numpy()
    np.testing.assert_allclose(ours, mels_FM.reshape(len(ours), 160), atol=2e-3)


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        ("encodec", {"normalize": True}, "loudness of each piece"),
        ("encodec", {"audio_channels": 2}, "2 channels"),
        ("encodec", {"chunk_length_s": 1.0, "overlap": 0.01}, "overlap"),
        ("neucodec", {"output_sampling_rate": 22_051}, "441.02 samples"),
    ],
)
def test_what_codes_cannot_tell_is_refused(kind: str, settings: dict, why: str, tmp_path: Path) -> None:
    with pytest.raises(CodecError, match=why):
        load_codec(str(save(kind, tmp_path, **settings)))


def test_a_package_that_a_class_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("higgs_audio_v2_tokenizer", tmp_path)
    name = KINDS["higgs_audio_v2_tokenizer"].model.rpartition(".")[0]
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    monkeypatch.delitem(sys.modules, f"transformers.models.{name}")
    with pytest.raises(CodecError, match="pip install torchaudio"):
        load_codec(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ('{"model_type": "vibevoice_acoustic_tokenizer"}', "numbers, not into codes"),
        ('{"model_type": "llama"}', "is a llama; codecs known here: mimi, encodec"),
        ("{}", "without model_type"),
        ("{", "No codec could be loaded"),
    ],
)
def test_a_folder_of_something_else_says_what_it_is(config: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(CodecError, match=why):
        load_codec(str(tmp_path))


def test_weights_that_are_missing_or_damaged_say_so(tmp_path: Path) -> None:
    save("dac", tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(CodecError, match="does not load as a DacModel"):
        load_codec(str(tmp_path))
    weights.unlink()
    with pytest.raises(CodecError, match="does not load as a DacModel"):
        load_codec(str(tmp_path))
    tensors = load(whole)
    tensors["decoder.conv1.bias"][0] = torch.nan
    save_file(tensors, weights)
    with pytest.raises(CodecError, match=r"'decoder\.conv1\.bias' holds NaN"):
        load_codec(str(tmp_path))
    del tensors["quantizer.quantizers.0.codebook.weight"]
    save_file(tensors, weights)
    with pytest.raises(
        CodecError, match=r"lacks 1 weights of a DacModel, quantizer\.quantizers\.0\.codebook"
    ):
        load_codec(str(tmp_path))


DAMAGES = {
    "dac": {
        "downsampling_ratios": (0, [], "wide", [4, 0], [-4, 5]),
        "codebook_size": (0, -1, 63, "many", None),
        "n_codebooks": (0, 2.5, [3], 10**9),
        "sampling_rate": (0, -16_000, None),
        "hop_length": (0, 7),
    },
    "encodec": {
        "upsampling_ratios": (0, [], [0, 5]),
        "target_bandwidths": ([], [0], ["wide"]),
        "kernel_size": (0, 10**12),
        "trim_right_ratio": (0.5,),
        "pad_mode": ("sideways",),
    },
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_config_ends_in_one_clear_line(kind: str, tmp_path: Path) -> None:
    save(kind, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    wrong = []
    for name, values in DAMAGES[kind].items():
        for value in values:
            (tmp_path / "config.json").write_text(json.dumps(config | {name: value}))
            try:
                codec = load_codec(str(tmp_path))
                codec.decode(codec.encode(noise(9.5, codec)))
                wrong.append((name, value, "was taken"))
            except SodakitError:
                continue
            except Exception as error:
                wrong.append((name, value, repr(error)))
    assert wrong == []


def test_a_codec_that_is_not_at_hand_is_named_and_how_to_get_it(codec_of, folder: Path) -> None:
    spec = codec_of("dac").spec
    with pytest.raises(CodecError) as told:
        load_codec_of(spec, "stores/mine holds codes of")
    for part in (
        "stores/mine holds codes of dac (44100 Hz, 110.25 frames/s, 3 x 64",
        spec.fingerprint,
        "--codec FOLDER",
    ):
        assert part in str(told.value)
    on_hub = replace(spec, name="owner/dac")
    with pytest.raises(CodecError, match="hf download owner/dac"):
        load_codec_of(on_hub, "stores/mine holds codes of", str(folder / "nowhere"))
    assert (
        load_codec_of(on_hub, "stores/mine holds codes of", str(folder / "dac")).spec.fingerprint
        == spec.fingerprint
    )
    with pytest.raises(CodecError, match=r"the one here is encodec .*Copy the folder 'dac'"):
        load_codec_of(spec, "stores/mine holds codes of", str(folder / "encodec"))
