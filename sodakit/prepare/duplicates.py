"""Near-duplicate sound, found by its codes after encoding: the same recording under two names, in two containers."""

from collections.abc import Mapping

from sodakit.log import track
from sodakit.prepare.checks import Rejection
from sodakit.prepare.overlap import RunIndex, code_runs, thinned
from sodakit.prepare.recording import Item
from sodakit.store.reader import open_utterances
from sodakit.store.writer import StoreWriter

SPLITS_KEPT_FIRST = ("test", "validation", "train")
"""Of two copies in different splits the one in training goes: it is the one that would leak."""


def leave_out_duplicates(writer: StoreWriter, items: Mapping[str, Item], share: float) -> int:
    """Leave out each utterance of whose runs of codes one kept before it holds at least `share`; how many there were.

    Shards that lose something are written anew, one after the other. What is kept never depends on what was left out,
    so a job killed here and run again ends with the same shards. Keeps about 2 MB an hour of speech in memory.
    """
    index = RunIndex()
    found = 0
    for split in SPLITS_KEPT_FIRST:
        for number, path in enumerate(track(writer.shard_paths(split), f"compare {split}")):
            kept, rejected = [], []
            for utterance in open_utterances([path], writer.codec.num_codebooks):
                runs = thinned(code_runs(writer.codec.semantic_in_time(utterance.codes_KF)))
                name, common = index.most_like(runs)
                if common >= share:
                    detail = f"{common:.0%} of its runs of codes are in {name}"
                    rejected.append(Rejection("near-duplicate sound", detail).row(items[utterance.id]))
                else:
                    index.add(utterance.id, runs)
                    kept.append(utterance)
            if rejected:
                writer.replace_shard(split, number, kept, [*writer.shard_rejected(split, number), *rejected])
                found += len(rejected)
    return found
