"""What a store holds, as a tree: hours, tokens and speakers of each split and source."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from rich.text import Text
from rich.tree import Tree

from sodakit.files import read_json_lines
from sodakit.store.reader import StoreReader
from sodakit.units import format_count


@dataclass(frozen=True)
class SourceSummary:
    """One source in one split."""

    utterances: int
    """Rows, text documents included."""
    transcribed: int
    """Rows with text ids."""
    recordings: int
    """Recordings, which become documents."""
    speakers: int
    """Known speakers."""
    hours: float
    """Of sound, as long as it was heard: the last frame of an utterance may be part filled."""
    audio_tokens: int
    """Codes: frames times codebooks."""
    text_tokens: int
    """Ids of the store's tokenizer."""
    timed: int = 0
    """Rows whose words have times."""
    timed_words: int = 0
    """Their words, those without a time among them."""

    def __str__(self) -> str:
        timed = f"; {self.timed} with times of {format_count(self.timed_words)} words" if self.timed else ""
        return (
            f"{self.hours:.2f} h, {format_count(self.audio_tokens)} audio tokens, "
            f"{format_count(self.text_tokens)} text tokens, {self.utterances} utterances "
            f"({self.transcribed} with text) of {self.recordings} recordings, {self.speakers} speakers{timed}"
        )


def summarize(reader: StoreReader, split: str) -> dict[str, SourceSummary]:
    """The summary of each source in a split, largest first; nothing but the lengths is read."""
    totals: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = defaultdict(float)
    names: dict[str, tuple[set[str], set[str]]] = {}
    for columns, words in zip(reader.shard_columns(split), reader.shard_words(split), strict=True):
        words_N = np.diff(words.offsets)
        frames_N, text_N = np.diff(columns.frame_offsets), np.diff(columns.text_offsets)
        for number, source in enumerate(columns.sources):
            here_N = columns.source == number
            counts = [here_N.sum(), (text_N[here_N] > 0).sum(), frames_N[here_N].sum(), text_N[here_N].sum()]
            counts += [(words_N[here_N] > 0).sum(), words_N[here_N].sum()]
            totals[source] = totals.get(source, 0) + np.array(counts, np.int64)
            seconds[source] += float((columns.end_s - columns.start_s)[here_N].sum())
            recordings, speakers = names.setdefault(source, (set(), set()))
            recordings.update(columns.recordings[i] for i in np.unique(columns.recording[here_N]))
            speakers.update(columns.speakers[i] for i in np.unique(columns.speaker[here_N]))
    spec = reader.codec_spec
    summaries = {}
    for source, (utterances, transcribed, frames, text_tokens, timed, num_words) in totals.items():
        recordings, speakers = names[source]
        summaries[source] = SourceSummary(
            utterances=int(utterances),
            transcribed=int(transcribed),
            recordings=len(recordings),
            speakers=len(speakers - {""}),
            hours=seconds[source] / 3600,
            audio_tokens=int(frames) * spec.num_codebooks,
            text_tokens=int(text_tokens),
            timed=int(timed),
            timed_words=int(num_words),
        )
    return dict(sorted(summaries.items(), key=lambda pair: (-pair[1].audio_tokens, pair[0])))


def store_tree(reader: StoreReader) -> Tree:
    """The store as a tree: codec and tokenizer, splits, sources, and what was left out."""
    spec = reader.codec_spec
    # A Text, because rich reads a plain string with [brackets] as markup.
    tree = Tree(Text(str(reader.folder)))
    tree.add(
        f"codec {spec.name}: {spec.num_codebooks} codebooks of {spec.codebook_size}, "
        f"{spec.frame_rate_hz:g} Hz, {spec.bitrate_bps / 1000:.2f} kbps, fingerprint {spec.fingerprint}"
    )
    tree.add(f"tokenizer: fingerprint {reader.tokenizer_fingerprint}")
    for split in reader.splits:
        branch = tree.add(f"{split}: shards {len(reader.shards(split))}")
        for source, summary in summarize(reader, split).items():
            branch.add(Text(f"{source or 'unnamed source'}: {summary}"))
        for name, values_N in reader.quality(split).items():
            branch.add(f"{name}: {_spread(values_N)}")
    quarantine = reader.folder / "quarantine.jsonl"
    if quarantine.is_file():
        reasons = Counter(str(row.get("reason", "unknown")) for row in read_json_lines(quarantine))
        listed = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
        tree.add(f"left out: {listed or 'nothing'}")
    return tree


def _spread(values_N: np.ndarray) -> str:
    """Where the middle and the ends of a distribution are."""
    known = values_N[np.isfinite(values_N)]
    if not len(known):
        return "of no utterance"
    places = np.quantile(known, [0.05, 0.25, 0.5, 0.75, 0.95])
    low, lower, middle, upper, high = (format(place, ".3g") for place in places)
    return f"median {middle}, half of them {lower} to {upper}, nine tenths {low} to {high} ({len(known)} utterances)"
