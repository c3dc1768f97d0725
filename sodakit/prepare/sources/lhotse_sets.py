"""Everything lhotse reads: its manifests and, through its recipes, a hundred public corpora. It is an optional package.

cuts.jsonl.gz; or x_recordings_y.jsonl.gz with x_supervisions_y.jsonl.gz

A plain stretch of a plain file becomes an item of that file, decoded like any other. Mixtures, transforms, chosen
channels and sounds inside a manifest are left to lhotse. Commands and addresses in a manifest are never followed.
"""

import inspect
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from sodakit.audio.downmix import downmix
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError, MissingExtra, nearest
from sodakit.files import digest
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.names import named_split
from sodakit.prepare.sources.rows import bad_row, named, parse_object, read_lines
from sodakit.tokens.words import shifted
from sodakit.voices.contract import WordSpan

if TYPE_CHECKING:
    from lhotse import Recording, SupervisionSegment
    from lhotse.cut import Cut

SLACK_S = 0.001
"""A cut that ends this close to the end of its recording is the whole of it."""


@dataclass(frozen=True)
class LhotseCut:
    """A sound that lhotse makes: a mixture, a transform, one channel of several, or bytes in the manifest."""

    cut: str
    """The cut, as the JSON that lhotse writes."""
    length_s: float

    @property
    def name(self) -> str:
        cut = json.loads(self.cut)
        return f"lhotse cut {cut.get('id') if isinstance(cut, dict) else ''}"

    def duration_s(self) -> float:
        return self.length_s

    def read(self, start_s: float | None, end_s: float | None) -> Wave:
        try:
            cut = _deserialize(json.loads(self.cut))
            samples_CS = cut.load_audio()
        except Exception as error:  # lhotse's backends raise what they like
            raise AudioError(f"{self.name} cannot be decoded by lhotse ({error}).") from error
        samples_SC = np.ascontiguousarray(np.atleast_2d(samples_CS).T, np.float32)
        wave = Wave(np.concatenate([*downmix([samples_SC], cut.sampling_rate)]), cut.sampling_rate)
        return wave.cut(start_s or 0.0, wave.duration_s if end_s is None else end_s)

    def codes(self) -> np.ndarray | None:
        return None

    def fingerprint(self) -> str:
        return digest(self.cut)


def lhotse_files(folder: Path) -> list[Path]:
    """The manifests of cuts below a folder; if there are none, those of recordings."""
    files = named(folder, ".jsonl")
    kinds = ([p for p in files if kind in p.name and is_lhotse(p)] for kind in ("cuts", "recordings"))
    return next(filter(None, kinds), [])


def read_lhotse_folder(folder: Path, source: str) -> Iterator[Item]:
    """The items of all manifests below a folder."""
    for path in lhotse_files(folder):
        yield from read_lhotse(path, source)


def is_lhotse(path: Path) -> bool:
    """Whether the first line of a file is a recording or cut of lhotse's."""
    _, line = next(read_lines(path), (0, None))
    try:
        row = parse_object(line)
    except ValueError:
        return False
    return "sources" in row or str(row.get("type")).endswith("Cut")


def read_lhotse(path: Path, source: str) -> Iterator[Item]:
    """The items of a manifest of cuts; or of recordings, with the supervisions in the file beside it.

    A cut with one supervision or none is one item; one with several gives an item each. Of recordings, each
    supervision is an item; without a file of supervisions, each recording.

    Raises:
        MissingExtra: lhotse is not installed.
    """
    supervisions = path.with_name(path.name.replace("recordings", "supervisions"))
    recordings: dict[str, Recording] = {}
    for number, value in _values(path):
        if isinstance(value, str):
            yield bad_row(path, number, source, value)
        elif hasattr(value, "sources"):
            recordings[value.id] = value
        else:
            yield from _or_bad_row(_cut_items(value, source, path.parent), path, number, source)
    if recordings and supervisions != path and supervisions.is_file():
        for number, value in _values(supervisions):
            if isinstance(value, str) or value.recording_id not in recordings:
                problem = value if isinstance(value, str) else f"{value.recording_id} is no known recording"
                yield bad_row(supervisions, number, source, problem)
            else:
                said = _supervised(recordings[value.recording_id], value, source, path.parent)
                yield from _or_bad_row(said, supervisions, number, source)
    else:
        for number, recording in enumerate(recordings.values(), start=1):
            yield from _or_bad_row(_recording_items(recording, source, path.parent), path, number, source)


