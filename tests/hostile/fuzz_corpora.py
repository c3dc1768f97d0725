"""Damaged lists, archives, tables and transcripts, as people give them to `prepare`, `eval`, `leaks` and `synthesise`.

    python -m tests.hostile.fuzz_corpora --minutes 10 --keep /tmp/fuzz

Each lies in a corpus that is sound otherwise, which is listed, planned and read. Status 1 if a reader crashed, hung, or
raised something other than a SodakitError (`fuzzing.py`).
"""

import csv
import gzip
import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sodakit.codec.toy import ToyCodec
from sodakit.errors import AudioError
from sodakit.eval.cases import read_voice_cases
from sodakit.eval.pair_layouts import read_pairs
from sodakit.eval.translation import read_translation_cases
from sodakit.prepare.cleaning import split_long
from sodakit.prepare.leaks import read_evaluation
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.plan import make_plan, request
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.synthesis import read_texts
from sodakit.scaling.records import read_table
from sodakit.tokens.characters import WrittenDocument, codes_to_characters
from tests.hostile import mutations as mutate
from tests.hostile.fuzzing import Target, fuzz
from tests.hostile.mutations import Damage
from tests.prepare.layouts import add_member
from tests.prepare.test_bad_input import sound_bytes
from tests.prepare.test_transcripts_found import CSV, LISTS, LONG_GRID, SHORT_GRID, SRT, VTT

WAV = sound_bytes()
CODEC = ToyCodec(8, 32, 24_000, 1920)
OPTIONS = PrepareOptions(max_failed_fraction=1.0)
Files = dict[str, bytes]

SOUNDS: Files = {"d/a.wav": WAV, "d/b.wav": WAV}
SEGMENTS = {"text": "say ah", "language": "en", "segments": [
    {"start": 0.0, "end": 0.2, "text": "say", "words": [{"word": "say", "start": 0.0, "end": 0.2}]},
    {"start": 0.2, "end": 0.4, "text": "ah", "words": [{"word": "ah", "start": 0.2, "end": 0.4}]}]}  # fmt: skip
MOSHI = {"alignments": [["say", [0.0, 0.2], "SPEAKER_MAIN"], ["ah", [0.2, 0.4], "SPEAKER_MAIN"]]}
BESIDE: dict[str, tuple[str | bytes, Damage]] = {
    "a.srt": (SRT, mutate.damage_text),
    "a.vtt": (VTT, mutate.damage_text),
    "a.TextGrid": (LONG_GRID, mutate.damage_text),
    "short/a.TextGrid": (SHORT_GRID, mutate.damage_text),
    "a.txt": ("Close the door, please.", mutate.damage_text),
    "a.lab": ("0 1200000 s\n1200000 3000000 ah\n", mutate.damage_text),
    "whisper/a.json": (json.dumps(SEGMENTS), mutate.damage_json),
    "moshi/a.json": (json.dumps(MOSHI), mutate.damage_json),
    "row/a.json": (json.dumps({"text": "say ah", "speaker": "p1", "duration": 0.5}), mutate.damage_json),
}
"""Files beside `a.wav`; a folder before the name only tells them apart."""
ROWS = [
    {"audio": "d/a.wav", "text": "Close the door.", "speaker": "p1", "language": "en", "id": "one"},
    {"audio_filepath": "d/b.wav", "offset": 0.1, "duration": 0.2, "text": "Open it."},
    {"file": "d/b.wav", "start": 0.2, "end": 0.4, "text": "And so on."},
]
PAIRS = {"id": "7", "source_audio": "d/a.wav", "source_text": "hola", "source_language": "es", "target_audio": "d/b.wav",
         "target_text": "hello", "target_language": "en", "speaker": "p1", "split": "train"}  # fmt: skip


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def tar_of(members: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            add_member(tar, name, content)
    return buffer.getvalue()


def parquet_of(*rows: dict) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), buffer, row_group_size=2)
    return buffer.getvalue()


def written_document(number: int) -> dict:
    codes_KF = (np.arange(80).reshape(8, 10) * 7 + number) % 32
    document = WrittenDocument((("say ah", codes_to_characters(codes_KF.astype(np.uint16), 32)),), True)
    return {"id": f"r{number}_type1", "text": document.write()}


