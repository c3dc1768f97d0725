"""From recordings to a store: exact, restartable, and the same with any number of workers."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sodakit.audio.wave import Wave
from sodakit.codec.toy import ToyCodec
from sodakit.errors import AudioError, CodecError, ConfigError, StoreError
from sodakit.prepare.checks import MIN_TIMED_CHARACTERS, Limits, check_item, check_wave
from sodakit.prepare.cleaning import split_long
from sodakit.prepare.encode import length_batches
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.plan import make_plan, request
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import prepare
from sodakit.store.reader import StoreReader
from sodakit.tokens.text import TextTokenizer, train_bpe
from sodakit.units import spread
from tests.recordings import recordings

TOY = (8, 32, 24_000, 1920)
"""Mimi's clock: 8 codebooks at 12.5 Hz."""

TRAIN_ONLY = SplitRule(validation_fraction=0, test_fraction=0)


def tone(name: str, duration_s: float = 0.5, **more) -> Item:
    rate_hz = more.pop("rate_hz", 24_000)
    pitch_hz = 100 + 7 * (sum(name.encode()) % 50)
    time_S = np.arange(round(rate_hz * duration_s)) / rate_hz
    wave = Wave((0.3 * np.sin(2 * np.pi * pitch_hz * time_S)).astype(np.float32), rate_hz)
    return Item(id=name, wave=wave, **{"text": f"this is {name}", "source": "tones", **more})


def toy(num_codebooks: int = 8) -> ToyCodec:
    return ToyCodec(num_codebooks, *TOY[1:])


def options(**more) -> PrepareOptions:
    return PrepareOptions(**{"split": TRAIN_ONLY, **more})


