"""WebDataset tars: members of one name and different endings are one sample. So Emilia is distributed:

EN_B00000_S00040_W000004.json   {"id": …, "text": " And so on.", "speaker": …, "language": "en", "duration": 3.2}
EN_B00000_S00040_W000004.mp3

The tar is listed once and its sounds are read where they lie: nothing is unpacked, so no member can name a path
outside. Links and devices are left out. What a header claims is compared with the file before anything is read.
"""

import tarfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from sodakit.audio.window import open_window
from sodakit.errors import AudioError
from sodakit.files import digest
from sodakit.prepare.held import HeldFile
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.beside import utterances
from sodakit.prepare.sources.corpus import NO_TEXT, SOUND_SUFFIXES, Corpus
from sodakit.prepare.sources.names import recording_of, split_at
from sodakit.prepare.sources.transcripts import BROKEN, ENDINGS, Transcript, joined, parse_transcript

ENDINGS_BY_LENGTH = sorted((*ENDINGS, *SOUND_SUFFIXES), key=len, reverse=True)
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
    transcript: Transcript | None = None
    problem: str | None = None
    """What is wrong with a text of it."""
    member: str = ""
    """A text of it."""


def read_webdataset(path: Path, source: str, corpus: Corpus | None = None) -> Iterator[Item]:
    """The items of a tar, sorted by name, then those members that cannot be used, each with its problem.

    Recordings follow the Emilia and YODAS names (`names.py`); other samples are their own. Spaces around a text are
    removed (Emilia's begin with one). A sample whose text is broken is a problem: its sound would go in without.

    Args:
        path: the tar.
        source: name of the corpus.
        corpus: where members are noted that nobody reads.
    """
    samples: dict[str, _Sample] = {}
    problems = []
    unread: Counter[str] = Counter()
    try:
        with open(path, "rb") as handle:
            for member in _members(handle):
                problem = _unsafe(member) or _take(path, handle, member, samples, unread)
                if problem:
                    problems.append(_problem(path, member.name, source, problem))
    except (tarfile.TarError, OSError, ValueError) as error:
        problems.append(_problem(path, "", source, f"the tar is damaged or compressed ({error})"))
    samples = _joined(samples)
    if corpus is not None and any(s.sound is None and s.transcript for s in samples.values()):
        corpus.has_transcripts = True  # of other names than the sounds: those would go in without
    for key in sorted(samples):
        yield from _items(path, key, samples[key], source)
    yield from problems
    if corpus is not None:
        if samples or problems:
            corpus.use([path])
        else:
            corpus.leave(path, "no sounds in it")
        for ending, count in sorted(unread.items()):
            what = f"{count} members with {ending or 'no ending'} of {path.name}"
            if ending in NO_TEXT:
                corpus.note(f"{corpus.name}: not read: {what}")
            else:
                corpus.leave_part(what)


def _members(handle: BinaryIO) -> Iterator[tarfile.TarInfo]:
    end = handle.seek(0, 2)
    with tarfile.open(fileobj=_Headers(handle), mode="r:") as tar:  # type: ignore[call-overload]
        while (member := tar.next()) is not None:
            tar.members = []  # tarfile keeps them all: a tar of millions would fill the memory
            if member.isdir():
                continue
            if member.size < 0:
                raise tarfile.ReadError(f"{member.name} claims {member.size} bytes")
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


def _take(
    path: Path, handle: BinaryIO, member: tarfile.TarInfo, samples: dict[str, _Sample], unread: Counter[str]
) -> str | None:
    """Add a member to its sample; the problem if it cannot be."""
    folder, _, base = member.name.rpartition("/")
    ending = next((e for e in ENDINGS_BY_LENGTH if base.lower().endswith(e)), None)
    if ending is None or base == ending:
        unread[PurePosixPath(base).suffix.lower()] += 1
        return None
    is_sound = ending in SOUND_SUFFIXES
    limit = MAX_SOUND_BYTES if is_sound else MAX_TEXT_BYTES
    if member.size > limit:
        return f"{member.size} bytes; allowed for a {ending}: {limit}"
    # Names may hold dots of their own (talk_22.05_a.wav): only the ending that is known is cut off.
    key = unicodedata.normalize("NFC", f"{folder}/{base[: -len(ending)]}".lstrip("/"))
    sample = samples.setdefault(key, _Sample())
    if is_sound:
        if sample.sound is not None:
            return f"a second sound of that name, after {sample.sound.member}"
        sample.sound = TarMember(path, member.name, member.offset_data, member.size)
        return None
    handle.seek(member.offset_data)
    sample.member = member.name
    try:
        found = parse_transcript(ending, handle.read(member.size))
        if found is None and ending == ".json":
            raise ValueError("needed: a JSON object with a 'text' that is a string")
        _add(sample, found)
    except ValueError as error:
        sample.problem = f"{member.name}: {error}"
    return None


def _add(sample: _Sample, found: Transcript | None) -> None:
    """Join what several texts of one sample say: the words of the first that has any, and all fields."""
    known = sample.transcript or Transcript(())
    if found is not None:
        sample.transcript = joined(known, found)


def _joined(samples: dict[str, _Sample]) -> dict[str, _Sample]:
    """Sounds and texts that found no partner, by the name before their last dot (a.audio.wav with a.text.txt), then by
    that before their first."""
    return _joined_by(_joined_by(samples, last=True), last=False)


def _joined_by(samples: dict[str, _Sample], last: bool) -> dict[str, _Sample]:
    alone: dict[str, list[str]] = {}
    for key, sample in samples.items():
        if sample.sound is None or sample.transcript is None:
            folder, slash, base = key.rpartition("/")
            stem = base.rpartition(".")[0] if last else base.partition(".")[0]
            alone.setdefault(folder + slash + (stem or base), []).append(key)
    joined = dict(samples)
    for stem, keys in alone.items():
        sounds = [key for key in keys if samples[key].sound is not None and samples[key].problem is None]
        texts = [key for key in keys if samples[key].sound is None]
        if len(keys) == 2 and len(sounds) == len(texts) == 1 and stem not in samples.keys() - set(keys):
            sound, text = joined.pop(sounds[0]), joined.pop(texts[0])
            joined[stem] = _Sample(sound.sound, text.transcript, text.problem, text.member)
    return joined


def _items(path: Path, key: str, sample: _Sample, source: str) -> Iterator[Item]:
    if sample.sound is None:
        name, problem = (sample.member, sample.problem) if sample.problem else (key, "")
        yield _problem(path, name, source, problem or "a transcript without sound beside it")
        return
    recording, at_s = recording_of(key.rpartition("/")[2])
    item = Item(
        id=f"{source}/{key}",
        recording=f"{source}/{recording}",
        held=sample.sound,
        at_s=at_s,
        source=source,
        fields=split_at(Path(path.name)),
        problem=sample.problem,
        reason=BROKEN if sample.problem else "bad row",
    )
    if sample.transcript is None or sample.problem:
        yield item
    else:
        yield from utterances(item, sample.transcript)


def _problem(path: Path, member: str, source: str, problem: str) -> Item:
    name = f"{path.name}:{member}" if member else path.name
    return Item(id=f"{source}/{name}", source=source, problem=f"{name}: {problem}")
