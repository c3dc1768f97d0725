"""Sound to store in stages: plan, tokenizer, encode, deduplicate, verify, seal. Killed at any moment, it continues."""

import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.codec.contract import Codec
from sodakit.errors import AudioError, ConfigError, StoreError, VocabularyError
from sodakit.files import atomic_folder, read_json_lines, write_json, write_json_lines
from sodakit.holding import hold
from sodakit.log import console, progress_bar, say
from sodakit.prepare.checks import check_failures, most_frequent, reasons_table
from sodakit.prepare.cleaning import split_long
from sodakit.prepare.duplicates import leave_out_duplicates
from sodakit.prepare.encode import ShardEncoder
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.plan import Plan, PlannedShard, make_plan, request
from sodakit.prepare.quality import QualityMeter, RatesSound, TellsVoices
from sodakit.prepare.recording import Item
from sodakit.prepare.verify import verify_sample
from sodakit.prepare.workers import encode_shards
from sodakit.store.reader import StoreReader
from sodakit.store.schema import SPLITS
from sodakit.store.writer import StoreWriter
from sodakit.tokens.text import TextTokenizer, train_bpe
from sodakit.units import format_duration

DEFAULT_OPTIONS = PrepareOptions()


@dataclass(frozen=True, kw_only=True)
class PrepareReport:
    """What a run did, and what the store holds now."""

    folder: Path
    """The store."""
    utterances: dict[str, int]
    """In each split."""
    hours: dict[str, float]
    """Of sound in each split."""
    shards_made: int
    """By this run."""
    shards_kept: int
    """From earlier runs."""
    rejected: list[dict[str, Any]] = field(repr=False)
    """The rows of `quarantine.jsonl`."""
    elapsed_s: float
    """Time this run took."""
    sounds: int
    """Utterances with sound."""
    transcribed: int
    """Those of them with a transcript."""
    timed: int = 0
    """Those of them with times of words."""

    def __str__(self) -> str:
        parts = [f"{name} {count} ({self.hours[name]:.2f} h)" for name, count in self.utterances.items()]
        left_out = ", ".join(f"{reason}: {count}" for reason, count in most_frequent(self.rejected))
        timed = f", {self.timed} with times of words" if self.timed else ""
        return (
            f"{self.folder}: {', '.join(parts)}; {self.shards_made} shards made, {self.shards_kept} kept; "
            f"{self.transcribed} of {self.sounds} sounds with a transcript{timed}; "
            f"left out: {left_out or 'none'}; {format_duration(self.elapsed_s)}"
        )


def prepare(
    items: Iterable[Item],
    out: Path | str,
    codec: Codec,
    options: PrepareOptions = DEFAULT_OPTIONS,
    tokenizer: TextTokenizer | None = None,
    mos: RatesSound | None = None,
    speakers: TellsVoices | None = None,
) -> PrepareReport:
    """Make a store of the items, or finish one that an earlier run began.

    A killed run loses the shards in flight; the next one makes only what is missing.

    Args:
        items: what to prepare, in the same order every time.
        out: the store's folder.
        codec: sound to codes.
        options: limits, splits, shards, workers.
        tokenizer: text to ids; default: a byte-level BPE trained on the train split.
        mos: the judge of quality that the options name.
        speakers: the judge of speakers that they name.
    Returns:
        PrepareReport: counts, hours and what was left out.
    Raises:
        ConfigError: the folder was begun with another codec, tokenizer, items or options, it says which; or another
            process fills it.
        AudioError: more than `options.max_failed_fraction` of the items cannot be used.
    """
    out = Path(out)
    sealed = (out / "store.json").exists() and not options.fresh
    with nullcontext() if sealed else hold(out, "filled"):
        return _prepare(
            list(split_long(items, options.limits)), out, codec, options, tokenizer, mos, speakers
        )


