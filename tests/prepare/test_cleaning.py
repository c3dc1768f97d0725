"""Cleaning rules: each on recordings or transcripts made to break it, and on neighbours that do not."""

import json

import numpy as np
import pytest

from sodakit.audio.wave import Wave
from sodakit.commands.leaks import main as leaks
from sodakit.errors import ConfigError, SodakitError, StoreError
from sodakit.prepare.checks import Limits, check_wave, reasons_table
from sodakit.prepare.cleaning import CleaningRules, clean, split_long
from sodakit.prepare.overlap import code_runs, word_runs
from sodakit.prepare.plan import Plan
from sodakit.prepare.recording import Item
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import finish, prepare
from sodakit.store.reader import StoreReader
from sodakit.store.writer import StoreWriter
from sodakit.tokens.text import TextTokenizer
from tests.prepare.test_stages import options, quarantine, tone, toy


def texts(*words: str, **more) -> list[Item]:
    return [Item(id=str(n), text=text, source="s", **more) for n, text in enumerate(words)]


def reasons(items, durations_s, **rules) -> dict[int, str]:
    found = clean(items, dict(enumerate(durations_s)), CleaningRules(**rules))
    return {row: rejection.reason for row, rejection in found.items()}


def chirps(seed: int, duration_s: float = 3.0) -> np.ndarray:
    """A hum of another loudness every 80 ms, in the toy codec's lowest band: its first code tells a melody."""
    loud = np.random.default_rng(seed).uniform(0.01, 0.4, round(duration_s / 0.08))
    return np.concatenate(loud[:, None] * np.sin(2 * np.pi * 150 * np.arange(1920) / 24_000)).astype(
        np.float32
    )


def test_clipped_sound_is_left_out_and_loud_sound_is_not():
    sine_S = np.sin(np.arange(24_000) / 7).astype(np.float32)
    clipped = check_wave(Wave(np.clip(1.5 * sine_S, -1, 1), 24_000), Limits())
    assert clipped is not None and clipped.reason == "clipped"
    assert check_wave(Wave(0.99 * sine_S, 24_000), Limits()) is None


def test_samples_may_exceed_full_scale_up_to_the_limit_and_no_further():
    samples_S = chirps(0) / np.abs(chirps(0)).max()
    for scale, why in ((1.9, None), (2.1, "beyond full scale")):
        found = check_wave(Wave(scale * samples_S, 16_000), Limits(max_peak=2.0, max_clipped_fraction=1.0))
        assert (None if found is None else found.reason) == why


def test_odd_speaking_rates_are_left_out():
    """A transcript that belongs to another clip is far too long or too short for its sound."""
    rng = np.random.default_rng(0)
    durations_s = rng.uniform(2, 8, 40)
    items = texts(*("x" * round(15 * d * rng.uniform(0.8, 1.25)) for d in durations_s), "x" * 200, "x" * 2)
    found = reasons(items, [*durations_s, 1.0, 6.0], max_rate_deviations=5.0)
    assert found == {40: "odd speaking rate", 41: "odd speaking rate"}


def test_repeated_transcripts_are_kept_so_many_times():
    items = texts("Thanks for watching!", "thanks  for watching!", "Something else", "Thanks for watching!")
    assert reasons(items, [1.0] * 4, max_repeats=2) == {3: "repeated transcript"}


def test_the_declared_language_counts_before_the_transcript_s():
    pytest.importorskip("py3langid")
    german = "Der schnelle braune Fuchs springt über den faulen Hund und läuft davon."
    english = "The quick brown fox jumps over the lazy dog and runs away from it."
    items = [
        *texts(german, english, "ja"),
        Item(id="d", text=german, language="en-GB"),
        Item(id="f", language="fr"),
    ]
    found = reasons(items, [1.0] * 5, languages=("en",))
    assert found == {0: "other language", 4: "other language"}


def test_long_sound_without_words_is_split_into_equal_parts():
    wave = Wave(np.zeros(50_000, np.float32), 1000)
    spoken = Item(id="spoken", wave=wave, text="what was said")
    parts = list(split_long([Item(id="long", wave=wave), spoken], Limits(max_duration_s=20, split_long=True)))
    assert [(p.id, p.start_s, p.end_s) for p in parts[:3]] == [
        ("long#0000", 0.0, 16.666667),
        ("long#0001", 16.666667, 33.333333),
        ("long#0002", 33.333333, 50.0),
    ]
    assert {p.recording for p in parts[:3]} == {"long"} and parts[3] is spoken


def test_near_duplicates_go_from_training_and_stay_in_the_test_split(tmp_path):
    one, other = chirps(1), chirps(2)
    items = [
        Item(id="a", wave=Wave(one, 24_000)),
        Item(id="copy", wave=Wave(0.999 * one, 24_000)),
        Item(id="b", wave=Wave(other, 24_000)),
        Item(id="held-out", wave=Wave(one, 24_000)),
    ]
    rule = SplitRule(rule=lambda item: "test" if item.id == "held-out" else "train")
    rules = CleaningRules(near_duplicate_share=0.5)
    prepare(items, tmp_path, toy(), options(split=rule, cleaning=rules, max_failed_fraction=0.6))
    assert quarantine(tmp_path) == {"a": "near-duplicate sound", "copy": "near-duplicate sound"}
    store = StoreReader(tmp_path)
    assert [u.id for u in store.utterances("train")] == ["b"]
    assert [u.id for u in store.utterances("test")] == ["held-out"]


