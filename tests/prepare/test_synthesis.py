"""A corpus from texts: the same bytes however it was stopped, read by `prepare` as it is."""

import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sodakit.codec.toy import ToyCodec
from sodakit.errors import ConfigError
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import prepare
from sodakit.prepare.synthesis import (
    SynthesisConfig,
    _work,
    estimate,
    plan_shards,
    read_texts,
    synthesise,
)
from sodakit.store.reader import StoreReader
from sodakit.voices.contract import Speech
from sodakit.voices.engines import ENGINES, SLOWNESS
from sodakit.voices.espeak import EspeakEngine
from sodakit.voices.flite import FliteVoice, installed_voices
from sodakit.voices.names import find_voices

CONFIG = SynthesisConfig(shard_lines=3, workers=1)
VOICES = ("anna", "frank", "espeak:es+m3")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    rows = [{"text": f"Number {n} is said.", "id": f"t{n}"} for n in range(10)]
    rows += [{"text": "Hola, amigo.", "id": "es1", "language": "es"}, {"text": "...", "id": "dots"}]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".running")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_prepare_reads_what_is_made(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    made = synthesise(read_texts(texts, "en"), find_voices(VOICES), out, CONFIG)
    assert (made.said, made.unsaid) == (11, 1)
    items = list(open_folder(out))
    assert [i for i in items if i.problem] == [] and len(items) == 11
    by_text = {item.text: item for item in items}
    spanish = by_text["Hola, amigo."]
    assert (spanish.speaker, spanish.language, spanish.licence) == ("espeak-es+m3", "es", "synthetic")
    assert [w["word"] for w in spanish.fields["words"]] == ["Hola", "amigo"]
    assert {i.speaker for i in items} == {"anna", "frank", "espeak-es+m3"}
    assert all(item.read().duration_s == pytest.approx(item.told_duration_s, abs=1e-3) for item in items)
    unsaid = [json.loads(line) for line in (out / "unsaid.jsonl").read_text().splitlines()]
    assert unsaid[0]["text"] == "..." and "says nothing" in unsaid[0]["problem"]


def test_lines_of_one_voice_become_recordings_that_prepare_keeps_together(
    texts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "corpus"
    lines, voices = read_texts(texts, "en"), find_voices(VOICES[:2])
    english = [line for line in lines if line.language == "en"]
    synthesise(english, voices, out, replace(CONFIG, lines_per_recording=2))
    prepare(
        open_folder(out),
        tmp_path / "store",
        ToyCodec(),
        PrepareOptions(split=SplitRule(rule=lambda item: "train")),
    )
    recordings: dict[str, set[str]] = {}
    for utterance in StoreReader(tmp_path / "store").utterances("train"):
        recordings.setdefault(utterance.recording, set()).add(utterance.speaker)
    assert all(len(speakers) == 1 for speakers in recordings.values())
    sizes = Counter(u.recording for u in StoreReader(tmp_path / "store").utterances("train")).values()
    assert sum(sizes) == 10 and max(sizes) == 2 and len(sizes) < 8
    with pytest.raises(ConfigError, match="begun with other settings"):
        synthesise(english, voices, out, CONFIG)


def test_two_processes_killed_and_resumed_give_the_same_bytes(texts: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    synthesise(read_texts(texts, "en"), find_voices(VOICES), whole, CONFIG)
    words = [
        sys.executable,
        "-m",
        "sodakit",
        "synthesise",
        str(texts),
        "--voices",
        *VOICES,
        "--out",
        str(killed),
    ]
    process = subprocess.Popen([*words, "--shard-lines", "3", "--workers", "2"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (
        not list(killed.glob("shards/*/rows.jsonl"))
        and time.monotonic() < deadline
        and process.poll() is None
    ):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert list(killed.glob("shards/*/rows.jsonl")), "it was killed before it began"
    synthesise(read_texts(texts, "en"), find_voices(VOICES), killed, replace(CONFIG, workers=2))
    assert digests(killed) == digests(whole)


def test_every_text_is_said_by_voices_of_its_language_in_turn(texts: Path) -> None:
    lines, voices = read_texts(texts, "en"), find_voices(["anna", "frank", "carol"])
    english = [line for line in lines if line.language == "en"]
    shards = plan_shards(english, voices, replace(CONFIG, voices_per_text=2))
    said = [(line.id, shard.voice.name) for shard in shards for _, line in shard.lines]
    assert len(said) == len(set(said)) == 2 * len(english)
    counts = [sum(name == voice.name for _, name in said) for voice in voices]
    assert max(counts) - min(counts) <= 1
    with pytest.raises(ConfigError, match="0 of the 3 voices speak 'es'"):
        plan_shards(lines, voices, CONFIG)


def test_another_job_needs_another_folder(texts: Path, tmp_path: Path) -> None:
    lines = read_texts(texts, "en")[:2]
    synthesise(lines, find_voices(["anna"]), tmp_path / "out", CONFIG)
    with pytest.raises(ConfigError, match="other settings"):
        synthesise(lines, find_voices(["anna"]), tmp_path / "out", replace(CONFIG, seed=1))
    with pytest.raises(ConfigError, match="something else"):
        synthesise(lines, find_voices(["anna"]), texts.parent, CONFIG)


def test_the_cost_is_told_before(texts: Path) -> None:
    rows = estimate(read_texts(texts, "en"), find_voices(VOICES), CONFIG)
    assert sum(row["lines"] for row in rows) == 12
    assert all(0.5 < row["speech_s"] / row["lines"] < 5 and row["bytes"] > 0 for row in rows)


def test_a_broken_list_of_texts_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a"}\n{"nothing": 1}\n')
    with pytest.raises(ConfigError, match="line 2: no text"):
        read_texts(path, "en")
    path.write_text('{"text": "a", "id": "x"}\n{"text": "b", "id": "x"}\n')
    with pytest.raises(ConfigError, match="one id for several"):
        read_texts(path, "en")


def test_a_folder_is_filled_by_one_process_at_a_time(texts: Path, tmp_path: Path) -> None:
    """Two would take each other's unfinished shards for those of a process that was killed."""
    lines, voices, out = read_texts(texts, "en"), find_voices(VOICES), tmp_path / "out"
    code = "import sys, time; from pathlib import Path; from sodakit.holding import hold\nwith hold(Path(sys.argv[1]), 'filled'):\n    print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"is being filled by process {other.pid}"):
            synthesise(lines, voices, out, CONFIG)
        other.kill()
        other.wait()
    assert synthesise(lines, voices, out, CONFIG).said == 11
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        synthesise(lines, voices, tmp_path / "else", CONFIG)
    assert [p.name for p in (tmp_path / "else").iterdir()] == ["notes.txt"]


def test_the_slowest_shards_are_begun_first(texts: Path) -> None:
    (anna,) = find_voices(["anna"])
    lines = read_texts(texts, "en")[:6]
    voices = (anna, FliteVoice("slt"))
    shards = plan_shards(lines, voices, CONFIG)
    order = sorted(shards, key=lambda shard: -_work(shard))
    assert [shard.voice.engine for shard in order] == ["flite", "espeak-ng"]
    assert set(SLOWNESS) == set(ENGINES)


@pytest.mark.parametrize("voice", ["anna", "flite:slt"])
def test_an_engine_that_draws_no_noise_is_started_once(
    voice: str, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if voice != "anna" and not installed_voices():
        pytest.skip("flite is not installed")
    started = []
    for name, start in list(ENGINES.items()):
        monkeypatch.setitem(
            ENGINES, name, lambda seed, name=name, start=start: started.append(name) or start(seed)
        )
    lines = [line for line in read_texts(texts, "en") if line.language == "en" and line.text != "..."]
    assert synthesise(lines, find_voices([voice]), tmp_path / "a", CONFIG).said == 10
    assert len(started) == 1


def test_a_text_that_kills_its_engine_takes_no_other_along(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = EspeakEngine._receive

    def dies(engine: EspeakEngine, text: str) -> Speech:
        if text == "Number 1 is said.":
            engine._process.kill()
            engine._process.wait()
        return receive(engine, text)

    monkeypatch.setattr(EspeakEngine, "_receive", dies)
    lines = [line for line in read_texts(texts, "en") if line.language == "en" and line.text != "..."]
    made = synthesise(lines, find_voices(["anna"]), tmp_path / "a", CONFIG)
    assert (made.said, made.unsaid) == (9, 1)
    assert "ended with status" in (tmp_path / "a" / "unsaid.jsonl").read_text()
