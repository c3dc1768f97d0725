import hashlib
import multiprocessing

import numpy as np
import pytest

from sodakit.data.config import DataConfig, PhaseConfig, SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.data.loader import Loader, prefetch
from sodakit.data.views import DocumentView
from sodakit.data.windows import TokenStream
from sodakit.errors import ConfigError
from tests.stores import shaped_store, small_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store"), recordings=40)


def make_loader(store, **changes):
    sources = (
        SourceConfig(store=str(store), weight=3.0),
        SourceConfig(
            store=str(store),
            weight=1.0,
            name="semantic",
            view=ViewConfig(composition="semantic", order="audio_first"),
        ),
    )
    return Loader(
        DataConfig(**{"sources": sources, "context": 32, "batch_rows": 8, **changes}), open_language(store)[1]
    )


def test_windows_are_the_stream_cut_without_padding(store):
    reader, vocabulary = open_language(store)
    view = DocumentView(reader, "train", ViewConfig(), vocabulary)
    stream = TokenStream(view, 50, seed=1)
    everything = np.concatenate([view[int(u)] for u in stream._order_U])
    windows = [stream.window(i) for i in range(stream.num_windows)]
    assert np.array_equal(
        np.concatenate([ids[:, 0] for ids, _ in windows]), everything[: 50 * stream.num_windows]
    )
    for ids_PW, lengths in windows:
        ids_T = ids_PW[:, 0]
        assert lengths.sum() == 50
        ends = np.cumsum(lengths)[:-1] - 1
        assert (ids_T[ends] == vocabulary.eos).all() and np.sum(ids_T[:-1] == vocabulary.eos) == len(ends)


def test_ranks_together_read_what_one_rank_reads(store):
    loader = make_loader(store)
    for step in (0, 3, 500):
        whole = loader.batch(step)
        parts = [loader.batch(step, rank, 4) for rank in range(4)]
        assert np.array_equal(whole.ids_BPW, np.concatenate([p.ids_BPW for p in parts]))
        assert whole.lengths == tuple(length for p in parts for length in p.lengths)


def test_a_step_is_the_same_whenever_it_is_asked_for(store):
    forward = [b.ids_BPW for b in prefetch(make_loader(store), range(6))]
    resumed = [b.ids_BPW for b in prefetch(make_loader(store), range(4, 6))]
    assert all(np.array_equal(a, b) for a, b in zip(forward[4:], resumed, strict=True))


def test_one_pass_sees_every_window_once(store):
    loader = make_loader(store, sources=(SourceConfig(store=str(store)),), batch_rows=1)
    num_windows = loader.streams[0].num_windows
    for epoch in range(2):
        seen = {loader.row(epoch * num_windows + i)[0].tobytes() for i in range(num_windows)}
        assert seen == {loader.streams[0].window(i)[0].tobytes() for i in range(num_windows)}


def test_another_seed_is_another_order(store):
    assert not np.array_equal(
        make_loader(store).batch(0).ids_BPW, make_loader(store, seed=1).batch(0).ids_BPW
    )


def test_an_error_in_the_loader_thread_reaches_the_caller(store):
    loader = make_loader(store)
    with pytest.raises(ConfigError, match="3 ranks"):
        list(prefetch(loader, range(2), rank=0, world_size=3))


def test_a_source_shorter_than_a_window_is_refused(store):
    with pytest.raises(ConfigError, match="less than one window"):
        make_loader(store, context=100_000)


def step_digest(batches, steps) -> str:
    """One digest of the ids and document lengths of whole global steps, ranks joined in order."""
    hasher = hashlib.sha256()
    for parts in zip(*batches, strict=True):
        assert len({part.step for part in parts}) == 1
        hasher.update(np.concatenate([part.ids_BPW for part in parts]).tobytes())
        hasher.update(repr([length for part in parts for length in part.lengths]).encode())
    return hasher.hexdigest()


def test_a_thousand_steps_are_the_same_on_any_layout(store):
    """1 rank without workers, 2 ranks with 2 workers each, and stopped half-way to go on with 4 ranks."""
    loader = make_loader(store, phases=(PhaseConfig(from_step=600, weights={"semantic": 1.0}),))
    steps = range(1000)
    alone = step_digest([prefetch(loader, steps)], steps)
    ranks = [
        prefetch(make_loader(store, phases=loader.config.phases), steps, r, 2, workers=2) for r in (0, 1)
    ]
    assert step_digest(ranks, steps) == alone
    first = [list(prefetch(loader, range(500), r, 2)) for r in (0, 1)]
    second = [list(prefetch(loader, range(500, 1000), r, 4)) for r in range(4)]
    whole = [
        np.concatenate([p.ids_BPW for p in parts])
        for half in (first, second)
        for parts in zip(*half, strict=True)
    ]
    again = [loader.batch(step).ids_BPW for step in steps]
    assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))


