"""A store or a folder gets times of words: resumed after a stop, with everything else as it was."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sodakit.align.folders import align_folder
from sodakit.align.notes import AlignRule
from sodakit.align.stores import StoredSound, align_store
from sodakit.audio.files import write_wave
from sodakit.cli import main
from sodakit.codec.load import load_codec
from sodakit.errors import ConfigError
from sodakit.files import file_sha256
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.quality import QualityRules
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.stages import prepare
from sodakit.store.reader import StoreReader
from sodakit.tokens.words import pieces_of
from sodakit.voices.contract import WordSpan
from tests.align.fakes import EvenAligner, noise

TEXTS = [
    "One two three.",
    "silent",
    "wrong words",
    None,
    "",
    "Four five",
    "known already",
    "Six, seven; eight!",
]
RULE = AlignRule()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Sounds of a toy codec in several shards, some without text, one timed, one broken, and a text alone."""
    folder = tmp_path_factory.mktemp("store")
    items = [Item(id=str(n), wave=noise(0.6 + 0.1 * n, 8000, n), text=text) for n, text in enumerate(TEXTS)]
    items[6] = replace(
        items[6], words=(WordSpan("known", 0.0, 0.25), WordSpan("already", 0.25, 0.5)), words_source="list"
    )
    items += [
        Item(id="text", text="A text alone."),
        Item(id="broken", audio=folder / "none.wav", text="gone"),
    ]
    options = PrepareOptions(quality=QualityRules(quality=True), shard_duration_s=2.0, verify_items=0)
    prepare(items, folder / "store", load_codec("toy"), options)
    return StoreReader(folder / "store")


def bytes_of(folder: Path) -> dict[str, str]:
    files = [p for p in folder.rglob("*") if p.is_file() and "aligned" not in p.parts]
    return {str(p.relative_to(folder)): file_sha256(p) for p in files}


def test_a_store_gets_times_and_loses_nothing(store, tmp_path):
    before = bytes_of(store.folder)
    aligner = EvenAligner()
    counts = align_store(store, tmp_path, aligner, load_codec("toy"), RULE)
    assert bytes_of(store.folder) == before
    assert sorted(aligner.heard) == sorted(t for t in TEXTS if t and t != "known already")
    assert (counts.aligned, counts.kept, counts.words, counts.timed_words) == (3, 1, 8, 8)
    assert counts.left == {"no transcript": 2, "not aligned": 1, "doubtful": 1, "no sound": 1}
    made = StoreReader(tmp_path)
    assert made.description | {"splits": 0} == store.description | {"splits": 0}
    assert (tmp_path / "quarantine.jsonl").read_bytes() == (store.folder / "quarantine.jsonl").read_bytes()
    timed = {}
    for split in store.splits:
        assert len(made.shards(split)) == len(store.shards(split))
        for old, new in zip(store.utterances(split), made.utterances(split), strict=True):
            assert (new.codes_KF == old.codes_KF).all() and (new.text_ids_T == old.text_ids_T).all()
            plain = {
                name: getattr(old, name)
                for name in ("id", "recording", "text", "start_s", "end_s", "quality")
            }
            assert plain == {name: getattr(new, name) for name in plain}
            timed[new.id] = new
    one = timed["0"]
    assert pieces_of(one.text, one.words) == ["One", "two", "three."] and one.words_source == "even"
    assert [w.start_s for w in one.words] == pytest.approx([0.0, 0.2, 0.4], abs=1e-3)
    assert one.words[0].id_at == 0 and one.words[1].id_at > 0
    assert [w.end_s for w in timed["6"].words] == [0.25, 0.5] and timed["6"].words_source == "list"
    assert not any(timed[n].words for n in ("1", "2", "3", "4", "text"))


def test_a_store_aligned_again_has_the_times_of_the_new_aligner(store, tmp_path):
    align_store(store, tmp_path, EvenAligner(), load_codec("toy"), replace(RULE, again=True))
    found = {u.id: u.words_source for split in store.splits for u in StoreReader(tmp_path).utterances(split)}
    assert found["6"] == "even"


