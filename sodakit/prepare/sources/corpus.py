"""A folder that was given to be prepared: its files, listed once, and what became of each."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path, PureWindowsPath

from sodakit.audio.files import AUDIO_SUFFIXES
from sodakit.audio.headers import kind_of_file
from sodakit.codec.contract import CodecSpec
from sodakit.files import not_a_file
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.transcripts import ENDINGS, TIMED

SOUND_SUFFIXES = AUDIO_SUFFIXES | {".aac", ".m4a", ".mp4", ".webm", ".wma", ".amr", ".sph"}
"""Those that cannot be decoded too (or only with PyAV): they belong in the quarantine, not out of sight."""

ABOUT = re.compile(
    r"(licen[cs]e|readme|origin|notice|copying|authors|changelog|citation|dataset_infos?\b|speakers?\b|speaker-info"
    r"|.*(sha256|md5|checksums?)).*",
    re.IGNORECASE,
)
"""Files that tell of a corpus and are none of it."""

STORE = frozenset({"store.json", "plan.json"})
"""Files of a folder that prepare wrote."""

NO_TEXT = frozenset({
    ".png", ".jpg", ".jpeg", ".gif", ".svg", ".bmp", ".webp", ".ico", ".pdf", ".py", ".pyc", ".sh", ".ipynb", ".md",
    ".rst", ".html", ".htm", ".css", ".js", ".yml", ".yaml", ".toml", ".ini", ".cfg", ".log", ".npy", ".npz", ".pt",
    ".pth", ".bin", ".safetensors", ".ckpt", ".onnx", ".h5", ".hdf5", ".mid", ".midi", ".f0", ".pitch", ".praat", ".bib",
    ".sha256", ".md5", ".lock", ".exe", ".dll", ".so",
})  # fmt: skip
"""Endings of files in which no transcripts stand; in any other they may."""

SOUND_FOLDERS = ("wavs", "clips", "audio", "wav")
"""What folders of sounds are called that lists leave out."""

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[\w-]+)?")
EXAMPLES = 3
"""So many names stand for all of a kind."""


class Corpus:
    """A folder with its files, or one file of it; readers say here what they read and what they leave."""

    def __init__(self, folder: Path, source: str, codec: CodecSpec | None = None, only: Path | None = None):
        """
        Args:
            folder: where it lies.
            source: its name, the first part of every id.
            codec: whose codes are in it, where it holds codes instead of sound.
            only: the one file of it that was given; then the folder is not listed.
        """
        self.folder, self.source, self.codec, self.only = folder, source, codec, only
        self.read: set[Path] = set()
        self.left: dict[Path, str] = {}
        self.notes: list[str] = []
        self.parts: list[str] = []
        self._hidden: list[Path] = []
        self.odd: dict[Path, str] = {}
        """What is called like a sound and is no file, with what it is; known once the files are listed."""
        self.has_transcripts = False
        """Whether a list of it has transcripts, or rows that cannot be read."""
        self._beside: dict[Path, dict[str, list[Path]]] = {}

    @cached_property
    def files(self) -> list[Path]:
        """Every file, sorted; hidden ones, and those in hidden folders and in stores, left out."""
        if self.only is not None:
            return [self.only]
        found = []
        for place, folders, names in os.walk(self.folder, onerror=self._note_unlisted):
            folders[:] = [name for name in folders if not name.startswith(".")]
            if STORE & set(names):
                self.note(f"{place} is a store and no part of the corpus")
                folders.clear()
                continue
            found += [Path(place, name) for name in names if not name.startswith(".")]
            self._hidden += [Path(place, name) for name in names if name.startswith(".")]
            found += [Path(place, name) for name in folders if _is_empty_sound(Path(place, name))]
        odd = {path: why for path in sorted(found) if (why := not_a_file(path)) is not None}
        self.odd = {path: why for path, why in odd.items() if path.suffix.lower() in SOUND_SUFFIXES}
        return sorted(set(found) - odd.keys())

    def _note_unlisted(self, error: OSError) -> None:
        self.note(f"{error.filename} cannot be listed ({error.strerror}); what is in it is missing")

    @cached_property
    def sounds(self) -> list[Path]:
        """The sound files among them: by their endings, or where the ending tells nothing by their content."""
        return [path for path in self.files if _is_sound(path)]

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """Files with one of the endings, in small letters or capitals."""
        return [path for path in self.files if path.name.lower().endswith(suffixes)]

    def use(self, paths: Iterable[Path]) -> None:
        """Note files that are read."""
        self.read.update(paths)

    def leave(self, path: Path, why: str) -> None:
        """Note a file that is not, and why."""
        self.left[path] = why

    def leave_part(self, what: str) -> None:
        """Note a part of a list, table or tar that nobody reads and in which transcripts may stand."""
        self.parts.append(what)

    def note(self, sentence: str) -> None:
        """Note something else that a person should know."""
        self.notes.append(sentence)

    def inside(self, path: Path) -> Path:
        """A path from the folder on."""
        return path.relative_to(self.folder) if path.is_relative_to(self.folder) else Path(path.name)

    def find_sound(self, name: str, *folders: Path) -> Path | None:
        """The sound file that a row calls so, with or without its ending, in one of the folders or their `wavs`, `clips`,
        `audio`; accents may be composed or not. None where there is none."""
        for folder in folders:
            for inside in ("", *SOUND_FOLDERS):
                for form in dict.fromkeys(
                    (name, _key(name), unicodedata.normalize("NFD", name), name.replace("\\", "/"))
                ):
                    path = folder / inside / form
                    suffix = path.suffix.lower() if path.suffix.lower() in SOUND_SUFFIXES else ""
                    if suffix and _is_file(path):
                        return path
                    near = self._near(path.parent).get(_key(path.stem if suffix else path.name), ())
                    for found in near:
                        if found.suffix.lower() in ({suffix} if suffix else SOUND_SUFFIXES):
                            return found
        return self._moved(name)

    def _moved(self, name: str) -> Path | None:
        """The one sound of that name, with or without its ending, where a list names folders as they are elsewhere.

        Folders that both name must be the same: `spk1/001.wav` is not `spk2/001.wav`. Capitals do not matter.
        """
        path = PureWindowsPath(name)
        if self.only is not None or not path.name:
            return None
        found = self._by_name.get(_key(path.name).casefold(), [])
        told = [_key(part).casefold() for part in path.parts[:-1]]
        alike = [p for p in found if _same_folders(told, self.inside(p).parent.parts, bool(path.anchor))]
        return alike[0] if len(alike) == 1 else None

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """Sounds by their name with and without its ending, in small letters."""
        found: dict[str, list[Path]] = defaultdict(list)
        for path in self.sounds:
            for name in (path.name, path.stem):
                found[_key(name).casefold()].append(path)
        return found

    def beside(self, sound: Path) -> list[Path]:
        """Files that may hold the transcript of a sound, the likeliest first: of its name in its folder, or in a tree of
        texts that mirrors that of the sounds (VCTK's `txt/p225/p225_001.txt`)."""
        stem = _key(sound.stem)
        near = self._near(sound.parent)
        found = [p for p in (*near.get(stem, ()), *near.get(_key(sound.name), ())) if ending_of(p)]
        found = found or self._otherwise_written(sound, stem) or self._mirrored(sound, stem)
        return sorted(found, key=lambda p: (_place(p), len(p.name), p))

    def _otherwise_written(self, sound: Path, stem: str) -> list[Path]:
        """Files beside a sound whose names differ from its own in capitals, where no other sound has a claim to them."""
        small = stem.casefold()
        names = [name for name in self._near(sound.parent) if name.casefold() == small]
        paths = [path for name in names for path in self._near(sound.parent)[name]]
        sounds = [path for path in paths if path.suffix.lower() in SOUND_SUFFIXES]
        return [path for path in paths if ending_of(path)] if len(sounds) == 1 else []

    def has_sound(self, stem: str) -> bool:
        """Whether a sound of that name, with or without its ending, lies anywhere in the folder."""
        return _key(stem).casefold() in self._by_name

    def _near(self, folder: Path) -> Mapping[str, list[Path]]:
        """The files of one folder by their names without endings."""
        if folder not in self._beside:
            names = self._beside[folder] = defaultdict(list)
            try:
                paths = sorted(Path(folder, entry.name) for entry in os.scandir(folder) if entry.is_file())
            except (OSError, ValueError):
                paths = []
            for path in paths:
                ending = ending_of(path) or path.suffix
                name = path.name[: len(path.name) - len(ending)]
                names[_key(name)].append(path)
                stem, dot, language = name.rpartition(".")
                if ending in TIMED and dot and _LANGUAGE.fullmatch(language):
                    names[_key(stem)].append(path)  # talk.en.vtt
        return self._beside[folder]

    def _mirrored(self, sound: Path, stem: str) -> list[Path]:
        if self.only is not None:
            return []
        for name in dict.fromkeys((stem, re.sub(r"_mic\d$", "", stem))):
            texts = self._texts.get(name, [])
            mirrored = [
                path
                for path in texts
                if _mirrors(sound.relative_to(self.folder), path.relative_to(self.folder))
            ]
            alone = len(texts) == 1 and self._stems.get(name, 0) <= 1
            if len(mirrored) == 1 or alone:
                return mirrored or texts
        return []

    @cached_property
    def _texts(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = defaultdict(list)
        for path in self.files:
            ending = ending_of(path)
            if ending is not None and not ABOUT.fullmatch(path.name):
                found[_key(path.name[: len(path.name) - len(ending)])].append(path)
        return found

    @cached_property
    def _stems(self) -> dict[str, int]:
        found: dict[str, int] = defaultdict(int)
        for path in self.sounds:
            found[_key(path.stem)] += 1
        return found

    # --- the account

    def unread(self) -> dict[Path, str]:
        """Files in which transcripts may stand and that nobody read, with the reason where there is one."""
        if self.only is not None:
            return dict(self.left)
        known, sounds = NO_TEXT | SOUND_SUFFIXES, set(self.sounds)
        files = (path for path in self.files if path not in sounds)
        maybe = (p for p in files if p.suffix.lower() not in known and not ABOUT.fullmatch(p.name))
        return {path: self.left.get(path, "") for path in maybe if path not in self.read}

    def account(self, items: Iterable[Item]) -> list[str]:
        """What became of its files, in sentences: how many sounds have a transcript, and what was not read."""
        items = list(items)
        sounds = [item for item in items if not item.is_text]
        lines = list(self.notes)
        if hidden := [path for path in self._hidden if kind_of_file(path)]:
            lines.append(
                f"{self.name}: hidden sound files not read: {self.describe(dict.fromkeys(hidden, ''))}"
            )
        if sounds:
            written = sum(bool((item.text or "").strip()) for item in sounds)
            lines.append(f"{self.name}: {written} of {len(sounds)} sounds with a transcript")
        if self.parts:
            lines.append(f"{self.name}: not read: {'; '.join(self.parts)}")
        unread = self.unread()
        if unread:
            lines.append(f"{self.name}: not read: {self.describe(unread)}")
        if self.only is None:
            named = {item.audio for item in items}
            if odd := {path: f"it {why}" for path, why in self.odd.items() if path not in named}:
                lines.append(f"{self.name}: {len(odd)} called like sounds, not read: {self.describe(odd)}")
            lost = [p for p in self.sounds if p not in named and p not in self.read]
            if lost:
                lines.append(
                    f"{self.name}: {len(lost)} sound files in no row, not read: {_some(self._short(lost))}"
                )
        return lines

    @property
    def name(self) -> str:
        """What sentences call it."""
        return str(self.only or self.folder)

    def describe(self, files: Mapping[Path, str]) -> str:
        """Files in a few words: by reason, or by ending where there is none."""
        groups: dict[str, list[Path]] = defaultdict(list)
        for path, why in files.items():
            groups[why or path.suffix.lower()].append(path)
        parts = []
        for group, paths in groups.items():
            why = next((files[path] for path in paths if files[path]), "")
            count = f"{len(paths)} {group} " if not why and len(paths) > EXAMPLES else ""
            parts.append(f"{count}{_some(self._short(paths))}" + (f" ({why})" if why else ""))
        return "; ".join(parts)

    def _short(self, paths: Iterable[Path]) -> list[str]:
        return [self.inside(path).as_posix() for path in paths]


def ending_of(path: Path) -> str | None:
    """Which of the endings of transcripts beside sounds a file has."""
    name = path.name.lower()
    return next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if name.endswith(ending)), None)