PUBLISHED = {
    "both": (ViewConfig(), "7dcf0d02fb3aab29"),
    "audio first": (ViewConfig(order="audio_first", utterances_per_document=2), "00b91a902031bde1"),
    "text first, two codebooks": (ViewConfig(order="text_first", num_codebooks=2), "92e9338ca8633750"),
    "semantic": (ViewConfig(composition="semantic"), "60b704729e358ed0"),
    "without text": (ViewConfig(composition="semantic_acoustic", order="audio_first"), "9af7efa4c580f99b"),
}
"""Views, and what their rows have hashed to since the loader was written."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_rows_of_a_run_never_change(tmp_path, name):
    """A run that goes on with another version of sodakit reads on where it stopped; what it has read is not read again."""
    view, digest = PUBLISHED[name]
    shapes = [(n // 3, n * 7 % 23, n * 5 % 9) for n in range(300)]
    shapes[50] = (16, 400, 3)  # longer than several windows
    first = shaped_store(tmp_path / "first", [shapes[:100], shapes[100:101], shapes[101:]])
    second = shaped_store(tmp_path / "second", [[(n, 0, 20 + n) for n in range(40)]])
    sources = (
        SourceConfig(store=str(first), weight=0.7, view=view),
        SourceConfig(store=str(second), weight=0.3),
    )
    config = DataConfig(sources=sources, context=61, batch_rows=8, seed=3)
    loader = Loader(config, open_language(first)[1])
    assert step_digest([loader.batches(range(150))], range(150))[:16] == digest


def test_a_phase_reads_only_what_it_weighs(store):
    loader = make_loader(store, phases=(PhaseConfig(from_step=4, weights={"semantic": 1.0}),))
    vocabulary = loader.vocabulary
    assert all(set(np.unique(vocabulary.kinds_V[loader.batch(step).ids_BPW])) > {1, 2} for step in range(4))
    late = np.concatenate([loader.batch(step).ids_BPW for step in range(4, 12)])
    assert set(np.unique(vocabulary.kinds_V[late])) == {1, 2}
    assert loader.epochs(12)[1] > loader.epochs(4)[1] and loader.epochs(12)[0] == loader.epochs(4)[0]


def test_a_phase_that_names_no_source_is_refused(store):
    with pytest.raises(ConfigError, match="Did you mean 'semantic'"):
        make_loader(store, phases=(PhaseConfig(from_step=4, weights={"semantics": 1.0}),))


def test_the_epochs_of_a_source_are_capped(store):
    sources = (
        SourceConfig(store=str(store), name="small", max_epochs=2.0),
        SourceConfig(store=str(store), name="other"),
    )
    loader = make_loader(store, sources=sources)
    small, other = loader.epochs(5000)
    assert small <= 2.0 and other > 2.0


def test_a_dead_worker_is_noticed(store, monkeypatch):
    loader = make_loader(store)
    batches = prefetch(loader, range(10_000), workers=1, depth=1)
    next(batches)
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(ConfigError, match="loader process ended"):
        list(batches)


def test_a_part_of_an_epoch_is_read_where_it_is_asked_for(store):
    sources = (
        SourceConfig(store=str(store), name="small", max_epochs=1.5),
        SourceConfig(store=str(store), name="other"),
    )
    loader = make_loader(store, sources=sources)
    assert loader.epochs(5000)[0] == pytest.approx(1.5, abs=1 / loader.streams[0].num_windows)


def test_a_pass_over_plain_text_in_both_orders_counts_twice(tmp_path):
    """It holds the same words twice; speech lies there once each way, and that is one pass."""
    text = shaped_store(tmp_path / "text", [[(n, 0, 20) for n in range(40)]])
    speech = shaped_store(tmp_path / "speech", [[(n, 20, 2) for n in range(40)]])
    for folder, order, passes in ((text, "both", 2), (text, "audio_first", 1), (speech, "both", 1)):
        sources = (SourceConfig(store=str(folder), view=ViewConfig(order=order)),)
        loader = make_loader(folder, sources=sources, batch_rows=1)
        assert loader.epochs(loader.streams[0].num_windows) == [passes]


def test_what_is_lost_at_the_end_of_a_stream_is_less_than_a_window(store):
    reader, vocabulary = open_language(store)
    view = DocumentView(reader, "train", ViewConfig(), vocabulary)
    for size in (7, 50, view.num_positions):
        stream = TokenStream(view, size, seed=1)
        assert stream.unseen_positions == view.num_positions - size * stream.num_windows < size
