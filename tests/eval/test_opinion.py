"""Judges by folder: DNSMOS and GE2E against computations by hand, and a folder that holds them for all commands."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sodakit.audio.wave import Wave
from sodakit.commands.eval_spoken import Tts
from sodakit.commands.options import JudgeOptions, MosOptions
from sodakit.errors import CheckpointError, ConfigError, MissingExtra
from sodakit.eval.copies import Recording, SoundSet, score_copies
from sodakit.eval.ge2e import Ge2eEncoder, Ge2eSpeaker, mel_windows
from sodakit.eval.judge_folder import find_judges, named_speaker_judge
from sodakit.eval.mels import power_mels
from sodakit.eval.opinion import DnsMos, windows
from sodakit.eval.results import comparable, compare
from sodakit.eval.spoken_scores import opinion_items, opinion_scores, opinions
from sodakit.eval.voiceprints import SpectralSpeaker
from tests.voices.onnx_bytes import dnsmos_folder

RATE_HZ = 16_000


@pytest.fixture
def judges(tmp_path: Path) -> Path:
    """A folder of judges: DNSMOS that rates 1, 2 and 3 more than the mean sample, and GE2E of random weights."""
    for name in ("speakers", "something_else"):
        (tmp_path / name).mkdir()
    dnsmos_folder(tmp_path / "dnsmos")
    torch.manual_seed(0)
    torch.save(
        {"step": 1, "model_state": Ge2eEncoder().state_dict()}, tmp_path / "speakers" / "pretrained.pt"
    )
    return tmp_path


def noise(seconds: float, seed: int = 0) -> Wave:
    samples_S = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32)
    return Wave(samples_S, RATE_HZ)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_the_encoder_is_three_lstm_layers_by_hand() -> None:
    torch.manual_seed(1)
    encoder = Ge2eEncoder().eval()
    weights = {name: value.double().numpy() for name, value in encoder.state_dict().items()}
    mels_FM = np.random.default_rng(0).random((7, 40))
    rows = mels_FM
    for layer in range(3):
        hidden, cell, out = np.zeros(256), np.zeros(256), []
        for row in rows:
            gates = weights[f"lstm.weight_ih_l{layer}"] @ row + weights[f"lstm.bias_ih_l{layer}"]
            gates += weights[f"lstm.weight_hh_l{layer}"] @ hidden + weights[f"lstm.bias_hh_l{layer}"]
            entry, forget, update, output = np.split(gates, 4)
            cell = sigmoid(forget) * cell + sigmoid(entry) * np.tanh(update)
            hidden = sigmoid(output) * np.tanh(cell)
            out.append(hidden)
        rows = np.array(out)
    raw = np.maximum(weights["linear.weight"] @ rows[-1] + weights["linear.bias"], 0)
    with torch.inference_mode():
        found = encoder(torch.tensor(mels_FM[None], dtype=torch.float32))[0].numpy()
    np.testing.assert_allclose(found, raw / np.linalg.norm(raw), atol=1e-5)


def test_mels_are_triangles_over_power_by_hand() -> None:
    samples_S = noise(0.1).samples_S
    found = power_mels(samples_S, fft_samples=400, hop_samples=160, num_mels=40)
    padded_S = np.pad(samples_S.astype(np.float64), 200)
    window_S = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power_C = np.abs(np.fft.rfft(padded_S[320:720] * window_S)) ** 2
    # Slaney: linear to 1 kHz at 3/200 mel a hertz, then 27 steps for a factor of 6.4.
    top = 15 + 27 * np.log(8) / np.log(6.4)
    mel_E = np.linspace(0, top, 42)
    edges_hz = np.where(mel_E < 15, mel_E * 200 / 3, 1000 * np.exp((mel_E - 15) * np.log(6.4) / 27))
    bins_hz = np.arange(201) * 40.0
    for m in (0, 20, 39):
        low, middle, high = edges_hz[m : m + 3]
        triangle_C = np.minimum((bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)).clip(0)
        assert found[2, m] == pytest.approx(float(power_C @ triangle_C) * 2 / (high - low), rel=1e-4)


def test_windows_cover_a_sound() -> None:
    assert mel_windows(noise(0.5).samples_S).shape == (1, 160, 40)
    # 3 s: starts at 0, 0.77, 1.54 s; the last has 1.46 of 1.6 s, and the next would have 0.69.
    assert mel_windows(noise(3.0).samples_S).shape == (3, 160, 40)
    assert [len(w) for w in windows(noise(12.5).samples_S)] == [144_160] * 3
    short_S = noise(2.0).samples_S
    doubled_S, *rest = windows(short_S)
    # Two seconds become four, eight, sixteen: seven windows begin in that.
    assert len(rest) == 6 and len(doubled_S) == 144_160 and np.array_equal(doubled_S[32_000:64_000], short_S)
    with pytest.raises(ConfigError, match="0 samples"):
        windows(np.zeros(0, np.float32))


def test_dnsmos_maps_raw_numbers_to_the_scale(judges: Path) -> None:
    mos = DnsMos.load(judges / "dnsmos")
    (row,) = mos.rate([Wave(np.full(RATE_HZ * 10, 0.5, np.float32), RATE_HZ)])
    signal, background, overall = 1.5, 2.5, 3.5  # what the small network says of a mean of 0.5
    assert row["mos_sig"] == pytest.approx(
        -0.08397278 * signal**2 + 1.22083953 * signal + 0.0052439, abs=1e-4
    )
    assert row["mos_bak"] == pytest.approx(
        -0.13166888 * background**2 + 1.60915514 * background - 0.39604546, abs=1e-4
    )
    assert row["mos_ovrl"] == pytest.approx(
        -0.06766283 * overall**2 + 1.11546468 * overall + 0.04602535, abs=1e-4
    )
    assert -1 <= row["mos_p808"] <= 1, "the mean of a spectrogram between -1 and 1"
    assert mos.fingerprint in DnsMos.load(judges / "dnsmos").name + DnsMos.load(judges / "dnsmos").fingerprint


def test_judges_go_to_other_processes(judges: Path) -> None:
    """`prepare` rates in its workers."""
    mos, speakers = DnsMos.load(judges / "dnsmos"), Ge2eSpeaker.load(judges / "speakers")
    again, ear = pickle.loads(pickle.dumps((mos, speakers)))
    assert again.rate([noise(1.0)]) == mos.rate([noise(1.0)])
    assert np.array_equal(ear.embed([noise(2.0)]), speakers.embed([noise(2.0)]))


def test_failed_outputs_count_the_worst_and_originals_stand_alone(judges: Path) -> None:
    mos = DnsMos.load(judges / "dnsmos")
    waves = [noise(1.0), None, noise(1.0, 1)]
    own = [row["mos_ovrl"] for row in mos.rate([wave for wave in waves if wave])]
    names = ["a", "b", "c"]
    rated = opinions(mos, waves)
    assert opinion_scores(rated, names, failed=1.0)["mos_ovrl"]["value"] == pytest.approx((sum(own) + 1) / 3)
    assert opinion_scores(rated, names)["mos_ovrl"]["value"] == pytest.approx(sum(own) / 2)
    assert opinion_scores(opinions(None, waves), names) == {} == opinion_scores(opinions(mos, [None]), ["a"])
    assert [item["mos_ovrl"] for item in opinion_items(rated)] == [own[0], 1.0, own[1]]
    assert opinion_items(opinions(None, waves)) == [{}, {}, {}]


def test_a_folder_of_judges_serves_every_command(judges: Path) -> None:
    found = find_judges(judges)
    assert (found.recogniser, found.speakers, found.mos) == (None, judges / "speakers", judges / "dnsmos")
    options = Tts(data=judges, judges=judges)
    assert isinstance(options.speakers(), Ge2eSpeaker) and isinstance(options.mos(), DnsMos)
    assert options.named_recogniser() is None
    options.check_used()
    assert MosOptions().mos() is None
    with pytest.raises(ConfigError, match="--judge-language"):
        JudgeOptions(judges=judges, judge_language="en").check_used()


def test_a_whisper_is_known_by_its_files(judges: Path) -> None:
    for name in ("whisper_a", "whisper_b"):
        (judges / name).mkdir()
        (judges / name / "config.json").write_text('{"architectures": ["WhisperForConditionalGeneration"]}')
        if name == "whisper_a":
            assert find_judges(judges).recogniser == judges / name
    with pytest.raises(ConfigError, match=r"several recognisers \(whisper_a, whisper_b\)"):
        find_judges(judges)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no judge"):
        find_judges(tmp_path)
    with pytest.raises(ConfigError, match="is no folder"):
        find_judges(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="speechmos"):
        DnsMos.load(tmp_path)
    (tmp_path / "pretrained.pt").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="Resemblyzer"):
        named_speaker_judge(str(tmp_path))
    with pytest.raises(ConfigError, match="no revision"):
        named_speaker_judge(str(tmp_path), revision="main")


def test_ge2e_gives_one_vector_for_a_voice_however_loud(judges: Path) -> None:
    judge = named_speaker_judge(str(judges / "speakers"))
    wave = noise(2.0)
    rows = judge.embed([wave, Wave(wave.samples_S * 0.01, RATE_HZ), noise(0.1)])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
    # A quiet sound is lifted to -30 dB; this one is at -20.
    lifted = judge.embed([Wave(wave.samples_S * 10**-0.5, RATE_HZ)])[0]
    assert float(rows[1] @ lifted) == pytest.approx(1, abs=1e-4)


def test_items_have_their_opinion_and_two_results_are_compared_by_it(judges: Path) -> None:
    def result(quiet: float, judge: str) -> dict[str, Any]:
        waves = [Wave(noise(1.0, n).samples_S * np.float32(quiet), RATE_HZ) for n in range(4)]
        items = opinion_items(opinions(DnsMos.load(judges / "dnsmos"), waves))
        rows = [{"id": str(n), "cluster": str(n)} | item for n, item in enumerate(items)]
        return {"task": "tts", "mos_judge": {"fingerprint": judge}, "items": rows}

    loud, faint = result(1.0, "a"), result(0.1, "a")
    assert "mos_ovrl" in comparable(loud)
    gain = float(
        np.mean([a["mos_ovrl"] - b["mos_ovrl"] for a, b in zip(loud["items"], faint["items"], strict=True)])
    )
    assert compare(loud, faint, "mos_ovrl").value.value == pytest.approx(gain)
    with pytest.raises(ConfigError, match="results are of mos_judge"):
        compare(loud, result(0.1, "b"), "mos_ovrl")


def test_a_codec_result_has_the_opinion_of_each_copy(judges: Path) -> None:
    recordings = [Recording(noise(1.0, n), "", "") for n in range(2)]
    sounds = SoundSet("two", tuple(recordings), None, "nobody listened")
    copies = [Wave(r.wave.samples_S * np.float32(0.5), RATE_HZ) for r in recordings]
    mos = DnsMos.load(judges / "dnsmos")
    items = json.loads(json.dumps(score_copies(sounds, copies, SpectralSpeaker(), mos).plain()))["items"]
    assert [item["mos_ovrl"] for item in items] == [row["mos_ovrl"] for row in mos.rate(copies)]
    assert [item["original"]["mos_p808"] for item in items] == [
        row["mos_p808"] for row in mos.rate([r.wave for r in recordings])
    ]
    assert {"clip", "speaker", "mel_db", "stoi"} <= set(items[0])


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("judge", "CTranslate2 form .*faster-whisper"),
        ("speaker_judge", "pretrained.pt as the package Resemblyzer brings it"),
        ("mos_judge", "the package speechmos brings them"),
        ("judges", "Resemblyzer brings pretrained.pt, speechmos DNSMOS"),
    ],
)
@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_an_absent_judge_says_what_to_install(
    option: str, says: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    path = tmp_path / kind
    options = MosOptions(**{option: path if option in ("mos_judge", "judges") else str(path)})
    with pytest.raises((ConfigError, CheckpointError), match=says):
        options.named_recogniser()
        options.speakers()
        options.mos()


def test_judges_say_which_package_is_missing(
    judges: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"DNSMOS needs the package 'onnxruntime'.*sodakit\[onnx\]"):
        DnsMos.load(judges / "dnsmos")
    whisper = tmp_path / "whisper"
    whisper.mkdir()
    for name in ("model.bin", "vocabulary.txt"):
        (whisper / name).write_bytes(b"")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MissingExtra, match=r"'faster-whisper'.*sodakit\[asr\]"):
        MosOptions(judge=str(whisper)).named_recogniser()
