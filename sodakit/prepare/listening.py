"""Recordings nobody wrote down: cut into utterances at pauses, and transcribed by a recogniser. Before the plan.

Both leave notes that a person may mend. What is noted is not heard again, so a killed run does only what is missing.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sodakit.audio.wave import Wave
from sodakit.config import to_plain
from sodakit.errors import AudioError, ConfigError
from sodakit.holding import hold
from sodakit.log import progress_bar, say
from sodakit.prepare.checks import Limits, check_item, check_wave
from sodakit.prepare.detector import detector_name, listen
from sodakit.prepare.notebook import Notebook, Row, note
from sodakit.prepare.pauses import PauseRule, utterance_times
from sodakit.prepare.recording import Item
from sodakit.units import format_duration

ANY_LENGTH = Limits(min_duration_s=0.0, max_duration_s=math.inf)
CUT_S, WRITTEN_S = 600.0, 120.0
"""Sound of short recordings whose notes share a file: what a killed run hears again. A long one has its own."""


@dataclass(frozen=True)
class Transcriber:
    """A recogniser, as far as preparing needs one."""

    name: str
    """What a person calls it."""
    fingerprint: str
    """Digest of everything its transcripts depend on."""
    write: Callable[[Sequence[Wave]], list[str]]
    """What is said in each sound; '' where nothing was heard."""


def cut_at_pauses(items: Iterable[Item], folder: Path, rule: PauseRule, fresh: bool = False) -> list[Item]:
    """The items, with every whole recording that has no transcript cut into its utterances, in time order.

    A recording without speech, or that cannot be decoded, becomes an item with that problem.

    Args:
        items: of the job.
        folder: for `segments/`, the notes.
        rule: what is an utterance.
        fresh: set aside what was noted under another rule.
    Raises:
        ConfigError: the notes are of another rule, or cannot be read.
        MissingExtra: the detector is not installed.
    """
    items, notebook = list(items), Notebook(folder / "segments")
    with hold(folder, "filled"):
        notebook.begin({"detector": detector_name(), **to_plain(rule)}, fresh)
        waiting = unheard(filter(is_uncut, items), notebook, ANY_LENGTH)
        hear = lambda batch: [row for item in batch for row in _find_utterances(item, rule)]  # noqa: E731
        hear_all(waiting, notebook, hear, "find pauses (s)", CUT_S)
    return list(_cut(items, notebook))


def transcribe(
    items: Iterable[Item], folder: Path, transcriber: Transcriber, limits: Limits, fresh: bool = False
) -> list[Item]:
    """The items, with a transcript for every sound that has none. Where no word is heard, that is its problem.

    Args:
        items: of the job.
        folder: for `transcripts/`, the notes.
        transcriber: who listens.
        limits: what an utterance may be; the others are not listened to.
        fresh: set aside what another recogniser wrote.
    Raises:
        ConfigError: the notes are another recogniser's, or cannot be read.
    """
    items, notebook = list(items), Notebook(folder / "transcripts")
    with hold(folder, "filled"):
        notebook.begin({"recogniser": transcriber.name, "fingerprint": transcriber.fingerprint}, fresh)
        waiting = unheard(filter(is_unwritten, items), notebook, limits)
        hear_all(waiting, notebook, partial(_write_down, transcriber, limits), "transcribe (s)", WRITTEN_S)
    return list(_written(items, notebook, transcriber.name))


def foresee(
    items: Sequence[Item], folder: Path, limits: Limits, segment: bool, transcriber: str | None
) -> tuple[list[Item], list[str]]:
    """The items as far as they are heard already, and in words what would be listened to. It does not listen."""
    sentences = []
    cuts, texts = Notebook(folder / "segments"), Notebook(folder / "transcripts")
    uncut: list[tuple[Item, float]] = []
    if segment:
        uncut = unheard(filter(is_uncut, items), cuts, ANY_LENGTH)
        sentences.append(f"{_count(uncut)} would be cut at pauses.")
        out_of_plan = {item.fingerprint() for item, _ in uncut}
        items = list(_cut([item for item in items if item.fingerprint() not in out_of_plan], cuts))
    if transcriber is not None:
        waiting = unheard(filter(is_unwritten, items), texts, limits)
        sentences.append(f"{_count(uncut + waiting)} would be transcribed by {transcriber}.")
        items = list(_written(items, texts, transcriber))
    if uncut:
        sentences.append("What comes of the uncut recordings is no part of the plan yet.")
    return list(items), sentences


def is_uncut(item: Item) -> bool:
    """Whether it is a whole recording of which nobody wrote down what is said."""
    whole = (item.start_s, item.end_s, item.at_s) == (None, None, None)
    return whole and is_unwritten(item)


def is_unwritten(item: Item) -> bool:
    """Whether it is a sound without a transcript."""
    if item.is_text or item.problem is not None or (item.text or "").strip():
        return False
    return item.held is None or item.held.codes() is None


def unheard(items: Iterable[Item], notebook: Notebook, limits: Limits) -> list[tuple[Item, float]]:
    """Those to be listened to, with their seconds; not what is noted, nor what the plan will leave out anyway."""
    known = set(notebook.rows())
    waiting = []
    for item in items:
        fingerprint = item.fingerprint()
        if fingerprint in known:
            continue
        known.add(fingerprint)
        duration_s, rejection = check_item(item, limits)
        if rejection is None:
            waiting.append((item, duration_s))
    return waiting


def hear_all(
    waiting: Sequence[tuple[Item, float]],
    notebook: Notebook,
    hear: Callable[[list[Item]], list[Row]],
    doing: str,
    batch_s: float,
) -> None:
    """Listen to what is waiting and note each batch as soon as it is heard."""
    if waiting:
        say(f"{_count(waiting)} to listen to; notes in {notebook.folder}")
    with progress_bar() as bar:
        task = bar.add_task(doing, total=round(sum(duration_s for _, duration_s in waiting)), note="")
        for batch in _batches(waiting, batch_s):
            first = batch[0][0]
            bar.update(task, note=first.id)
            rows = hear([item for item, _ in batch])
            if rows:
                notebook.write(first.id, rows)
            bar.advance(task, sum(duration_s for _, duration_s in batch))


def _batches(waiting: Iterable[tuple[Item, float]], batch_s: float) -> Iterator[list[tuple[Item, float]]]:
    """Neighbours together, up to `batch_s`; what is longer stands alone."""
    batch: list[tuple[Item, float]] = []
    for item, duration_s in waiting:
        if batch and sum(s for _, s in batch) + duration_s > batch_s:
            yield batch
            batch = []
        batch.append((item, duration_s))
    if batch:
        yield batch


def _find_utterances(item: Item, rule: PauseRule) -> list[Row]:
    try:
        probabilities_F, heard_s = listen(item)
    except AudioError as error:
        return [note(item, reason="undecodable", problem=str(error))]
    times_s = utterance_times(probabilities_F, heard_s, rule)
    if not times_s:
        problem = f"no speech of {rule.least_speech_s:g} s or more in {heard_s:.1f} s"
        return [note(item, reason="no speech", problem=problem)]
    return [note(item, start_s=start_s, end_s=end_s) for start_s, end_s in times_s]


def _write_down(transcriber: Transcriber, limits: Limits, items: list[Item]) -> list[Row]:
    """A row per item that can be heard; of the others the encoder says why."""
    heard = [(item, wave) for item in items if (wave := _read(item, limits)) is not None]
    if not heard:
        return []
    texts = transcriber.write([wave for _, wave in heard])
    assert len(texts) == len(heard), f"{transcriber.name} wrote {len(texts)} texts of {len(heard)} sounds"
    rows = []
    for (item, wave), text in zip(heard, texts, strict=True):
        start_s = item.start_s or 0.0
        end_s = round(start_s + wave.duration_s, 3)
        rows.append(note(item, start_s=start_s, end_s=end_s, text=" ".join(text.split())))
    return rows


def _read(item: Item, limits: Limits) -> Wave | None:
    try:
        wave = item.read()
    except AudioError:
        return None
    return None if check_wave(wave, limits) else wave


def _cut(items: Iterable[Item], notebook: Notebook) -> Iterator[Item]:
    """The items, with those that are noted as their utterances."""
    noted = notebook.rows()
    for item in items:
        rows = noted.get(item.fingerprint(), []) if is_uncut(item) else []
        if not rows:
            yield item
        for row in sorted(rows, key=lambda row: float(row.get("start_s", 0.0))):
            if "problem" in row:
                yield replace(item, problem=row["problem"], reason=str(row.get("reason", item.reason)))
                continue
            if not {"start_s", "end_s"} <= row.keys():
                raise ConfigError(
                    f"A row of {item.id} in {notebook.folder} has neither times nor a problem; "
                    "needed: 'start_s' and 'end_s' in seconds. Mend the row, or delete it."
                )
            start_s, end_s = float(row["start_s"]), float(row["end_s"])
            # Named by its times: a transcript never goes to a segment whose borders were moved.
            name = f"{item.id}:{start_s:.3f}-{end_s:.3f}"
            yield replace(item, id=name, recording=item.recording, start_s=start_s, end_s=end_s)


def _written(items: Iterable[Item], notebook: Notebook, transcriber: str) -> Iterator[Item]:
    """The items, with the transcripts that are noted."""
    noted = notebook.rows()
    for item in items:
        rows = noted.get(item.fingerprint(), []) if is_unwritten(item) else []
        if not rows:
            yield item
        elif text := str(rows[-1].get("text", "")).strip():
            yield replace(item, text=text)
        else:
            yield replace(item, problem=f"{transcriber} heard no word", reason="empty transcript")


def _count(waiting: Sequence[tuple[Item, float]]) -> str:
    sounds = "1 sound" if len(waiting) == 1 else f"{len(waiting)} sounds"
    return f"{sounds} ({format_duration(sum(duration_s for _, duration_s in waiting))})"
