"""Documents that change between text and speech at words: nothing lost, the shares asked for, the same wherever made."""

import tempfile
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.codec.contract import CodecSpec
from sodakit.config import override
from sodakit.data import native
from sodakit.data.config import DataConfig, InterleaveConfig, SourceConfig, ViewConfig
from sodakit.data.describe import mixture_tree
from sodakit.data.interleave import BLOCK, Spans, span_law, stretches
from sodakit.data.interleaved import InterleavedStream, InterleavedView
from sodakit.data.language import open_language
from sodakit.data.loader import Loader, prefetch
from sodakit.data.order import derive_key
from sodakit.errors import ConfigError, StoreError
from sodakit.store.schema import Utterance
from sodakit.store.writer import StoreWriter
from sodakit.tokens.frames import ids_to_codes
from sodakit.tokens.grammar import Grammar
from sodakit.tokens.layouts.pattern import FLAT, Pattern
from sodakit.tokens.text import train_bpe
from sodakit.tokens.words import TimedWord
from tests.stores import shaped_store

compiled = pytest.mark.skipif(native.compiled() is None, reason="needs a C++ compiler")
KINDS = {
    "poisson": InterleaveConfig(spans="poisson"),
    "poisson, short": InterleaveConfig(spans="poisson", mean_words=2.5, speech_share=0.5),
    "alternate": InterleaveConfig(spans="alternate"),
    "alternate, short": InterleaveConfig(spans="alternate", text_words=(1, 3), speech_words=(2, 2)),
    "fixed": InterleaveConfig(spans="fixed", mean_words=3, speech_share=0.3),
    "independent": InterleaveConfig(spans="independent", speech_share=0.4),
}
FRAME_RATE_HZ = 12.5


def timed_store(folder: Path, shards, codebooks: int = 3, size: int = 8) -> Path:
    """Utterances as (recording, words, ids a word, frames a word): each word with times, but every fifth with none.

    0 words is an utterance without times; 0 frames a word, one without sound.
    """
    tokenizer = train_bpe(["a few words to have a tokenizer"], 300)
    tokenizer.save(folder / "tokenizer")
    spec = CodecSpec(
        name="toy", sample_rate_hz=8000, frame_samples=640, num_codebooks=codebooks, codebook_size=size, fingerprint="test",
    )  # fmt: skip
    writer, number = StoreWriter(folder, spec, tokenizer.fingerprint), 0
    for index, shard in enumerate(shards):
        utterances = []
        for recording, words, ids, frames in shard:
            num_frames, num_ids = max(words, 1) * frames, max(words, 1) * ids
            codes = (np.arange(codebooks * num_frames) * 5 + number) // 3 % size
            timed = []
            for n in range(words):
                at_s = n * frames / FRAME_RATE_HZ
                known = (n + number) % 5 != 4
                timed.append(
                    TimedWord(3 * n, n * ids if (n + number) % 7 != 3 else -1, at_s + 0.01 if known else None,
                              at_s + max(frames / FRAME_RATE_HZ - 0.01, 0.01))
                )  # fmt: skip
            utterances.append(
                Utterance(
                    id=str(number), recording=str(recording), start_s=float(number), end_s=number + 1.0,
                    codes_KF=codes.reshape(codebooks, num_frames).astype(np.uint16), text="",
                    text_ids_T=(np.arange(num_ids, dtype=np.int32) * 11 + number) % 240 + 10,
                    words=tuple(timed), words_source="test" if timed else "",
                )
            )  # fmt: skip
            number += 1
        writer.write_shard("train", index, utterances)
    writer.seal()
    return folder


UTTERANCES = st.tuples(
    st.integers(0, 4),  # recording; those of one follow each other only by chance
    st.sampled_from([0, 0, 1, 2, 9, 30]),  # words
    st.sampled_from([0, 1, 2]),  # ids of each
    st.sampled_from([0, 1, 1, 4]),  # frames of each
)
SHARDS = st.lists(st.lists(UTTERANCES, max_size=10), min_size=1, max_size=3)
MORE = [[(10, 12, 2, 3), (10, 40, 1, 2), (11, 0, 300, 0)], [(12, 3, 1, 1)] * 20]
CONFIGS = st.builds(
    ViewConfig,
    interleave=st.sampled_from(list(KINDS.values())),
    order=st.sampled_from(["audio_first", "text_first", "both"]),
    num_codebooks=st.sampled_from([None, 1, 2]),
    utterances_per_document=st.sampled_from([None, 1, 3]),
    num_bos=st.sampled_from([1, 1, 2]),
)
PATTERNS = st.sampled_from([FLAT, FLAT, Pattern((0, 0, 0)), Pattern((0, 1, 2)), Pattern((0, 5, 3))])


