"""The tree says what is in the store."""

import io

import numpy as np
from rich.console import Console

from sodakit.store.reader import StoreReader
from sodakit.store.schema import Utterance
from sodakit.store.summary import store_tree, summarize
from sodakit.store.writer import StoreWriter
from tests.store.test_store import TOKENIZER, spec


def speech(name: str, frames: int, words: int, source: str, speaker: str) -> Utterance:
    return Utterance(
        id=name,
        recording=name[0],
        end_s=frames / 12.5,
        codes_KF=np.zeros((2, frames), np.uint16),
        text_ids_T=np.zeros(words, np.int32),
        source=source,
        speaker=speaker,
    )


def test_sources_are_counted_across_shards_and_the_largest_comes_first(tmp_path):
    writer = StoreWriter(tmp_path, spec(), TOKENIZER)
    writer.write_shard(
        "train", 0, [speech("a1", 100, 3, "small", ""), speech("b1", 45_000, 2, "large", "ann")]
    )
    rows = [speech("b2", 45_000, 0, "large", "ann"), speech("c1", 0, 9, "large", "bob")]
    writer.write_shard("train", 1, rows, rejected=[{"id": "x", "reason": "silent"}])
    writer.seal()
    found = summarize(StoreReader(tmp_path), "train")
    assert list(found) == ["large", "small"]
    large, small = found.values()
    assert (large.utterances, large.transcribed, large.recordings, large.speakers) == (3, 2, 2, 2)
    assert (large.hours, large.audio_tokens, large.text_tokens) == (2.0, 180_000, 11)
    assert (small.utterances, small.speakers, small.text_tokens) == (1, 0, 3)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(store_tree(StoreReader(tmp_path)))
    printed = console.export_text()
    assert "large: 2.00 h, 180.0k audio tokens" in printed and "left out: silent: 1" in printed
