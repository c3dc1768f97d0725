"""Long recordings without transcripts: cut at pauses, written down, and the same after any interruption."""

import json
import math
import sys
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sodakit.audio import decode
from sodakit.audio.files import read_wave, write_wave
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError, MissingExtra
from sodakit.files import read_json_lines
from sodakit.prepare import detector, listening
from sodakit.prepare.checks import Limits
from sodakit.prepare.detector import listen
from sodakit.prepare.listening import Transcriber, cut_at_pauses, foresee, transcribe
from sodakit.prepare.pauses import FRAME_S, PauseRule, speech_spans
from sodakit.prepare.recording import Item
from sodakit.prepare.stages import prepare
from sodakit.store.reader import StoreReader
from sodakit.units import spread
from tests.prepare.test_stages import options, quarantine, tone, toy
from tests.recordings import recordings

RULE = PauseRule()


@pytest.fixture
def detects() -> None:
    pytest.importorskip("faster_whisper")


def spoken(count: int, rate_hz: int = 16_000) -> list[np.ndarray]:
    """samples_S of readers of LibriSpeech, with two from LJSpeech between them."""
    names = spread(sorted((recordings("librispeech_test_other") / "audio").rglob("*.flac")), 9)[:count]
    names[1:1] = sorted((recordings("ljspeech") / "audio").glob("*.wav"))[:2]
    return [read_wave(path, rate_hz).samples_S for path in names[:count]]


def joined(path: Path, parts: list[np.ndarray], silence_s: float = 1.5, rate_hz: int = 16_000) -> list[float]:
    """Write the parts with silences around them; the middle of each silence in seconds."""
    rng = np.random.default_rng(0)
    quiet = (1e-4 * rng.standard_normal(round(silence_s * rate_hz))).astype(np.float32)
    middles_s, sounds, length = [], [quiet], len(quiet)
    for samples_S in parts:
        middles_s.append((length - len(quiet) / 2) / rate_hz)
        sounds += [samples_S, quiet]
        length += len(samples_S) + len(quiet)
    write_wave(path, Wave(np.concatenate(sounds), rate_hz))
    return [*middles_s, (length - len(quiet) / 2) / rate_hz]


def talk(path: Path) -> Item:
    return Item(id=f"talks/{path.name}", audio=path, source="talks")


def noise(name: str, duration_s: float = 3.0) -> Item:
    samples_S = 0.05 * np.random.default_rng(1).standard_normal(round(16_000 * duration_s))
    return Item(id=name, wave=Wave(samples_S.astype(np.float32), 16_000))


def times(items: list[Item]) -> list[tuple[float, float]]:
    return [(item.start_s, item.end_s) for item in items]


class Scribe:
    """A recogniser that writes how long it was listened to, and what nobody said where it is told to."""

    def __init__(self, text: str | None = None, name: str = "scribe") -> None:
        self.heard_s: list[float] = []
        self.text = text
        self.transcriber = Transcriber(name, f"print of {name}", self.write)

    def write(self, waves):
        self.heard_s += [wave.duration_s for wave in waves]
        return [f"{wave.duration_s:.1f} seconds" if self.text is None else self.text for wave in waves]


# ---------------------------------------------------------------------------------------------- pauses


def test_a_long_recording_is_cut_in_its_silences_and_keeps_all_speech(tmp_path, detects):
    parts = spoken(6)
    middles_s = joined(tmp_path / "long.wav", parts)
    segments = cut_at_pauses([talk(tmp_path / "long.wav")], tmp_path / "listened", RULE)
    for middle_s in middles_s:
        assert not any(start_s < middle_s < end_s for start_s, end_s in times(segments))
    assert all(
        any(before < start_s and end_s < after for start_s, end_s in times(segments))
        for before, after in pairwise(middles_s)
    ), "every recording is in at least one segment"
    whole = read_wave(tmp_path / "long.wav")
    outside = np.ones(len(whole.samples_S), bool)
    for start_s, end_s in times(segments):
        outside[round(start_s * 16_000) : round(end_s * 16_000)] = False
    frames = len(outside) // 512
    # Of the differences, because the first reader's microphone hums louder below 50 Hz than she speaks.
    steps_S = np.diff(whole.samples_S.astype(float), prepend=0.0)
    power_F = np.square(steps_S[: frames * 512]).reshape(-1, 512).mean(axis=1)
    loud_F = power_F > power_F.mean()
    assert outside[: frames * 512].reshape(-1, 512).all(axis=1)[loud_F].mean() < 0.005, "words were cut away"
    assert {item.recording for item in segments} == {"talks/long.wav"}


