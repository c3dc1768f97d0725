"""Whoever tells when words are said, the store knows it: in the utterance's own time, word by word of its text."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sodakit.audio.wave import Wave
from sodakit.codec.load import load_codec
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.stages import prepare
from sodakit.prepare.variants import variant
from sodakit.store.reader import StoreReader
from sodakit.tokens.words import pieces_of
from sodakit.voices.contract import WordSpan
from tests.prepare.test_bad_input import sound_bytes
from tests.prepare.test_transcripts_found import LONG_GRID, corpus

WAV = sound_bytes()
WORDS = [{"word": "Good", "start": 0.05, "end": 0.2}, {"word": "evening", "start": 0.25, "end": 0.45}]
SAID = [("Good", 0.05, 0.2), ("evening", 0.25, 0.45)]
CTM = "a 1 0.05 0.15 good 0.9\na 1 0.25 0.2 evening 0.8\n"
VTT = "WEBVTT\n\n00:00.050 --> 00:00.450\nGood<00:00:00.250><c> evening.</c>\n"


def manifest(**more) -> str:
    return json.dumps({"audio": "a.wav", "text": "Good evening.", **more}) + "\n"


CORPORA = {
    "a manifest of synthesise": ({"manifest.jsonl": manifest(words=WORDS, engine="espeak")}, "espeak", SAID),
    "moshi": (
        {"manifest.jsonl": manifest(alignments=[["Good", [0.05, 0.2], "S"], ["evening", [0.25, 0.45], "S"]])},
        "list",
        SAID,
    ),
    "a text and a TextGrid beside it": (
        {"a.txt": "Say \"ah\", 2.", "a.TextGrid": LONG_GRID},
        "TextGrid",
        [("Say", 0.1, None), ('"ah",', None, 0.3), ("2.", 0.3, 0.5)],
    ),
    "a CTM alone": ({"a.ctm": CTM}, "CTM", [("good", 0.05, 0.2), ("evening", 0.25, 0.45)]),
    "a text and a CTM": ({"a.lab": "Good evening.", "a.ctm": CTM}, "CTM", SAID),
    "WebVTT": ({"a.vtt": VTT}, "WebVTT", [("Good", 0.05, 0.25), ("evening", 0.25, 0.45)]),
    "Whisper": (
        {"a.json": json.dumps({"segments": [{"start": 0.0, "end": 0.5, "text": "Good evening.", "words": WORDS}]})},
        "JSON",
        SAID,
    ),
    "Kaldi": ({"wav.scp": "a a.wav\n", "text": "a Good evening.\n", "ctm": CTM}, "CTM", SAID),
    "Kaldi with segments, in the recording's time": (
        {"wav.scp": "a a.wav\n", "segments": "u a 0.0 0.5\n", "text": "u Good evening.\n", "ctm": CTM},
        "CTM",
        SAID,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CORPORA)
def test_the_times_of_words_of_every_layout_come_into_the_store(tmp_path, name):
    files, source, expected = CORPORA[name]
    corpus(tmp_path / "in", {"a.wav": WAV, **files})
    items = list(open_folder(tmp_path / "in", "c"))
    prepare(items, tmp_path / "store", load_codec("toy"))
    (utterance,) = StoreReader(tmp_path / "store").utterances("train")
    found = zip(pieces_of(utterance.text, utterance.words), utterance.words, strict=True)
    assert utterance.words_source == source and len(expected) == len(utterance.words)
    for (word, timed), (said, start_s, end_s) in zip(found, expected, strict=True):
        assert word.strip(".") == said.strip(".")
        for found_s, expected_s in ((timed.start_s, start_s), (timed.end_s, end_s)):
            begins_s = None if found_s is None else utterance.start_s + found_s
            assert begins_s == (None if expected_s is None else pytest.approx(expected_s, abs=1e-4))
    cuts = [word.id_at for word in utterance.words]
    ids = utterance.text_ids_T
    tokenizer = StoreReader(tmp_path / "store").tokenizer()
    parts = [tokenizer.decode(part) for part in np.split(ids, cuts[1:])]
    assert [part.strip() for part in parts] == pieces_of(utterance.text, utterance.words)


def test_a_lhotse_alignment_is_read_in_any_kind_of_cut(tmp_path):
    from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
    from lhotse.supervision import AlignmentItem

    corpus(tmp_path, {"a.wav": WAV})
    recording = Recording.from_file(tmp_path / "a.wav", recording_id="a")
    words = [AlignmentItem("good", 0.15, 0.1, 0.9), AlignmentItem("evening", 0.3, 0.1, -2.5)]
    segment = SupervisionSegment("u", "a", 0.1, 0.35, text="Good evening.", alignment={"word": words})
    whole = MonoCut("whole", 0, recording.duration, 0, recording=recording, supervisions=[segment])
    for name in ("cuts", "several", "parts"):
        (tmp_path / name).mkdir()
    CutSet.from_cuts([whole]).to_file(tmp_path / "cuts/cuts.jsonl")
    other = replace(segment, id="v", start=0.0, duration=0.1, alignment=None)
    CutSet.from_cuts([replace(whole, supervisions=[other, segment])]).to_file(tmp_path / "several/cuts.jsonl")
    RecordingSet.from_recordings([recording]).to_file(tmp_path / "parts/recordings.jsonl")
    SupervisionSet.from_segments([segment]).to_file(tmp_path / "parts/supervisions.jsonl")
    for name in ("cuts", "several", "parts"):
        (item,) = [i for i in open_folder(tmp_path / name, "c") if i.words]
        assert [(w.word, round(w.start_s, 3), round(w.end_s, 3)) for w in item.words] == [
            ("good", 0.15, 0.25),
            ("evening", 0.3, 0.4),
        ]
        assert [w.confidence for w in item.words] == [0.9, None] and item.words_source == "lhotse"


@pytest.mark.parametrize("words", [[{"word": "Good", "start": "soon", "end": 1}], ["Good", "evening"], 3])
def test_words_without_usable_times_leave_the_utterance_as_it_was(tmp_path, words):
    (item,) = open_folder(corpus(tmp_path, {"a.wav": WAV, "manifest.jsonl": manifest(words=words)}), "c")
    assert (item.problem, item.text, item.words) == (None, "Good evening.", ())


def test_a_copy_at_another_speed_has_the_times_of_its_own_sound():
    """The word is a click; in the copy it is where the copied times say."""
    samples_S = np.zeros(8000, np.float32)
    samples_S[4000] = 0.5
    item = Item(id="a", wave=Wave(samples_S, 8000), words=(WordSpan("click", 0.5, 0.6),), words_source="x")
    for number in range(1, 6):
        copy = variant(item, number)
        loudest_s = int(np.abs(copy.wave.samples_S).argmax()) / copy.wave.sample_rate_hz
        assert copy.words[0].start_s == pytest.approx(loudest_s, abs=1e-3)


def test_another_time_of_a_word_is_another_request(tmp_path):
    item = Item(id="a", audio=Path("a.wav"))
    assert item.fingerprint() == Item(id="a", audio=Path("a.wav"), words_source="x").fingerprint()
    timed = replace(item, words=(WordSpan("a", 0.1, 0.2),))
    later = replace(item, words=(WordSpan("a", 0.1, 0.3),))
    assert len({item.fingerprint(), timed.fingerprint(), later.fingerprint()}) == 3
