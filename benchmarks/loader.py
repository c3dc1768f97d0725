"""Tokens per CPU-second of the loader, against grain, HF datasets and a bare memory map, in one alternating run.

    pip install grain datasets
    python benchmarks/loader.py --repeats 7
    python benchmarks/loader.py --interleave        ours alone: whole utterances against words drawn as text or speech

Three sources as in the paper's mixture (long recordings 52 %, short ones 43 %, text 5 %), both orders, windows of 4,096
tokens. Ours renders them from codes as they are asked for; the others read rows that were rendered beforehand, which
they shuffle, mix and batch. CPU time of the whole process, so other programs on the machine count for little.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np

from sodakit.codec.contract import CodecSpec
from sodakit.data.config import DataConfig, InterleaveConfig, SourceConfig, SpanKind, ViewConfig
from sodakit.data.language import open_language
from sodakit.data.loader import Loader
from sodakit.store.schema import Utterance
from sodakit.store.writer import StoreWriter
from sodakit.tokens.text import train_bpe
from sodakit.tokens.words import TimedWord

CONTEXT, BATCH_ROWS = 4096, 8
WEIGHTS = (0.52, 0.43, 0.05)
SPEC = CodecSpec(
    name="random",
    sample_rate_hz=24_000,
    frame_samples=1920,
    num_codebooks=8,
    codebook_size=2048,
    fingerprint="loader-benchmark",
)


def words_of(rng: np.random.Generator, seconds: float, ids: int) -> tuple[TimedWord, ...]:
    """Words of 1 to 2 ids along an utterance, each with times."""
    at = np.unique([0, *rng.choice(ids, 2 * ids // 3, replace=False)]).tolist()
    each_s = seconds / len(at)
    return tuple(TimedWord(n, i, n * each_s, (n + 0.9) * each_s, 1.0) for n, i in enumerate(at))


def make_store(folder: Path, kind: str, tokens: int, seed: int, timed: bool = False) -> Path:
    """A store of random codes: `long` recordings of 40 utterances, `short` ones of 1 to 4, or `text` alone."""
    rng = np.random.default_rng(seed)
    tokenizer = train_bpe(["a few words to have a tokenizer"], 300)
    tokenizer.save(folder / "tokenizer")
    writer = StoreWriter(folder, SPEC, tokenizer.fingerprint)
    utterances: list[Utterance] = []
    written, recording = 0, 0
    while written < tokens:
        count = {"long": 40, "short": int(rng.integers(1, 5)), "text": 1}[kind]
        for number in range(count):
            # 2 to 15 s of speech with three text ids a second; text documents of 200 to 1,500 ids.
            seconds = 0.0 if kind == "text" else float(rng.uniform(2, 15))
            frames, ids = round(12.5 * seconds), round(3 * seconds) or int(rng.integers(200, 1500))
            utterances.append(
                Utterance(
                    id=f"{recording}-{number}",
                    recording=str(recording),
                    start_s=15.0 * number,
                    end_s=15.0 * number + seconds,
                    codes_KF=rng.integers(0, 2048, (8, frames)).astype(np.uint16),
                    text="",
                    text_ids_T=rng.integers(0, 250, ids).astype(np.int32),
                    words=words_of(rng, seconds, ids) if timed and frames else (),
                )
            )
            written += 8 * frames + ids
        recording += 1
    half = len(utterances) // 2
    for index, part in enumerate((utterances[:half], utterances[half:])):
        writer.write_shard("train", index, part)
    writer.seal()
    return folder


def render_rows(loader: Loader, folder: Path) -> list[np.ndarray]:
    """Every window of every source as a row of a file, memory-mapped: what the others read."""
    rows = []
    for number, stream in enumerate(loader.streams):
        path = folder / f"rows-{number}.npy"
        mapped = np.lib.format.open_memmap(path, "w+", np.int32, (stream.num_windows, CONTEXT))
        for window in range(stream.num_windows):
            mapped[window] = stream.window(window)[0][:, 0]
        mapped.flush()
        rows.append(np.load(path, mmap_mode="r"))
    return rows


def ours(loader: Loader) -> Iterator[np.ndarray]:
    """Rendered from codes on the fly."""
    for batch in loader.batches(range(10**9)):
        yield batch.ids_BPW[..., 0]


def grain_dataset(rows: list[np.ndarray]):
    """Shuffle, mix and batch of rows rendered beforehand."""
    import grain

    sources = [grain.MapDataset.source(r).shuffle(seed=n).repeat() for n, r in enumerate(rows)]
    return grain.MapDataset.mix(sources, weights=WEIGHTS).batch(BATCH_ROWS)


def grain_direct(rows: list[np.ndarray]) -> Iterator[np.ndarray]:
    """grain asked for batch after batch by number: its quickest way without threads."""
    dataset = grain_dataset(rows)
    number = 0
    while True:
        yield dataset[number]
        number += 1


def grain_iterator(rows: list[np.ndarray], threads: int) -> Iterator[np.ndarray]:
    """grain's own iterator, with its reading threads."""
    import grain

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=16 if threads else 0)
    return iter(grain_dataset(rows).to_iter_dataset(options))