def _prepare(
    items: list[Item],
    out: Path,
    codec: Codec,
    options: PrepareOptions,
    tokenizer: TextTokenizer | None,
    mos: RatesSound | None,
    speakers: TellsVoices | None,
) -> PrepareReport:
    begun_s = time.monotonic()
    plan = plan_or_continue(items, out, codec, options, tokenizer)
    tokenizer = open_tokenizer(items, out, plan, options, tokenizer)
    writer = StoreWriter(out, codec.spec, tokenizer.fingerprint)
    missing = [shard for shard in plan.shards if not writer.has_shard(shard.split, shard.index)]
    if missing or not _is_sealed(out):
        meter = QualityMeter(options.quality, mos, speakers) if options.quality.measured else None
        encoder = ShardEncoder(codec, tokenizer, writer, options.limits, options.batch_duration_s, meter)
        encode_missing(encoder, plan, missing, items, options)
        finish(writer, codec, plan, items, options)
    report = _report(out, plan, writer, len(missing), time.monotonic() - begun_s)
    if report.rejected:
        console.print(reasons_table(report.rejected, plan.num_items))
    say(str(report))
    return report


def plan_or_continue(
    items: Sequence[Item], out: Path, codec: Codec, options: PrepareOptions, tokenizer: TextTokenizer | None
) -> Plan:
    """The plan in `out/plan.json` if it is for the same request, else a new one, written there.

    Raises:
        ConfigError: nothing to prepare, or the folder belongs to another request.
        AudioError: too many items cannot be used.
    """
    if not items:
        raise ConfigError(
            "No items to prepare; needed: at least one. Does the folder hold what its name says?"
        )
    asked = request(items, codec.spec, tokenizer.fingerprint if tokenizer else None, options)
    path = out / "plan.json"
    _clear(out, everything=options.fresh)
    if path.exists():
        plan = Plan.load(path)
        plan.check_asked(asked, path)
        say(f"Continuing {out}")
        return plan
    if (out / "store.json").exists():
        raise ConfigError(
            f"{out} holds a store without plan.json; needed: a folder of prepare, or a new one. "
            "Choose another folder, or use --fresh to replace it."
        )
    plan = make_plan(items, asked, options)
    _check_rejected(plan.rejected, plan, out, options)
    console.print(plan.table(codec.spec))
    plan.save(path)
    return plan


def open_tokenizer(
    items: Sequence[Item], out: Path, plan: Plan, options: PrepareOptions, tokenizer: TextTokenizer | None
) -> TextTokenizer:
    """The tokenizer of the store: the one there, the one given, or one trained on the train split.

    One that is there and cannot be read is made anew; shards of another are then refused.
    """
    folder = out / "tokenizer"
    try:
        return TextTokenizer.load(folder)
    except VocabularyError as error:
        if folder.exists():
            say(f"{error} It is made anew.")
    if tokenizer is None:
        rows = (row for shard in plan.shards if shard.split == "train" for row in shard.rows)
        tokenizer = train_bpe((items[row].text or "" for row in rows), options.text_vocab_size)
    with atomic_folder(folder) as temporary:
        tokenizer.save(temporary)
    return TextTokenizer.load(folder)


def encode_missing(
    encoder: ShardEncoder,
    plan: Plan,
    missing: Sequence[PlannedShard],
    items: Sequence[Item],
    options: PrepareOptions,
) -> None:
    """Make the missing shards.

    Raises:
        AudioError: too many items cannot be used.
    """
    writer = encoder.writer
    absent = {(shard.split, shard.index) for shard in missing}
    rejected = list(plan.rejected)
    for shard in plan.shards:
        if (shard.split, shard.index) not in absent:
            rejected += writer.shard_rejected(shard.split, shard.index)
    with progress_bar() as bar:
        total = sum(len(shard.rows) for shard in plan.shards)
        task = bar.add_task("encode", total=total, note="")
        bar.advance(task, total - sum(len(shard.rows) for shard in missing))
        advance = lambda count: bar.advance(task, count)  # noqa: E731
        for shard in encode_shards(encoder, missing, items, options.workers, advance, options.engine):
            rejected += writer.shard_rejected(shard.split, shard.index)
            bar.update(task, note=f"{shard.name}, {len(rejected)} left out")
            _check_rejected(rejected, plan, writer.folder, options)