def _or_bad_row(items: Iterator[Item], path: Path, number: int, source: str) -> Iterator[Item]:
    """The items of a row, or one that says what of it lhotse stumbles over: it checks no types."""
    try:
        yield from list(items)
    except Exception as error:  # whatever a broken row makes lhotse raise, it is a broken row
        yield bad_row(path, number, source, f"no lhotse manifest ({type(error).__name__}: {error})")


def _recording_items(recording: "Recording", source: str, folder: Path) -> Iterator[Item]:
    """The one item of a recording, made when it is asked for: what lhotse raises comes then."""
    yield _item(recording.to_cut(), None, recording.id, source, folder, {}, 0.0)


def read_recipe(name: str, folder: Path, source: str) -> Iterator[Item]:
    """The items of a public corpus as it was unpacked, found by lhotse's own recipe for it.

    Args:
        name: as lhotse calls it: `librispeech`, `commonvoice`, `vctk`, `mls`, …
        folder: the corpus.
        source: first part of every id. The recipe's name of the part lies in `fields["part"]`, the
            split that it names (train, validation, test) in `fields["split"]`.
    Raises:
        ConfigError: no such recipe, one that needs more than the folder, or not that corpus.
        MissingExtra: lhotse is not installed.
    """
    recipe = _recipe(name)
    needed = [p.name for p in inspect.signature(recipe).parameters.values() if p.default is p.empty][1:]
    if needed not in ([], ["output_dir"]):
        raise ConfigError(
            f"lhotse's recipe {name} also needs {', '.join(needed)}. Run `lhotse prepare {name}` and prepare the "
            "manifests that it writes."
        )
    with tempfile.TemporaryDirectory() as scratch:
        try:
            found = recipe(folder, **({"output_dir": scratch} if needed else {}))
        except Exception as error:  # a recipe that meets another corpus fails as it may
            raise ConfigError(
                f"{folder} cannot be read as {name}: {type(error).__name__}: {error}. Is it that corpus, unpacked?"
            ) from error
        count = 0
        for part, manifests in _parts(found, ""):
            recordings = {recording.id: recording for recording in manifests["recordings"]}
            split = named_split(part)
            fields = {"part": part} | ({"split": split} if split else {})
            for segment in manifests["supervisions"]:
                count += 1
                yield from _supervised(recordings[segment.recording_id], segment, source, folder, fields)
    if not count:
        raise ConfigError(f"lhotse's recipe {name} finds nothing in {folder}. Is it that corpus, unpacked?")


def _recipe(name: str) -> Any:
    _lhotse()
    import lhotse.recipes

    recipe = getattr(lhotse.recipes, f"prepare_{name}", None)
    if recipe is None:
        known = sorted(n.removeprefix("prepare_") for n in dir(lhotse.recipes) if n.startswith("prepare_"))
        raise ConfigError(f"lhotse has no recipe {name!r}.{nearest(name, known, 'Recipes')}")
    return recipe