def test_runs_of_silence_are_not_compared():
    assert len(code_runs(np.zeros(50, np.uint16))) == 0
    assert len(code_runs(np.arange(50, dtype=np.uint16))) == 46


def test_word_runs_ignore_case_and_punctuation():
    assert word_runs("Hello, World! Again.", 2) == ["hello world", "world again"]
    assert word_runs("Hi.", 2) == ["hi"] and word_runs(" ... ", 2) == []


def test_the_table_counts_every_rule_with_an_example():
    rows = [
        {"id": "a", "reason": "silent", "detail": "peak 0"},
        {"id": "b", "reason": "silent", "detail": "x"},
    ]
    table = reasons_table(rows, 8)
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    assert cells == [["silent"], ["2"], ["25.0%"], ["a: peak 0"]]


def test_the_verification_is_reported(tmp_path):
    prepare([tone("a"), tone("b")], tmp_path, toy(), options(verify_items=2))
    rows = json.loads((tmp_path / "verify.json").read_text())
    assert rows and all(row["encoded_again_same"] == 1.0 for row in rows)
    assert all(0 < row["round_trip_same"] <= 1 and row["decoded_s"] >= row["sound_s"] for row in rows)


def test_codes_that_are_not_of_their_sound_are_noticed_before_the_seal(tmp_path):
    """Same names and sizes, other sound: the plan cannot see it, the verification does."""
    items = [Item(id=str(n), wave=Wave(chirps(n), 24_000)) for n in range(3)]
    prepare(items, tmp_path, toy(1), options())
    (tmp_path / "store.json").unlink()
    swapped = [Item(id=str(n), wave=Wave(chirps(n + 9), 24_000)) for n in range(3)]
    writer = StoreWriter(tmp_path, toy(1).spec, TextTokenizer.load(tmp_path / "tokenizer").fingerprint)
    with pytest.raises(StoreError, match="come out again"):
        finish(writer, toy(1), Plan.load(tmp_path / "plan.json"), swapped, options())
    assert not (tmp_path / "store.json").exists()


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A training store, and an evaluation store with one copied recording and one copied sentence."""
    folder = tmp_path_factory.mktemp("leaks")
    sentence = "the seventh captain sailed around the cape without any wind at all"
    train = [
        Item(id="t0", wave=Wave(chirps(1), 24_000), text=sentence),
        Item(
            id="t1", wave=Wave(chirps(2), 24_000), text="nothing of interest was said on that day by anyone"
        ),
    ]
    test = [
        Item(
            id="same sound",
            wave=Wave(chirps(2), 24_000),
            text="completely other words that nobody wrote in training",
        ),
        Item(id="same words", wave=Wave(chirps(5), 24_000), text=f"They say {sentence}."),
        Item(
            id="clean",
            wave=Wave(chirps(6), 24_000),
            text="a third thing that has never been heard before today",
        ),
    ]
    prepare(train, folder / "train", toy(), options())
    prepare(test, folder / "test", toy(), options(split=SplitRule(rule=lambda item: "test")))
    return folder


def test_leaks_are_found_by_words_and_by_sound(stores, capsys):
    with pytest.raises(SystemExit) as ended:
        leaks([str(stores / "train"), "--against", str(stores / "test")])
    printed = capsys.readouterr().out
    assert ended.value.code == 1 and "2 leaked" in printed
    assert "same sound" in printed and "same words" in printed and "clean:" not in printed


def test_no_leak_is_status_0(stores, tmp_path, capsys):
    (tmp_path / "eval.jsonl").write_text(
        '{"id": "x", "text": "an unheard sentence of quite a few other words"}\n'
    )
    leaks([str(stores / "train"), "--against", str(tmp_path / "eval.jsonl")])
    assert "nothing leaked" in capsys.readouterr().out


def test_what_is_no_evaluation_set_is_refused(stores, tmp_path):
    with pytest.raises(ConfigError, match="no evaluation set"):
        leaks([str(stores / "train"), "--against", str(tmp_path)])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "", "holds 0 items"),
        ("a.jsonl", "\n\n", "holds 0 items"),
        ("a.jsonl", '{"id": "x", "words": "another column"}\n', "holds 1 items, none with a transcript"),
        ("a.jsonl", "[1]\n", "line 1"),
        ("a.jsonl", '{"text": "a dog ran home"}\n{"text": "torn', "line 2, is not JSON"),
        ("a.jsonl", "{\n{}\n", "line 1, is not JSON"),
        ("a.txt", "", "holds 0 items"),
        ("a.txt", "... \n!?\n", "holds 2 items"),
        ("a.txt", "\udcff", "no UTF-8"),
        ("s/store.json", "{", "not JSON"),
    ],
)
def test_a_set_that_says_nothing_is_never_called_clean(stores, tmp_path, capsys, name, text, message):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(SodakitError, match=message):
        leaks([str(stores / "train"), "--against", str(path.parent if "store" in name else path)])
    assert "nothing leaked" not in capsys.readouterr().out


def test_what_was_not_compared_is_counted(stores, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("an unheard sentence of quite a few other words\n...\n")
    leaks([str(stores / "train"), "--against", str(tmp_path / "a.txt")])
    printed = capsys.readouterr().out
    assert "nothing leaked; 1 compared" in printed and "1 of 2 items have neither words" in printed


def test_a_store_without_a_train_split_has_nothing_to_search(stores):
    with pytest.raises(ConfigError, match="no train split"):
        leaks([str(stores / "test"), "--against", str(stores / "test")])