@pytest.mark.parametrize("rate_hz", [16_000, 22_050])
def test_the_parts_a_recording_is_read_in_cannot_be_told_from_its_cuts(
    tmp_path, detects, monkeypatch, rate_hz
):
    """A border inside a word must neither cut it nor make the detector deaf for a moment."""
    joined(tmp_path / "long.wav", spoken(4, rate_hz), 0.8, rate_hz)
    file, whole = talk(tmp_path / "long.wav"), Item(id="x", wave=read_wave(tmp_path / "long.wav"))
    monkeypatch.setattr(detector, "PART_S", 1000)
    whole_F, whole_s = listen(whole)
    uncut = cut_at_pauses([whole], tmp_path / "whole", PauseRule(longest_s=8))
    monkeypatch.setattr(detector, "PART_S", 1)
    monkeypatch.setattr(decode, "BLOCK_VALUES", 3 * rate_hz - 777)
    for number, item in enumerate((file, whole)):
        parts_F, parts_s = listen(item)
        assert parts_s == pytest.approx(whole_s) and len(parts_F) == len(whole_F)
        assert np.abs(parts_F - whole_F).max() < 1e-3
        cut = cut_at_pauses([item], tmp_path / str(number), PauseRule(longest_s=8))
        assert len(cut) == len(uncut) > 5
        assert np.abs(np.subtract(times(cut), times(uncut))).max() <= FRAME_S


def test_listening_holds_no_long_recording_in_memory(tmp_path, detects):
    """Five minutes at 48 kHz are 58 MB; hours must take no more than these do."""
    write_wave(tmp_path / "long.wav", Wave(np.zeros(300 * 48_000, np.float32), 48_000))
    detector.open_network()
    tracemalloc.start()
    listen(talk(tmp_path / "long.wav"))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 25e6


def test_pauses_are_those_of_silero_vads_own_rule(tmp_path, detects):
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    joined(tmp_path / "long.wav", spoken(5))
    samples_S = read_wave(tmp_path / "long.wav").samples_S
    theirs = get_speech_timestamps(
        samples_S, VadOptions(min_silence_duration_ms=500, min_speech_duration_ms=250, speech_pad_ms=0)
    )
    ours = speech_spans(listen(talk(tmp_path / "long.wav"))[0], RULE)
    assert len(ours) > 5
    assert [(begin * 512, end * 512) for begin, end in ours] == [(s["start"], s["end"]) for s in theirs]


def test_utterances_are_apart_in_order_inside_the_sound_and_not_too_long():
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st

    runs = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.4, 0.6, 1.0]), st.integers(1, 400)), max_size=12)
    rules = st.builds(
        PauseRule,
        longest_s=st.floats(2.0, 31.0),
        least_silence_s=st.floats(0.0, 2.0),
        least_speech_s=st.floats(0.0, 0.5),
        padding_s=st.floats(0.0, 0.5),
    )

    @hypothesis.settings(max_examples=150, deadline=None)
    @hypothesis.given(runs, rules, st.floats(0, 1))
    def check(runs, rule, filled):
        probabilities_F = np.concatenate([np.zeros(0), *(np.full(count, p) for p, count in runs)])
        duration_s = max(0.0, (len(probabilities_F) - filled) * FRAME_S)
        found = listening.utterance_times(probabilities_F, duration_s, rule)
        edges_s = [edge_s for pair in found for edge_s in pair]
        assert edges_s == sorted(edges_s)
        assert all(0 <= start_s < end_s <= duration_s + 1e-9 for start_s, end_s in found)
        assert all(end_s - start_s <= rule.longest_s + 1e-9 for start_s, end_s in found)
        spans = speech_spans(probabilities_F, rule)
        loud = [f for f in range(len(probabilities_F)) if probabilities_F[f] >= rule.speech_probability]
        for frame in loud:
            if any(begin <= frame < end for begin, end in spans):
                middle_s = min((frame + 0.5) * FRAME_S, duration_s)
                assert any(a - 0.002 <= middle_s <= b + 0.002 for a, b in found), "speech was lost"

    check()