def hf_batches(rows: list[np.ndarray], folder: Path) -> Iterator[np.ndarray]:
    """HF datasets: shuffled, interleaved, in numpy format."""
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features({"ids": datasets.List(datasets.Value("int32"), length=CONTEXT)})
    parts = []
    for number, source in enumerate(rows):
        path = folder / f"hf-{number}"
        if not path.exists():

            def generate(source=source):
                for row in source:
                    yield {"ids": row}

            datasets.Dataset.from_generator(
                generate, features=features, cache_dir=str(folder / "cache")
            ).save_to_disk(str(path))
        parts.append(datasets.load_from_disk(str(path)).shuffle(seed=number))
    mixed = datasets.interleave_datasets(
        parts, probabilities=list(WEIGHTS), seed=0, stopping_strategy="all_exhausted"
    ).with_format("numpy")
    while True:
        for batch in mixed.iter(batch_size=BATCH_ROWS, drop_last_batch=True):
            yield batch["ids"]


def bare(rows: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Random rows of one memory map: no mixture, the limit."""
    largest = max(rows, key=len)
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(len(largest))
        for first in range(0, len(order) - BATCH_ROWS + 1, BATCH_ROWS):
            yield largest[order[first : first + BATCH_ROWS]]


def speed(batches: Iterator[np.ndarray], count: int) -> float:
    """Tokens per CPU-second over the next `count` batches."""
    start_s = time.process_time()
    tokens = 0
    for _ in range(count):
        batch = next(batches)
        assert batch.shape == (BATCH_ROWS, CONTEXT)
        tokens += batch.size
    return tokens / (time.process_time() - start_s)


def resume_times(loader: Loader, rows: list[np.ndarray], step: int) -> dict[str, float]:
    """Milliseconds of wall time from nothing but a step number (grain: a saved state) to the first batch."""

    def clocked(work: Callable[[], object]) -> float:
        start_s = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - start_s)

    walked = grain_iterator(rows, 0)
    for _ in range(step):
        next(walked)
    state = walked.get_state()  # type: ignore[attr-defined]

    def from_state() -> None:
        again = grain_iterator(rows, 16)
        again.set_state(state)  # type: ignore[attr-defined]
        next(again)

    def walk() -> None:
        again = grain_iterator(rows, 0)
        for _ in range(step + 1):
            next(again)

    fresh = Loader(loader.config, loader.vocabulary)
    return {
        "ours, loader open": clocked(lambda: fresh.batch(step)),
        "ours, stores opened anew": clocked(lambda: Loader(loader.config, loader.vocabulary).batch(step)),
        "grain, from a saved state": clocked(from_state),
        "grain, read up to there": clocked(walk),
    }


def compare_interleaved(folder: Path, repeats: int, batches: int, tokens: int) -> None:
    """Tokens per CPU-second of whole utterances and of each way to draw words, alternating."""
    stores = [
        make_store(folder / kind, kind, tokens // (10 if kind == "text" else 1), n, timed=True)
        for n, kind in enumerate(("long", "short", "text"))
    ]
    vocabulary = open_language(stores[0])[1]
    loaders: dict[str, Loader] = {}
    for spans in get_args(SpanKind):
        views = [ViewConfig(interleave=InterleaveConfig(spans=spans))] * 2 + [ViewConfig()]
        parts = zip(stores, WEIGHTS, views, strict=True)
        sources = tuple(SourceConfig(store=str(store), weight=w, view=view) for store, w, view in parts)
        begun_s = time.process_time()
        loaders[spans] = Loader(
            DataConfig(sources=sources, context=CONTEXT, batch_rows=BATCH_ROWS), vocabulary
        )
        print(f"{spans}: opened in {time.process_time() - begun_s:.2f} s")
    contenders = {spans: ours(loader) for spans, loader in loaders.items()}
    for made in contenders.values():
        speed(made, 50)
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, made in contenders.items():
            speeds[name].append(speed(made, batches))
    for name, found in speeds.items():
        ratio = median(a / b for a, b in zip(found, speeds["none"], strict=True))
        print(
            f"{name:12} {median(found) / 1e6:7.1f}M tokens per CPU-s ({min(found) / 1e6:.1f} to {max(found) / 1e6:.1f}), "
            f"{ratio:.2f} of whole utterances"
        )
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {repeats} repeats")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=12_000_000, help="unique tokens in each speech source")
    parser.add_argument("--interleave", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.interleave:
            compare_interleaved(folder, options.repeats, options.batches, options.tokens)
            return
        sources = tuple(
            SourceConfig(
                store=str(
                    make_store(folder / kind, kind, options.tokens // (10 if kind == "text" else 1), n)
                ),
                weight=WEIGHTS[n],
            )
            for n, kind in enumerate(("long", "short", "text"))
        )
        config = DataConfig(sources=sources, context=CONTEXT, batch_rows=BATCH_ROWS)
        loader = Loader(config, open_language(sources[0].store)[1])
        rows = render_rows(loader, folder)
        contenders = {
            "ours": ours(loader),
            "grain, by number": grain_direct(rows),
            "grain, iterator, 0 threads": grain_iterator(rows, 0),
            "grain, iterator, 16 threads": grain_iterator(rows, 16),
            "datasets": hf_batches(rows, folder),
            "bare memmap": bare(rows),
        }
        for batches in contenders.values():
            speed(batches, 50)
        speeds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(options.repeats):
            for name, batches in contenders.items():
                speeds[name].append(speed(batches, options.batches))
        for name, found in speeds.items():
            print(
                f"{name:28} {median(found) / 1e6:7.1f}M tokens per CPU-s "
                f"({min(found) / 1e6:.1f} to {max(found) / 1e6:.1f})"
            )
        best = max(median(found) for name, found in speeds.items() if name.startswith(("grain", "datasets")))
        print(f"ours / better of the others  {median(speeds['ours']) / best:7.2f}")
        for step in (10, 1_000):
            print(json.dumps({"step": step, "milliseconds": resume_times(loader, rows, step)}))
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {options.repeats} repeats")


if __name__ == "__main__":
    main()
