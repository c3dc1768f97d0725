import hashlib
from pathlib import Path

import numpy as np
import pytest

from sodakit.audio.files import read_wave, write_wave
from sodakit.audio.wave import Wave
from sodakit.commands.eval import main
from sodakit.errors import ConfigError
from sodakit.eval.build import BuildConfig, Built, Clip, Draft, write_benchmark
from sodakit.eval.cues import CUES, measure
from sodakit.eval.pair_layouts import Pair, Side, read_pairs
from sodakit.eval.pairs import score_pairs, task
from sodakit.eval.policies import policies_for, policy
from sodakit.eval.sound_pairs import PARTS, Sources, sound_pairs, usable
from sodakit.eval.spoken_pairs import spoken_pairs
from sodakit.files import read_json, read_json_lines, write_json_lines
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.manifest import read_manifest
from sodakit.voices.catalogue import SEEN_VOICES
from tests.eval.small_model import noise, small_speech_model
from tests.recordings import real_recordings, recordings

SMALL = BuildConfig(pairs_per_part=4, sample_rate_hz=8000, segment_s=0.5, seed=1)


def items_of(name: str, keep: int, by: str) -> list[Item]:
    """The first few items of each speaker or label."""
    found: dict[str, list[Item]] = {}
    for item in read_manifest(recordings(name) / "manifest.jsonl", name):
        found.setdefault(str(item.fields.get(by)), []).append(item)
    return usable([item for items in found.values() for item in items[:keep]])


@pytest.fixture(scope="module")
def sources() -> Sources:
    return Sources(
        items_of("librispeech_test_other", 2, "speaker"),
        items_of("esc10", 2, "label"),
        items_of("rir", 9, "label"),
    )