def test_speech_that_is_too_long_is_cut_at_its_longest_silence():
    probabilities_F = np.ones(1400)
    probabilities_F[600:604] = 0.1
    probabilities_F[700:710] = 0.1
    rule = PauseRule(longest_s=30, padding_s=0)
    assert listening.utterance_times(probabilities_F, 1400 * FRAME_S, rule) == [
        (0.0, math.floor(700 * FRAME_S * 1000) / 1000),
        (math.ceil(710 * FRAME_S * 1000) / 1000, 44.8),
    ]


@pytest.mark.parametrize(
    "wrong", [{"longest_s": 0.5}, {"padding_s": -1}, {"padding_s": 20}, {"silence_probability": 0.9}]
)
def test_a_rule_that_cannot_work_says_what_it_needs(wrong):
    with pytest.raises(ConfigError, match=rf"{next(iter(wrong))}=.*needed|longest_s=30.0; needed"):
        PauseRule(**wrong)


# ------------------------------------------------------------------------------------------ cutting items


def test_noise_music_and_broken_files_are_quarantined_by_reason(tmp_path, detects):
    joined(tmp_path / "good.wav", spoken(2))
    (tmp_path / "torn.flac").write_bytes(
        (recordings("format_variants") / "audio/p001.flac").read_bytes()[:2000] + bytes(9000)
    )
    row = read_json_lines(recordings("music") / "manifest.jsonl")[0]
    music = Item(id="music", audio=recordings("music") / row["audio"])
    items = [music, talk(tmp_path / "good.wav"), noise("noise"), talk(tmp_path / "torn.flac")]
    cut = cut_at_pauses(items, tmp_path / "out/listened", RULE)
    report = prepare(cut, tmp_path / "out", toy(), options(max_failed_fraction=0.9))
    reasons = quarantine(tmp_path / "out")
    assert reasons.pop("talks/torn.flac") == "undecodable"
    assert reasons == {"music": "no speech", "noise": "no speech"}
    assert "in 3.0 s" in next(row["detail"] for row in report.rejected if row["id"] == "noise")
    assert report.utterances["train"] == len(cut) - 3


def test_utterances_of_a_recording_are_one_document_in_time_order(tmp_path, detects):
    joined(tmp_path / "a.wav", spoken(4))
    cut = cut_at_pauses([talk(tmp_path / "a.wav")], tmp_path / "out/listened", RULE)
    prepare(cut, tmp_path / "out", toy(), options())
    found = list(StoreReader(tmp_path / "out").utterances("train"))
    assert np.abs(np.subtract([(u.start_s, u.end_s) for u in found], times(cut))).max() < 1e-3
    assert {u.recording for u in found} == {"talks/a.wav"} and len(found) > 3
    assert [u.start_s for u in found] == sorted(u.start_s for u in found)


def test_what_has_a_transcript_or_is_a_part_is_left_alone(tmp_path, detects):
    items = [tone("a"), Item(id="text", text="words"), replace(tone("part", 2.0, text=None), start_s=0.5)]
    assert cut_at_pauses(items, tmp_path, RULE) == items
    assert not list((tmp_path / "segments").glob("*.jsonl"))


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper.vad", None)
    detector.open_network.cache_clear()
    with pytest.raises(MissingExtra, match=r"pip install 'sodakit\[asr\]'"):
        cut_at_pauses([noise("n")], tmp_path, RULE)


# ------------------------------------------------------------------------------------ stopping and mending


