"""A folder of recordings, with the times of their words, as a manifest that `sodakit prepare` reads."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sodakit.align.contract import Aligner
from sodakit.align.notes import AlignRule, Counts, align_items, plain_words
from sodakit.files import write_json_lines
from sodakit.prepare.recording import Item


def align_folder(
    items: Sequence[Item], out: Path, aligner: Aligner, rule: AlignRule, fresh: bool = False
) -> Counts:
    """Write `manifest.jsonl` in `out`: a line for each sound, with the times of its words where they were found.

    What cannot be listed there (texts alone, broken rows, sounds inside other files) is left out and counted.

    Raises:
        ConfigError: `out` was begun by another aligner.
    """
    out.mkdir(parents=True, exist_ok=True)
    unlisted = Counter(reason for item in items if (reason := _unlisted(item)) is not None)
    timed, counts = align_items(
        [item for item in items if _unlisted(item) is None], out, aligner, rule, fresh
    )
    write_json_lines(out / "manifest.jsonl", _rows(timed, out))
    return replace(counts, left=counts.left + unlisted)


def _unlisted(item: Item) -> str | None:
    if item.problem is not None:
        return item.reason
    if item.is_text:
        return "no sound"
    return None if item.audio is not None else "inside another file: prepare it, and align the store"


def _rows(items: Sequence[Item], out: Path) -> Iterator[dict[str, Any]]:
    for item in items:
        assert item.audio is not None
        row: dict[str, Any] = {
            "id": item.id.removeprefix(f"{item.source}/"),
            "recording": item.recording.removeprefix(f"{item.source}/"),
            "audio": Path(os.path.relpath(item.audio, out)).as_posix(),
        }
        if item.start_s is not None:
            row["start"] = item.start_s
        if item.end_s is not None:
            row["end"] = item.end_s
        told = {name: getattr(item, name) for name in ("text", "speaker", "language", "licence")}
        row |= {name: value for name, value in told.items() if value}
        if isinstance(split := item.fields.get("split"), str):
            row["split"] = split
        if item.words:
            row |= {"words": plain_words(item.words), "words_source": item.words_source}
        yield row
