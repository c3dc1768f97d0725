"""What a model said or wrote, kept on disk: generated once, scored many times.

    FOLDER/
      outputs.json          what the outputs depend on; another request into the same folder is refused
      part-00000.jsonl      one output a line: id, text, audio, ended, num_tokens, problem
      audio/00012.flac      the sound of item 12

A part is complete or absent. Items of a part are generated together, always the same ones, so a run that was killed
and started again makes the same outputs, bit for bit, as one that was not: how a batch is composed can change the last
digit of a score, and with it a sampled token.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.audio.files import read_wave, write_wave
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError
from sodakit.files import digest, read_json, read_json_lines, write_json, write_json_lines
from sodakit.holding import hold
from sodakit.log import track

SETTINGS = "outputs.json"
PART_ITEMS = 8
UNREADABLE = "its sound cannot be read"
"""The problem of a case whose recording is damaged, and of an output whose sound is."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """The answer to one case."""

    id: str
    """Of the case."""
    text: str | None = None
    """What was written."""
    wave: Wave | None = field(default=None, repr=False)
    """What was said; empty where nothing came."""
    ended: bool = True
    """Whether it closed by itself rather than at a limit."""
    num_tokens: int = 0
    """Ids generated."""
    problem: str | None = None
    """Why there is no answer; such an output counts as an error, never as absent."""

    @property
    def failed(self) -> bool:
        """Whether there is nothing to score: a problem, no word, or no sound."""
        silent = self.wave is None or not len(self.wave.samples_S)
        return self.problem is not None or (silent and not (self.text or "").strip())


def generate_folder(
    num_items: int,
    make: Callable[[range], Sequence[Output]],
    folder: Path | str,
    settings: dict[str, Any],
    *,
    part_items: int = PART_ITEMS,
) -> list[Output]:
    """All outputs in order, read from `folder` where they are there already and made where they are not.

    Args:
        make: the outputs of a range of item numbers, one for each.
        settings: everything the outputs depend on.
        part_items: how many are generated together.
    Raises:
        ConfigError: the folder holds outputs of other settings, or another process fills it.
    """
    folder = Path(folder)
    ranges = [range(first, min(first + part_items, num_items)) for first in range(0, num_items, part_items)]
    parts = [(folder / f"part-{number:05d}.jsonl", part) for number, part in enumerate(ranges)]
    with hold_unless_whole(folder, [folder / SETTINGS, *(path for path, _ in parts)]):
        claim(folder / SETTINGS, settings | {"num_items": num_items, "part_items": part_items}, "outputs")
        missing = [(path, part) for path, part in parts if not path.exists()]
        for path, part in track(missing, "generating", total=len(missing)):
            outputs = make(part)
            rows = [_write(folder, number, output) for number, output in zip(part, outputs, strict=True)]
            write_json_lines(path, rows)
    return read_outputs(folder)


def read_outputs(folder: Path | str) -> list[Output]:
    """The outputs of a folder, in order.

    Raises:
        ConfigError: none there, or a damaged one.
    """
    folder = Path(folder)
    rows = [
        _checked(row, path) for path in sorted(folder.glob("part-*.jsonl")) for row in read_json_lines(path)
    ]
    if not rows:
        raise ConfigError(f"{folder} holds no outputs. Needed: a folder that `sodakit eval` has generated.")
    return [_read(folder, row) for row in rows]


def outputs_digest(folder: Path | str) -> str:
    """Digest of every output, its sound included."""
    folder = Path(folder)
    paths = [*sorted(folder.glob("part-*.jsonl")), *sorted((folder / "audio").glob("*.flac"))]
    return digest(*(part for path in paths for part in (path.name, path.read_bytes())))


def hold_unless_whole(folder: Path, paths: Iterable[Path]) -> AbstractContextManager[None]:
    """The folder for this process alone, unless all its files are there: then it is only read, perhaps by many."""
    return nullcontext() if all(path.exists() for path in paths) else hold(folder, "filled")


def claim(path: Path, settings: dict[str, Any], what: str) -> None:
    """Write down what a folder's files depend on, or refuse a folder that was made with something else.

    Raises:
        ConfigError: other settings; the message names them.
    """
    if path.exists():
        before = read_json(path)
        changed = sorted(k for k in before.keys() | settings.keys() if before.get(k) != settings.get(k))
        if changed:
            values = "; ".join(
                line for name in changed for line in _changes(name, before.get(name), settings.get(name))
            )
            raise ConfigError(
                f"{path.parent} holds {what} made with another {', '.join(changed)} ({values}). "
                "Choose another folder, or delete this one."
            )
    else:
        write_json(path, settings)


def _changes(name: str, before: Any, now: Any) -> list[str]:
    """What differs: of settings inside settings, only those that do."""
    if isinstance(before, dict) and isinstance(now, dict):
        inner = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        return [line for k in inner for line in _changes(f"{name}.{k}", before.get(k), now.get(k))]
    return [f"{name} was {before!r:.60}, now {now!r:.60}"]


def _write(folder: Path, number: int, output: Output) -> dict[str, Any]:
    audio = None
    if output.wave is not None and len(output.wave.samples_S):
        audio = f"audio/{number:05d}.flac"
        write_wave(folder / audio, output.wave)
    names = ("id", "text", "ended", "num_tokens", "problem")
    return {name: getattr(output, name) for name in names} | {
        "audio": audio,
        "sample_rate_hz": output.wave.sample_rate_hz if output.wave is not None else None,
    }


ROW: dict[str, Any] = {
    "id": str,
    "text": str | None,
    "ended": bool,
    "num_tokens": int,
    "problem": str | None,
    "audio": str | None,
    "sample_rate_hz": int | None,
}


def _checked(row: dict[str, Any], path: Path) -> dict[str, Any]:
    """The row itself, if it is one that `_write` made."""
    wrong = [name for name, kind in ROW.items() if name not in row or not isinstance(row[name], kind)]
    if wrong:
        raise ConfigError(
            f"{path} is damaged (an output with {wrong[0]}={row.get(wrong[0])!r:.40}). Delete that file, and run the same "
            "command again: it is made anew."
        )
    return row


def _read(folder: Path, row: dict[str, Any]) -> Output:
    wave, problem = None, row["problem"]
    if row["audio"]:
        try:
            wave = read_wave(folder / row["audio"])
        except AudioError:
            problem = UNREADABLE
    elif row["sample_rate_hz"]:
        wave = Wave(np.zeros(0, np.float32), row["sample_rate_hz"])
    names = ("id", "text", "ended", "num_tokens")
    return Output(**{name: row[name] for name in names}, wave=wave, problem=problem)
