"""`sodakit prepare` as it is typed."""

import json
from pathlib import Path

import numpy as np
import pytest

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.commands.prepare import main
from sodakit.errors import AudioError, ConfigError
from sodakit.store.reader import StoreReader


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name in "abc":
        samples_S = 0.1 * np.sin(np.arange(16_000) / 10).astype(np.float32)
        write_wave(tmp_path / f"corpus/{name}.wav", Wave(samples_S, 16_000))
        (tmp_path / f"corpus/{name}.txt").write_text(f"this is {name}")
    return tmp_path / "corpus"


def words(corpus: Path, out: Path, *more: str) -> list[str]:
    return [str(corpus), "--out", str(out), "--codec", "toy", "--validation", "0", "--test", "0", *more]


def test_a_folder_becomes_a_store(corpus, tmp_path):
    main(words(corpus, tmp_path / "out"))
    found = StoreReader(tmp_path / "out").utterances("train")
    assert [u.text for u in found] == ["this is a", "this is b", "this is c"]
    assert found[0].source == "corpus"


def test_a_dry_run_prints_the_plan_and_writes_nothing(corpus, tmp_path, capsys):
    (corpus / "broken.wav").write_bytes(b"no sound")
    (corpus / "broken.txt").write_text("not to be heard")
    main(words(corpus, tmp_path / "out", "--dry-run"))
    printed = capsys.readouterr().out
    assert "train" in printed and "audio tokens" in printed
    assert "undecodable" in printed and "broken.wav" in printed and "times real time" in printed
    assert not (tmp_path / "out").exists()


def unwritten(corpus: Path) -> None:
    for path in corpus.glob("*.txt"):
        path.unlink()


def test_what_nobody_wrote_down_is_transcribed_by_the_named_judge(corpus, tmp_path, monkeypatch):
    """A judge that only transcribes does; one that writes is asked to, for its capitals and marks."""

    class Whisperer:
        name, fingerprint = "whisperer", "1234"

        def transcribe(self, waves):
            return ["tone" for _ in waves]

    class Writer(Whisperer):
        def write(self, waves):
            return ["A tone." for _ in waves]

    unwritten(corpus)
    for judge, text in ((Whisperer(), "tone"), (Writer(), "A tone.")):
        monkeypatch.setattr("sodakit.eval.judges.named_judge", lambda name, judge=judge: judge)
        main(words(corpus, tmp_path / text, "--transcribe", "someone"))
        assert [u.text for u in StoreReader(tmp_path / text).utterances("train")] == [text] * 3
    asked = json.loads((tmp_path / "tone/plan.json").read_text())["asked"]
    assert asked["transcriber"] == "whisperer 1234"


def test_segmenting_takes_its_rule_from_the_command_line(corpus, tmp_path):
    pytest.importorskip("faster_whisper")
    unwritten(corpus)
    more = ("--segment", "--longest-segment-s", "12", "--max-failed-fraction", "1")
    with pytest.raises(AudioError, match="no speech"):  # beeps are none, and a store of nothing is an error
        main(words(corpus, tmp_path / "out", *more))
    assert json.loads((tmp_path / "out/listened/segments/settings.json").read_text())["longest_s"] == 12
    assert (tmp_path / "out/quarantine.jsonl").read_text().count('"no speech"') == 3


def test_texts_can_be_mended_before_the_store_is_made(corpus, tmp_path, monkeypatch):
    class Judge:
        name, fingerprint = "judge", "1234"

        def transcribe(self, waves):
            return ["tune" for _ in waves]

    unwritten(corpus)
    monkeypatch.setattr("sodakit.eval.judges.named_judge", lambda name: Judge())
    asked = words(corpus, tmp_path / "out", "--transcribe", "someone")
    main([*asked, "--listen-only"])
    assert not (tmp_path / "out/plan.json").exists()
    (path,) = (tmp_path / "out/listened/transcripts").glob("*.jsonl")
    path.write_text(path.read_text().replace("tune", "tone", 1))
    main(asked)
    assert [u.text for u in StoreReader(tmp_path / "out").utterances("train")] == ["tone", "tune", "tune"]


def test_listening_only_needs_something_to_listen_for(corpus, tmp_path):
    with pytest.raises(ConfigError, match="--segment, --transcribe"):
        main(words(corpus, tmp_path / "out", "--listen-only"))


def test_a_dry_run_says_what_would_be_heard_and_hears_nothing(corpus, tmp_path, capsys):
    unwritten(corpus)
    main(words(corpus, tmp_path / "out", "--segment", "--transcribe", "no/such-model", "--dry-run"))
    printed = capsys.readouterr().out
    assert "3 sounds (3.0s) would be cut at pauses." in printed
    assert "3 sounds (3.0s) would be transcribed by no/such-model." in printed
    assert not (tmp_path / "out").exists()


def test_the_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert "sodakit prepare recordings/ --out stores/mine" in printed and "--dry-run" in printed
