"""Pairs as they are released, read from a folder or a hub id: what lies in it says which layout it has.

pairs.jsonl            written by `sodakit eval build`
*.parquet              the hub's layout: two audio columns with bytes, or two text columns
gold.csv               ZeroSpeech: one row per file, with id, voice and `correct`
*.jsonl[.gz], *.csv    text pairs: word and pseudo-word, BLiMP, contexts with endings, StoryCloze
part/sample_7_0.wav    SALMon's own folders: 0 is positive; or names with a leading number, even is positive
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sodakit.audio.files import AUDIO_SUFFIXES, read_wave
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError
from sodakit.eval.labels import Labels
from sodakit.files import digest, read_json_lines
from sodakit.prepare.sources.rows import parse_object, read_document, read_lines
from sodakit.prepare.sources.tables import cell_of, table_rows, table_schema

AUDIO_COLUMNS = (
    ("positive_audio", "negative_audio"),
    ("positive", "negative"),
    ("correct_audio", "incorrect_audio"),
)
TEXT_COLUMNS = (
    ("positive_word", "negative_word"),
    ("positive_transcription", "negative_transcription"),
    ("positive_text", "negative_text"),
    ("word", "pseudo"),
    ("sentence_good", "sentence_bad"),
)
"""Column pairs that hold the two sides, right one first; the first pair that is there counts."""

ALIASES = {
    "id": ("id", "pairID", "InputStoryid", "index"),
    "voice": ("voice", "speaker"),
    "type": ("type", "phenomenon", "linguistics_term"),
    "subtype": ("subtype", "paradigm", "UID"),
    "frequency": ("frequency", "freq"),
    "part": ("task", "part"),
    "source": ("source", "book"),
}
"""What each field of a row may be called; the first that is there and not null counts."""

_SAMPLE = re.compile(r"sample_(\d+)_([01])")
_LEADING = re.compile(r"(\d+)")
_STORY_CONTEXT = tuple(f"InputSentence{n}" for n in range(1, 5))
_STORY_ENDINGS = tuple(f"RandomFifthSentenceQuiz{n}" for n in (1, 2))


@dataclass(frozen=True)
class Cell:
    """A sound inside a Parquet file, read when it is wanted."""

    path: Path
    row_group: int
    column: str
    row: int


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a pair: a sound, a text, or both."""

    audio: Path | Cell | None = None
    text: str | None = None
    prefix: str = ""
    """The beginning of `text` that both sides share, where the ending alone may be scored."""
    ending_start_s: float | None = None
    """Where the ending begins in the sound."""

    def read(self) -> Wave:
        """The sound, mono, at its own rate.

        Raises:
            AudioError: there is none, or it cannot be read.
        """
        if self.audio is None:
            raise AudioError("This side of the pair has no sound. Use the text twin of the task.")
        return read_wave(self.audio) if isinstance(self.audio, Path) else _read_cell(self.audio)


@dataclass(frozen=True, kw_only=True)
class Pair(Labels):
    """A right side and the wrong ones it should beat."""

    positive: Side
    negatives: tuple[Side, ...]

    @property
    def sides(self) -> tuple[Side, ...]:
        """The right one first."""
        return (self.positive, *self.negatives)


def read_pairs(source: Path | str, *, speech: bool = True, negative: str | None = None) -> list[Pair]:
    """The pairs of a folder, a file in it, or a hub id `owner/name`, in a fixed order.

    Args:
        source: where they are.
        speech: read sounds; else texts.
        negative: the key of the wrong ending where a text file offers several, as `bad_same_book`.
    Raises:
        ConfigError: nothing there that is known; the message lists the layouts.
    """
    folder = _fetch(source)
    for files, reader in _layouts(folder, speech, negative):
        if files:
            pairs = list(reader(files))
            if not pairs:
                raise ConfigError(f"{folder} has {files[0].name} and not one whole pair in it.")
            return pairs
    raise ConfigError(
        f"{folder} holds no pairs with {'sound' if speech else 'text'}; known layouts: pairs.jsonl, *.parquet, "
        "gold.csv, folders of sample_0_0.wav, and for text *.jsonl and *.csv. Build some with `sodakit eval build`."
    )