def tables() -> Iterator[tuple[str, Files]]:
    """Tables of each kind, the first file the one to be damaged."""
    sound = {"bytes": WAV, "path": "x.wav"}
    rows = [{"utt_id": f"u{n}", "audio": sound, "text": "say ah", "speaker_id": "p1"} for n in range(3)]
    yield "sounds", {"train-00000-of-00001.parquet": parquet_of(*rows)}
    yield "plain bytes", {"a.parquet": parquet_of(*({"audio": WAV, "text": "say ah"} for _ in range(3)))}
    yield "texts", {"a.parquet": parquet_of(*({"text": f"say ah {n}", "id": n} for n in range(3)))}
    yield (
        "names",
        {"a.parquet": parquet_of(*({"audio": f"d/{n}.wav", "text": "say"} for n in "ab")), **SOUNDS},
    )
    parts = [
        {"utt_id": f"v-0-{n}-{n + 10}", "start": n / 100, "end": n / 100 + 0.1, "text": "say"}
        for n in (0, 20)
    ]
    yield "utterances", {"a.parquet": parquet_of({"video_id": "v", "audio": sound, "utterances": parts})}
    yield "characters", {"a.parquet": parquet_of(*(written_document(n) for n in range(3)))}


def corpora() -> Iterator[tuple[str, Files, Damage]]:
    """Every layout with a list: a name, its files with the one to be damaged first, and how."""
    for name, files in LISTS.items():
        if files:
            plain = {path: text if isinstance(text, bytes) else text.encode() for path, text in files.items()}
            path = next(iter(plain))
            how = mutate.damage_json_lines if path.endswith("jsonl") or "NeMo" in name else mutate.damage_text
            if "UTF-16" in name:
                how = mutate.damage_bytes
            yield f"list: {name}", plain | SOUNDS, mutate.damage_json if path == "data.json" else how
    for path, (content, damage) in BESIDE.items():
        plain_name = Path(path).name
        content = content.encode() if isinstance(content, str) else content
        yield f"beside: {path}", {f"d/{plain_name}": content, **SOUNDS}, damage
    yield "manifest.jsonl", {"manifest.jsonl": lines(*ROWS), **SOUNDS}, mutate.damage_json_lines
    zipped = gzip.compress(lines(*ROWS), mtime=0)
    yield "rows.jsonl.gz", {"rows.jsonl.gz": zipped, **SOUNDS}, mutate.packed(mutate.damage_json_lines)
    yield (
        "translations.jsonl",
        {"translations.jsonl": lines(PAIRS, PAIRS | {"id": 8}), **SOUNDS},
        mutate.damage_json_lines,
    )
    for table in ("wav.scp", "segments", "text"):
        kaldi = {"wav.scp": b"a d/a.wav\nb d/b.wav\n", "segments": b"a-1 a 0.0 0.3\nb-1 b 0.1 -1\n",
                 "text": b"a-1 say ah\nb-1 close it\n", "utt2spk": b"a-1 p\nb-1 q\n"}  # fmt: skip
        yield f"kaldi: {table}", {table: kaldi[table], **kaldi, **SOUNDS}, mutate.damage_text
    mls = {"mls_german/test/transcripts.txt": b"11_12_000000\tauf\n11_12_000001\tzu\n",
           "mls_german/test/segments.txt": b"11_12_000000\thttp://x/k.mp3\t0.5\t1.0\n"}  # fmt: skip
    heard = {f"mls_german/test/audio/11/12/11_12_00000{n}.wav": WAV for n in (0, 1)}
    for name in mls:
        yield f"mls: {Path(name).name}", {name: mls[name], **mls, **heard}, mutate.damage_text
    chapter = {"1/2/1-2.trans.txt": b"1-2-0000 SAY AH\n1-2-0001 CLOSE IT\n"}
    yield "librispeech", {**chapter, "1/2/1-2-0000.wav": WAV, "1/2/1-2-0001.wav": WAV}, mutate.damage_text
    covost = {"covost_v2.es_en.train.tsv": b"path\tsentence\ttranslation\tclient_id\na.mp3\thola\thello\tc\n",
              "train.tsv": b"a.mp3\thello\n", "clips/a.mp3": WAV, "train/a.mp3.wav": WAV}  # fmt: skip
    for name in list(covost)[:2]:
        yield f"cvss: {name}", {name: covost[name], **covost}, mutate.damage_text
    cuts = {"cuts.jsonl.gz": gzip.compress(lines(*(_cut(n) for n in "ab")), mtime=0)}
    yield "lhotse cuts", cuts | SOUNDS, mutate.packed(mutate.damage_json_lines)
    row = json.dumps({"text": " say ah", "speaker": "p1", "language": "en"}).encode()
    tar = {f"EN_B00000_S0000{n}_W000000{e}": c for n in (1, 2) for e, c in ((".json", row), (".wav", WAV))}
    yield "tar", {"a.tar": tar_of(tar)}, mutate.damage_tar
    yield (
        "tar with texts",
        {"a.tar": tar_of({"a.wav": WAV, "a.srt": SRT.encode(), "b.txt": b"x"})},
        mutate.damage_tar,
    )
    for name, files in tables():
        yield f"parquet: {name}", files, mutate.damage_ends


