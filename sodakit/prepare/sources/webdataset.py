"""WebDataset tars: members of one name and different suffixes are one sample. So Emilia is distributed:

EN_B00000_S00040_W000004.json   {"id": …, "text": " And so on.", "speaker": …, "language": "en", "duration": 3.2}
EN_B00000_S00040_W000004.mp3

The tar is listed once and its sounds are read where they lie: nothing is unpacked, so no member can name a path
outside. Links and devices are left out. What a header claims is compared with the file before anything is read.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from sodakit.audio.files import AUDIO_SUFFIXES
from sodakit.errors import AudioError
from sodakit.files import digest
from sodakit.prepare.held import HeldFile, open_window
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.names import recording_of

SOUND_SUFFIXES = {suffix[1:] for suffix in AUDIO_SUFFIXES} | {"aac", "m4a", "mp4", "webm"}
MAX_TEXT_BYTES = 1 << 20
"""A larger json or txt is no transcript."""
MAX_SOUND_BYTES = 1 << 30
"""A larger sound is no utterance."""
MAX_HEADER_BYTES = 1 << 20
"""Longer names and attributes than this are an attack on memory."""


@dataclass(frozen=True)
class TarMember(HeldFile):
    """A sound file inside a tar."""

    path: Path
    """The tar."""
    member: str
    """Its name there."""
    offset: int
    """Where its bytes begin."""
    size: int
    """How many they are."""

    @property
    def name(self) -> str:
        return f"{self.path}: {self.member}"

    def open(self) -> BinaryIO:
        try:
            return open_window(self.path, self.offset, self.size)
        except OSError as error:
            raise AudioError(f"{self.path} cannot be opened ({error.strerror}). Was it moved?") from error

    def fingerprint(self) -> str:
        return digest(self.path.name, self.member, str(self.size))


@dataclass
class _Sample:
    """The members of one name, as far as they have been met."""

    sound: TarMember | None = None
    row: dict[str, Any] = field(default_factory=dict)


def read_webdataset(path: Path, source: str) -> Iterator[Item]:
    """The items of a tar, sorted by name, then those members that cannot be used, each with its problem.

    Recordings follow the Emilia and YODAS names (`names.py`); other samples are their own. Spaces around a text are
    removed (Emilia's begin with one).
    """
    samples: dict[str, _Sample] = {}
    problems = []
    try:
        with open(path, "rb") as handle:
            for member in _members(handle):
                problem = _unsafe(member) or _take(path, handle, member, samples)
                if problem:
                    problems.append(_problem(path, member.name, source, problem))
    except (tarfile.TarError, OSError, ValueError) as error:
        problems.append(_problem(path, "", source, f"the tar is damaged or compressed ({error})"))
    for key in sorted(samples):
        yield _item(path, key, samples[key], source)
    yield from problems


def _members(handle: BinaryIO) -> Iterator[tarfile.TarInfo]:
    end = handle.seek(0, 2)
    with tarfile.open(fileobj=_Headers(handle), mode="r:") as tar:  # type: ignore[call-overload]
        while (member := tar.next()) is not None:
            tar.members = []  # tarfile keeps them all: a tar of millions would fill the memory
            if member.isdir():
                continue
            if member.isreg() and member.offset_data + member.size > end:
                raise tarfile.ReadError(f"{member.name} claims {member.size} bytes and the file ends before")
            yield member
        # A damaged header ends the list like a proper end does, but for what it holds.
        handle.seek(tar.offset)
        if any(handle.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError(f"no header at byte {tar.offset}, where one is due")


class _Headers:
    """A file that gives tarfile its headers and refuses to read anything long into memory."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        handle.seek(0)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._handle.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._handle.seek(offset, whence)

    def tell(self) -> int:
        return self._handle.tell()


def _unsafe(member: tarfile.TarInfo) -> str | None:
    if not member.isreg() or member.issparse():
        return "a link, device or sparse file; needed: a plain file"
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        return "its name leads out of the tar"
    return None


def _take(path: Path, handle: BinaryIO, member: tarfile.TarInfo, samples: dict[str, _Sample]) -> str | None:
    """Add a member to its sample; the problem if it cannot be."""
    folder, _, base = member.name.rpartition("/")
    stem, _, suffix = base.partition(".")
    suffix = suffix.lower()
    if not stem or suffix not in {"json", "txt"} | SOUND_SUFFIXES:
        return None
    limit = MAX_SOUND_BYTES if suffix in SOUND_SUFFIXES else MAX_TEXT_BYTES
    if member.size > limit:
        return f"{member.size} bytes; allowed for a .{suffix}: {limit}"
    key = f"{folder}/{stem}".lstrip("/")
    if suffix in SOUND_SUFFIXES:
        sample = samples.setdefault(key, _Sample())
        if sample.sound is not None:
            return f"a second sound of that name, after {sample.sound.member}"
        sample.sound = TarMember(path, member.name, member.offset_data, member.size)
        return None
    handle.seek(member.offset_data)
    try:
        text = handle.read(member.size).decode("utf-8-sig")
        row = {"text": text} if suffix == "txt" else json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"not UTF-8 or not JSON ({error})"
    if not isinstance(row, dict) or not isinstance(row.get("text", ""), str | None):
        return "needed: a JSON object with a 'text' that is a string"
    samples.setdefault(key, _Sample()).row |= row
    return None


def _item(path: Path, key: str, sample: _Sample, source: str) -> Item:
    if sample.sound is None:
        return _problem(path, key, source, "a transcript without sound beside it")
    recording, at_s = recording_of(key.rpartition("/")[2])
    row = sample.row
    return Item(
        id=f"{source}/{key}",
        recording=f"{source}/{recording}",
        held=sample.sound,
        at_s=at_s,
        text=(row.get("text") or "").strip() or None,
        speaker=str(row.get("speaker") or ""),
        language=str(row.get("language") or ""),
        source=source,
        fields=row,
    )


def _problem(path: Path, member: str, source: str, problem: str) -> Item:
    name = f"{path.name}:{member}" if member else path.name
    return Item(id=f"{source}/{name}", source=source, problem=f"{name}: {problem}")
