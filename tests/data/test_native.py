"""Compiled windows against those made document by document, by template and layout."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.data import native
from sodakit.data.config import ViewConfig
from sodakit.data.language import open_language
from sodakit.data.views import DocumentView
from sodakit.data.windows import TokenStream
from sodakit.errors import StoreError
from sodakit.tokens.layouts.pattern import FLAT, Pattern
from tests.stores import shaped_store

compiled = pytest.mark.skipif(native.compiled() is None, reason="needs a C++ compiler")

UTTERANCES = st.tuples(
    st.integers(0, 9),  # recording; those of one follow each other only by chance
    st.sampled_from([0, 1, 2, 3, 7, 40]),  # frames
    st.sampled_from([0, 0, 1, 2, 30]),  # text ids
)
SHARDS = st.lists(st.lists(UTTERANCES, max_size=12), min_size=1, max_size=4)
CONFIGS = st.builds(
    ViewConfig,
    order=st.sampled_from(["audio_first", "text_first", "both"]),
    composition=st.sampled_from(["semantic", "semantic_acoustic", "semantic_acoustic_text"]),
    num_codebooks=st.sampled_from([None, 1, 2]),
    utterances_per_document=st.sampled_from([None, 1, 3]),
    num_bos=st.sampled_from([1, 1, 2, 3]),
)
PATTERNS = st.sampled_from(
    [FLAT, FLAT, Pattern((0, 0, 0)), Pattern((0, 1, 1)), Pattern((0, 1, 2)), Pattern((0, 5, 3))]
)


def stream_of(folder, config, size, pattern=FLAT, *, by_definition=False):
    reader, vocabulary = open_language(folder)
    stream = TokenStream(DocumentView(reader, "train", config, vocabulary, pattern), size, seed=7)
    if by_definition:
        stream.__dict__["_native"] = None
    else:
        assert stream._native is not None
    return stream


def all_windows(stream):
    """Every window, last first, into every other row of a batch; rows that were not asked for are -7."""
    windows_B = np.arange(stream.num_windows)[::-1]
    ids_BPW = np.full((2 * len(windows_B), stream.window_positions, stream.view.layout.width), -7, np.int32)
    return ids_BPW, stream.fill(windows_B, ids_BPW, 2 * np.arange(len(windows_B)))


@compiled
@settings(max_examples=60, deadline=None)
@given(shards=SHARDS, config=CONFIGS, size=st.sampled_from([2, 3, 5, 16, 17, 61, 300]), pattern=PATTERNS)
def test_compiled_windows_are_those_of_the_definition(shards, config, size, pattern):
    """Windows open and close inside markers, frames and texts, and cross shards and what a view leaves out."""
    shards = [*shards, [(10, 2, 5), (11, 0, 300), (12, 400, 0)]]
    with tempfile.TemporaryDirectory() as folder:
        shaped_store(Path(folder), shards)
        slow_BPW, slow_lengths = all_windows(stream_of(folder, config, size, pattern, by_definition=True))
        fast_BPW, fast_lengths = all_windows(stream_of(folder, config, size, pattern))
    assert np.array_equal(fast_BPW, slow_BPW) and fast_lengths == slow_lengths


@compiled
def test_a_window_inside_one_long_utterance_is_cut_anywhere(tmp_path):
    """Every offset into a frame of eight codebooks; the codes before the window are never read."""
    shaped_store(tmp_path, [[(0, 3, 4), (1, 1500, 40), (2, 3, 4)]], codebooks=8)
    for size in (9, 64, 4096):
        for config in (ViewConfig(), ViewConfig(num_codebooks=5)):
            fast_BPW, fast_lengths = all_windows(stream_of(tmp_path, config, size))
            slow_BPW, slow_lengths = all_windows(stream_of(tmp_path, config, size, by_definition=True))
            assert np.array_equal(fast_BPW, slow_BPW) and fast_lengths == slow_lengths


@compiled
def test_offsets_that_lead_outside_a_shard_are_refused(tmp_path):
    shaped_store(tmp_path, [[(n, 8, 4) for n in range(6)]])
    reader, vocabulary = open_language(tmp_path)
    view = DocumentView(reader, "train", ViewConfig(), vocabulary)
    view.shards = [replace(shard, codes=shard.codes[:-1]) for shard in view.shards]
    with pytest.raises(StoreError, match="leads outside"):
        all_windows(TokenStream(view, 16, seed=0))


def test_without_a_compiler_windows_are_made_document_by_document(tmp_path, monkeypatch):
    shaped_store(tmp_path, [[(n // 2, n % 5, n % 3) for n in range(30)]])
    expected = all_windows(stream_of(tmp_path, ViewConfig(), 20, by_definition=True))
    monkeypatch.setattr(native, "compiled", lambda: None)
    reader, vocabulary = open_language(tmp_path)
    stream = TokenStream(DocumentView(reader, "train", ViewConfig(), vocabulary), 20, seed=7)
    assert stream._native is None
    ids_BPW, lengths = all_windows(stream)
    assert np.array_equal(ids_BPW, expected[0]) and lengths == expected[1]