def digests(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def quarantine(folder: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]
    return {row["id"]: row["reason"] for row in rows}


def test_a_store_holds_the_codes_and_text_of_each_item(tmp_path):
    codec = toy()
    items = [
        tone("a", 0.5, speaker="ann", language="en"),
        tone("b", 0.31, text=None),
        tone("c", 0.2, text="ü 🎵"),
    ]
    report = prepare(items, tmp_path, codec, options())
    store = StoreReader(tmp_path, expect_codec=codec.spec.fingerprint)
    tokenizer = store.tokenizer()
    assert tokenizer.fingerprint == store.tokenizer_fingerprint
    assert report.utterances == {"train": 3} and report.rejected == []
    for item, found in zip(items, store.utterances("train"), strict=True):
        assert (found.id, found.text, found.speaker, found.source) == (
            item.id,
            item.text,
            item.speaker,
            "tones",
        )
        assert (found.codes_KF == codec.encode(item.wave.samples_S)).all()
        assert found.end_s == pytest.approx(item.wave.duration_s)
        assert tokenizer.decode(found.text_ids_T) == (item.text or "")


def test_text_documents_have_ids_and_no_frames(tmp_path):
    prepare(
        [Item(id="essay", text="words " * 50), tone("a"), Item(id="blank", text="  ")],
        tmp_path,
        toy(),
        options(max_failed_fraction=0.5),
    )
    essay, _ = StoreReader(tmp_path).utterances("train")
    assert essay.codes_KF.shape == (toy().spec.num_codebooks, 0) and len(essay.text_ids_T) > 10
    assert quarantine(tmp_path) == {"blank": "no sound and no text"}


def test_utterances_of_a_recording_lie_together_in_time_in_one_shard(tmp_path):
    long = tone("long", 2.0).wave

    def part(n, start_s):
        return Item(id=f"p{n}", recording="talk", wave=long, start_s=start_s, end_s=start_s + 0.4)

    items = [part(0, 1.0), tone("x", 0.6), part(1, 0.0), tone("y", 0.6), part(2, 0.5)]
    prepare(items, tmp_path, toy(), options(shard_duration_s=0.5))
    store = StoreReader(tmp_path)
    assert [u.id for u in store.utterances("train")] == ["p1", "p2", "p0", "x", "y"]
    assert [info.rows for info in store.shards("train")] == [3, 1, 1]
    second = store.utterances("train")[1]
    assert (second.start_s, second.end_s) == (0.5, pytest.approx(0.9))
    assert (second.codes_KF == toy().encode(long.cut(0.5, 0.9).samples_S)).all()


def test_a_part_of_a_file_is_the_part_of_its_sound(tmp_path):
    wave = tone("x", 1.0).wave
    soundfile.write(tmp_path / "x.wav", wave.samples_S, 24_000, "FLOAT")
    item = Item(id="x", audio=tmp_path / "x.wav", start_s=0.25, end_s=0.5)
    assert (item.read(24_000).samples_S == wave.samples_S[6000:12_000]).all()
    assert len(item.read(8000).samples_S) == 2000


def bad_items(folder: Path) -> dict[str, Item]:
    """One item for each way to fail, by the reason expected."""

    def file(name: str, samples, subtype="FLOAT") -> Path:
        soundfile.write(folder / name, np.asarray(samples, np.float32), 16_000, subtype)
        return folder / name

    (folder / "empty.wav").touch()
    (folder / "noise.wav").write_bytes(bytes(range(256)) * 20)
    good = file("good.wav", 0.1 * np.sin(np.arange(16_000)))
    nan = np.zeros(8000)
    nan[5] = np.nan
    files = {
        "missing file": Item(id="m", audio=folder / "nowhere.wav"),
        "empty file": Item(id="e", audio=folder / "empty.wav"),
        "undecodable": Item(id="u", audio=folder / "noise.wav"),
        "zero length": Item(id="z", audio=file("zero.wav", [])),
        "NaN or infinite samples": Item(id="n", audio=file("nan.wav", nan)),
        "silent": Item(id="s", audio=file("silent.wav", np.full(8000, 0.25))),
        "too short": Item(id="ts", audio=good, end_s=0.01),
        "too long": Item(id="tl", audio=file("long.wav", 0.1 * np.sin(np.arange(80_000)))),
        "times outside the sound": Item(id="t", audio=good, start_s=0.5, end_s=9.0),
        "duplicate id": Item(id="fine", audio=good),
        "bad row": Item(id="b", problem="line 3 is not JSON"),
        "beyond full scale": Item(id="il", audio=file("huge.wav", [*np.sin(np.arange(8000)) * 0.1, 1e30])),
        "low sample rate": Item(id="ir", wave=Wave(np.sin(np.arange(400, dtype=np.float32)), 200)),
        "transcript too long": Item(id="tt", audio=good, text="word " * 40_000),
        "text too long for its sound": Item(id="tr", audio=good, text="word " * 30),
        "control characters": Item(id="cc", audio=good, text="\x00\x01\x02"),
    }
    return {"": Item(id="fine", audio=good), **files}


def test_each_way_to_fail_gives_a_row_with_its_reason(tmp_path):
    items = bad_items(tmp_path)
    chosen = options(max_failed_fraction=1.0, limits=Limits(max_duration_s=4.0))
    report = prepare(items.values(), tmp_path / "out", toy(), chosen)
    assert [u.id for u in StoreReader(tmp_path / "out").utterances("train")] == ["fine"]
    expected = [(item.id, reason) for reason, item in items.items() if reason]
    assert sorted((row["id"], row["reason"]) for row in report.rejected) == sorted(expected)
    lines = (tmp_path / "out/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == report.rejected
    assert all(row["detail"] for row in report.rejected)


def test_the_rules_for_text_are_options(tmp_path):
    long, odd = tone("long", 1.0, text="word " * 3000), tone("odd", 1.0, text="a\x07 bell")
    plain = Item(id="text", text="a document of its own " * 2000)
    limits = Limits(max_text_characters=20_000, max_characters_per_s=1e6, max_control_fraction=0.5)
    report = prepare([long, odd, plain], tmp_path / "a", toy(), options(limits=limits))
    assert report.rejected == []
    report = prepare([long, odd, plain], tmp_path / "b", toy(), options(max_failed_fraction=1.0))
    assert {row["id"] for row in report.rejected} == {"long", "odd"}


@pytest.mark.parametrize(("told_s", "is_kept"), [(1.2, True), (0.8, True), (4.0, False), (0.1, False)])
def test_a_sound_longer_or_shorter_than_its_list_says_is_left_out(tmp_path, told_s, is_kept):
    items = [tone("fine", 1.0), dataclasses.replace(tone("told", 1.0), told_duration_s=told_s)]
    limits = Limits(max_duration_error_s=0.5)
    report = prepare(items, tmp_path / "out", toy(), options(limits=limits, max_failed_fraction=1.0))
    assert [row["reason"] for row in report.rejected] == ([] if is_kept else ["wrong duration"])


def test_a_short_text_fits_into_any_sound_and_a_longer_one_into_enough(tmp_path):
    """A word said fast is no mistake; fifty characters in a third of a second are one."""
    items = [
        tone(f"n{count}", 0.3, text="a" * count) for count in (MIN_TIMED_CHARACTERS - 1, MIN_TIMED_CHARACTERS)
    ]
    report = prepare(items, tmp_path / "out", toy(), options(max_failed_fraction=1.0))
    assert [(row["id"], row["reason"]) for row in report.rejected] == [
        (f"n{MIN_TIMED_CHARACTERS}", "text too long for its sound")
    ]


def test_a_segment_is_as_long_as_what_its_sound_has_of_it():
    """Transcribers round: an end after the file's is the file's."""
    item = dataclasses.replace(tone("cut", 1.0), start_s=0.25, end_s=1.4)
    duration_s, rejection = check_item(item, Limits())
    assert duration_s == pytest.approx(0.75) and rejection is None


@pytest.mark.parametrize(("share", "is_kept"), [(0.015, False), (0.005, True)])
def test_a_sound_of_few_clipped_samples_is_left_out_from_the_limit_on(share, is_kept):
    samples_S = 0.5 * np.sin(np.arange(10_000, dtype=np.float32) / 9)
    samples_S[: round(share * 10_000)] = 1.0
    rejection = check_wave(Wave(samples_S, 16_000), Limits(max_clipped_fraction=0.01))
    assert (rejection is None) == is_kept and (is_kept or rejection.reason == "clipped")


def test_empty_transcripts_are_counted(tmp_path, capsys):
    prepare([tone("a", text=""), tone("b", text=" "), tone("c")], tmp_path, toy(), options())
    assert "2 transcripts are empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "item", [Item(id="m", audio=Path("nowhere.wav")), tone("quiet", text="x", rate_hz=200)]
)
def test_a_store_of_nothing_is_an_error_whatever_may_fail(tmp_path, item):
    with pytest.raises(AudioError, match="1 of 1 items cannot be used"):
        prepare([item], tmp_path / "out", toy(), options(max_failed_fraction=1.0))
    assert not (tmp_path / "out/store.json").exists()


def test_a_length_that_cannot_be_is_not_cut_into_thousands_of_parts():
    class Liar:
        name = "liar"
        duration_s = staticmethod(lambda: 4_294_967.0)
        codes = staticmethod(lambda: None)
        fingerprint = staticmethod(lambda: "f")

    (item,) = split_long([Item(id="l", held=Liar())], Limits(split_long=True))
    assert item.reason == "too many parts" and "35792 parts; allowed: 2000" in item.problem


def test_a_plan_from_before_an_option_existed_is_continued(tmp_path):
    items = [tone("a")]
    prepare(items, tmp_path, toy(), options())
    plan = json.loads((tmp_path / "plan.json").read_text())
    del plan["asked"]["max_peak"]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    prepare(items, tmp_path, toy(), options())
    with pytest.raises(ConfigError, match="max_peak"):
        prepare(items, tmp_path, toy(), options(limits=Limits(max_peak=2.0)))


@pytest.mark.parametrize("when", ["plan", "encode"])
def test_too_many_failures_stop_the_job_and_name_the_most_frequent_reason(tmp_path, when):
    silent = Wave(np.zeros(12_000, np.float32), 24_000)
    bad = {"plan": Item(id="?", audio=tmp_path / "no.wav"), "encode": Item(id="?", wave=silent)}[when]
    items = [tone("a"), tone("b"), *(dataclasses.replace(bad, id=str(n), recording=str(n)) for n in range(2))]
    with pytest.raises(AudioError, match=r"2 of 4 items.*(missing file|silent) \(2\), for example 0"):
        prepare(items, tmp_path / "out", toy(), options(max_failed_fraction=0.4, shard_duration_s=0.1))
    assert len(quarantine(tmp_path / "out")) == 2
    assert not (tmp_path / "out/store.json").exists()
    prepare(items, tmp_path / "out", toy(), options(max_failed_fraction=0.5, shard_duration_s=0.1))
    assert len(StoreReader(tmp_path / "out").utterances("train")) == 2


def test_a_sound_the_codec_refuses_does_not_take_its_batch_along(tmp_path):
    class Picky(ToyCodec):
        def encode_batch(self, waves_S):
            if any(len(wave_S) == 12_024 for wave_S in waves_S):
                raise CodecError("not this one")
            return super().encode_batch(waves_S)

    items = [tone("a"), tone("b", 0.501), tone("c")]
    prepare(items, tmp_path, Picky(*TOY), options(max_failed_fraction=0.5))
    assert [u.id for u in StoreReader(tmp_path).utterances("train")] == ["a", "c"]
    assert quarantine(tmp_path) == {"b": "refused by the codec"}


def test_batches_hold_about_equal_lengths_and_every_item_once():
    durations_s = [3.0, 0.5, 9.0, 0.6, 3.1, 0.0]
    batches = list(length_batches(durations_s, 6.5))
    assert sorted(place for batch in batches for place in batch) == list(range(6))
    assert batches == [[5, 1, 3], [0, 4], [2]]


def test_worker_processes_make_the_same_bytes(tmp_path):
    items = [tone(f"t{n}", 0.2 + 0.05 * n, recording=f"r{n // 2}") for n in range(12)]
    for workers in (1, 2):
        chosen = options(split=SplitRule(stratify=True), workers=workers, shard_duration_s=1.0)
        prepare(items, tmp_path / str(workers), toy(), chosen)
    one, two = digests(tmp_path / "1"), digests(tmp_path / "2")
    assert one == two and len([name for name in one if name.endswith(".arrow")]) >= 4


def test_a_codec_that_cannot_travel_needs_one_worker(tmp_path):
    codec = toy()
    codec.handle = lambda: None
    with pytest.raises(ConfigError, match="workers=1"):
        prepare([tone("a"), tone("b")], tmp_path, codec, options(workers=2, shard_duration_s=0.1))


def test_a_second_run_makes_only_what_is_missing(tmp_path):
    items = [tone(f"t{n}") for n in range(6)]
    chosen = options(shard_duration_s=1.0)
    assert prepare(items, tmp_path, toy(), chosen).shards_made == 3
    before = digests(tmp_path)
    again = prepare(items, tmp_path, toy(), chosen)
    assert (again.shards_made, again.shards_kept) == (0, 3)
    (tmp_path / "train/shard-00001.arrow").unlink()
    third = prepare(items, tmp_path, toy(), dataclasses.replace(chosen, workers=2))
    assert (third.shards_made, third.shards_kept) == (1, 2)
    assert digests(tmp_path) == before


def test_another_request_is_refused_by_name_until_fresh(tmp_path):
    items, chosen = [tone("a"), tone("b")], options()
    prepare(items, tmp_path, toy(), chosen)
    tokenizer = train_bpe(["some other text"], 300)
    changed = [
        (items[:1], toy(), chosen, None, "items: "),
        (items, toy(4), chosen, None, "codec: "),
        (
            items,
            toy(),
            options(limits=Limits(min_duration_s=0.2)),
            None,
            "min_duration_s: 0.1 then, 0.2 now",
        ),
        (
            items,
            toy(),
            options(split=SplitRule(by="speaker")),
            None,
            "split.by: 'recording' then, 'speaker'",
        ),
        (items, toy(), chosen, tokenizer, "tokenizer: "),
    ]
    for new_items, codec, new_options, new_tokenizer, message in changed:
        with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
            prepare(new_items, tmp_path, codec, new_options, new_tokenizer)
    prepare(items[:1], tmp_path, toy(), options(fresh=True))
    assert len(StoreReader(tmp_path).utterances("train")) == 1


@pytest.mark.parametrize(
    "name", ["store.json", "quarantine.jsonl", "tokenizer/tokenizer.json", "train/shard-00000.arrow"]
)
@pytest.mark.parametrize("kept", [0, 40])
def test_half_a_file_is_mended_by_the_same_prepare(tmp_path, name, kept):
    """The advice that every message gives."""
    items = [*(tone(f"t{n}", text=f"tone {n}") for n in range(4)), tone("short", 0.01)]
    prepare(items, tmp_path, toy(), options())
    whole = digests(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:kept])
    if name.endswith(".arrow"):
        with pytest.raises(StoreError, match="delete it and run the same prepare again"):
            prepare(items, tmp_path, toy(), options())
        path.unlink()
    prepare(items, tmp_path, toy(), options())
    assert digests(tmp_path) == whole


