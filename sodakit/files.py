"""Files that are complete or absent: every write goes to a temporary name and is renamed."""

import codecs
import gzip
import hashlib
import json
import os
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sodakit.disk import writing
from sodakit.errors import ConfigError
from sodakit.units import shortened

UNPACKED_BYTES = 1 << 30
"""A small `.gz` of more than this is made to fill a memory."""
_unfinished: set[Path] = set()
"""Folders that this process is making. What lies in them is flushed with them, once."""


@contextmanager
def atomic_path(path: Path | str, needed_bytes: int | None = None) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends without an error.

    The data is flushed to disk before the rename, so a power cut leaves the old file or the new
    one and never half of either. Inside an `atomic_folder` it is the path itself, since the folder is whole or absent.

    Args:
        path: the file.
        needed_bytes: its length where it is known, for the message when the disk is full.
    Raises:
        DiskError: it cannot be written.
    """
    path = Path(path)
    if not _unfinished.isdisjoint(path.parents):
        with _in_unfinished(path, needed_bytes):
            yield path
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path, needed_bytes, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with writing(
                path, needed_bytes, temporary
            ):  # here, while the temporary file is still there to be measured
                temporary.touch()
                mode = temporary.stat().st_mode
                temporary.unlink()
                yield temporary
                _set_mode(temporary, mode)
                with open(temporary, "rb") as handle:
                    os.fsync(handle.fileno())
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _in_unfinished(path: Path, needed_bytes: int | None) -> Iterator[None]:
    """A file of a folder that nobody sees until it is whole: it needs no name of its own for a while, and no flush."""
    try:
        with writing(path, needed_bytes, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield
    except BaseException:
        with suppress(OSError):  # the folder itself may be what cannot be made
            path.unlink()
        raise


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends without an error.

    Raises:
        DiskError: it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            with writing(path, temporary=temporary):
                _unfinished.add(temporary)
                yield temporary
                _replace_folder(temporary, path)
        finally:
            _unfinished.discard(temporary)
            shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(temporary: Path, path: Path) -> None:
    mode = temporary.stat().st_mode
    for file in temporary.rglob("*"):
        _set_mode(file, mode if file.is_dir() else mode & ~0o111)
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
    # A folder cannot be renamed over a full one: move the old one aside first.
    retired = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        os.replace(path, retired)
    os.replace(temporary, path)
    shutil.rmtree(retired, ignore_errors=True)


def _set_mode(path: Path, mode: int) -> None:
    """Give a new file or folder the permissions that the umask says: some libraries write for the owner alone."""
    if path.is_symlink() or not path.exists():
        return
    # The owner's right to run it stays: a copied script is still one.
    mode |= path.stat().st_mode & 0o100
    if stat.S_IMODE(path.stat().st_mode) != stat.S_IMODE(mode):
        with suppress(OSError):  # some network disks keep no permissions
            path.chmod(stat.S_IMODE(mode))


def not_a_file(path: Path | str) -> str | None:
    """Why there is no file of that name to be read, in words that follow the name; None where there is one.

    A pipe or a device is none: it may never end, or never begin.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "is a link to nothing" if os.path.islink(path) else "does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISREG(mode):
        return None
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return f"is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file"


def refuse_odd(path: Path | str) -> None:
    """Raise for a pipe, a device or a folder where a file is to be read. What is missing is left to who opens it.

    Raises:
        ConfigError: it is one.
    """
    why = not_a_file(path)
    if why is not None and os.path.exists(path):
        raise ConfigError(f"{shortened(path)} {why}. Name a file.")


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    # Half of a pair of surrogates becomes its escape, which JSON reads as it was.
    data = text.encode("utf-8", "backslashreplace")
    with atomic_path(path, len(data)) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def parse_json(text: str | bytes) -> Any:
    """What JSON says.

    Raises:
        ValueError: no JSON, no UTF-8, nested too deeply to mean anything, or an object with a name twice.
    """
    try:
        return json.loads(
            text if isinstance(text, str) else text.decode("utf-8"), object_pairs_hook=_without_doubles
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"not JSON ({error.msg}, {line}column {error.colno})") from error
    except RecursionError as error:
        raise ValueError("not JSON (nested too deeply)") from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object; a null beside a value of the same name says no more than a name that is left out."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    told: dict[str, Any] = {}
    for name, value in pairs:
        if told.get(name) is not None and value is not None:
            raise ValueError(f"not clear JSON ({shortened(name)!r} comes twice in an object)")
        if told.get(name) is None:
            told[name] = value
    return told


def read_packed(path: Path | str) -> bytes:
    """The bytes of a file, unpacked where its name ends in `.gz`, without a byte-order mark.

    Raises:
        ConfigError: a folder or a pipe, damaged, or without end.
    """
    refuse_odd(path)
    try:
        with gzip.open(path) if Path(path).suffix.lower() == ".gz" else open(path, "rb") as handle:
            found = handle.read(UNPACKED_BYTES + 1) if isinstance(handle, gzip.GzipFile) else handle.read()
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ConfigError(f"{path} cannot be read to its end ({error}). Fetch it again.") from error
    if isinstance(handle, gzip.GzipFile) and len(found) > UNPACKED_BYTES:
        raise ConfigError(
            f"{path} holds more than {UNPACKED_BYTES >> 20} MiB. Unpack it and cut it into parts."
        )
    return found.removeprefix(codecs.BOM_UTF8)


def read_text_lines(path: Path | str) -> list[str]:
    """The lines of a text that are not blank, without the spaces around them; `.gz` is unpacked.

    Raises:
        ConfigError: as `read_packed`, or no UTF-8.
    """
    try:
        lines = read_packed(path).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 ({error}). Save it as UTF-8.") from error
    return [line.strip() for line in lines if line.strip()]


def read_json(path: Path | str) -> Any:
    """The value in a JSON file, with or without a byte-order mark.

    Raises:
        ConfigError: it is a folder or a pipe, cut off, damaged, no UTF-8, or nested too deep; the message names it.
    """
    refuse_odd(path)
    try:
        return parse_json(Path(path).read_bytes().removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        raise ConfigError(f"{path} is {error}; was its writing or its copy cut off?") from error


def write_json_lines(path: Path | str, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json_lines(path: Path | str, *, ours: bool = True) -> list[dict[str, Any]]:
    """The objects of a file with one JSON object a line; `.gz` is unpacked.

    Args:
        ours: written by a run of ours, which may have been killed: a torn last line is left out. False for what a user
            gives, of which every line counts.
    Raises:
        ConfigError: another line is no JSON object, or the file no UTF-8; the message names both. What a user gives: also
            the last line.
    """
    rows: list[dict[str, Any]] = []
    # Not by splitlines: it also breaks at characters that a text may hold.
    lines = read_packed(path).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(parse_json(line))
        except ValueError as error:
            if ours and number == len(lines):
                break
            raise ConfigError(f"{path}, line {number}, is {error}.") from error
        if not isinstance(rows[-1], dict):
            raise ConfigError(f"{path}, line {number}, is {line.decode()!r:.60}; needed: a JSON object.")
    return rows


def user_cache() -> Path:
    """The user's folder for what can be made again: `~/.cache/sodakit`, or where XDG_CACHE_HOME says."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sodakit"


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(*parts: bytes | str) -> str:
    """A 16-character fingerprint of the parts, stable across machines and versions."""
    hasher = hashlib.blake2b(digest_size=8)
    for part in parts:
        # Names of files may hold bytes that are no UTF-8.
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()
