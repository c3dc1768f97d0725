import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sodakit.audio.files import read_wave, write_wave
from sodakit.audio.wave import Wave
from sodakit.codec.load import load_codec
from sodakit.commands.codec import main
from sodakit.errors import CodecError, ConfigError
from sodakit.eval import codecs
from sodakit.eval.codec_compare import open_compared
from sodakit.files import write_json_lines
from tests.eval.small_judges import small_speaker, small_wav2vec2
from tests.eval.small_model import noise

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    samples_S = 0.2 * np.sin(2 * np.pi * 220 * np.arange(16_000) / 16_000)
    write_wave(tmp_path / "tone.wav", Wave(samples_S, 16_000))
    return tmp_path / "tone.wav"


def test_a_recording_becomes_codes_and_sound_again(recording: Path, tmp_path: Path) -> None:
    main(["encode", str(recording), "--out", str(tmp_path / "tone.npy"), "--codec", "toy"])
    main(["decode", str(tmp_path / "tone.npy"), "--out", str(tmp_path / "back.flac"), "--codec", "toy"])
    assert np.load(tmp_path / "tone.npy").shape == (4, 13)
    assert read_wave(tmp_path / "back.flac").duration_s == pytest.approx(13 * 0.08)
    assert soundfile.info(tmp_path / "back.flac").samplerate == 8000


def test_a_file_without_codes_says_how_to_make_one(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="sodakit codec encode"):
        main(["decode", str(recording), "--out", str(tmp_path / "back.wav"), "--codec", "toy"])


@needs_espeak
def test_a_few_seconds_of_training_give_a_codec_that_loads(recording: Path, tmp_path: Path) -> None:
    """The whole street: synthetic speech, recordings, training, saving, loading."""
    out = tmp_path / "codec"
    small = ["batch_rows=2", "segment_frames=6", "network.codebook_size=32", "network.num_codebooks=2"]
    small += ["network.decoder_widths=[16,16,16]", "network.encoder_widths=[16,16,16]", "threads=1"]
    options = [
        "--out",
        str(out),
        "--minutes",
        "0.05",
        "--voices-hours",
        "0.003",
        "--data",
        str(recording.parent),
    ]
    main(["train", *options, "--set", *small])
    codec = load_codec(str(out))
    assert (codec.spec.num_codebooks, codec.spec.codebook_size) == (2, 32)
    assert np.isfinite(codec.decode(codec.encode(read_wave(recording, 24_000).samples_S))).all()
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["mel"]) for row in rows)


@needs_espeak
def test_a_measured_codec_leaves_numbers_and_a_page(recording: Path, tmp_path: Path) -> None:
    main(["eval", "--codec", "toy", "--judge", "none", "--clips", "1", "--data", str(recording.parent),
          "--out", str(tmp_path / "eval")])  # fmt: skip
    report = json.loads((tmp_path / "eval" / "codec.json").read_text())
    assert [scores["num_clips"] for scores in report["sets"]] == [1, 1] and len(report["codebooks"]) == 4
    assert "<audio" in (tmp_path / "eval" / "codec.html").read_text()


@needs_espeak
def test_a_codec_is_heard_by_models_in_folders(tmp_path: Path) -> None:
    rows = []
    for n in range(4):
        write_wave(tmp_path / "data" / f"{n}.wav", noise(n, 0.6, 16_000))
        rows.append({"audio": f"{n}.wav", "text": "a bad cab", "speaker": f"s{n % 2}", "duration_s": 0.6})
    write_json_lines(tmp_path / "data" / "manifest.jsonl", rows)
    small_wav2vec2(tmp_path / "ear")
    small_speaker(tmp_path / "voices")
    main(["eval", "--codec", "toy", "--clips", "4", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"),
          "--judge", str(tmp_path / "ear"), "--speaker-judge", str(tmp_path / "voices")])  # fmt: skip
    scores = json.loads((tmp_path / "out" / "codec.json").read_text())["sets"][1]
    assert scores["judge"].startswith("ear@") and scores["speakers"]["judge"].startswith("voices@")


@needs_espeak
def test_codecs_are_compared_on_one_page_and_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(6):
        write_wave(tmp_path / f"data/{n}.wav", noise(n, 0.9, 16_000))
    out = tmp_path / "out"
    options = ["--data", str(tmp_path / "data"), "--clips", "1", "--judge", "none", "--out", str(out)]
    options += ["--model-flops", "4e9", "--model-size", "nano", "--device", "cpu"]
    main(["compare", "toy", "--dry-run", *options])
    assert "toy: 8000 Hz, 12.5 frames/s, 4 x 32, 50 tokens/s" in capsys.readouterr().out and not out.exists()
    main(["compare", "toy", *options])
    monkeypatch.setattr(codecs, "measure_codec", counted := Counted(codecs.measure_codec))
    main(["compare", "toy", "toy@2", *options])
    assert counted.specs == [2], "the first was measured before"
    both = json.loads((out / "codecs.json").read_text())
    assert [c["report"]["codec"]["num_codebooks"] for c in both] == [4, 2]
    flops = [c["model"]["flops"] for c in both]
    assert flops == pytest.approx([4e9, 4e9], rel=0.2)
    for compared in both:
        nats = compared["model"]["nats"]
        books = [value for name, value in nats.items() if name.startswith(("semantic", "acoustic"))]
        assert len(books) == compared["report"]["codec"]["num_codebooks"]
        assert compared["model"]["bits_per_audio_s"] == pytest.approx(sum(books) / np.log(2) * 12.5)
    html = (out / "codecs.html").read_text()
    assert (
        html.count("<audio") == 6
        and "toy@2" in html
        and ("PESQ" in html) == (importlib.util.find_spec("pesq") is not None)
        and "What a language model sees" in html
    )
    assert "| toy@4 | 8 | 12.5 | 4 x 32 | 50 |" in capsys.readouterr().out
    assert open_compared(next(out.glob("toy@2-*")), {"clips": 2}) is None, "another question"


class Counted:
    """A way to measure that remembers what it was asked for."""

    def __init__(self, measure) -> None:  # type: ignore[no-untyped-def]
        self.measure, self.specs = measure, []

    def __call__(self, codec, *more, **named):  # type: ignore[no-untyped-def]
        self.specs.append(codec.spec.num_codebooks)
        return self.measure(codec, *more, **named)


def test_a_codec_with_no_number_of_codebooks_says_how_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="as mini@4"):
        main(["compare", "toy@many", "--out", str(tmp_path)])