def test_a_stopped_alignment_resumes_and_gives_the_same_bytes(store, tmp_path, monkeypatch):
    monkeypatch.setattr("sodakit.align.notes.BATCH_S", 1.5)
    align_store(store, tmp_path / "whole", EvenAligner(), load_codec("toy"), RULE)
    stopping = EvenAligner(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        align_store(store, tmp_path / "stopped", stopping, load_codec("toy"), RULE)
    assert stopping.heard and not (tmp_path / "stopped/store.json").exists()
    going_on = EvenAligner()
    align_store(store, tmp_path / "stopped", going_on, load_codec("toy"), RULE)
    assert going_on.heard and not set(going_on.heard) & set(stopping.heard)
    assert bytes_of(tmp_path / "stopped") == bytes_of(tmp_path / "whole")
    done = EvenAligner()
    align_store(store, tmp_path / "stopped", done, load_codec("toy"), RULE)
    assert not done.heard


def test_another_request_needs_another_folder(store, tmp_path):
    align_store(store, tmp_path, EvenAligner(), load_codec("toy"), RULE)
    strict = replace(RULE, min_confidence=0.95)
    with pytest.raises(ConfigError, match="another min_confidence"):
        align_store(store, tmp_path, EvenAligner(), load_codec("toy"), strict)
    with pytest.raises(ConfigError, match="never written twice"):
        align_store(store, store.folder, EvenAligner(), load_codec("toy"), RULE)
    again = EvenAligner()
    counts = align_store(store, tmp_path, again, load_codec("toy"), strict, fresh=True)
    # What was heard is kept; what of it is believed is another question.
    assert counts.left["doubtful"] == 4 and not again.heard
    other = EvenAligner()
    other.fingerprint = "even-2"
    with pytest.raises(ConfigError, match="other settings"):
        align_store(store, tmp_path, other, load_codec("toy"), strict)


def test_the_sound_of_stored_codes_is_as_long_as_it_was(store):
    for utterance in store.utterances("train"):
        if utterance.codes_KF.shape[1]:
            wave = StoredSound(load_codec("toy"), utterance).read(None, None)
            assert wave.duration_s == pytest.approx(utterance.end_s - utterance.start_s, abs=1e-3)


def test_a_folder_gets_a_manifest_that_prepare_reads(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    rows = [
        {"audio": f"{n}.wav", "text": text, "speaker": "p", "split": "test"}
        for n, text in enumerate(TEXTS[:3])
    ]
    rows.append({"audio": "0.wav", "text": "the end", "start": 0.3, "end": 0.6})
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for n in range(3):
        write_wave(corpus / f"{n}.wav", noise(0.6 + 0.1 * n))
    counts = align_folder(list(open_folder(corpus)), tmp_path / "out", EvenAligner(), RULE)
    assert (counts.aligned, counts.left) == (2, {"not aligned": 1, "doubtful": 1})
    old, new = list(open_folder(corpus)), list(open_folder(tmp_path / "out"))
    assert [i.problem for i in new] == [None] * 4
    for before, after in zip(old, new, strict=True):
        assert (after.text, after.speaker, after.start_s, after.end_s) == (
            before.text, before.speaker, before.start_s, before.end_s,
        )  # fmt: skip
        assert np.array_equal(after.read().samples_S, before.read().samples_S)
        assert after.id.split("/")[1] == before.id.split("/")[1]
    assert new[0].fields["split"] == "test" and new[0].words_source == "even"
    assert [w.word for w in new[0].words] == ["One", "two", "three."]
    # In the time of the file, not of the part.
    assert [w.start_s for w in new[3].words] == pytest.approx([0.3, 0.45], abs=1e-3)
    prepare(new, tmp_path / "store", load_codec("toy"), PrepareOptions(verify_items=0))
    stored = [
        u
        for s in ("train", "test")
        if s in StoreReader(tmp_path / "store").splits
        for u in StoreReader(tmp_path / "store").utterances(s)
    ]
    end = next(u for u in stored if u.text == "the end")
    assert [w.start_s for w in end.words] == pytest.approx([0.0, 0.15], abs=1e-3)


def test_what_a_manifest_cannot_name_is_counted(tmp_path):
    items = [
        Item(id="c/a", text="alone"),
        Item(id="c/b", problem="broken", reason="bad row"),
        Item(id="c/w", wave=noise(0.5), text="a b"),
    ]
    counts = align_folder(items, tmp_path, EvenAligner(), RULE)
    assert counts.left == {
        "no sound": 1,
        "bad row": 1,
        "inside another file: prepare it, and align the store": 1,
    }


def test_the_command_aligns_a_store_and_a_folder(tmp_path, monkeypatch, store, capsys):
    monkeypatch.setattr("sodakit.align.named.named_aligner", lambda name, **_: EvenAligner())
    main(["align", str(store.folder), "--out", str(tmp_path / "out"), "--aligner", "even"])
    assert "3 aligned (100.0% of 8 words), 1 had times before" in capsys.readouterr().err
    main(["describe", str(tmp_path / "out")])
    assert "with times of" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["align", str(tmp_path / "none"), "--out", str(tmp_path / "out2"), "--aligner", "even"])
