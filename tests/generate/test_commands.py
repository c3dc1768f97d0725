"""`transcribe`, `speak`, `continue`: any length, several files, and what was cut is said."""

import re

import numpy as np
import pytest
import soundfile

from sodakit.audio.files import read_wave, write_wave
from sodakit.audio.wave import Wave
from sodakit.cli import main
from sodakit.commands.continue_ import _end
from sodakit.generate.long_form import Segment, Transcript, transcribe_long
from sodakit.generate.speech_model import SpeechModel
from tests.eval.small_model import noise, small_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint with a context of 512 positions, 20.5 s of its codec."""
    return small_checkpoint(tmp_path_factory.mktemp("model"))


def run(folder, *words):
    main([*map(str, words), "--model", str(folder), "--device", "cpu"])


def refused(capsys, folder, *words):
    with pytest.raises(SystemExit) as stopped:
        run(folder, *words)
    assert stopped.value.code == 2
    return capsys.readouterr()


def two_halves(path, each_s=1.0):
    """A low tone, then noise."""
    rate_hz = 8000
    time_S = np.arange(round(each_s * rate_hz)) / rate_hz
    tone_S = 0.4 * np.sin(2 * np.pi * 300 * time_S).astype(np.float32)
    write_wave(path, Wave(np.concatenate([tone_S, noise(1, each_s).samples_S]), rate_hz))
    return path


def test_a_file_that_cannot_be_read_does_not_keep_the_others_from_being_transcribed(tmp_path, folder, capsys):
    for name, seed in (("a", 1), ("b", 2)):
        write_wave(tmp_path / f"{name}.wav", noise(seed))
    (tmp_path / "broken.wav").write_text("junk")
    files = [tmp_path / f"{name}.wav" for name in ("a", "broken", "b", "none")]
    told = refused(capsys, folder, "transcribe", *files)
    assert [line.split("\t")[0] for line in told.out.splitlines()] == [str(files[0]), str(files[2])]
    assert "2 of 4 files could not be transcribed" in told.err and told.err.count("broken.wav") == 2


def test_a_recording_longer_than_the_context_is_transcribed_as_the_library_does(tmp_path, folder, capsys):
    write_wave(tmp_path / "long.wav", noise(3, 30.0))
    run(folder, "transcribe", tmp_path / "long.wav")
    told = capsys.readouterr()
    model = SpeechModel.load(folder, device="cpu")
    segments = transcribe_long(model, read_wave(tmp_path / "long.wav"))
    assert len(segments) > 1 and segments[-1].end_s == 30.0
    assert told.err.count("cut off") == sum(not s.ended for s in segments)
    assert len(told.out) > 3


def test_a_text_longer_than_the_context_is_spoken_and_what_is_cut_is_said(tmp_path, folder, capsys):
    text = "Please water the plants on the balcony before you leave. " * 12
    run(folder, "speak", text, "--out", tmp_path / "all.wav")
    assert "Not spoken" not in capsys.readouterr().err
    run(folder, "speak", text, "--max-s", "2", "--temperature", "0", "--out", tmp_path / "cut.wav")
    told = capsys.readouterr().err
    assert soundfile.info(tmp_path / "cut.wav").duration <= 2.0
    assert re.search(r"Not spoken, --max-s 2 was over: \d+ characters, from 'Please", told)


@pytest.mark.parametrize("rate_hz", [8000, 22050])
def test_prompt_s_is_the_first_seconds(tmp_path, folder, rate_hz):
    """The other end would give the sound of noise, and another continuation."""
    whole = read_wave(two_halves(tmp_path / "both.wav"), rate_hz)
    write_wave(tmp_path / "both.wav", whole)
    write_wave(tmp_path / "first.wav", read_wave(tmp_path / "both.wav").cut(0, 1.0))
    run(
        folder,
        "continue",
        tmp_path / "both.wav",
        "--prompt-s",
        "1",
        "--max-s",
        "0.8",
        "--out",
        tmp_path / "a.wav",
    )
    run(folder, "continue", tmp_path / "first.wav", "--max-s", "0.8", "--out", tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    written, given = read_wave(tmp_path / "a.wav"), read_wave(tmp_path / "first.wav")
    assert written.sample_rate_hz == rate_hz
    np.testing.assert_allclose(written.cut(0, 1.0).samples_S, given.samples_S, atol=1e-4)
    assert 0 < written.duration_s - 1.0 <= 0.81


def test_a_recording_longer_than_the_context_goes_on_from_its_end(tmp_path, folder, capsys):
    write_wave(tmp_path / "long.wav", noise(4, 45.0))
    run(folder, "continue", tmp_path / "long.wav", "--max-s", "2", "--out", tmp_path / "more.wav")
    told = capsys.readouterr().err
    assert "45.00 s given (heard: its last 18." in told
    assert 45.0 < soundfile.info(tmp_path / "more.wav").duration <= 47.0


def test_the_end_of_a_sound_is_kept_and_no_more():
    blocks = [noise(n, 1.0) for n in range(10)]
    end = _end(iter(blocks), 2.5)
    assert end.duration_s == 2.5
    np.testing.assert_array_equal(end.samples_S[-8000:], blocks[-1].samples_S)
    short = _end(iter(blocks[:2]), 2.5)
    assert short.duration_s == 2.0


@pytest.mark.parametrize(
    "words",
    [
        ["continue", "a.wav", "--prompt-s", "-1"],
        ["continue", "a.wav", "--prompt-s", "nan"],
        ["continue", "a.wav", "--prompt-s", "0"],
        ["continue", "a.wav", "--max-s", "inf"],
        ["continue", "a.wav", "--temperature", "nan"],
        ["continue", "a.wav", "--top-p", "nan"],
        ["continue", "a.wav", "--out", "a.txt"],
        ["continue", "a.wav", "--out", "a.wav/b.wav"],
        ["speak", "hello", "--max-s", "nan"],
        ["speak", "hello", "--max-s", "-3"],
        ["speak", "hello", "--seed", "-1"],
        ["speak", "hello", "--device", "zzz"],
        ["speak", ""],
        ["speak", " \n"],
        ["speak", "half a \udcff character"],
        ["speak", "hello", "--voice", "a.wav", "--voice-text", "half \ud800"],
        ["transcribe"],
        ["translate", "a.wav", "--max-s", "nan"],
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(tmp_path, folder, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    write_wave(tmp_path / "a.wav", noise(1))
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--model", str(folder)])
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and "Traceback" not in told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav"]


def test_a_name_with_a_new_line_in_it_stays_on_one_line(tmp_path, folder, capsys):
    for name in ("a\nb.wav", "c.wav"):
        write_wave(tmp_path / name, noise(1))
    run(folder, "transcribe", tmp_path / "a\nb.wav", tmp_path / "c.wav")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("\t" in line for line in lines)


def test_words_are_printed_with_their_times(tmp_path, folder, capsys, monkeypatch):
    """Of a transcript in two pieces, in the time of the whole recording."""
    none_T = np.zeros(0, np.int32)
    heard = Transcript((Segment(0.0, 1.0, "two tones,", none_T), Segment(1.0, 2.0, "then noise", none_T)))
    monkeypatch.setattr("sodakit.generate.long_form.transcribe", lambda model, blocks: heard)
    sound = two_halves(tmp_path / "a.wav")
    run(folder, "transcribe", sound, "--words")
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [word for _, _, word in rows] == ["two", "tones,", "then", "noise"]
    times = [float(t) for start, end, _ in rows for t in (start, end)]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= 2.0 and times[4] >= 1.0
    assert "without --words" in refused(capsys, folder, "transcribe", sound, "--aligner", "x").err
    assert (
        "does not load" in refused(capsys, folder, "transcribe", sound, "--words", "--aligner", "a/b/c").err
    )
