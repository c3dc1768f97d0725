"""Pairs of recordings, one the translation of the other: a manifest of pairs, and CVSS with CoVoST 2.

Each pair becomes two items of one recording, the source first; `data/pairs.py` reads them back as a document.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sodakit.errors import ConfigError
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.rows import bad_row, parse_object, read_lines

MANIFEST = "translations.jsonl"
_COVOST = re.compile(r"covost_v2\.(?P<language>[\w-]+)_en\.(?P<split>train|dev|test)\.tsv")
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


def read_pair_manifest(folder: Path, source: str) -> Iterator[Item]:
    """Two items for each line of `translations.jsonl`; `fields` is the line, for split rules. Bad lines give one with a problem.

    {"id": "7", "source_audio": "es/7.wav", "source_text": "hola", "source_language": "es",
     "target_audio": "en/7.wav", "target_text": "hello", "target_language": "en", "speaker": "p1", "split": "train"}
    """
    path = folder / MANIFEST
    for number, line in read_lines(path):
        try:
            row = parse_object(line)
            yield from _pair(folder, source, row, f"{row.get('id') or number}")
        except ValueError as error:
            yield bad_row(path, number, source, str(error))


def _pair(folder: Path, source: str, row: Mapping[str, Any], name: str) -> list[Item]:
    missing = [
        f"{side}_{what}"
        for side in ("source", "target")
        for what in ("audio", "language")
        if not isinstance(row.get(f"{side}_{what}"), str)
    ]
    if missing:
        raise ValueError(f"no {', '.join(missing)}; needed: source and target, with audio and language")
    recording = f"{source}/{name}"
    return [
        Item(
            id=f"{recording}/{side}",
            recording=recording,
            audio=folder / row[f"{side}_audio"],
            text=row.get(f"{side}_text"),
            speaker=str(row.get(f"{side}_speaker") or row.get("speaker") or ""),
            language=row[f"{side}_language"],
            source=source,
            licence=str(row.get("licence") or row.get("license") or ""),
            fields=row,
        )
        for side in ("source", "target")
    ]


def covost_files(folder: Path) -> list[tuple[Path, str, str]]:
    """The CoVoST 2 tables into English in a folder, with language and split."""
    found = [(path, _COVOST.fullmatch(path.name)) for path in sorted(folder.glob("covost_v2.*_en.*.tsv"))]
    return [(path, match["language"], match["split"]) for path, match in found if match]


def cvss_files(folder: Path) -> list[Path]:
    """All its tables."""
    tables = covost_files(folder)
    spoken = [_cvss_folder(folder, language, split) / f"{split}.tsv" for _, language, split in tables]
    return [*(path for path, _, _ in tables), *spoken]


def read_cvss(folder: Path, source: str) -> Iterator[Item]:
    """Pairs of CVSS (C or T) with the Common Voice clips they translate. `fields["split"]`: train, validation or test.

    clips/common_voice_es_1.mp3                Common Voice: the source speech
    covost_v2.es_en.train.tsv                  CoVoST 2: path, sentence, translation, client_id
    cvss_t_es_en_v1.0/train.tsv                CVSS: clip, translation as spoken; no header
    cvss_t_es_en_v1.0/train/….mp3.wav          CVSS: the spoken translation

    The CVSS files may also lie in the folder itself, where it holds one language.

    Raises:
        ConfigError: a CoVoST table without its CVSS table, or without its columns.
    """
    for table, language, split in covost_files(folder):
        spoken = _cvss_folder(folder, language, split)
        texts = dict(_cvss_rows(spoken / f"{split}.tsv"))
        for number, row in _covost_rows(table):
            if isinstance(row, str):
                yield bad_row(table, number, source, row)
            elif row["path"] in texts:
                yield from _covost_pair(folder, source, spoken / split, language, split, row, texts)


def _covost_rows(table: Path) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Line number and columns of each row, or what is wrong with it. Quotation marks in sentences open nothing."""
    header: list[str] = []
    for number, line in read_lines(table):
        cells = [] if line is None else line.split("\t")
        if not header:
            header = cells
            if missing := [name for name in ("path", "sentence") if name not in header]:
                raise ConfigError(
                    f"{table} has no column {', '.join(missing)}; it has {', '.join(header)}. Fetch it again."
                )
            continue
        row = dict(zip(header, cells, strict=False))
        lacks = [name for name in ("path", "sentence") if name not in row]
        wrong = "not UTF-8" if line is None else f"no {', '.join(lacks)}"
        yield number, wrong if lacks else row


def _covost_pair(
    folder: Path,
    source: str,
    spoken: Path,
    language: str,
    split: str,
    row: Mapping[str, str],
    texts: Mapping[str, str],
) -> Iterator[Item]:
    clip = row["path"]
    recording = f"{source}/{language}/{clip.removesuffix('.mp3')}"
    sides = (
        ("source", folder / "clips" / clip, row["sentence"], language),
        ("target", spoken / f"{clip}.wav", texts[clip], "en"),
    )
    for side, audio, text, spoken_language in sides:
        yield Item(
            id=f"{recording}/{side}",
            recording=recording,
            audio=audio,
            text=text,
            # The voice of CVSS-T is the source's, transferred.
            speaker=row.get("client_id") or "",
            language=spoken_language,
            source=source,
            licence="CC0-1.0" if side == "source" else "CC-BY-4.0",
            fields={"split": _SPLITS[split], "language": language},
        )


def _cvss_folder(folder: Path, language: str, split: str) -> Path:
    places = [*sorted(folder.glob(f"cvss_[ct]_{language}_en*")), folder]
    for place in places:
        if (place / f"{split}.tsv").is_file():
            return place
    raise ConfigError(
        f"{folder} has CoVoST's table of {language}, {split}, and no CVSS table for it; looked for {split}.tsv in "
        f"{', '.join(str(p.name) for p in places)}. Unpack cvss_t_{language}_en_v1.0.tar.gz there."
    )


def _cvss_rows(path: Path) -> Iterator[tuple[str, str]]:
    for _, line in read_lines(path):
        if line is not None and "\t" in line:
            clip, _, text = line.partition("\t")
            yield clip, text
