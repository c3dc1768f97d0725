"""Voices of recordings: a note of consent in their file, and a mark in all speech that is made."""

import json

import numpy as np
import pytest

from sodakit.audio.files import read_wave, write_wave
from sodakit.audio.origin import origin_of
from sodakit.errors import AudioError
from sodakit.generate.speech_model import SpeechModel, VoiceSample
from sodakit.generate.stream import sound_of_pieces
from sodakit.generate.voice_file import KeptVoice, read_voice, write_voice
from tests.eval.small_model import noise, small_checkpoint
from tests.generate.test_commands import refused, run

WATERMARK = "tests.audio.test_origin:louder"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def voice(tmp_path):
    write_wave(tmp_path / "ref.wav", noise(1, 1.0))
    return tmp_path / "ref.wav"


def speak(folder, tmp_path, *words):
    out = tmp_path / "out.wav"
    run(folder, "speak", "Open the door.", "--out", out, "--max-s", 1, *words)
    return origin_of(out)


def test_speech_is_marked_with_its_model_and_whose_voice_it_is_in(folder, tmp_path, voice, capsys):
    assert "model: " in (free := speak(folder, tmp_path)) and "voice: of the model's choice" in free
    assert "consent" not in capsys.readouterr().err
    given = ("--voice", voice, "--voice-text", "close the window")
    assert speak(folder, tmp_path, *given).endswith("of a recording, consent unstated")
    assert "--consent" in capsys.readouterr().err
    note = ("--consent", "Anna B., by e-mail on 3 May")
    stated = speak(folder, tmp_path, *given, *note)
    assert stated.endswith("of a recording, consent stated") and "Anna" not in stated
    assert "--consent" not in capsys.readouterr().err


def test_a_kept_voice_brings_its_text_and_its_consent_along(folder, tmp_path, voice):
    kept = tmp_path / "voices" / "anna.json"
    given = ("--voice", voice, "--voice-text", "close the window", "--consent", "Anna agreed")
    first = speak(folder, tmp_path, *given, "--keep-voice", kept)
    sound_S = read_wave(tmp_path / "out.wav").samples_S
    assert json.loads(kept.read_text())["consent"] == "Anna agreed"
    assert speak(folder, tmp_path, "--voice", kept) == first
    np.testing.assert_array_equal(read_wave(tmp_path / "out.wav").samples_S, sound_S)


def test_a_voice_of_before_there_were_notes_is_one_without_consent(tmp_path):
    write_voice(tmp_path / "old.json", KeptVoice("old", VoiceSample(noise(1), "open", "agreed"), 5))
    plain = json.loads((tmp_path / "old.json").read_text())
    del plain["consent"]
    (tmp_path / "old.json").write_text(json.dumps(plain))
    assert read_voice(tmp_path / "old.json").sample.consent is None


@pytest.mark.parametrize("plain", [[], {}, {"name": "a", "text": 3, "created": 1}])
def test_a_json_file_that_is_no_voice_is_named(tmp_path, plain):
    (tmp_path / "a.json").write_text(json.dumps(plain))
    with pytest.raises(AudioError, match="is no voice's file"):
        read_voice(tmp_path / "a.json")


def test_consent_without_a_voice_is_refused(folder, tmp_path, capsys):
    words = ("speak", "Open.", "--out", tmp_path / "a.wav", "--consent", "x", "--keep-voice", "y.json")
    assert "--consent, --keep-voice: no effect without --voice" in refused(capsys, folder, *words).err


def test_a_continuation_is_in_the_voice_of_the_recording(folder, tmp_path, voice, capsys):
    out = tmp_path / "more.flac"
    run(folder, "continue", voice, "--out", out, "--max-s", 1)
    assert origin_of(out).endswith("of a recording, consent unstated")
    assert "--consent" in capsys.readouterr().err
    run(folder, "continue", voice, "--out", out, "--max-s", 1, "--consent", "mine")
    assert origin_of(out).endswith("consent stated")


def test_a_watermark_is_in_all_speech_and_named_in_its_file(folder, tmp_path):
    plain = SpeechModel.load(folder, device="cpu")
    marked = SpeechModel.load(folder, device="cpu", watermark=WATERMARK)
    codes_KF = np.random.default_rng(0).integers(0, 16, (2, 60)).astype(np.uint16)
    expected_S = marked.watermark.of(plain.sound_of(codes_KF)).samples_S
    assert not np.array_equal(expected_S, plain.sound_of(codes_KF).samples_S)
    np.testing.assert_array_equal(marked.sound_of(codes_KF).samples_S, expected_S)
    streamed, _ = sound_of_pieces(marked, [codes_KF[:, :25], codes_KF[:, 25:]], as_drawn=True)
    np.testing.assert_allclose(streamed.samples_S, expected_S, atol=1e-6)
    assert f"watermark: {WATERMARK}" in speak(folder, tmp_path, "--watermark", WATERMARK)
