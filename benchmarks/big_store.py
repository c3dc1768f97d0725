"""Time and memory to open a store of ten million utterances, and to make it ready to train from.

    python benchmarks/big_store.py --utterances 10000000

The store is generated: a hundred shards of short utterances in recordings of ten. Each opening is measured in a process of
its own. Memory is that of the whole process, Python and its libraries included: `peak` with mapped pages of files, which
the system takes back when it needs them; `peak_anonymous` what it allocated, as seen every two milliseconds; `anonymous`
and `file` what it has at the end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from sodakit.codec.contract import CodecSpec
from sodakit.files import atomic_path
from sodakit.store.schema import ARROW_SCHEMA
from sodakit.store.shard import CODEC_KEY, REJECTED_KEY, TOKENIZER_KEY
from sodakit.store.writer import StoreWriter
from sodakit.tokens.text import train_bpe

SPEC = CodecSpec(
    name="random",
    sample_rate_hz=24_000,
    frame_samples=1920,
    num_codebooks=8,
    codebook_size=2048,
    fingerprint="big",
)
FRAMES, TEXT_IDS, PER_RECORDING = 4, 3, 10


def make_store(folder: Path, utterances: int, shards: int = 100) -> None:
    """Shards written as columns: an `Utterance` for each of ten million would take an hour."""
    tokenizer = train_bpe(["a few words to have a tokenizer"], 300)
    tokenizer.save(folder / "tokenizer")
    writer = StoreWriter(folder, SPEC, tokenizer.fingerprint)
    metadata = {CODEC_KEY: SPEC.fingerprint, TOKENIZER_KEY: tokenizer.fingerprint, REJECTED_KEY: "[]"}
    rows = utterances // shards
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2048, rows * FRAMES * 8).astype(np.uint16)
    numbers = np.arange(rows)
    for shard in range(shards):
        recordings = (numbers + shard * rows) // PER_RECORDING
        place = (numbers % PER_RECORDING).astype(np.float64)
        lists = {
            "codes": (codes, FRAMES * 8),
            "text_ids": (np.tile(np.arange(TEXT_IDS, dtype=np.int32), rows), TEXT_IDS),
        }
        columns = []
        for field in ARROW_SCHEMA:
            if field.name in lists:
                values, each = lists[field.name]
                offsets = pa.array(np.arange(rows + 1, dtype=np.int64) * each)
                columns.append(pa.LargeListArray.from_arrays(offsets, pa.array(values)))
            elif field.name in ("start_s", "end_s"):
                columns.append(pa.array(place + (field.name == "end_s")))
            elif field.name == "id":
                columns.append(pa.array(numbers + shard * rows).cast(pa.string()))
            elif field.name == "recording":
                columns.append(pa.array(recordings).cast(pa.string()))
            else:
                columns.append(pa.array(np.zeros(rows, np.int8)).cast(pa.string()))
        batch = pa.RecordBatch.from_arrays(columns, schema=ARROW_SCHEMA).replace_schema_metadata(metadata)
        with (
            atomic_path(folder / "train" / f"shard-{shard:05d}.arrow") as path,
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, batch.schema) as file,
        ):
            file.write_batch(batch)
    writer.seal()


def open_store(folder: Path, what: str) -> dict[str, float | str]:
    """Open in this process; seconds and mebibytes."""
    from sodakit.data.config import DataConfig, SourceConfig
    from sodakit.data.language import open_language
    from sodakit.data.loader import Loader
    from sodakit.store.reader import StoreReader

    peak = PeakAnonymous()
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    if what == "store":
        opened: StoreReader | Loader = StoreReader(folder)
        opened_mib = resident_mib("VmHWM")
    else:
        config = DataConfig(sources=(SourceConfig(store=str(folder)),), batch_rows=8)
        opened = Loader(config, open_language(folder)[1])
        opened_mib = resident_mib("VmHWM")
        opened.batch(12_345)
    cpu_s, wall_s = time.process_time() - start_cpu_s, time.perf_counter() - start_s
    memory = {"peak_anonymous_mib": peak.stop(), "peak_before_a_batch_mib": opened_mib}
    memory |= {f"{name}_mib": resident_mib(key) for name, key in KINDS.items()}
    assert opened is not None  # held until here
    return {"opened": what, "cpu_s": cpu_s, "wall_s": wall_s, **memory}


KINDS = {"peak": "VmHWM", "anonymous": "RssAnon", "file": "RssFile"}


def resident_mib(key: str) -> float:
    """One line of what the system says of this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key + ":"))


class PeakAnonymous:
    """The most anonymous memory this process has while it works; the system keeps only the peak of all kinds together."""

    def __init__(self) -> None:
        self._most = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.wait(0.002):
            self._most = max(self._most, resident_mib("RssAnon"))

    def stop(self) -> float:
        """The peak so far, in mebibytes; watches no longer."""
        self._stopped.set()
        self._thread.join()
        return max(self._most, resident_mib("RssAnon"))


def main() -> None:
    """Generate, open, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=10_000_000)
    parser.add_argument("--open", type=Path, help="measure this store, in this process")
    parser.add_argument("--what", default="store", choices=("store", "loader"))
    options = parser.parse_args()
    if options.open:
        print(json.dumps(open_store(options.open, options.what)))
        return
    with tempfile.TemporaryDirectory() as name:
        make_store(Path(name), options.utterances)
        for what in ("store", "loader"):
            subprocess.run([sys.executable, __file__, "--open", name, "--what", what], check=True)


if __name__ == "__main__":
    main()