def _parts(found: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if "recordings" in found and "supervisions" in found:
        yield name, found
        return
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from _parts(value, f"{name}/{key}".lstrip("/"))


def _values(path: Path) -> Iterator[tuple[int, Any]]:
    """Line by line what lhotse makes of it, or a string that says why it cannot."""
    _lhotse()
    for number, line in read_lines(path):
        try:
            yield number, _deserialize(json.loads(line or ""))
        except Exception as error:  # whatever a broken row makes lhotse raise, it is a broken row
            yield number, f"no lhotse manifest ({type(error).__name__}: {error})"


def _cut_items(cut: "Cut", source: str, folder: Path) -> Iterator[Item]:
    recording = next((track.recording_id for track in _tracks(cut) if track.has_recording), cut.id)
    if len(cut.supervisions) <= 1:
        yield _item(cut, next(iter(cut.supervisions), None), recording, source, folder, {}, 0.0)
        return
    for segment in cut.supervisions:
        try:
            part = cut.truncate(offset=max(0, segment.start), duration=segment.duration)
        except Exception as error:  # lhotse asserts that it lies inside
            yield Item(id=f"{source}/{segment.id}", source=source, problem=f"{segment.id}: {error}")
            continue
        yield _item(part, segment, recording, source, folder, {}, max(0, segment.start))


def _supervised(
    recording: "Recording",
    segment: "SupervisionSegment",
    source: str,
    folder: Path,
    fields: Mapping[str, Any] | None = None,
) -> Iterator[Item]:
    """The one item of a supervision, made when it is asked for."""
    from lhotse import MonoCut, MultiCut

    several = isinstance(segment.channel, list)
    kind = MultiCut if several else MonoCut
    cut = kind(segment.id, segment.start, segment.duration, segment.channel, recording=recording)
    yield _item(cut, segment, recording.id, source, folder, fields or {}, segment.start)


def _item(
    cut: "Cut",
    segment: "SupervisionSegment | None",
    recording: str,
    source: str,
    folder: Path,
    fields: Mapping[str, Any],
    origin_s: float,
) -> Item:
    """An item of a cut; `origin_s` is where the cut begins in the time of the segment's alignment."""
    name = cut.id if segment is None else segment.id
    problem = next(filter(None, (_refused(track, folder) for track in _tracks(cut))), None)
    place: dict[str, Any] = {} if problem else _place(cut, folder)
    words = shifted(_words(segment), (place.get("start_s") or 0.0) - origin_s)
    return Item(
        id=f"{source}/{name}",
        recording=f"{source}/{recording}",
        text=segment.text if segment else None,
        speaker=(segment.speaker if segment else None) or "",
        language=(segment.language if segment else None) or "",
        words=words,
        words_source="lhotse" if words else "",
        source=source,
        fields=fields,
        problem=problem,
        **place,
    )


def _words(segment: "SupervisionSegment | None") -> tuple[WordSpan, ...]:
    """The words of a segment that has them aligned."""
    aligned = (segment.alignment or {}).get("word", []) if segment else []
    return tuple(WordSpan(w.symbol, w.start, w.end, _share(w.score)) for w in aligned)


def _share(score: float | None) -> float | None:
    """A score that can be read as a confidence; aligners also write log-probabilities."""
    return score if score is not None and 0 <= score <= 1 else None


def _place(cut: "Cut", folder: Path) -> dict[str, Any]:
    """Where the sound is: a stretch of a file if it is no more than that."""
    recording: Any = getattr(cut, "recording", None)
    plain = recording is not None and len(recording.sources) == 1 and not recording.transforms
    if plain and recording.sources[0].type == "file" and set(_channels(cut)) == set(recording.channel_ids):
        end_s = cut.start + cut.duration
        whole = cut.start == 0 and end_s >= recording.duration - SLACK_S
        return {
            "audio": _local(recording.sources[0].source, folder),
            "start_s": None if whole else cut.start,
            "end_s": None if whole else round(end_s, 6),
        }
    for track in _tracks(cut):
        for part in track.recording.sources if track.has_recording else ():
            part.source = str(_local(part.source, folder)) if part.type == "file" else part.source
    return {
        "held": LhotseCut(json.dumps(cut.to_dict()), cut.duration),
        "at_s": getattr(cut, "start", 0.0),
    }


def _channels(cut: "Cut") -> list[int]:
    return cut.channel if isinstance(cut.channel, list) else [cut.channel]


def _tracks(cut: "Cut") -> list[Any]:
    return [track.cut for track in cut.tracks] if hasattr(cut, "tracks") else [cut]


def _refused(cut: Any, folder: Path) -> str | None:
    """Why the sound of a cut is not touched."""
    if not hasattr(cut, "recording"):
        return None  # a stretch of silence
    if cut.recording is None:
        return f"cut {cut.id} has features and no recording; needed: sound"
    for part in cut.recording.sources:
        if part.type not in ("file", "memory"):
            return (
                f"recording {cut.recording.id} is a {part.type} ({str(part.source)[:80]}); needed: a file. "
                "Commands are not run and addresses not fetched: save it as a file first."
            )
        # lhotse itself would also follow names such as `pipe:…` and `s3://…`.
        if part.type == "file" and not _local(part.source, folder).is_file():
            return f"{part.source} does not exist, neither beside the manifest nor in the working folder"
    return None


def _local(name: str | bytes, folder: Path) -> Path:
    """A file named by a manifest: lhotse means the working folder; beside the manifest it may also be."""
    path = Path(str(name))
    return folder / path if (folder / path).is_file() else path


def _deserialize(row: dict[str, Any]) -> Any:
    _lhotse()
    from lhotse.serialization import deserialize_item

    return deserialize_item(row)


def _lhotse() -> ModuleType:
    try:
        import lhotse
    except ImportError as error:
        raise MissingExtra("lhotse", "corpora", "Reading lhotse's manifests and corpora") from error
    return lhotse