@pytest.fixture(scope="module")
def built(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("benchmark") / "salmon"
    return write_benchmark(sound_pairs(sources, SMALL), folder, SMALL, sources.origin())


def test_all_parts_are_built_from_real_recordings(built: Built) -> None:
    assert built.num_pairs == dict.fromkeys(PARTS, 4)
    for row in read_json_lines(built.folder / "pairs.jsonl"):
        for side in (row["positive"], *row["negatives"]):
            data = (built.folder / side["audio"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == side["sha256"]


def test_no_trivial_cue_gives_anything_away(built: Built) -> None:
    assert built.leaks == []
    for cues in built.cues.values():
        for cue in CUES:
            assert cues[cue].larger_is_right.value == pytest.approx(0.5)


@pytest.mark.parametrize("part", ["speaker_consistency", "gender_consistency"])
def test_the_highest_peak_does_not_tell_whose_halves_belong_together(tmp_path: Path, part: str) -> None:
    """It once did, on these two voices, for 60 to 62 % of the pairs: a voice of high peaks has them in both halves."""
    config = BuildConfig(pairs_per_part=60, sample_rate_hz=16_000, segment_s=1.0, seed=0)
    voices = Sources(items_of("vctk", 20, "speaker"))
    built = write_benchmark(sound_pairs(voices, config, [part]), tmp_path / "b", config, {})
    assert built.num_pairs == {part: 60}
    assert built.leaks == []
    assert {cue: built.cues[part][cue].larger_is_right.value for cue in CUES} == dict.fromkeys(CUES, 0.5)


def test_the_same_inputs_give_the_same_bytes_and_another_seed_others(
    sources: Sources, built: Built, tmp_path: Path
) -> None:
    again = write_benchmark(sound_pairs(sources, SMALL), tmp_path / "again", SMALL, sources.origin())
    assert again.digest == built.digest
    for path in built.folder.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again.folder / path.relative_to(built.folder)).read_bytes()
    other = BuildConfig(pairs_per_part=4, sample_rate_hz=8000, segment_s=0.5, seed=2)
    drafts = sound_pairs(sources, other, ["speaker_consistency"])
    assert write_benchmark(drafts, tmp_path / "other", other, {}).digest != built.digest


def test_what_is_right_in_one_pair_is_wrong_in_its_twin(built: Built) -> None:
    """The second halves of the right sides are those of the wrong sides: liking one of them is worth 50 %."""
    half = round(0.5 * 8000)
    by_source: dict[str, list[dict[str, object]]] = {}
    for row in read_json_lines(built.folder / "pairs.jsonl"):
        if row["part"] != "bg_alignment":
            by_source.setdefault(row["source"], []).append(row)
    for twins in by_source.values():
        right, wrong = (
            sorted(_half(built.folder, side(row), half).tobytes() for row in twins)
            for side in (lambda row: row["positive"], lambda row: row["negatives"][0])
        )
        assert right == wrong
        for row in twins:
            sides = [
                read_wave(built.folder / s["audio"]).samples_S for s in (row["positive"], *row["negatives"])
            ]  # type: ignore[misc,index]
            assert np.corrcoef(sides[0][:half], sides[1][:half])[0, 1] > 0.9999  # the first half is shared


def _half(folder: Path, side: dict[str, str], half: int) -> np.ndarray:
    # Levels of a pair may be lowered together against clipping: compare the shape, not the level.
    samples_S = read_wave(folder / side["audio"]).samples_S[half:]
    return np.round(samples_S / np.abs(samples_S).max(), 2)


def test_genders_differ_where_that_is_the_question(sources: Sources) -> None:
    config = BuildConfig(pairs_per_part=2, sample_rate_hz=8000, segment_s=0.5)
    one_speaker = [item for item in sources.recordings if item.speaker == sources.recordings[0].speaker]
    with pytest.raises(ConfigError, match="two speakers"):
        list(sound_pairs(Sources(one_speaker), config, ["speaker_consistency"]))
    men = [item for item in sources.recordings if item.fields["gender"] == "M"]
    with pytest.raises(ConfigError, match="different `gender`"):
        list(sound_pairs(Sources(men), config, ["gender_consistency"]))


def test_a_built_benchmark_is_scored_and_an_untrained_model_is_at_chance(
    built: Built, tmp_path: Path
) -> None:
    pairs = read_pairs(built.folder)
    result = score_pairs(small_speech_model(), task("salmon"), pairs, [policy("sodakit", "salmon")], tmp_path)
    for part, value in result["scores"]["sodakit"]["parts"].items():
        assert value["low"] <= 0.5 <= value["high"], part


WORDS = [
    ("history", "fistory"),
    ("alike", "alibe"),
    ("bushes", "kushes"),
    ("metallic", "netallic"),
    ("cat", "cad"),
    ("garden", "barden"),
    ("window", "findow"),
    ("radio", "padio"),
    ("oven", "ozen"),
    ("kitchen", "pitchen"),
]


def test_spoken_words_are_balanced_in_length_and_remember_their_text(tmp_path: Path) -> None:
    pairs = [
        Pair(id=str(n), positive=Side(text=word), negatives=(Side(text=pseudo),), frequency=n)
        for n, (word, pseudo) in enumerate(WORDS)
    ]
    config = BuildConfig(pairs_per_part=4, sample_rate_hz=16_000, voices_per_pair=2)
    built = write_benchmark(spoken_pairs(pairs, config, "swuggy"), tmp_path / "swuggy", config, {})
    assert built.cues["swuggy"]["duration_s"].larger_is_right.value == pytest.approx(0.5)
    assert built.cues["swuggy"]["loudness_db"].num_ties == built.num_pairs["swuggy"]
    spoken = read_pairs(built.folder)
    assert {(p.positive.text, p.negatives[0].text) for p in spoken} <= set(WORDS)
    assert len({p.voice for p in spoken}) > 1
    assert all(p.frequency == WORDS.index((p.positive.text, p.negatives[0].text)) for p in spoken)


def test_a_spoken_story_shares_its_beginning_to_the_sample(tmp_path: Path) -> None:
    story = [
        Pair(
            id=str(n),
            positive=Side(text=f"A dog sat. {right}", prefix="A dog sat."),
            negatives=(Side(text=f"A dog sat. {wrong}", prefix="A dog sat."),),
        )
        for n, (right, wrong) in enumerate(
            [("It ran home.", "She read on."), ("She read on.", "It ran home.")]
        )
    ]
    config = BuildConfig(pairs_per_part=2, max_length_difference=0.9)
    built = write_benchmark(
        spoken_pairs(story, config, "sstorycloze", SEEN_VOICES[:1]), tmp_path / "s", config, {}
    )
    for pair in read_pairs(built.folder):
        start_s = pair.positive.ending_start_s
        assert start_s and start_s == pair.negatives[0].ending_start_s
        right, wrong = (side.read().cut(0, start_s).samples_S for side in pair.sides)
        assert np.array_equal(right, wrong)
        assert pair.positive.prefix == "A dog sat."


def test_the_command_builds_from_written_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"word": word, "pseudo": pseudo, "freq": 50} for word, pseudo in WORDS]
    write_json_lines(tmp_path / "words" / "word_pairs.jsonl", rows)
    words = [
        "--texts",
        str(tmp_path / "words"),
        "--part",
        "swuggy",
        "--pairs",
        "2",
        "--out",
        str(tmp_path / "b"),
    ]
    main(["build", *words])
    written = read_pairs(tmp_path / "b")
    assert 2 <= len(written) <= 3  # a couple completes what a pair of equal lengths began
    assert f"| swuggy | {len(written)} | 50.0%" in capsys.readouterr().out


