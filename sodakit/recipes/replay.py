"""A small store of what a model was trained on, to go with its weights: whoever adapts the model trains on some of it again,
and sees on the rest what is forgotten."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sodakit.checkpoint.contents import Checkpoint
from sodakit.data.language import vocabulary_of
from sodakit.errors import ConfigError
from sodakit.store.reader import StoreReader
from sodakit.store.schema import Utterance
from sodakit.store.writer import StoreWriter
from sodakit.train.start import check_language
from sodakit.units import spread

REPLAY_S = 20 * 60.0
"""Speech in such a store: about 300 kB at 12.5 frames a second of eight codes."""
HELD_OUT_SHARE = 0.15
"""Of it, from what the stores hold out."""


def write_replay(
    stores: Sequence[Path], folder: Path, checkpoint: Checkpoint, replay_s: float = REPLAY_S
) -> None:
    """Write whole recordings, as much of each of the stores, spread over it; all else of an utterance but times of words.

    Args:
        stores: what the model was trained on.
        folder: of the new store.
        checkpoint: the model.
        replay_s: speech in all, in seconds.
    Raises:
        ConfigError: a store of another tokenizer or codec than the model's, or none of speech with transcripts.
    """
    readers = [StoreReader(store) for store in stores]
    for reader in readers:
        check_language(checkpoint, vocabulary_of(reader), reader.codec_spec, reader.folder)
    tokenizer = readers[0].tokenizer()
    tokenizer.save(folder / "tokenizer")
    writer = StoreWriter(folder, readers[0].codec_spec, tokenizer.fingerprint)
    for split, seconds in (
        ("train", (1 - HELD_OUT_SHARE) * replay_s),
        ("validation", HELD_OUT_SHARE * replay_s),
    ):
        found = [(r, name) for r in readers if (name := spoken_split(r, split)) is not None]
        chosen = [
            # Names of two stores may be alike.
            replace(
                utterance,
                id=f"{reader.folder.resolve().name}/{utterance.id}",
                recording=f"{reader.folder.resolve().name}/{utterance.recording}",
                words=(),
                words_source="",
            )
            for reader, name in found
            for utterance in _some(reader, name, seconds / len(found))
        ]
        if not chosen:
            raise ConfigError(
                f"None of {', '.join(map(str, stores))} has speech with transcripts to {split} on: there is nothing to replay."
            )
        writer.write_shard(split, 0, chosen)
    writer.seal()


def spoken_split(reader: StoreReader, wanted: str) -> str | None:
    """The split of that name where it holds sound; of what is held out, the test where there is no validation."""
    names = ("train",) if wanted == "train" else ("validation", "test")
    splits = reader.description["splits"]
    return next((name for name in names if splits.get(name, {}).get("frames")), None)


def _some(reader: StoreReader, split: str, most_s: float) -> list[Utterance]:
    """Utterances of whole recordings with transcripts, spread over the split, about so many seconds; at least one."""
    recordings: dict[str, list[Utterance]] = {}
    for utterance in reader.utterances(split):
        recordings.setdefault(utterance.recording, []).append(utterance)
    spoken = {
        name: parts
        for name, parts in recordings.items()
        if all(u.text and u.codes_KF.shape[1] for u in parts)
    }
    frames = sum(u.codes_KF.shape[1] for parts in spoken.values() for u in parts)
    mean_s = frames / reader.codec_spec.frame_rate_hz / max(1, len(spoken))
    names = spread(list(spoken), max(1, round(most_s / max(mean_s, 1e-9))))
    return [utterance for name in names for utterance in spoken[name]]
