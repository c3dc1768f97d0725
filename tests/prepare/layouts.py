"""The same real recordings in every layout: what each helper writes, `sodakit prepare` must read alike."""

import io
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sodakit.audio.files import probe
from sodakit.files import read_json_lines
from tests.recordings import recordings

SOURCE = "books"


@dataclass(frozen=True)
class Clip:
    """One recording of one utterance, named as Emilia names them."""

    path: Path
    text: str
    speaker: str
    number: int

    @property
    def recording(self) -> str:
        return f"EN_B00000_S{self.number:05d}"

    @property
    def name(self) -> str:
        return f"{self.recording}_W000000"


def real_clips(count: int = 4) -> list[Clip]:
    """Short recordings of LibriSpeech, as flac files."""
    folder = recordings("librispeech_test_other")
    rows = read_json_lines(folder / "manifest.jsonl")
    rows = sorted(rows, key=lambda row: row["duration_s"])[:count]
    return [
        Clip(folder / row["audio"], row["text"], row["speaker"], number) for number, row in enumerate(rows)
    ]


def add_member(tar: tarfile.TarFile, name: str, content: bytes, **more) -> None:
    """One more member of a tar."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in more.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(content))


def write_emilia(folder: Path, clips: list[Clip]) -> Path:
    """A tar of json and sound, the text with the space that Emilia's begin with."""
    folder.mkdir(parents=True)
    with tarfile.open(folder / "EN-B000000.tar", "w") as tar:
        for clip in clips:
            row = {"id": clip.name, "text": f" {clip.text}", "speaker": clip.speaker, "language": "en"}
            add_member(tar, f"{clip.name}.json", json.dumps(row).encode())
            add_member(tar, f"{clip.name}.flac", clip.path.read_bytes())
    return folder


def write_kaldi(folder: Path, clips: list[Clip]) -> Path:
    """wav.scp, segments, text, utt2spk, utt2lang."""
    (folder / "sound").mkdir(parents=True)
    for clip in clips:
        shutil.copy(clip.path, folder / f"sound/{clip.recording}.flac")
    lines = {
        "wav.scp": [f"{c.recording} sound/{c.recording}.flac" for c in clips],
        "segments": [f"{c.name} {c.recording} 0 -1" for c in clips],
        "text": [f"{c.name} {c.text}" for c in clips],
        "utt2spk": [f"{c.name} {c.speaker}" for c in clips],
        "utt2lang": [f"{c.name} en" for c in clips],
    }
    for name, rows in lines.items():
        (folder / name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return folder


def write_lhotse(folder: Path, clips: list[Clip], cuts: bool = False) -> Path:
    """Recordings and supervisions, or cuts, as lhotse itself writes them."""
    from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet

    folder.mkdir(parents=True)
    recordings = [Recording.from_file(c.path.resolve(), recording_id=c.recording) for c in clips]
    supervisions = [
        SupervisionSegment(
            c.name, c.recording, 0.0, r.duration, text=c.text, speaker=c.speaker, language="en"
        )
        for c, r in zip(clips, recordings, strict=True)
    ]
    sets = RecordingSet.from_recordings(recordings), SupervisionSet.from_segments(supervisions)
    if cuts:
        CutSet.from_manifests(*sets).to_file(folder / "books_cuts.jsonl.gz")
    else:
        sets[0].to_file(folder / "books_recordings_test.jsonl.gz")
        sets[1].to_file(folder / "books_supervisions_test.jsonl.gz")
    return folder


def write_hub(folder: Path, clips: list[Clip]) -> Path:
    """A parquet with the sound in its cells, as `datasets` uploads it."""
    folder.mkdir(parents=True)
    rows = [
        {
            "utt_id": c.name,
            "audio": {"bytes": c.path.read_bytes(), "path": f"{c.name}.flac"},
            "text": c.text,
            "speaker_id": c.speaker,
            "language": "en",
        }
        for c in clips
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "train-00000-of-00001.parquet", row_group_size=3)
    return folder


def write_librispeech(folder: Path, part: str = "test-other") -> Path:
    """LibriSpeech as it comes unpacked: speaker/chapter/*.flac and one transcript a chapter."""
    clips = recordings("librispeech_test_other")
    for row in read_json_lines(clips / "manifest.jsonl")[:12]:
        speaker, chapter, _ = row["utt_id"].split("-")
        place = folder / part / speaker / chapter
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(clips / row["audio"], place / f"{row['utt_id']}.flac")
        with open(place / f"{speaker}-{chapter}.trans.txt", "a", encoding="utf-8") as handle:
            handle.write(f"{row['utt_id']} {row['text'].upper()}\n")
    return folder


def sound_hours(clips: list[Clip]) -> float:
    """Their length by their headers."""
    return sum(probe(clip.path).duration_s for clip in clips) / 3600