def test_a_cue_that_gives_the_answer_away_is_named(tmp_path: Path) -> None:
    """Right sides louder throughout: the build says so, and what else follows from it."""
    drafts = [
        Draft(id=str(n), part="loud", sides=(Clip(noise(n)), Clip(Wave(noise(n).samples_S / 2, 8000))))
        for n in range(8)
    ]
    built = write_benchmark(drafts, tmp_path / "b", SMALL, {})
    assert built.leaks == ["loud: loudness_db", "loud: peak_db", "loud: flac_bytes"]
    assert read_json(tmp_path / "b" / "build.json")["leaks"] == built.leaks
    assert read_json(tmp_path / "b" / "cues.json")["loud"]["duration_s"]["num_ties"] == 8


def test_cues_measure_what_they_are_called() -> None:
    tone = Wave(np.sin(np.arange(8000) / 8).astype(np.float32) / 2, 8000)
    found, noisy = measure(tone), measure(noise(0, 1.0))
    assert found["duration_s"] == noisy["duration_s"] == 1
    assert found["loudness_db"] == pytest.approx(-9.03, abs=0.02)  # a sine of half scale
    assert found["peak_db"] == pytest.approx(-6.02, abs=0.02)
    assert found["file_bytes"] == 44 + 16_000
    assert 100 < found["flac_bytes"] < noisy["flac_bytes"] < found["file_bytes"]


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    write_wave(tmp_path / "mine.wav", noise(0))
    with pytest.raises(ConfigError, match="something else"):
        write_benchmark([], tmp_path, SMALL, {})
    assert (tmp_path / "mine.wav").exists()


def test_a_part_that_is_not_full_says_how_many_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, duration_s in (("short", 0.3), ("room0", 0.1), ("room1", 0.1)):
        write_wave(tmp_path / f"{name}.wav", noise(len(name), duration_s))
    short, *rooms = (Item(id=name, audio=tmp_path / f"{name}.wav") for name in ("short", "room0", "room1"))
    made = list(sound_pairs(Sources([short], [], rooms), SMALL, ["rir_consistency"]))
    assert made == []
    said = " ".join(capsys.readouterr().err.split())
    assert "rir_consistency: 0 of 4 pairs; 40 of 40 tries were too short" in said


def test_no_pair_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Not one pair"):
        write_benchmark([], tmp_path / "b", SMALL, {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "negative"),
    [
        ("swuggy", "word_pairs", None),
        ("sblimp", "blimp", None),
        ("sstorycloze", "topic_pairs", "bad_same_book"),
    ],
)
def test_spoken_parts_from_the_real_lists_leave_cues_and_an_untrained_model_at_chance(
    tmp_path: Path, name: str, folder: str, negative: str | None
) -> None:
    pairs = read_pairs(real_recordings(folder), speech=False, negative=negative)
    config = BuildConfig(pairs_per_part=60, sample_rate_hz=8000)
    built = write_benchmark(spoken_pairs(pairs, config, name), tmp_path / "b", config, {})
    assert built.leaks == []
    assert all(built.cues[name][cue].larger_is_right.value == pytest.approx(0.5) for cue in CUES)
    rules = policies_for(task(name).family)
    model = small_speech_model(context=8192)
    result = score_pairs(model, task(name), read_pairs(built.folder), rules, tmp_path / "out")
    for policy_name, score in result["scores"].items():
        assert score["accuracy"]["low"] <= 0.5 <= score["accuracy"]["high"], policy_name


@pytest.mark.slow
def test_every_part_of_real_recordings_leaves_an_untrained_model_and_every_cue_at_chance(
    tmp_path: Path,
) -> None:
    sources = Sources(
        items_of("librispeech_test_other", 10, "speaker"),
        items_of("esc10", 6, "label"),
        items_of("rir", 9, "label"),
    )
    config = BuildConfig(pairs_per_part=100, sample_rate_hz=8000, segment_s=1.0)
    built = write_benchmark(sound_pairs(sources, config), tmp_path / "b", config, {})
    assert set(built.num_pairs) == set(PARTS) and built.leaks == []
    result = score_pairs(
        small_speech_model(),
        task("salmon"),
        read_pairs(built.folder),
        policies_for("salmon"),
        tmp_path / "out",
    )
    for policy_name, score in result["scores"].items():
        for part, value in score["parts"].items():
            assert value["low"] <= 0.5 <= value["high"], (policy_name, part)
