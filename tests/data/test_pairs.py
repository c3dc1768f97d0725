"""Pairs as documents, packed whole into windows."""

import io

import numpy as np
import pytest
from rich.console import Console

from sodakit.data import packing
from sodakit.data.config import DataConfig, SourceConfig, ViewConfig
from sodakit.data.describe import mixture_tree
from sodakit.data.language import open_language
from sodakit.data.loader import Loader
from sodakit.data.packing import MAX_DOCUMENTS, OPEN_WINDOWS, PackedStream
from sodakit.data.pairs import PairView
from sodakit.errors import ConfigError
from sodakit.tokens.grammar import Grammar
from sodakit.tokens.tasks import tagged
from sodakit.tokens.text import TextTokenizer
from tests.pair_stores import pair_store
from tests.stores import small_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return pair_store(tmp_path_factory.mktemp("pairs"), pairs=30)


@pytest.fixture
def view(store):
    reader, vocabulary = open_language(store)
    return PairView(reader, "train", "s2st", vocabulary)


def test_a_document_holds_source_then_target_with_the_texts_encoded_together_with_their_tags(view, store):
    tokenizer = TextTokenizer.load(store / "tokenizer")
    v = view.template.vocabulary
    source, target = (view.utterances[n] for n in view.pairs[0])
    ids = view[0].tolist()
    first, second = (
        [v.text_start, *tokenizer.encode(tagged(u.language, u.text)), v.text_end] for u in (source, target)
    )
    sound = 2 + source.codes_KF.size
    assert ids[1 : 1 + sound][:1] == [v.audio_start]
    assert ids[1 + sound : 1 + sound + len(first) + len(second)] == first + second
    assert ids[-2:] == [v.audio_end, v.eos]
    assert Grammar(v, v.num_codebooks).first_error(view[0]) is None


def test_a_recording_that_is_no_pair_is_left_out_and_counted(view):
    assert len(view) == 30 and view.num_left_out == 1


def test_a_store_without_pairs_is_refused(tmp_path):
    reader, vocabulary = open_language(small_store(tmp_path))
    with pytest.raises(ConfigError, match="two utterances each"):
        PairView(reader, "train", "s2st", vocabulary)


def test_windows_hold_every_document_once_and_whole(view):
    stream = PackedStream(view, 400, seed=3)
    seen = []
    for number in range(stream.num_windows):
        ids_T, lengths = stream.window(number)
        assert len(ids_T) == 400 == lengths.sum()
        pieces = np.split(ids_T, np.cumsum(lengths)[:-1])
        v = view.template.vocabulary
        padding = [p for p in pieces if p[0] != v.bos]
        assert len(padding) <= 1 and all((p == v.eos).all() for p in padding)
        seen += [p.tobytes() for p in pieces if p[0] == v.bos]
    assert sorted(seen) == sorted(view[u].tobytes() for u in range(len(view)))
    assert stream.num_windows < len(view)


def test_a_document_longer_than_a_window_is_left_out(view):
    shortest = int(view.lengths_U.min())
    stream = PackedStream(view, shortest, seed=0)
    assert stream.num_left_out == int((view.lengths_U > shortest).sum()) and stream.num_windows >= 1
    with pytest.raises(ConfigError, match="longer context"):
        _ = PackedStream(view, shortest - 1, seed=0).num_windows


def test_pairs_and_replayed_documents_mix_by_weight(store):
    _, vocabulary = open_language(store)
    pairs = SourceConfig(store=str(store), weight=3, view=ViewConfig(task="s2tt"))
    replay = SourceConfig(store=str(store), weight=1)
    loader = Loader(DataConfig(sources=(pairs, replay), context=300, batch_rows=4), vocabulary)
    rows = [loader.row(n)[0] for n in range(64)]
    begun = sum(row[0] == vocabulary.bos and row[-1] == vocabulary.eos for row in rows)
    assert begun >= 40  # the packed ones begin with a document; of the stream's, few do


def test_a_source_of_pairs_is_described_by_its_pairs_and_its_padding(store):
    reader, vocabulary = open_language(store)
    config = DataConfig(
        sources=(SourceConfig(store=str(store), view=ViewConfig(task="s2st")),), context=400, batch_rows=2
    )
    loader = Loader(config, vocabulary)
    (stream,) = loader.streams
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(mixture_tree(loader))
    printed = console.export_text()
    padding = 1 - stream.packed_positions / (400 * stream.num_windows)
    assert "30 pairs as documents of s2st; 1 recordings left out" in printed
    assert f"padding: {padding:.2%}" in printed and 0 < padding < 1
    seconds = sum(len(u.codes_KF[0]) for u in reader.utterances("train")) / reader.codec_spec.frame_rate_hz
    assert 0 < stream.view.hours * 3600 <= seconds


class Lengths:
    """A view of documents of given lengths."""

    def __init__(self, *lengths: int) -> None:
        self.lengths_U = np.array(lengths)
        self.num_tokens = self.num_positions = sum(lengths)

    def __len__(self) -> int:
        return len(self.lengths_U)


@pytest.mark.parametrize(
    ("lengths", "windows"), [((60, 40), 1), ((60, 41), 2), ((50, 50, 100), 2), ((100,) * 3, 3)]
)
def test_documents_that_fill_a_window_exactly_share_it(lengths, windows):
    for seed in range(4):
        members = PackedStream(Lengths(*lengths), 100, seed)._members
        assert len(members) == windows
        assert sorted(d for window in members for d in window) == list(range(len(lengths)))


def test_a_window_holds_as_many_short_documents_as_a_row_may_have_and_no_more():
    stream = PackedStream(Lengths(*[1] * (2 * MAX_DOCUMENTS + 3)), 100 * MAX_DOCUMENTS, seed=0)
    assert [len(window) for window in stream._members] == [MAX_DOCUMENTS, MAX_DOCUMENTS, 3]
    assert stream.packed_positions == 2 * MAX_DOCUMENTS + 3 and stream.num_left_out == 0


def test_when_many_windows_are_open_the_fullest_is_closed_first():
    lengths = [60] * (OPEN_WINDOWS + 1)
    lengths[7] = 90
    members = PackedStream(Lengths(*lengths), 100, seed=0)._members
    assert members[0] == [7] and sorted(d for window in members for d in window) == list(range(len(lengths)))


def test_as_many_windows_stay_open_as_are_promised(monkeypatch):
    """Each long document is joined by a short one that comes when all the long ones are open."""
    monkeypatch.setattr(packing, "permute", lambda positions, size, key: positions)
    members = PackedStream(Lengths(*[60] * OPEN_WINDOWS, *[40] * OPEN_WINDOWS), 100, seed=0)._members
    assert members == [[n, n + OPEN_WINDOWS] for n in range(OPEN_WINDOWS)]