def first_pairs(pairs: Sequence[Pair], limit: int | None) -> list[Pair]:
    """The first pairs of each part, at most `limit`, as many of each of its paradigms as there are; in their order."""
    if limit is None:
        return list(pairs)
    place_in_paradigm: Counter[tuple[str, str, str]] = Counter()
    places: dict[str, list[tuple[int, int]]] = {}
    for number, pair in enumerate(pairs):
        paradigm = (pair.part, pair.type, pair.subtype)
        places.setdefault(pair.part, []).append((place_in_paradigm[paradigm], number))
        place_in_paradigm[paradigm] += 1
    kept = {number for found in places.values() for _, number in sorted(found)[:limit]}
    return [pair for number, pair in enumerate(pairs) if number in kept]


def pairs_digest(pairs: Iterable[Pair]) -> str:
    """Digest of every text and of every file the pairs come from."""
    parts: list[bytes | str] = []
    files: dict[Path, None] = {}
    for pair in pairs:
        parts.append(repr((pair.id, pair.part, pair.voice, pair.type, pair.subtype)))
        for side in pair.sides:
            parts.append(repr((side.text, side.prefix, side.ending_start_s)))
            if side.audio is not None:
                files[side.audio if isinstance(side.audio, Path) else side.audio.path] = None
    parts += [_file_digest(path) for path in files]
    return digest(*parts)


