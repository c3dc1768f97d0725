"""Every corpus of sound below a folder by one command each: do the hours in the store agree with the manifests'?

python benchmarks/corpora.py $DATA --out runs/corpora

A corpus is a folder with a manifest.jsonl of sounds. Recordings that are one sound in several formats (`same_audio_as`) are
compared code by code afterwards.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sodakit.codec.load import load_codec
from sodakit.files import read_json_lines
from sodakit.store.reader import StoreReader
from sodakit.store.summary import summarize

MAX_DIFFERENCE = 0.005


@dataclass(frozen=True)
class Row:
    """One corpus, prepared."""

    name: str
    manifest_s: float
    store_s: float
    utterances: int
    quarantined: int

    @property
    def difference(self) -> float:
        """Share by which the store's sound differs from the manifest's; 0 where neither has any."""
        return abs(self.store_s / self.manifest_s - 1) if self.manifest_s else float(self.store_s > 0)

    def __str__(self) -> str:
        seconds = f"{self.manifest_s / 3600:.5f} | {self.store_s / 3600:.5f} | {self.difference:.4%}"
        return f"| {self.name} | {seconds} | {self.utterances} | {self.quarantined} |"


def prepare(corpus: Path, out: Path, codec: str) -> Row:
    """The corpus as a store, by the command that a user would type."""
    words = ["prepare", str(corpus), "--out", str(out), "--codec", codec]
    subprocess.run([sys.executable, "-m", "sodakit", *words], check=True, stderr=subprocess.DEVNULL)
    store = StoreReader(out)
    summaries = [summary for split in store.splits for summary in summarize(store, split).values()]
    return Row(
        name=corpus.name,
        manifest_s=sum(row.get("duration_s") or 0.0 for row in read_json_lines(corpus / "manifest.jsonl")),
        store_s=3600 * sum(summary.hours for summary in summaries),
        utterances=sum(summary.utterances for summary in summaries),
        quarantined=store.description["quarantined"],
    )


def compare_formats(corpus: Path, out: Path, codec_name: str) -> None:
    """Print how the codes of one sound in several formats differ, and how far their decoded sounds are apart."""
    store = StoreReader(out)
    found = {u.id.split("/", 1)[1]: u for split in store.splits for u in store.utterances(split)}
    sounds: dict[str, list[str]] = defaultdict(list)
    for row in read_json_lines(corpus / "manifest.jsonl"):
        if row.get("same_audio_as"):
            sounds[row["same_audio_as"]].append(row["audio"])
    codec = load_codec(codec_name)
    print("\n| file | text equal | frames | equal codes, first codebook | all | decoded spectra apart, dB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for names in sounds.values():
        first = found[next(name for name in names if name.endswith(".wav"))]
        reference = _log_spectrum(codec.decode(first.codes_KF))
        for name in names:
            other = found[name]
            frames = min(first.codes_KF.shape[1], other.codes_KF.shape[1])
            equal_KF = first.codes_KF[:, :frames] == other.codes_KF[:, :frames]
            spectrum = _log_spectrum(codec.decode(other.codes_KF))
            count = min(len(spectrum), len(reference))
            apart_db = float(np.abs(spectrum[:count] - reference[:count]).mean())
            print(
                f"| {name} | {first.text == other.text} | {other.codes_KF.shape[1]} | {equal_KF[0].mean():.1%} "
                f"| {equal_KF.mean():.1%} | {apart_db:.2f} |"
            )


def _log_spectrum(samples_S: np.ndarray, window: int = 2048) -> np.ndarray:
    """Level in dB in 64 bands of each window, floored at -60 dB."""
    count = len(samples_S) // window
    power = np.abs(np.fft.rfft(samples_S[: count * window].reshape(count, window) * np.hanning(window))) ** 2
    bands = power[:, :1024].reshape(count, 64, 16).mean(axis=2)
    return 10 * np.log10(np.maximum(bands / window, 1e-6))


def main() -> None:
    """Prepare all, print the table, fail where one differs by more than half a percent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--codec", default="mini")
    options = parser.parse_args()
    print("| corpus | hours by manifest | by describe | apart | utterances | quarantined |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    manifests = sorted(options.data.glob("*/manifest.jsonl"))
    manifests = [m for m in manifests if "duration_s" in read_json_lines(m)[0]]
    for manifest in manifests:
        rows.append(prepare(manifest.parent, options.out / manifest.parent.name, options.codec))
        print(rows[-1], flush=True)
    for corpus in (m.parent for m in manifests if '"same_audio_as"' in m.read_text(encoding="utf-8")):
        compare_formats(corpus, options.out / corpus.name, options.codec)
    wrong = [row.name for row in rows if row.difference > MAX_DIFFERENCE]
    (options.out / "rows.json").write_text(json.dumps([vars(row) for row in rows]))
    if wrong:
        sys.exit(f"more than {MAX_DIFFERENCE:.1%} apart: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