def finish(
    writer: StoreWriter, codec: Codec, plan: Plan, items: Sequence[Item], options: PrepareOptions
) -> None:
    """Leave out near-duplicates, look at a sample again, and seal.

    Raises:
        AudioError: with the duplicates, too many items cannot be used.
        StoreError: stored codes are not those of their sound.
    """
    _clear(writer.folder, everything=False)  # what a worker that died was writing
    kept = [items[row] for shard in plan.shards for row in shard.rows]  # of two with one id only the first
    if options.cleaning.near_duplicate_share is not None:
        by_id = {item.id: item for item in kept}
        leave_out_duplicates(writer, by_id, options.cleaning.near_duplicate_share)
        in_shards = [row for shard in plan.shards for row in writer.shard_rejected(shard.split, shard.index)]
        _check_rejected([*plan.rejected, *in_shards], plan, writer.folder, options)
    sample = verify_sample(writer, codec, kept, options.verify_items)
    write_json(writer.folder / "verify.json", sample)
    if sample:
        same = sum(row["encoded_again_same"] for row in sample) / len(sample)
        back = sum(row["round_trip_same"] for row in sample) / len(sample)
        say(
            f"Verified {len(sample)} utterances: {same:.1%} of their codes come out again when encoded alone, "
            f"{back:.1%} after decoding"
        )
    writer.seal(plan.rejected)


def _check_rejected(rejected: list[dict[str, Any]], plan: Plan, out: Path, options: PrepareOptions) -> None:
    path = out / "quarantine.jsonl"
    try:
        check_failures(rejected, plan.num_items, options.max_failed_fraction, str(path))
    except AudioError:
        write_json_lines(path, rejected)
        raise


def _clear(out: Path, everything: bool) -> None:
    """Remove what a killed run was writing; on request everything prepare writes, and nothing else."""
    for split in SPLITS:
        for path in (out / split).glob("shard-*.arrow" if everything else ".shard-*.arrow.*.tmp"):
            path.unlink(missing_ok=True)
    if everything:
        shutil.rmtree(out / "tokenizer", ignore_errors=True)
        for name in ("plan.json", "store.json", "quarantine.jsonl", "verify.json"):
            (out / name).unlink(missing_ok=True)


def _is_sealed(out: Path) -> bool:
    """Whether `store.json` and `quarantine.jsonl` are there and whole; half of one is made anew."""
    if not (out / "store.json").exists():
        return False
    try:
        quarantined = StoreReader(out).description["quarantined"]
        return len(read_json_lines(out / "quarantine.jsonl")) == quarantined
    except (StoreError, ConfigError, KeyError, FileNotFoundError) as error:
        say(f"{out} is sealed again: {error}")
        return False


def _report(out: Path, plan: Plan, writer: StoreWriter, made: int, elapsed_s: float) -> PrepareReport:
    store = StoreReader(out)
    splits = store.description["splits"]
    rejected = [row for shard in plan.shards for row in writer.shard_rejected(shard.split, shard.index)]
    columns = [part for split in splits for part in store.shard_columns(split)]
    with_sound = [np.diff(part.frame_offsets) > 0 for part in columns]
    with_text = [np.diff(part.text_offsets) > 0 for part in columns]
    return PrepareReport(
        folder=out,
        utterances={name: split["rows"] for name, split in splits.items()},
        hours={name: split["hours"] for name, split in splits.items()},
        shards_made=made,
        shards_kept=len(plan.shards) - made,
        rejected=plan.rejected + rejected,
        elapsed_s=elapsed_s,
        sounds=sum(int(sound_N.sum()) for sound_N in with_sound),
        transcribed=sum(int((s_N & t_N).sum()) for s_N, t_N in zip(with_sound, with_text, strict=True)),
        timed=sum(
            int((np.diff(words.offsets) > 0).sum()) for split in splits for words in store.shard_words(split)
        ),
    )