def _place(path: Path) -> int:
    ending = ending_of(path)
    return len(ENDINGS) if ending is None else ENDINGS.index(ending)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _same_folders(told: list[str], there: tuple[str, ...], elsewhere: bool) -> bool:
    """Whether a path in a list may mean a folder: the last folders of both are the same, as far as both name any.

    Args:
        told: folders of the path, in small letters.
        there: folders of the sound, from the corpus on.
        elsewhere: the path begins at the root of another machine, where folders of sounds may be called otherwise.
    """
    found = [_key(part).casefold() for part in there]
    both = min(len(told), len(found))
    same = not both or told[-both:] == found[-both:]
    return same or (elsewhere and len(found) == 1 and found[0] in SOUND_FOLDERS)


def _is_sound(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in SOUND_SUFFIXES or suffix in NO_TEXT or ending_of(path) or ABOUT.fullmatch(path.name):
        return suffix in SOUND_SUFFIXES
    return kind_of_file(path) is not None


def _is_file(path: Path) -> bool:
    return not_a_file(path) is None


def _is_empty_sound(folder: Path) -> bool:
    try:
        return folder.suffix.lower() in SOUND_SUFFIXES and not os.listdir(folder)
    except OSError:  # the walk says so when it comes there
        return False


def _mirrors(sound: Path, text: Path) -> bool:
    """Whether two paths are the same but for one folder of each: wav/p225/a.wav and txt/p225/a.txt."""

    def without_one(parts: tuple[str, ...]) -> set[tuple[str, ...]]:
        return {parts[:n] + parts[n + 1 :] for n in range(len(parts))}

    return bool(without_one(sound.parent.parts) & without_one(text.parent.parts))


def _some(names: list[str]) -> str:
    shown = ", ".join(
        name.encode("unicode_escape").decode() if not name.isprintable() else name
        for name in names[:EXAMPLES]
    )
    return shown if len(names) <= EXAMPLES else f"{shown}, … ({len(names)} in all)"