@pytest.mark.parametrize("text", ["", "{", "[]", '{"plan_version": 2}', '{"plan_version": 2, "shards": 3}'])
def test_half_a_plan_names_the_file_and_fresh_starts_over(tmp_path, text):
    items = [tone("a")]
    prepare(items, tmp_path, toy(), options())
    whole = digests(tmp_path)
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ConfigError, match=r"plan\.json .* use --fresh to start over"):
        prepare(items, tmp_path, toy(), options())
    prepare(items, tmp_path, toy(), options(fresh=True))
    assert digests(tmp_path) == whole


def test_fresh_deletes_nothing_of_the_users(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/mine.wav").write_bytes(b"precious")
    (tmp_path / "notes.txt").write_text("precious")
    prepare([tone("a")], tmp_path, toy(), options(fresh=True))
    assert (tmp_path / "train/mine.wav").exists() and (tmp_path / "notes.txt").exists()


def test_a_single_shard_needs_no_process_of_its_own(tmp_path, monkeypatch):
    """Two workers for one shard took longer than one: the second had nothing to do and the first had to start."""
    monkeypatch.setattr("sodakit.prepare.workers._pool", lambda *_: pytest.fail("a process was started"))
    prepare([tone("a"), tone("b")], tmp_path, toy(), options(workers=2, shard_duration_s=60.0))


def test_a_short_job_has_shards_for_every_worker():
    items = [tone(f"t{n}", 10.0) for n in range(40)]
    plan = make_plan(items, request(items, toy().spec, None, options()), options())
    assert [len(shard.rows) for shard in plan.shards] == [6] * 6 + [4]


def test_nothing_to_prepare_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="No items"):
        prepare([], tmp_path, toy())


