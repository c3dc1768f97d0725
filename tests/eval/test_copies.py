import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.eval.copies import Recording, SoundSet, folder_set, score_copies, without_nan
from sodakit.eval.voiceprints import SpectralSpeaker
from tests.codec.test_quality import speechlike
from tests.recordings import recordings


class Parrot:
    """A judge that hears every word of loud sounds and none of faint ones."""

    name, fingerprint = "parrot", "parrot"

    def transcribe(self, waves: Sequence[Wave]) -> list[str]:
        return ["open the door" if np.abs(wave.samples_S).max() > 0.05 else "" for wave in waves]


def loud_set(judge: Parrot | None = None) -> SoundSet:
    recordings = tuple(Recording(speechlike(seed), "Open the door!", "") for seed in range(3))
    return SoundSet("pulses", recordings, judge, "" if judge else "nobody was asked")


def test_perfect_copies_lose_nothing() -> None:
    sounds = loud_set(Parrot())
    scores = score_copies(sounds, [r.wave for r in sounds.recordings], SpectralSpeaker())
    assert scores.stoi.value == pytest.approx(1, abs=1e-3) and scores.mel_db == scores.stft_db == 0
    assert scores.heard is not None and scores.heard.wer == 0
    assert scores.speakers is None and scores.num_clips == 3


def test_copies_nobody_understands_are_counted_against_the_originals() -> None:
    sounds = loud_set(Parrot())
    noise = np.random.default_rng(0)
    copies = [Wave(0.01 * noise.standard_normal(72_000), 24_000).cut(0, 3) for _ in range(3)]
    scores = score_copies(sounds, copies, SpectralSpeaker())
    assert scores.heard is not None and scores.heard_original is not None
    assert (scores.heard.wer, scores.heard_original.wer) == (1, 0)
    assert scores.stoi.value < 0.4 and scores.mel_db > 5


def test_a_copy_at_another_rate_is_compared_at_the_originals() -> None:
    from sodakit.audio.files import resample

    sounds = loud_set()
    scores = score_copies(sounds, [resample(r.wave, 16_000) for r in sounds.recordings], SpectralSpeaker())
    assert scores.stoi.value > 0.99
    assert scores.heard is None and scores.judge == "nobody was asked"


def test_scores_are_json_without_nan() -> None:
    silent = SoundSet("silence", (Recording(Wave(np.full(24_000, 1e-4), 24_000), None, ""),), None)
    faint = SoundSet("both", (*loud_set().recordings, *silent.recordings), None)
    plain = score_copies(faint, [r.wave for r in faint.recordings], SpectralSpeaker()).plain()
    json.loads(json.dumps(plain, allow_nan=False))
    assert without_nan({"a": [float("nan"), 1.0]}) == {"a": [None, 1.0]}


def test_clips_are_spread_over_the_folder_and_read_with_text_and_speaker() -> None:
    sounds = folder_set(recordings("fsdd"), 8, None)
    assert 6 <= len(sounds.recordings) <= 8 and all(r.text for r in sounds.recordings)
    assert len({r.speaker for r in sounds.recordings}) > 1 and sounds.judge is None


def test_clips_of_a_folder_reach_to_its_end(tmp_path: Path) -> None:
    """Every n-th of fifteen, cut at eight, was the first eight: in a folder sorted by speaker, half of them."""
    rows = []
    for i in range(15):
        write_wave(tmp_path / f"{i:02d}.wav", speechlike(i).cut(0, 1))
        rows.append({"audio": f"{i:02d}.wav", "text": "go", "speaker": f"s{i:02d}"})
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    speakers = [r.speaker for r in folder_set(tmp_path, 8, None).recordings]
    assert speakers == [f"s{i:02d}" for i in range(0, 15, 2)]


def test_a_folder_with_many_words_gets_no_small_judge_and_says_so(tmp_path: Path) -> None:
    rows = []
    for i in range(4):
        write_wave(tmp_path / f"{i}.wav", speechlike(i).cut(0, 1))
        rows.append({"audio": f"{i}.wav", "text": " ".join(f"w{i}x{j}" for j in range(80))})
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    sounds = folder_set(tmp_path, 2, None, teach=True)
    assert sounds.judge is None and "320 words" in sounds.why_no_judge


def test_a_folder_without_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"audio": "gone.wav", "text": "hello"}))
    with pytest.raises(ConfigError, match="no readable recording"):
        folder_set(tmp_path, 2, None)
