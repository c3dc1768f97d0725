"""A sample of a finished job looked at again: do the codes belong to the sound, and do they decode to it?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sodakit.codec.contract import Codec
from sodakit.errors import StoreError
from sodakit.files import digest
from sodakit.hardware import torch_threads
from sodakit.prepare.recording import Item
from sodakit.store.reader import open_utterances
from sodakit.store.schema import SPLITS, Utterance
from sodakit.store.writer import StoreWriter

MIN_SAME = 0.9
"""Least share of codes that must come out again when the sound is encoded anew. A GPU may round some differently."""


def verify_sample(
    writer: StoreWriter, codec: Codec, items: Sequence[Item], per_split: int
) -> list[dict[str, Any]]:
    """One row for each utterance of the sample: how its codes fare on the way back.

    Args:
        writer: the complete, unsealed store.
        codec: the one it was made with.
        items: those of the job.
        per_split: utterances looked at in each split, drawn by hash.
    Returns:
        Rows with the share of stored codes that encoding the sound alone gives again (`encoded_again_same`), the share
        that survives decoding and encoding (`round_trip_same`), and the lengths of both sounds in seconds.
    Raises:
        StoreError: the stored codes of an utterance are not those of its sound.
    """
    by_id = {item.id: item for item in items}
    rows = []
    with torch_threads(1):
        for split in SPLITS:
            utterances = open_utterances(writer.shard_paths(split), codec.spec.num_codebooks)
            for utterance in _sample(split, utterances, per_split):
                if _holds_codes(by_id[utterance.id]):
                    continue  # there is no sound to encode
                row = {"split": split, **_verify(utterance, codec, by_id[utterance.id])}
                rows.append(row)
                if row["encoded_again_same"] < MIN_SAME:
                    raise StoreError(
                        f"{utterance.id}: only {row['encoded_again_same']:.0%} of its codes come out again when its "
                        f"sound is encoded; needed: {MIN_SAME:.0%}. Did the recordings or the codec change since the "
                        "job was begun? Use --fresh to start over."
                    )
    return rows


def _sample(split: str, utterances: Sequence[Utterance], count: int) -> list[Utterance]:
    """At most `count` different utterances with sound; the same ones every time."""
    rows: dict[int, None] = {}
    for number in range(count):
        if len(rows) == len(utterances):
            break
        rows[int(digest("verify", split, str(number)), 16) % len(utterances)] = None
    return [utterances[row] for row in rows if utterances[row].codes_KF.shape[1]]


def _holds_codes(item: Item) -> bool:
    return item.held is not None and item.held.codes() is not None


def _verify(utterance: Utterance, codec: Codec, item: Item) -> dict[str, Any]:
    wave = item.read(codec.spec.sample_rate_hz)
    decoded_S = codec.decode(utterance.codes_KF)
    return {
        "id": utterance.id,
        "encoded_again_same": _same(utterance.codes_KF, codec.encode(wave.samples_S)),
        "round_trip_same": _same(utterance.codes_KF, codec.encode(decoded_S)),
        "sound_s": round(wave.duration_s, 3),
        "decoded_s": round(len(decoded_S) / codec.spec.sample_rate_hz, 3),
    }


def _same(one_KF: np.ndarray, other_KF: np.ndarray) -> float:
    if one_KF.shape != other_KF.shape:
        return 0.0
    return round(float(np.mean(one_KF == other_KF)), 4)