def test_the_tokenizer_learns_from_the_train_split_only(tmp_path):
    """Words of held-out transcripts in the vocabulary would leak."""
    items = [tone(f"t{n}", text="secret zebra" if n == 0 else "plain words here") for n in range(20)]
    rule = SplitRule(rule=lambda item: "test" if item.id == "t0" else "train")
    prepare(items, tmp_path, toy(), options(split=rule))
    tokenizer = TextTokenizer.load(tmp_path / "tokenizer")
    assert len(tokenizer.encode("secret zebra")) == len("secret zebra")
    assert len(tokenizer.encode("plain words here")) <= 4


SLOW_JOB = """
import sys, time
from tests.prepare.test_stages import TOY, ToyCodec, options, prepare, tone

class Slow(ToyCodec):
    def encode_batch(self, waves_S):
        time.sleep(0.05)
        return super().encode_batch(waves_S)

if __name__ == "__main__":
    items = [tone(f"t{n}") for n in range(30)]
    prepare(items, sys.argv[1], Slow(*TOY), options(shard_duration_s=1.0, workers=int(sys.argv[2])))
"""


def started(script: Path, out: Path, workers: int) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    words = [sys.executable, script, out, str(workers)]
    return subprocess.Popen(words, env={**os.environ, "PYTHONPATH": path})


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_job_loses_the_shard_in_flight_and_no_more(tmp_path, workers):
    script = tmp_path / "job.py"
    script.write_text(SLOW_JOB)
    out = tmp_path / "out"
    process = started(script, out, workers)
    while len(list(out.glob("train/shard-*.arrow"))) < 4:
        assert process.poll() is None, "the job ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.3)  # workers notice the death of their parent
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("train/shard-*.arrow")}
    assert 4 <= len(done) < 15
    items = [tone(f"t{n}") for n in range(30)]
    report = prepare(items, out, toy(), options(shard_duration_s=1.0))
    assert (report.shards_made, report.shards_kept) == (15 - len(done), len(done))
    assert all((out / "train" / name).stat().st_mtime_ns == mtime for name, mtime in done.items())
    prepare(items, tmp_path / "whole", toy(), options(shard_duration_s=1.0))
    assert digests(out) == digests(tmp_path / "whole")