def _cut(name: str) -> dict:
    source = [{"type": "file", "channels": [0], "source": f"d/{name}.wav"}]
    recording = {"id": name, "sources": source, "sampling_rate": 16_000, "num_samples": 8000, "duration": 0.5, "channel_ids": [0]}  # fmt: skip
    said = {"id": name, "recording_id": name, "start": 0.0, "duration": 0.5, "channel": 0, "text": "say ah", "language": "en", "speaker": "p"}  # fmt: skip
    return {"id": name, "start": 0.0, "duration": 0.5, "channel": 0, "supervisions": [said], "recording": recording, "type": "MonoCut"}  # fmt: skip


def prepared(folder: Path) -> int:
    """List, plan and read it, as `prepare` does, and count what is kept; what goes to quarantine there is passed over."""
    items = list(split_long(open_folder(folder, "c", CODEC.spec), OPTIONS.limits))
    plan = make_plan(items, request(items, CODEC.spec, None, OPTIONS), OPTIONS)
    for row in (row for shard in plan.shards for row in shard.rows):
        try:
            held = items[row].held
            if held is None or held.codes() is None:
                items[row].read(24_000)
        except AudioError:
            pass
    return sum(len(shard.rows) for shard in plan.shards)


def evaluated() -> Iterator[tuple[str, Files, Damage, Callable[[Path], object]]]:
    """What the other commands are given: a name, files as above, how to damage, and the reader of the first file."""

    def heard(folder: Path) -> None:
        for pair in read_pairs(folder):
            for side in pair.sides:
                side.read()

    built = {"id": "1", "part": "gender", "voice": "v", "positive": {"audio": "d/a.wav", "text": "say ah", "prefix": "say"},
             "negatives": [{"audio": "d/b.wav", "text": "say oh", "prefix": "say", "ending_start_s": 0.1}]}  # fmt: skip
    yield (
        "pairs.jsonl",
        {"pairs.jsonl": lines(built, built | {"id": 2}), **SOUNDS},
        mutate.damage_json_lines,
        heard,
    )
    both = {
        "positive_audio": {"bytes": WAV, "path": None},
        "negative_audio": {"bytes": WAV, "path": None},
        "id": 1,
    }
    yield "pairs.parquet", {"a/train/0000.parquet": parquet_of(both, both)}, mutate.damage_ends, heard
    gold = b"id,filename,voice,type,subtype,correct\n1,a,v,t,s,1\n1,b,v,t,s,0\n"
    yield "gold.csv", {"d/gold.csv": gold, **SOUNDS}, mutate.damage_text, heard

    def written(folder: Path) -> None:
        read_pairs(folder, speech=False)

    texts = {"pairs.jsonl": lines(built), "words.jsonl": lines({"word": "ah", "pseudo": "oh", "frequency": 3}),
             "blimp.jsonl": lines({"sentence_good": "It is.", "sentence_bad": "It are.", "UID": "u"}),
             "story.jsonl": lines({"context": "It was.", "good": "So.", "bad": "No.", "freq": "oov"})}  # fmt: skip
    for name, content in texts.items():
        yield f"texts: {name}", {name: content}, mutate.damage_json_lines, written
    zipped = gzip.compress(texts["words.jsonl"] * 3, mtime=0)
    yield "texts: jsonl.gz", {"words.jsonl.gz": zipped}, mutate.packed(mutate.damage_json_lines), written
    story = {f"InputSentence{n}": f"S{n}." for n in range(1, 5)} | {
        "RandomFifthSentenceQuiz1": "A.", "RandomFifthSentenceQuiz2": "B.", "AnswerRightEnding": 1, "InputStoryid": "i"}  # fmt: skip
    table = io.StringIO()
    writer = csv.DictWriter(table, list(story))
    writer.writeheader()
    writer.writerow(story)
    yield "texts: csv", {"story.csv": table.getvalue().encode()}, mutate.damage_text, written
    prompts = b"u1|say ah|d/a.wav|close the door\nu2|say ah|d/b.wav|open it|d/a.wav\n"
    yield "meta.lst", {"meta.lst": prompts, **SOUNDS}, mutate.damage_text, read_voice_cases
    case = {"id": "1", "reference": "close it", "output": "d/a.wav", "source": "d/b.wav"}
    yield (
        "translation cases",
        {"cases.jsonl": lines(case, case | {"id": 2}), **SOUNDS},
        mutate.damage_json_lines,
        lambda f: read_translation_cases(f / "cases.jsonl"),
    )
    leaks = lines({"text": "close the door"}, {"sentence": "open it", "id": 3})
    yield (
        "leaks jsonl",
        {"a.jsonl": leaks},
        mutate.damage_json_lines,
        lambda f: read_evaluation(f / "a.jsonl"),
    )
    yield (
        "leaks txt",
        {"a.txt": b"close it\nopen\n"},
        mutate.damage_text,
        lambda f: read_evaluation(f / "a.txt"),
    )
    said = lines({"text": "close the door", "id": 1, "language": "en"}, {"text": "open it"})
    yield (
        "texts to say",
        {"a.jsonl": said},
        mutate.damage_json_lines,
        lambda f: read_texts(f / "a.jsonl", "en"),
    )
    zipped = gzip.compress(said, mtime=0)
    yield "texts to say.gz", {"a.jsonl.gz": zipped}, mutate.packed(mutate.damage_json_lines), lambda f: read_texts(f / "a.jsonl.gz", "en")  # fmt: skip
    runs = [{"run": n, "n_params": 1e6 * n, "tokens": 2e9, "loss/all": 3.1, "lr": "3e-4", "status": "finished"} for n in (1, 2)]  # fmt: skip
    yield (
        "runs.jsonl",
        {"r.jsonl": lines(*runs)},
        mutate.damage_json_lines,
        lambda f: read_table(f / "r.jsonl"),
    )
    yield (
        "runs.json",
        {"r.json": json.dumps({"runs": runs}).encode()},
        mutate.damage_json,
        lambda f: read_table(f / "r.json"),
    )
    sheet = b"run;params;tokens;loss\na;1,5M;2B;3,1\nb;3M;4B;2,9\n"
    yield "runs.csv", {"r.csv": sheet}, mutate.damage_text, lambda f: read_table(f / "r.csv")
    yield "metadata.csv for eval", {"metadata.csv": CSV.encode(), **SOUNDS}, mutate.damage_text, lambda f: list(open_folder(f / "metadata.csv"))  # fmt: skip


def targets(folder: Path) -> dict[str, Target]:
    """All of them, read in a folder of their own: readers remember files by their names."""
    found, numbers = {}, count()
    kinds = [(name, files, how, prepared) for name, files, how in corpora()]
    for name, files, how, reader in (*kinds, *evaluated()):
        first, data = next(iter(files.items()))

        def read(
            data: bytes,
            first: str = first,
            files: Files = files,
            reader: Callable[[Path], object] = reader,
        ) -> object:
            here = folder / f"{os.getpid()}-{next(numbers)}"
            try:
                for path, content in {**files, first: data}.items():
                    (here / path).parent.mkdir(parents=True, exist_ok=True)
                    (here / path).write_bytes(content)
                return reader(here)
            finally:
                shutil.rmtree(here, ignore_errors=True)

        found[name] = Target(data, read, how)
    return found


if __name__ == "__main__":
    sys.exit(fuzz("tests.hostile.fuzz_corpora", "Damaged lists, archives, tables and transcripts.", targets))