def _fetch(source: Path | str) -> Path:
    if Path(source).exists():
        return Path(source)
    if str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise ConfigError(f"{source} does not exist. Needed: a folder with pairs, or a hub id owner/name.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source), repo_type="dataset", allow_patterns=["*.parquet"]))
    except Exception as error:  # the hub client raises a dozen kinds
        raise ConfigError(
            f"{source} is no folder here and could not be fetched from the hub ({error}). "
            "Check the name and the network, or give a folder."
        ) from error


def _layouts(
    folder: Path, speech: bool, negative: str | None
) -> Iterator[tuple[list[Path], Callable[[list[Path]], Iterator[Pair]]]]:
    yield _found(folder, "pairs.jsonl"), lambda files: _read_built(files, speech)
    yield _found(folder, "*.parquet"), lambda files: _read_parquet(folder, files, speech)
    if speech:
        yield _found(folder, "gold.csv"), _read_gold
        sounds = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
        yield sounds, lambda files: _read_folders(folder, files)
    else:
        texts = [p for pattern in ("*.jsonl", "*.jsonl.gz", "*.csv") for p in _found(folder, pattern)]
        yield [p for p in texts if p.name != "manifest.jsonl"], lambda files: _read_texts(files, negative)


def _found(folder: Path, pattern: str) -> list[Path]:
    if folder.is_file():
        return [folder] if folder.match(pattern) else []
    return sorted(folder.rglob(pattern))


# ------------------------------------------------------------------------------------------------- layouts


def _read_built(files: list[Path], speech: bool) -> Iterator[Pair]:
    for file in files:
        for number, row in enumerate(read_json_lines(file, ours=False), start=1):
            try:
                sides = [
                    _built_side(file.parent, side, speech) for side in (row["positive"], *row["negatives"])
                ]
                yield Pair(positive=sides[0], negatives=tuple(sides[1:]), **_fields(row, file.parent.name))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ConfigError(
                    f"{file}, pair {number}, is no pair ({error}); needed: `id`, `positive` and `negatives`, each with "
                    "`audio`, or `text` of written tasks. Build it again with `sodakit eval build`."
                ) from error


def _built_side(folder: Path, plain: Mapping[str, Any], speech: bool) -> Side:
    kinds = {
        "audio": str if speech else Any,
        "text": str | None,
        "prefix": str | None,
        "ending_start_s": float | int | None,
    }
    for name, kind in kinds.items():
        if kind is not Any and not isinstance(plain.get(name), kind):
            raise ValueError(f"{name} is {plain.get(name)!r:.40}")
    return Side(
        audio=folder / plain["audio"] if speech else None,
        text=plain.get("text"),
        prefix=plain.get("prefix") or "",
        ending_start_s=plain.get("ending_start_s"),
    )


def _read_parquet(folder: Path, files: list[Path], speech: bool) -> Iterator[Pair]:
    parts = {_part_folder(folder, file) for file in files}
    for file in files:
        part = _part_folder(folder, file)
        if part == "all" and len(parts) > 1:
            continue  # the parts again
        schema = table_schema(file)
        right, wrong = _columns(file, schema, speech)
        others = [n for n in schema.names if not pa.types.is_struct(schema.field(n).type)]
        with pq.ParquetFile(file) as opened:
            for number, (group, row, plain) in enumerate(table_rows(opened, file, columns=others)):
                sides = [
                    Side(audio=Cell(file, group, name, row)) if speech else Side(text=plain[name])
                    for name in (right, wrong)
                ]
                # A hub column `source` names a corpus, not what a pair was made from.
                fields = _fields(plain, part, f"{file.stem}-{number}") | {"source": ""}
                yield Pair(positive=sides[0], negatives=(sides[1],), **fields)


def _part_folder(folder: Path, file: Path) -> str:
    # Hub data sets have `part/train-00000-of-00001.parquet`, converted ones `part/train/0000.parquet`.
    names = (
        [n for n in file.parent.relative_to(folder).parts if n not in ("train", "data")]
        if file != folder
        else []
    )
    return names[-1] if names else ""


def _columns(file: Path, schema: pa.Schema, speech: bool) -> tuple[str, str]:
    for right, wrong in AUDIO_COLUMNS if speech else TEXT_COLUMNS:
        if (
            right in schema.names
            and wrong in schema.names
            and pa.types.is_struct(schema.field(right).type) == speech
        ):
            return right, wrong
    wanted = ", ".join(f"{right}/{wrong}" for right, wrong in (AUDIO_COLUMNS if speech else TEXT_COLUMNS))
    raise ConfigError(
        f"{file.name} has columns {', '.join(schema.names)}; needed: one of {wanted}, "
        f"{'as structs with bytes' if speech else 'as strings'}."
    )


def _read_gold(files: list[Path]) -> Iterator[Pair]:
    for file in files:
        sides: dict[tuple[str, ...], dict[bool, list[tuple[Path, dict[str, str]]]]] = {}
        sounds = {p.stem: p for p in file.parent.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES}
        for row in _table(file):
            if not {"filename", "correct"} <= row.keys():
                raise ConfigError(f"{file} has columns {', '.join(row)}; needed: filename and correct.")
            key = tuple(row.get(name, "") for name in ("type", "subtype", "id", "voice"))
            name = Path(row["filename"]).stem
            path = sounds.get(name, file.parent / f"{name}.wav")
            sides.setdefault(key, {}).setdefault(row["correct"] == "1", []).append((path, row))
        for found in sides.values():
            if True in found and False in found:
                path, row = found[True][0]
                yield Pair(
                    positive=_gold_side(path, row),
                    negatives=tuple(_gold_side(*other) for other in found[False]),
                    **_fields(row, ""),
                )


def _gold_side(path: Path, row: Mapping[str, str]) -> Side:
    return Side(audio=path, text=row.get("word") or row.get("transcription"))


def _read_folders(folder: Path, files: list[Path]) -> Iterator[Pair]:
    sides: dict[tuple[str, int], dict[int, Path]] = {}
    for file in files:
        part = file.parent.relative_to(folder).as_posix() if file.parent != folder else ""
        if match := _SAMPLE.match(file.stem):
            sides.setdefault((part, int(match[1])), {})[int(match[2])] = file
        elif match := _LEADING.match(file.stem):
            number, wrong = divmod(int(match[1]), 2)
            sides.setdefault((part, number), {})[wrong] = file
    for (part, number), found in sorted(sides.items()):
        if len(found) == 2:
            yield Pair(
                id=str(number), part=part, positive=Side(audio=found[0]), negatives=(Side(audio=found[1]),)
            )


def _read_texts(files: list[Path], negative: str | None) -> Iterator[Pair]:
    for file in files:
        for number, row in enumerate(_rows(file)):
            try:
                sides = _text_sides(row, negative)
                if sides is not None:
                    yield Pair(positive=sides[0], negatives=(sides[1],), **_fields(row, "", str(number)))
            except (KeyError, ValueError, OverflowError) as error:
                raise ConfigError(
                    f"{file}, row {number + 1}, is no pair of texts ({error}). Mend or remove it."
                ) from error


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix == ".csv":
        yield from _table(file)
        return
    for number, line in read_lines(file):
        try:
            yield parse_object(line)
        except ValueError as error:
            raise ConfigError(f"{file}, line {number}: {error}. Mend or remove it.") from error


def _table(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a CSV; a line that has fewer or more cells than the header is an error."""
    text, problem = read_document(file)
    if text is None:
        raise ConfigError(f"{file}: {problem}. Save it as UTF-8.")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        names = list(rows.fieldnames or ())
        if twice := [name for name in names if names.count(name) > 1]:
            raise csv.Error(f"two columns are called {twice[0]!r}")
        for row in rows:
            if None in row or None in row.values():
                raise csv.Error(f"it has not the {len(rows.fieldnames or ())} cells of the header")
            yield row
    except csv.Error as error:
        raise ConfigError(f"{file}, line {rows.line_num}: {error}. Mend or remove it.") from error


def _text_sides(row: Mapping[str, Any], negative: str | None) -> tuple[Side, Side] | None:
    if "context" in row and "good" in row:
        wrong = negative or next((k for k in ("bad", "bad_same_book", "bad_other_book") if k in row), "")
        context = _text(row, "context")
        return _story(context, _text(row, "good")), _story(context, _text(row, wrong))
    if "AnswerRightEnding" in row:
        context = " ".join(_text(row, name) for name in _STORY_CONTEXT)
        endings = [_text(row, name) for name in _STORY_ENDINGS]
        right = int(row["AnswerRightEnding"]) - 1
        if right not in (0, 1):
            raise ValueError(f"AnswerRightEnding is {right + 1}; needed: 1 or 2")
        return _story(context, endings[right]), _story(context, endings[1 - right])
    for right_name, wrong_name in TEXT_COLUMNS:
        if right_name in row and wrong_name in row:
            return Side(text=_text(row, right_name)), Side(text=_text(row, wrong_name))
    return None


def _text(row: Mapping[str, Any], name: str) -> str:
    if not isinstance(row[name], str):
        raise ValueError(f"{name} is {row[name]!r:.40}; needed: a text")
    return row[name]


def _story(context: str, ending: str) -> Side:
    return Side(text=f"{context} {ending}", prefix=context)


def _fields(row: Mapping[str, Any], part: str, number: str = "") -> dict[str, Any]:
    found = {
        field: next((row[name] for name in names if row.get(name) not in (None, "")), None)
        for field, names in ALIASES.items()
    }
    frequency = found.pop("frequency")
    plain = {field: "" if value is None else str(value) for field, value in found.items()}
    plain["part"], plain["id"] = plain["part"] or part, plain["id"] or number
    return plain | {"frequency": _frequency(frequency)}


def _frequency(value: Any) -> int | None:
    if value is None or value == "":
        return None
    text = str(value).strip().lower()
    return 0 if text in ("oov", "nan") else int(float(text))


def _read_cell(cell: Cell) -> Wave:
    value = cell_of(cell.path, cell.column, cell.row_group, cell.row)
    data = value.get("bytes") if value else None
    if data is None and value and value.get("path"):
        return read_wave(cell.path.parent / value["path"])
    return read_wave(io.BytesIO(data or b""), name=f"{cell.path.name}, row {cell.row}, {cell.column}")


def _file_digest(path: Path) -> str:
    if not path.is_file():  # also a pipe, which may never end
        return f"{path.name} is missing"
    with open(path, "rb") as handle:
        return digest(path.name, *iter(lambda: handle.read(2**22), b""))