def test_the_plan_estimates_what_comes_out():
    codec = toy()
    items = [tone(f"t{n}", 2.0) for n in range(10)]
    plan = make_plan(items, request(items, codec.spec, None, options()), options())
    table = plan.table(codec.spec)
    cells = {column.header: list(column.cells) for column in table.columns}
    assert cells["split"] == ["train", "all"] and cells["utterances"] == ["10", "10"]
    assert cells["sound"] == ["20s", "20s"] and cells["frames"] == ["250", "250"]


def test_one_recording_in_many_formats_is_one_sound(tmp_path):
    """Lossless formats agree code by code; the others begin at the same sample and differ by what they lose."""
    pytest.importorskip("av")
    items = [
        item
        for item in open_folder(recordings("format_variants"))
        if item.fields.get("same_audio_as") == "p001"
    ]
    assert prepare(items, tmp_path, toy(), options()).rejected == []
    found = {u.id.rsplit(".", 1)[1]: u for u in StoreReader(tmp_path).utterances("train")}
    assert set(found) == {"wav", "flac", "aiff", "mp3", "ogg", "aac", "mp4", "webm"}
    exact = found["wav"].codes_KF
    assert (found["flac"].codes_KF == exact).all() and (found["aiff"].codes_KF == exact).all()
    waves = {item.id.rsplit(".", 1)[1]: item for item in items}
    reference_S = waves["wav"].read(16_000).samples_S
    for name in ("mp3", "ogg", "aac", "mp4", "webm"):
        steps = np.abs(found[name].codes_KF[:, : exact.shape[1]].astype(int) - exact)
        assert np.mean(steps <= 1) > 0.8, f"{name}: a step of the toy codec is 2 dB"
        samples_S = waves[name].read(16_000).samples_S
        assert abs(len(samples_S) - len(reference_S)) < 0.02 * 16_000
        size = 2 * max(len(samples_S), len(reference_S))
        spectrum = np.fft.rfft(reference_S, size) * np.fft.rfft(samples_S, size).conj()
        together = np.fft.irfft(spectrum) / np.linalg.norm(reference_S) / np.linalg.norm(samples_S)
        assert abs((together.argmax() + size // 2) % size - size // 2) <= 2 and together.max() > 0.98, name


def test_without_the_extra_a_container_is_left_out_and_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    items = [Item(id="x", audio=recordings("format_variants") / "audio/p001.mp4"), tone("good")]
    report = prepare(items, tmp_path, toy(), options(max_failed_fraction=0.5))
    assert "pip install 'sodakit[containers]'" in report.rejected[0]["detail"]
    assert report.utterances == {"train": 1}


def test_a_file_cut_off_in_the_middle_is_quarantined(tmp_path):
    whole = (recordings("format_variants") / "audio/p001.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 4])
    (tmp_path / "torn.flac").write_bytes(whole[:2000] + bytes(2000) + whole[4000:])
    items = [*open_folder(tmp_path, "bad"), tone("good")]
    report = prepare(items, tmp_path / "out", toy(), options(max_failed_fraction=1.0))
    assert quarantine(tmp_path / "out")["bad/cut.flac"] == "undecodable"
    assert report.utterances["train"] >= 1


def test_real_digits_are_prepared_with_every_speaker_in_every_split(tmp_path):
    items = spread(list(open_folder(recordings("fsdd"))), 200)
    report = prepare(items, tmp_path, toy(), options(split=SplitRule(stratify=True, test_fraction=0.1)))
    assert sum(report.utterances.values()) == len(items) and report.rejected == []
    store = StoreReader(tmp_path)
    speakers = {item.speaker for item in items}
    assert all(set(store.columns(split).speakers) == speakers for split in ("train", "validation", "test"))


def test_ljspeech_keeps_its_text_through_the_tokenizer(tmp_path):
    items = list(open_folder(recordings("ljspeech")))
    prepare(items, tmp_path, toy(), options())
    tokenizer = TextTokenizer.load(tmp_path / "tokenizer")
    texts = {item.id: item.text for item in items}
    for utterance in StoreReader(tmp_path).utterances("train"):
        assert utterance.text == texts[utterance.id] == tokenizer.decode(utterance.text_ids_T)


def killed_at_random(tmp_path: Path, workers: int, kills: int, seed: int) -> Path:
    """The store of a job that was killed `kills` times at random moments, then left to end."""
    script = tmp_path / "job.py"
    script.write_text(SLOW_JOB)
    out = tmp_path / "out"
    rng = np.random.default_rng(seed)
    done = 0
    while done < kills:
        made = len(list(out.glob("train/shard-*.arrow")))
        process = started(script, out, workers)
        # Some die while they start or plan, the others once they have written something more.
        wanted = made + int(rng.integers(0, 2))
        while process.poll() is None and len(list(out.glob("train/shard-*.arrow"))) < wanted:
            time.sleep(0.01)
        try:
            process.wait(rng.uniform(0, 0.4))
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        if (out / "store.json").exists():
            (
                out / "store.json"
            ).unlink()  # it ended before it could be killed: let the next one begin at the seal
        done += process.returncode != 0
    items = [tone(f"t{n}") for n in range(30)]
    prepare(items, out, toy(), options(shard_duration_s=1.0))
    return out


def test_a_job_killed_three_times_ends_with_the_same_bytes(tmp_path):
    out = killed_at_random(tmp_path, 1, kills=3, seed=0)
    prepare([tone(f"t{n}") for n in range(30)], tmp_path / "whole", toy(), options(shard_duration_s=1.0))
    assert digests(out) == digests(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_killed_twenty_times_ends_with_the_same_bytes(tmp_path, workers):
    """Kills in the plan, the tokenizer, a shard or the seal: whatever is found, the next run goes on from it."""
    out = killed_at_random(tmp_path, workers, kills=20, seed=workers)
    prepare([tone(f"t{n}") for n in range(30)], tmp_path / "whole", toy(), options(shard_duration_s=1.0))
    assert digests(out) == digests(tmp_path / "whole")
