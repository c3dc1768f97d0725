"""Codebooks of different rates: rows of a frame, from the codec through store and model to sound again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.audio.wave import Wave
from sodakit.checkpoint.load import load_checkpoint
from sodakit.codec import mini
from sodakit.codec.contract import CodecSpec
from sodakit.codec.fit.config import FitConfig
from sodakit.codec.fit.sounds import Batches
from sodakit.codec.fit.trainer import Fit
from sodakit.codec.load import load_codec
from sodakit.codec.mini import MiniCodec, load_mini
from sodakit.codec.network import MiniConfig, MiniNetwork
from sodakit.codec.quantizer import SplitQuantizer
from sodakit.config import config_digest, override, to_plain
from sodakit.data.config import ViewConfig
from sodakit.data.language import open_language
from sodakit.data.views import DocumentView
from sodakit.data.windows import TokenStream
from sodakit.errors import CodecError, ConfigError
from sodakit.eval.nll import store_likelihood
from sodakit.generate.speech_model import SpeechModel
from sodakit.generate.stream import stream_of
from sodakit.model.any_config import family_config
from sodakit.prepare.duplicates import leave_out_duplicates
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import prepare
from sodakit.store.schema import Utterance
from sodakit.store.writer import StoreWriter
from sodakit.tokens.documents import Speech, Template, Text
from sodakit.tokens.frames import codes_to_ids, ids_to_codes
from sodakit.tokens.layouts.contract import lay
from sodakit.tokens.layouts.pattern import Pattern
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.train.config import LossConfig
from sodakit.train.metrics import read_metrics
from sodakit.train.trainer import train
from tests.codec.conftest import TINY
from tests.codec.test_fit import hum
from tests.train.test_trainer import config_for

SLOWER = replace(TINY, num_codebooks=5, acoustic_strides=(4, 2, 1))
COUNTS = (4, 4, 1, 2, 4)
ROWS = sum(COUNTS)
FAMILIES = ("flat", "depth", "delay")


@pytest.fixture(scope="module")
def codec() -> MiniCodec:
    torch.manual_seed(0)
    network = MiniNetwork(SLOWER)
    for codebook in network.quantizer.codebooks:
        codebook.entries.mul_(0.3)
    return MiniCodec(network, "slower")


def noise(frames: float, seed: int = 0) -> np.ndarray:
    count = round(frames * 4 * 1920)
    swell = np.abs(np.sin(np.arange(count) / 3000))
    return (0.2 * swell * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


# ---------------------------------------------------------------------------------------------- contract


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 7), st.integers(0, 2**32 - 1))
def test_every_code_of_a_frame_is_one_of_a_codebook_in_the_order_of_time(
    counts: list[int], frames: int, seed: int
) -> None:
    spec = CodecSpec(
        name="s", sample_rate_hz=800, frame_samples=80, num_codebooks=sum(counts), codebook_size=99,
        fingerprint="f", codes_per_frame=tuple(counts),
    )  # fmt: skip
    assert [row for rows in spec.rows for row in rows] == list(range(sum(counts)))
    codes_KF = np.random.default_rng(seed).integers(0, 99, (sum(counts), frames))
    expected = [
        [int(codes_KF[row, f]) for f in range(frames) for row in rows]
        for rows in np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
    ]
    assert [codes_N.tolist() for codes_N in spec.in_time(codes_KF)] == expected
    assert spec.bitrate_bps == pytest.approx(10 * sum(counts) * np.log2(99))


def test_counts_that_are_not_the_rows_are_refused() -> None:
    with pytest.raises(CodecError, match="are 7 codes; s has 6 a frame"):
        CodecSpec(
            name="s", sample_rate_hz=800, frame_samples=80, num_codebooks=6, codebook_size=9, fingerprint="f",
            codes_per_frame=(1, 2, 4),
        )  # fmt: skip


def test_codecs_of_one_rate_are_written_and_named_as_ever(tiny_mini: MiniCodec) -> None:
    """Their stores, configs and fingerprints know nothing of other rates: 6fb31ad8adca5421 is in many a store."""
    shipped = load_codec("mini")
    assert shipped.spec.fingerprint == "6fb31ad8adca5421"
    assert "codes_per_frame" not in to_plain(shipped.spec)
    assert "acoustic_strides" not in to_plain(MiniConfig())
    assert config_digest(TINY) != config_digest(replace(TINY, acoustic_strides=(1,)))
    changed = override(FitConfig(out=Path("x")), {"network.acoustic_strides": "[2, 2, 2, 1, 1, 1]"})
    assert changed.network.codes_per_frame == (2, 2, 1, 1, 1, 2, 2, 2)


# ------------------------------------------------------------------------------------------------ quantiser


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=4), st.integers(0, 2**16))
def test_a_slow_code_is_the_entry_of_least_error_over_all_its_latents(strides: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    quantizer = SplitQuantizer(6, 5, 4, 1 + len(strides), 9, acoustic_strides=strides).requires_grad_(False)
    latent_BFD = torch.randn(2, 8, 6)
    codes = quantizer.encode(latent_BFD)
    left = quantizer.acoustic_in(latent_BFD)
    for k, stride in enumerate(strides, start=1):
        entries_ND = quantizer.book(k).entries
        assert codes[k].shape == (2, 8 // stride)
        for row in range(2):
            for n in range(8 // stride):
                part = left[row, n * stride : (n + 1) * stride]
                errors = [float((part - entry).square().sum()) for entry in entries_ND]
                chosen = int(codes[k][row, n])
                assert errors[chosen] == pytest.approx(min(errors), abs=1e-4)
                left[row, n * stride : (n + 1) * stride] -= entries_ND[chosen]
    _, acoustic = quantizer.entries(codes)
    torch.testing.assert_close(acoustic, quantizer.acoustic_in(latent_BFD) - left)
    none = torch.zeros(2, dtype=torch.bool)
    trained = quantizer(latent_BFD, torch.full((2,), len(strides)), none, 0.1)
    for ours, theirs in zip(trained.codes, codes, strict=True):
        assert torch.equal(ours, theirs)


def test_strides_of_one_give_the_codes_of_no_strides(tiny_mini: MiniCodec) -> None:
    same = MiniNetwork(replace(TINY, acoustic_strides=(1,)))
    same.load_state_dict(tiny_mini.network.state_dict())
    np.testing.assert_array_equal(MiniCodec(same).encode(noise(5)), tiny_mini.encode(noise(5)))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"acoustic_strides": (2, 1)}, "needed: 3 numbers"),
        ({"acoustic_strides": (3, 2, 1)}, "divides the largest"),
        ({"search_paths": 8}, "must have one rate"),
    ],
)
def test_rates_that_do_not_fit_are_refused(changes: dict, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        replace(SLOWER, **changes)


# ---------------------------------------------------------------------------------------------------- codec


def test_the_spec_tells_frames_rows_and_rates(codec: MiniCodec) -> None:
    spec = codec.spec
    assert (spec.frame_samples, spec.num_codebooks, spec.codes_per_frame) == (4 * 1920, ROWS, COUNTS)
    assert spec.semantic_codebooks == (0, 1, 2, 3) and spec.codebooks_shown == "4+4+1+2+4 x 64"
    # By codebook: 12.5, 12.5, 3.125, 6.25 and 12.5 codes a second of 6 bits.
    assert spec.bitrate_bps == 6 * (12.5 + 12.5 + 3.125 + 6.25 + 12.5)


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_stream_in_pieces_equals_decoding_at_once(codec: MiniCodec, chunk: int) -> None:
    codes_KF = np.random.default_rng(0).integers(0, 64, (ROWS, 10))
    stream = codec.stream()
    pieces = [stream.push(codes_KF[:, start : start + chunk]) for start in range(0, 10, chunk)]
    whole_S = codec.decode(codes_KF)
    assert whole_S.shape == (10 * 4 * 1920,) and np.abs(whole_S).max() > 1e-3
    assert np.abs(np.concatenate(pieces) - whole_S).max() < 1e-5


def test_codes_do_not_depend_on_pieces_or_neighbours(
    codec: MiniCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [noise(frames, number) for number, frames in enumerate((0.0, 0.2, 1.0, 3.3, 7.9))]
    whole = codec.encode_batch(clips)
    assert [codes_KF.shape for codes_KF in whole] == [(ROWS, frames) for frames in (0, 1, 1, 4, 8)]
    monkeypatch.setattr(mini, "_CHUNK_LATENTS", 4)
    for clip_S, codes_KF in zip(clips, whole, strict=True):
        np.testing.assert_array_equal(codec.encode(clip_S), codes_KF)


def test_it_is_saved_and_cut_to_whole_codebooks(codec: MiniCodec, tmp_path: Path) -> None:
    codec.save(tmp_path / "mine")
    loaded = load_codec(str(tmp_path / "mine"))
    assert replace(loaded.spec, name="slower") == codec.spec
    fewer = load_mini(tmp_path / "mine", num_codebooks=9)
    assert fewer.spec.codes_per_frame == (4, 4, 1)
    np.testing.assert_array_equal(fewer.encode(noise(3)), codec.encode(noise(3))[:9])
    assert len(fewer.decode(fewer.encode(noise(3)))) == 3 * 4 * 1920
    assert load_mini(tmp_path / "mine", num_codebooks=4).decode(np.zeros((4, 2), np.uint16)).any()
    with pytest.raises(CodecError, match=r"num_codebooks=10; slower has 15\. Use 4, 8, 9, 11, 15"):
        load_mini(tmp_path / "mine", "slower", num_codebooks=10)


def test_slow_codebooks_change_the_sound_of_all_their_latents(codec: MiniCodec) -> None:
    codes_KF = np.random.default_rng(0).integers(0, 64, (ROWS, 3)).astype(np.uint16)
    changed_KF = codes_KF.copy()
    changed_KF[8, 1] ^= 1  # the slowest codebook's code of the second frame
    differ_S = np.abs(codec.decode(codes_KF) - codec.decode(changed_KF))
    by_latent = differ_S.reshape(-1, 1920).max(1)
    assert by_latent[:4].max() == 0 and by_latent[4:8].min() > 0


def test_such_a_codec_learns_and_resumes(tmp_path: Path) -> None:
    def fit(out: Path) -> Fit:
        config = FitConfig(out=out, network=SLOWER, batch_rows=4, segment_frames=8, warmup_steps=5)
        return Fit(config, Batches(config, [hum(100.0, 1), hum(240.0, 2)], []))

    straight = fit(tmp_path / "a")
    rows = [straight.train_step() for _ in range(30)]
    assert np.mean([r["mel"] for r in rows[-5:]]) < 0.95 * np.mean([r["mel"] for r in rows[:5]])
    straight.save()
    resumed = fit(tmp_path / "a")
    assert resumed.resume() and resumed.train_step() == straight.train_step()
    assert load_codec(str(tmp_path / "a")).spec.codes_per_frame == COUNTS
    with pytest.raises(ConfigError, match="multiple of 4"):
        replace(resumed.config, segment_frames=10)


# -------------------------------------------------------------------------------------- tokens, store, model


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_documents_lie_along_positions_and_come_back(counts: list[int], frames: int, seed: int) -> None:
    rows = sum(counts)
    vocabulary = Vocabulary.layout(text_size=20, bos=0, eos=1, num_codebooks=rows, codebook_size=16)
    codes_KF = np.random.default_rng(seed).integers(0, 16, (rows, frames)).astype(np.uint16)
    ids_T = Template(vocabulary, rows).document([Text(np.arange(2, 5)), Speech(codes_KF)])
    for pattern in (Pattern(), Pattern((0,) * rows), Pattern(tuple(range(rows)))):
        layout = pattern.layout(vocabulary, rows)
        flat_T = layout.flatten(lay(layout, ids_T))
        np.testing.assert_array_equal(flat_T, ids_T)
        span_T = flat_T[vocabulary.is_audio(flat_T)]
        np.testing.assert_array_equal(ids_to_codes(span_T, vocabulary), codes_KF)


@pytest.fixture(scope="module")
def store(codec: MiniCodec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rates") / "store"
    items = [
        Item(id=f"talk{i}", wave=Wave(noise(1.3 + i, i), 24_000), text="open the lamp") for i in range(5)
    ]
    names = {f"talk{i}": "validation" if i == 0 else "train" for i in range(5)}
    prepare(items, folder, codec, PrepareOptions(split=SplitRule(rule=lambda item: names[item.id])))
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_sounds_come_back_from_a_store_through_views_and_rows(
    codec: MiniCodec, store: Path, family: str
) -> None:
    reader, vocabulary = open_language(store)
    assert reader.codec_spec == codec.spec and vocabulary.semantic_codebooks == (0, 1, 2, 3)
    pattern = {"flat": Pattern(), "depth": Pattern((0,) * ROWS), "delay": Pattern(tuple(range(ROWS)))}[family]
    view = DocumentView(reader, "train", ViewConfig(order="audio_first"), vocabulary, pattern)
    window_PW = TokenStream(view, view.num_positions, seed=0).window(0)[0].reshape(-1, view.layout.width)
    laid = [lay(view.layout, document_T).tolist() for document_T in view]
    ends = np.flatnonzero(window_PW[:, 0] == vocabulary.eos) + 1
    parts = [part.tolist() for part in np.split(window_PW, ends) if len(part)]
    assert sorted(parts) == sorted(laid)
    ids_T = np.concatenate([view.layout.flatten(np.array(part)) for part in parts])
    begins = np.flatnonzero(ids_T == vocabulary.audio_start) + 1
    ends = np.flatnonzero(ids_T == vocabulary.audio_end)
    spans = [ids_to_codes(ids_T[begin:end], vocabulary) for begin, end in zip(begins, ends, strict=True)]
    for number, codes_KF in enumerate(sorted(spans, key=lambda c: c.shape[1]), start=1):
        wave_S = noise(1.3 + number, number)
        np.testing.assert_array_equal(codes_KF, codec.encode(wave_S))
        assert 0 <= len(codec.decode(codes_KF)) - len(wave_S) < codec.spec.frame_samples


def test_a_view_of_what_is_said_has_every_semantic_code(codec: MiniCodec, store: Path) -> None:
    reader, vocabulary = open_language(store)
    view = DocumentView(reader, "train", ViewConfig(order="audio_first", composition="semantic"), vocabulary)
    utterance = reader.utterances("train")[0]
    codes_T = codes_to_ids(utterance.codes_KF[:4], vocabulary)
    assert codes_T.tolist() == [token for token in view[0].tolist() if vocabulary.is_audio(np.array(token))]
    assert view.tokens_by_kind()["semantic"] == 4 * view.outline.num_frames


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_learns_is_scored_and_speaks_as_it_streams(
    codec: MiniCodec, store: Path, family: str, tmp_path: Path
) -> None:
    reader, vocabulary = open_language(store)
    base = config_for(store)
    context = 128 if family == "flat" else 64
    model_config = replace(base.model, context=context)
    if family != "flat":
        model_config = family_config(family, model_config, vocabulary)
    config = replace(
        base,
        model=model_config,
        data=replace(base.data, context=context),
        steps=6,
        loss=LossConfig(slot_softmax=family != "delay"),
    )
    path = train(config, tmp_path / "run")
    last = next(
        row for row in reversed(read_metrics(tmp_path / "run")) if "validation/bits_per_audio_s" in row
    )
    names = vocabulary.kind_names[2:]
    assert len(names) == ROWS
    nats = sum(last[f"validation/loss/{name}"] for name in names)
    # Every row has one code in 320 ms: a codebook of four of them counts four times.
    assert last["validation/bits_per_audio_s"] == pytest.approx(nats / np.log(2) * 3.125)
    network = load_checkpoint(path).model()
    if family != "delay":
        softmax = "slot"
        found, _ = store_likelihood(
            network, vocabulary, reader, "validation", tmp_path / "scores", softmax=softmax
        )
        kinds = found.kinds["audio_first"]
        assert found.bits_per_audio_s["audio_first"] == pytest.approx(
            sum(kinds[name] for name in names) / np.log(2) * 3.125
        )
        assert found.audio_s == pytest.approx(reader.utterances("validation")[0].codes_KF.shape[1] * 0.32)
    model = SpeechModel(network, vocabulary, reader.tokenizer(), codec)
    spoken = model.speak("open the lamp", max_s=1.0)
    assert spoken.codes_KF.shape[0] == ROWS and spoken.codes_KF.shape[1] <= 3
    stream = stream_of(model)
    streamed_S = [chunk.samples_S for chunk in stream.push_codes(spoken.codes_KF)]
    sound_S = codec.decode(spoken.codes_KF)
    assert np.abs(np.concatenate([np.zeros(0), *streamed_S]) - sound_S).max(initial=0) < 1e-5


def test_repeated_sound_is_found_by_all_its_semantic_codes(codec: MiniCodec, tmp_path: Path) -> None:
    """By every fourth code alone two sounds of which the others differ would be one."""
    random = np.random.default_rng(0)
    first_KF = random.integers(0, 64, (ROWS, 40)).astype(np.uint16)
    alike_KF = random.integers(0, 64, (ROWS, 40)).astype(np.uint16)
    alike_KF[0] = first_KF[0]
    writer = StoreWriter(tmp_path, codec.spec, "tokenizer")
    utterances = [
        Utterance(id=name, recording=name, codes_KF=codes_KF)
        for name, codes_KF in (("first", first_KF), ("alike", alike_KF), ("same", first_KF))
    ]
    writer.write_shard("train", 0, utterances)
    items = {u.id: Item(id=u.id, wave=Wave(noise(1), 24_000)) for u in utterances}
    assert leave_out_duplicates(writer, items, share=0.5) == 1