def test_a_killed_run_listens_only_to_the_rest_and_ends_with_the_same(tmp_path, detects, monkeypatch):
    items = []
    for name, samples_S in zip("abc", spoken(3), strict=True):
        joined(tmp_path / f"{name}.wav", [samples_S])
        items.append(talk(tmp_path / f"{name}.wav"))
    monkeypatch.setattr(listening, "CUT_S", 1.0)  # a file for each, as if they were long
    whole = cut_at_pauses(items, tmp_path / "whole", RULE)

    heard = []

    def dies_at_the_third(item):
        heard.append(item.id)
        if len(heard) == 3:
            raise KeyboardInterrupt
        return listen(item)

    monkeypatch.setattr(listening, "listen", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        cut_at_pauses(items, tmp_path / "killed", RULE)
    assert len(list((tmp_path / "killed/segments").glob("*.jsonl"))) == 2
    assert cut_at_pauses(items, tmp_path / "killed", RULE) == whole
    assert heard == ["talks/a.wav", "talks/b.wav", "talks/c.wav", "talks/c.wav"]
    for path in (tmp_path / "whole/segments").iterdir():
        assert (tmp_path / "killed/segments" / path.name).read_bytes() == path.read_bytes()


def test_a_transcript_is_written_once_and_a_persons_correction_stays(tmp_path):
    items, scribe = [tone("a", text=None), tone("b"), tone("c", 0.7, text=None)], Scribe()
    limits = Limits()
    written = transcribe(items, tmp_path, scribe.transcriber, limits)
    assert [item.text for item in written] == ["0.5 seconds", "this is b", "0.7 seconds"]
    (path,) = (tmp_path / "transcripts").glob("*.jsonl")
    path.write_text(path.read_text().replace("0.7 seconds", "What she said."))
    again = transcribe(items, tmp_path, scribe.transcriber, limits)
    assert [item.text for item in again] == ["0.5 seconds", "this is b", "What she said."]
    assert scribe.heard_s == [0.5, 0.7]


def test_a_border_moved_by_hand_is_respected_and_written_down_again(tmp_path, detects):
    joined(tmp_path / "a.wav", spoken(2))
    items, scribe = [talk(tmp_path / "a.wav")], Scribe()
    run = lambda: transcribe(  # noqa: E731
        cut_at_pauses(items, tmp_path, RULE), tmp_path, scribe.transcriber, Limits()
    )
    first = run()
    (path,) = (tmp_path / "segments").glob("*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["start_s"] += 0.5
    path.write_text("\n".join(json.dumps(row) for row in rows))
    second = run()
    assert second[0].start_s == first[0].start_s + 0.5 and second[1:] == first[1:]
    assert len(scribe.heard_s) == len(first) + 1


def test_a_killed_transcription_goes_on_with_the_next_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(listening, "WRITTEN_S", 1.0)
    items, scribe = [tone(f"t{n}", 0.5, text=None) for n in range(6)], Scribe()
    calls = []

    def dies_at_the_second_batch(waves):
        calls.append(len(waves))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return scribe.write(waves)

    mortal = replace(scribe.transcriber, write=dies_at_the_second_batch)
    with pytest.raises(KeyboardInterrupt):
        transcribe(items, tmp_path / "killed", mortal, Limits())
    killed = transcribe(items, tmp_path / "killed", mortal, Limits())
    assert calls == [2, 2, 2, 2]
    assert killed == transcribe(items, tmp_path / "whole", scribe.transcriber, Limits())


def test_where_no_word_is_heard_the_quarantine_says_so(tmp_path):
    items = transcribe([tone("a", text=None)], tmp_path / "listened", Scribe("  ").transcriber, Limits())
    report = prepare([*items, tone("b")], tmp_path, toy(), options(max_failed_fraction=0.5))
    assert quarantine(tmp_path) == {"a": "empty transcript"}
    assert report.rejected[0]["detail"] == "scribe heard no word"


def test_what_the_plan_leaves_out_is_not_listened_to(tmp_path):
    silent = Item(id="silent", wave=Wave(np.zeros(16_000, np.float32), 16_000))
    missing = Item(id="missing", audio=tmp_path / "no.wav")
    items, scribe = [tone("long", 3.0, text=None), silent, missing], Scribe()
    assert transcribe(items, tmp_path, scribe.transcriber, Limits(max_duration_s=2.0)) == items
    assert scribe.heard_s == []


def test_a_changed_sound_is_listened_to_again(tmp_path):
    scribe = Scribe()
    for duration_s in (0.5, 0.6):
        write_wave(tmp_path / "a.wav", tone("a", duration_s).wave)
        items = transcribe([talk(tmp_path / "a.wav")], tmp_path, scribe.transcriber, Limits())
        assert items[0].text == f"{duration_s} seconds"
    assert scribe.heard_s == [0.5, 0.6]


def test_other_settings_are_refused_by_name_until_fresh_sets_the_notes_aside(tmp_path, detects):
    cut_at_pauses([noise("n")], tmp_path, RULE)
    other = PauseRule(longest_s=20)
    with pytest.raises(ConfigError, match=r"longest_s: 30\.0 then, 20 now.*--fresh"):
        cut_at_pauses([noise("n")], tmp_path, other)
    cut_at_pauses([noise("n")], tmp_path, other, fresh=True)
    assert len(list((tmp_path / "segments.old1").glob("*.jsonl"))) == 1

    items = [tone("a", text=None)]
    transcribe(items, tmp_path, Scribe(name="one").transcriber, Limits())
    with pytest.raises(ConfigError, match=r"recogniser: 'one' then, 'two' now"):
        transcribe(items, tmp_path, Scribe(name="two").transcriber, Limits())


def test_fresh_keeps_notes_of_the_same_settings(tmp_path):
    """Hours of a recogniser and a person's corrections are not thrown away to try another codec."""
    items, scribe = [tone("a", text=None)], Scribe()
    for _ in range(2):
        transcribe(items, tmp_path, scribe.transcriber, Limits(), fresh=True)
    assert len(scribe.heard_s) == 1


def test_a_persons_own_file_and_odd_characters_are_read(tmp_path):
    items, scribe = [tone("a", text=None)], Scribe()
    transcribe(items, tmp_path, scribe.transcriber, Limits())
    (path,) = (tmp_path / "transcripts").glob("*.jsonl")
    text = path.read_text().replace("0.5 seconds", "one\u2028line")
    path.unlink()
    (tmp_path / "transcripts/mine.jsonl").write_text(text)
    assert transcribe(items, tmp_path, scribe.transcriber, Limits())[0].text == "one\u2028line"
    assert len(scribe.heard_s) == 1


@pytest.mark.parametrize(
    "line", ["{no", "[1]", '{"text": "x"}', '{"fingerprint": "x", "text": 3}', '{"text": "\udcff"}']
)
def test_a_line_that_was_mended_badly_is_named(tmp_path, line):
    items, scribe = [tone("a", text=None)], Scribe()
    transcribe(items, tmp_path, scribe.transcriber, Limits())
    (path,) = (tmp_path / "transcripts").glob("*.jsonl")
    path.write_bytes(path.read_bytes() + line.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=rf"{path.name}, line 2, .*Mend the line"):
        transcribe(items, tmp_path, scribe.transcriber, Limits())


def test_another_recogniser_asks_for_another_store(tmp_path):
    prepare([tone("a")], tmp_path, toy(), options(transcriber="one 1234"))
    with pytest.raises(ConfigError, match="transcriber: 'one 1234' then, 'two 5678' now"):
        prepare([tone("a")], tmp_path, toy(), options(transcriber="two 5678"))


def test_a_forecast_counts_what_would_be_heard_and_hears_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(listening, "listen", lambda *_: pytest.fail("it listened"))
    part = replace(tone("part", 2.0, text=None), start_s=0.5)
    items = [tone("a"), tone("b", 60.0, text=None), part]
    left, sentences = foresee(items, tmp_path / "listened", Limits(), True, "scribe")
    assert [item.id for item in left] == ["a", "part"]
    assert sentences[:2] == [
        "1 sound (1m00s) would be cut at pauses.",
        "2 sounds (1m02s) would be transcribed by scribe.",
    ]
    assert not (tmp_path / "listened").exists()


def test_a_recording_that_breaks_off_fails_alone(tmp_path, detects, monkeypatch):
    def broken(item):
        raise AudioError("breaks off after 1 s")

    monkeypatch.setattr(listening, "listen", broken)
    (item,) = cut_at_pauses([noise("n")], tmp_path, RULE)
    assert (item.reason, item.problem) == ("undecodable", "breaks off after 1 s")