def opened(folder, config, pattern=FLAT):
    reader, vocabulary = open_language(folder)
    return InterleavedView(reader, "train", config, vocabulary, pattern)


def spans_in(ids_T, view):
    """(is speech, what stands between the markers) of every span of a document."""
    v, found, at = view.template.vocabulary, [], 1 + view.more_bos
    while ids_T[at] != v.eos:
        end = v.audio_end if ids_T[at] == v.audio_start else v.text_end
        assert ids_T[at] in (v.audio_start, v.text_start)
        stop = at + int(np.flatnonzero(ids_T[at:] == end)[0])
        found.append((ids_T[at] == v.audio_start, ids_T[at + 1 : stop]))
        at = stop + 1
    assert at == len(ids_T) - 1
    return found


@settings(max_examples=80, deadline=None)
@given(shards=SHARDS, config=CONFIGS, epoch=st.integers(0, 3))
def test_spans_rebuild_text_and_codes_exactly(shards, config, epoch):
    """Walked in order, every id and every frame of an utterance is there once, as text or as speech."""
    with tempfile.TemporaryDirectory() as folder:
        view = opened(timed_store(Path(folder), [*shards, *MORE]), config)
        grammar = Grammar(view.template.vocabulary, view.template.num_codebooks)
        key = derive_key("interleave", 3, epoch)
        for number in range(len(view)):
            ids_T = view.document(number, key)
            assert grammar.first_error(ids_T[view.more_bos :]) is None
            members = [view.utterances[int(n)] for n in view.members(number)]
            if len(members) == 1 and not members[0].codes_KF.shape[1]:
                continue  # plain text
            spans = iter(spans_in(ids_T, view))
            for place, utterance in enumerate(members):
                num_ids, num_frames = len(utterance.text_ids_T), utterance.codes_KF.shape[1]
                if not (utterance.words and num_ids and num_frames):
                    whole = [next(spans) for _ in range((num_ids > 0) + (num_frames > 0))]
                    assert all(len(body) for _, body in whole) and len({s for s, _ in whole}) == len(whole)
                    for is_speech, body in whole:
                        assert_is(view, utterance, is_speech, body, slice(0, num_ids), slice(0, num_frames))
                    continue
                drawn = Spans(view.law, key, number, place // BLOCK)
                for before in members[place // BLOCK * BLOCK : place]:
                    if before.words and len(before.text_ids_T) and before.codes_KF.shape[1]:
                        drawn.advance(len(before.words))
                id_at = frame_at = 0
                for part in stretches(utterance.words, num_ids, num_frames, FRAME_RATE_HZ, drawn):
                    is_speech, body = next(spans)
                    assert is_speech == part.is_speech
                    assert (part.ids.start, part.frames.start) == (id_at, frame_at)
                    assert part.ids.stop > id_at and part.frames.stop > frame_at
                    assert_is(view, utterance, is_speech, body, part.ids, part.frames)
                    id_at, frame_at = part.ids.stop, part.frames.stop
                assert (id_at, frame_at) == (num_ids, num_frames)
            assert next(spans, None) is None


def assert_is(view, utterance, is_speech, body, ids, frames):
    if is_speech:
        books = view.template.num_codebooks
        codes_KF = ids_to_codes(body, view.template.vocabulary, books)
        assert np.array_equal(codes_KF, utterance.codes_KF[:books, frames])
    else:
        assert np.array_equal(body, utterance.text_ids_T[ids])


@compiled
@settings(max_examples=80, deadline=None)
@given(shards=SHARDS, config=CONFIGS, size=st.sampled_from([3, 5, 17, 61, 300]), pattern=PATTERNS)
def test_compiled_windows_are_those_of_the_definition(shards, config, size, pattern):
    """Windows open and close inside markers, frames, texts and blocks, in every epoch, and round the end of a stream."""
    with tempfile.TemporaryDirectory() as folder:
        view = opened(timed_store(Path(folder), [*shards, *MORE]), config, pattern)
        fast, slow = (InterleavedStream(view, size, seed=7) for _ in range(2))
        slow._indexed = slow._indexed_by_definition
        slow._epochs = {}
        for epoch in (0, 1, 5):
            a, b = fast.epoch(epoch), slow.epoch(epoch)
            assert (a.num_positions, a.totals.tolist()) == (b.num_positions, b.totals.tolist())
            windows_B = np.arange(fast.num_windows + 2)[::-1]
            made = []
            for stream in (fast, slow):
                ids_BPW = np.full((2 * len(windows_B), size, view.layout.width), -7, np.int32)
                lengths = stream.fill(
                    windows_B, ids_BPW, 2 * np.arange(len(windows_B)), np.full_like(windows_B, epoch)
                )
                made.append((ids_BPW, lengths))
            assert np.array_equal(made[0][0], made[1][0]) and made[0][1] == made[1][1]
            assert all(sum(row) == size for row in made[0][1])
        assert view.num_tokens == sum(len(view.document(n, fast.epoch(0).key)) for n in range(len(view)))


def words_of_spans(kind: str, count: int, document: int = 0):
    """Whether each of so many words in a row is speech."""
    spans = Spans(span_law(KINDS[kind]), derive_key("interleave", 0, 0), document, 0)
    drawn = []
    for _ in range(count):
        drawn.append(spans.is_speech)
        spans.advance(1)
    return drawn


EXPECTED = {  # mean words of a span of text and of speech
    "poisson": (10 * 0.7 / 0.3, 10.0),
    "poisson, short": (2.5, 2.5),
    "alternate": (20.0, 10.0),
    "alternate, short": (2.0, 2.0),
    "fixed": (7.0, 3.0),
    "independent": (1 / 0.4, 1 / 0.6),
}


@pytest.mark.parametrize("kind", KINDS)
def test_shares_and_lengths_are_those_asked_for(kind):
    """Within 1 %, of 200,000 words; the lengths are distributed as the law says, not only their mean."""
    drawn = words_of_spans(kind, 200_000)
    runs = [(is_speech, len(list(run))) for is_speech, run in groupby(drawn)][1:-1]
    text, speech = EXPECTED[kind]
    assert np.mean(drawn) == pytest.approx(speech / (speech + text), rel=0.01)
    for is_speech, mean in ((False, text), (True, speech)):
        lengths = np.array([length for s, length in runs if s == is_speech])
        assert lengths.mean() == pytest.approx(
            mean, rel=0.01 + 4 * lengths.std() / mean / np.sqrt(len(lengths))
        )
        law = span_law(KINDS[kind]).lengths[is_speech]
        seen = np.bincount(lengths, minlength=len(law) + 1)[1 : len(law) + 1] / len(lengths)
        assert np.abs(seen - law).max() < 0.02 and lengths.max() <= len(law)


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_of_a_short_document_is_as_likely_speech(kind):
    """Where documents began with a whole span, short ones would be all text, or all speech."""
    drawn = np.array([words_of_spans(kind, 6, document) for document in range(40_000)])
    text, speech = EXPECTED[kind]
    assert drawn.mean(0) == pytest.approx(speech / (speech + text), abs=0.012)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    shards = [[(10 * s + n // 3, int(rng.integers(0, 30)), 2, 2) for n in range(30)] for s in range(3)]
    return timed_store(tmp_path_factory.mktemp("timed"), shards)


def loader_of(store, plain, context=64, pattern=FLAT, **view):
    sources = (
        SourceConfig(store=str(store), weight=2.0, view=ViewConfig(interleave=KINDS["poisson"], **view)),
        SourceConfig(store=str(store), weight=1.0, name="whole"),
        SourceConfig(store=str(plain), weight=1.0, name="text"),
    )
    config = DataConfig(sources=sources, context=context, batch_rows=8, seed=5)
    return Loader(config, open_language(store)[1], pattern)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return shaped_store(tmp_path_factory.mktemp("plain"), [[(n, 0, 20 + n) for n in range(40)]])


@pytest.mark.parametrize(
    "pattern", [FLAT, Pattern((0, 0, 0)), Pattern((0, 1, 2))], ids=["flat", "depth", "delay"]
)
def test_batches_are_the_same_on_any_layout_and_after_a_resume(store, plain, pattern):
    """Several epochs of the drawn source, beside utterances whole and plain text."""
    loader, steps = loader_of(store, plain, pattern=pattern), range(160)
    alone = [b.ids_BPW for b in prefetch(loader, steps)]
    assert loader.epochs(160)[0] > 3
    halves = [
        prefetch(loader_of(store, plain, pattern=pattern), steps, rank, 2, workers=2) for rank in (0, 1)
    ]
    for whole, parts in zip(alone, zip(*halves, strict=True), strict=True):
        assert np.array_equal(whole, np.concatenate([part.ids_BPW for part in parts]))
    resumed = loader_of(store, plain, pattern=pattern)
    for step in (159, 80, 0, 81):
        assert np.array_equal(resumed.batch(step).ids_BPW, alone[step])


def test_each_epoch_draws_anew_and_keeps_the_order(store):
    view = opened(store, ViewConfig(interleave=KINDS["poisson"]))
    stream = InterleavedStream(view, 64, seed=1)
    keys = [stream.epoch(n).key for n in range(3)]
    documents = [view.document(0, key).tolist() for key in keys]
    assert len({tuple(d) for d in documents}) == 3
    assert view.document(0, InterleavedStream(view, 64, seed=1).epoch(2).key).tolist() == documents[2]
    assert view.document(0, InterleavedStream(view, 64, seed=2).epoch(0).key).tolist() != documents[0]


def test_the_share_of_a_store_is_the_one_asked_for(store):
    """Over epochs: of the words that have times and can be cut."""
    view = opened(store, ViewConfig(interleave=InterleaveConfig(spans="independent", speech_share=0.5)))
    stream = InterleavedStream(view, 64, seed=1)
    timed = [u for u in view.utterances if u.words]
    text = sum(len(u.text_ids_T) for u in timed)
    whole = sum(len(u.text_ids_T) for u in view.utterances) - text
    written = np.mean([stream.epoch(n).totals[0] for n in range(40)]) - whole
    assert written / text == pytest.approx(0.5, abs=0.02)


def test_what_cannot_be_is_refused(store, plain):
    reader, vocabulary = open_language(plain)
    with pytest.raises(ConfigError, match="sodakit align"):
        InterleavedView(reader, "train", ViewConfig(interleave=KINDS["fixed"]), vocabulary)
    with pytest.raises(ConfigError, match="less than one window"):
        InterleavedStream(opened(store, ViewConfig(interleave=KINDS["poisson"])), 10**7, seed=0)
    for changes, problem in (
        ({"spans": "alternate", "mean_words": 3.0}, "mean_words has no effect"),
        ({"speech_share": 0.5}, "no effect on spans='none'"),
        ({"spans": "poisson", "speech_share": 0.95}, "words of text between"),
        ({"spans": "fixed", "mean_words": 2.5}, "whole number"),
        ({"spans": "alternate", "text_words": (5, 3)}, "fewest"),
        ({"spans": "poisson", "speech_share": 1.0}, "speech_share"),
    ):
        with pytest.raises(ConfigError, match=problem):
            InterleaveConfig(**changes)
    with pytest.raises(ConfigError, match="no text"):
        ViewConfig(interleave=KINDS["poisson"], composition="semantic")
    with pytest.raises(ConfigError, match="task"):
        ViewConfig(interleave=KINDS["poisson"], task="s2st")


def test_sources_of_a_recipe_are_interleaved_by_a_word_on_the_command_line(store):
    config = DataConfig(sources=(SourceConfig(store=str(store)),))
    sources = (
        f'[{{"store": "{store}", "view": {{"interleave": {{"spans": "alternate", "text_words": [2, 5]}}}}}}]'
    )
    found = override(config, {"sources": sources}).sources[0].view.interleave
    assert (found.spans, found.text_words, found.speech_words) == ("alternate", (2, 5), (5, 15))


@compiled
def test_words_that_lead_outside_a_shard_are_refused(store):
    view = opened(store, ViewConfig(interleave=KINDS["poisson"]))
    view.shards = [replace(shard, codes=shard.codes[:-1]) for shard in view.shards]
    with pytest.raises(StoreError, match="outside"):
        InterleavedStream(view, 64, seed=0)


def test_a_mixture_says_what_is_drawn(store, plain, capsys):
    from rich.console import Console

    Console(width=200).print(mixture_tree(loader_of(store, plain), budget_tokens=1e6))
    printed = capsys.readouterr().out
    assert "words by lot, poisson, 30.0% of them speech" in printed
