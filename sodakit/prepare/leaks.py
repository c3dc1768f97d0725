"""What of an evaluation set is in the training split: runs of words in transcripts, runs of codes in speech."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from sodakit.errors import ConfigError
from sodakit.files import read_json_lines
from sodakit.log import track
from sodakit.prepare.overlap import code_runs, word_runs
from sodakit.store.reader import StoreReader

SHARE = 0.5
"""An evaluation item counts as leaked when at least this share of its runs is in training."""


@dataclass(frozen=True)
class EvalItem:
    """One item of an evaluation set."""

    name: str
    """Its id, or where it stands."""
    text: str
    """Its transcript; empty if it has none."""
    runs: frozenset[int]
    """Hashes of its runs of codes; empty if it has none."""


@dataclass
class Overlap:
    """What one evaluation set and the training split have in common, by one kind of run."""

    evaluation: str
    """The set."""
    kind: str
    """`transcripts` or `codes`."""
    compared: int
    """Items that have runs."""
    leaked: list[tuple[str, float, str]] = field(default_factory=list)
    """Name, share of its runs in training, and an example of where; largest share first."""


def read_evaluation(where: Path) -> list[EvalItem]:
    """The items of a store (test split; all splits where it has none), or of JSON lines or text with transcripts.

    Raises:
        ConfigError: none of these, a line that cannot be read, or no item with words or codes to compare.
    """
    items = _read(where)
    if not any(item.runs or word_runs(item.text, 1) for item in items):
        raise ConfigError(
            f"{where} holds {len(items)} items, none with a transcript or enough codes to compare; needed: at least one. "
            "Nothing can be said about leaks from it. Is it the right file, with its text in `text`?"
        )
    return items


def _read(where: Path) -> list[EvalItem]:
    if (where / "store.json").is_file():
        reader = StoreReader(where)
        splits = ("test",) if "test" in reader.splits else reader.splits
        return [item for split in splits for item in _stored(reader, split)]
    if where.suffix in (".jsonl", ".json") and where.is_file():
        rows = read_json_lines(where, ours=False)
        return [
            EvalItem(str(row.get("id", f"line {number}")), _text(row), frozenset())
            for number, row in enumerate(rows, start=1)
        ]
    if where.suffix == ".txt" and where.is_file():
        try:
            lines = where.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{where} is no UTF-8 ({error}); needed: a transcript a line. Save it as UTF-8."
            ) from error
        return [EvalItem(f"line {n}", line, frozenset()) for n, line in enumerate(lines, start=1)]
    raise ConfigError(
        f"{where} is no evaluation set; needed: a store, a .jsonl file with a `text` field, or a .txt file with a "
        "transcript a line. Check the path."
    )


def find_leaks(
    store: StoreReader, evaluations: dict[str, list[EvalItem]], *, words: int = 8, share: float = SHARE
) -> list[Overlap]:
    """The overlap of each evaluation set with the train split, by transcripts and by codes.

    Only runs that an evaluation set holds are kept in memory, so training may be of any size.

    Args:
        store: its train split is searched.
        evaluations: items by the name of their set.
        words: words in a run; a shorter transcript is one run of its own.
        share: an item is reported from this share of its runs on.
    """
    text_runs = {
        run for items in evaluations.values() for item in items for run in word_runs(item.text, words)
    }
    sound_runs = {run for items in evaluations.values() for item in items for run in item.runs}
    # A transcript shorter than a run is looked for among whole transcripts, so training gives its short ones, too.
    text_found: dict[Any, str] = {}
    sound_found: dict[Any, str] = {}
    for utterance in track(store.utterances("train"), "search"):
        for run in word_runs(utterance.text or "", words):
            if run in text_runs:
                text_found.setdefault(run, utterance.id)
        if sound_runs:
            for run in code_runs(store.codec_spec.semantic_in_time(utterance.codes_KF)).tolist():
                if run in sound_runs:
                    sound_found.setdefault(run, utterance.id)
    overlaps = []
    for name, items in evaluations.items():
        texts = [(item.name, word_runs(item.text, words)) for item in items]
        overlaps.append(_overlap(name, "transcripts", texts, text_found, share))
        sounds = [(item.name, sorted(item.runs)) for item in items]
        overlaps.append(_overlap(name, "codes", sounds, sound_found, share))
    return [overlap for overlap in overlaps if overlap.compared]


def leaks_table(overlaps: Iterable[Overlap], examples: int = 3) -> Table:
    """The overlaps with examples, for a person."""
    table = Table(title="Evaluation items found in training")
    for name in ("set", "by", "compared", "leaked", "for example"):
        table.add_column(name, justify="right" if name in ("compared", "leaked") else "left")
    for overlap in overlaps:
        shown = "\n".join(
            f"{name}: {share:.0%} of its runs, for one in {where}"
            for name, share, where in overlap.leaked[:examples]
        )
        counts = (str(overlap.compared), str(len(overlap.leaked)))
        table.add_row(Text(overlap.evaluation), overlap.kind, *counts, Text(shown))
    return table


def _stored(reader: StoreReader, split: str) -> Iterator[EvalItem]:
    for utterance in reader.utterances(split):
        runs: np.ndarray = code_runs(reader.codec_spec.semantic_in_time(utterance.codes_KF))
        yield EvalItem(utterance.id, utterance.text or "", frozenset(runs.tolist()))


def _text(row: dict[str, Any]) -> str:
    return str(row.get("text") or row.get("transcript") or row.get("sentence") or "")


def _overlap(
    evaluation: str, kind: str, items: list[tuple[str, list]], found: dict[Any, str], share: float
) -> Overlap:
    overlap = Overlap(evaluation, kind, sum(bool(runs) for _, runs in items))
    for name, runs in items:
        known = [run for run in runs if run in found]
        if runs and len(known) >= share * len(runs):
            overlap.leaked.append((name, len(known) / len(runs), found[known[0]]))
    overlap.leaked.sort(key=lambda row: (-row[1], row[0]))
    return overlap
