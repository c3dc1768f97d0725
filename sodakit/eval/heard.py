"""What results are about, read again to be heard on their page: recordings that were transcribed, pairs that were compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError
from sodakit.eval.cases import Recording, read_recordings
from sodakit.eval.pair_layouts import Pair, Side, read_pairs

PAIR_FILE = "pairs.jsonl"
"""What a benchmark of `sodakit eval build` lists its pairs in."""


@dataclass(frozen=True)
class Sources:
    """Recordings and pairs by what results call them."""

    recordings: Mapping[str, Recording] = field(default_factory=dict)
    pairs: Mapping[tuple[str, str, str], Pair] = field(default_factory=dict)
    """By id, part and voice."""

    def recording(self, id: str) -> Wave | None:
        """The sound of a transcribed recording; None where it is not here or cannot be read."""
        found = self.recordings.get(id)
        return None if found is None else _heard(found)

    def pair(self, question: Mapping[str, Any]) -> tuple[Wave, ...] | None:
        """The sounds of a compared pair, the right one first; None where one is not here or cannot be read."""
        found = self.pairs.get((question["id"], question["part"], question["voice"]))
        waves = [] if found is None else [_heard(side) for side in found.sides]
        there = tuple(wave for wave in waves if wave is not None)
        return there if waves and len(there) == len(waves) else None


def read_sources(folders: Sequence[Path]) -> Sources:
    """The recordings and spoken pairs of some folders, as `eval asr` and `eval pairs` read them.

    Raises:
        ConfigError: a folder holds neither.
    """
    recordings: dict[str, Recording] = {}
    pairs: dict[tuple[str, str, str], Pair] = {}
    for folder in folders:
        if (folder / PAIR_FILE).exists():
            found = read_pairs(folder)
        else:
            try:
                recordings |= {recording.id: recording for recording in read_recordings(folder)}
                continue
            except ConfigError as not_recordings:
                try:
                    found = read_pairs(folder)
                except ConfigError:
                    raise not_recordings from None
        pairs |= {(pair.id, pair.part, pair.voice): pair for pair in found}
    return Sources(recordings, pairs)


def _heard(source: Recording | Side) -> Wave | None:
    try:
        return source.read()
    except AudioError:
        return None
