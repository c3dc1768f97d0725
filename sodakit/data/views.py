"""A view turns stored utterances into documents: which order, which tokens, how many codebooks.

Nothing is encoded or written: changing a view costs a pass over the utterance lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sodakit.errors import ConfigError
from sodakit.store.columns import Columns
from sodakit.store.reader import StoreReader
from sodakit.store.schema import Utterance
from sodakit.tokens.documents import Span, Speech, Template, Text
from sodakit.tokens.vocabulary import Vocabulary

Order = Literal["audio_first", "text_first", "both"]
Composition = Literal["semantic", "semantic_acoustic", "semantic_acoustic_text"]


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How the utterances of a store are written as documents."""

    order: Order = "both"
    """Speech before its transcript, after it, or every recording once each way (the recipe)."""
    composition: Composition = "semantic_acoustic_text"
    """Which tokens a document holds: S, S+A or S+A+T in the paper's ablation."""
    num_codebooks: int | None = None
    """Use the first few codebooks only; None for all of the store."""
    task: str = ""
    """Write pairs of utterances as documents of this task instead, packed whole into windows (`tokens/tasks.py`); the
    other fields do not apply."""
    utterances_per_document: int | None = None
    """Cut long recordings into documents of at most this many utterances; None for whole recordings."""

    def __post_init__(self) -> None:
        if self.num_codebooks is not None and self.num_codebooks < 1:
            raise ConfigError(f"num_codebooks={self.num_codebooks}; needed: at least 1, or null for all.")
        if self.utterances_per_document is not None and self.utterances_per_document < 1:
            raise ConfigError(
                f"utterances_per_document={self.utterances_per_document}; needed: at least 1, or null."
            )

    @property
    def has_text(self) -> bool:
        """Whether transcripts are written."""
        return self.composition == "semantic_acoustic_text"


class DocumentView(Sequence[np.ndarray]):
    """The documents of one split under one view: `view[u]` is the int32 ids_T of document u.

    Documents are numbered audio-first ones first, then text-first ones where the order is `both`.
    """

    def __init__(self, reader: StoreReader, split: str, config: ViewConfig, vocabulary: Vocabulary) -> None:
        self.config = config
        self.utterances: Sequence[Utterance] = reader.utterances(split)
        num_codebooks = self._codebooks(reader, vocabulary)
        self.template = Template(vocabulary, num_codebooks)
        self.frame_rate_hz = reader.codec_spec.frame_rate_hz
        parts = reader.shard_columns(split)
        frames_N = _join([np.diff(c.frame_offsets) for c in parts])
        text_N = _join([np.diff(c.text_offsets) for c in parts]) * config.has_text
        lengths_N = np.where(frames_N > 0, frames_N * num_codebooks + 2, 0)
        lengths_N += np.where(text_N > 0, text_N + 2, 0)
        self._members = self._group(_recordings(parts), _join([c.start_s for c in parts]), lengths_N > 0)
        # BOS and EOS; a single utterance without speech is plain text, without its two markers.
        lengths = np.array(
            [lengths_N[m].sum() + (0 if len(m) == 1 and frames_N[m[0]] == 0 else 2) for m in self._members],
            np.int64,
        )
        self.lengths_U = np.tile(lengths, 2) if config.order == "both" else lengths
        """Tokens of each document, BOS and EOS included."""

    def _codebooks(self, reader: StoreReader, vocabulary: Vocabulary) -> int:
        stored = reader.codec_spec.num_codebooks
        if vocabulary.codebook_size != reader.codec_spec.codebook_size:
            raise ConfigError(
                f"The store's codebooks have {reader.codec_spec.codebook_size} entries and the vocabulary "
                f"{vocabulary.codebook_size}. Use the vocabulary of this store, or prepare it with another codec."
            )
        if self.config.composition == "semantic":
            return len(vocabulary.semantic_codebooks)
        wanted = self.config.num_codebooks or stored
        if wanted > min(stored, vocabulary.num_codebooks):
            raise ConfigError(
                f"num_codebooks={wanted}; the store has {stored} and the vocabulary {vocabulary.num_codebooks}."
            )
        return wanted

    def _group(
        self, recording_N: np.ndarray, start_s_N: np.ndarray, usable_N: np.ndarray
    ) -> list[np.ndarray]:
        order_N = np.lexsort((np.arange(len(recording_N)), start_s_N, recording_N))
        order_N = order_N[usable_N[order_N]]
        borders = np.flatnonzero(np.diff(recording_N[order_N])) + 1
        groups = np.split(order_N, borders) if len(order_N) else []
        most = self.config.utterances_per_document
        if most is None:
            return groups
        return [group[i : i + most] for group in groups for i in range(0, len(group), most)]

    def __len__(self) -> int:
        return len(self.lengths_U)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        text_first = self.config.order == "text_first" or index >= len(self._members)
        utterances = [self.utterances[int(i)] for i in self._members[index % len(self._members)]]
        if len(utterances) == 1 and utterances[0].codes_KF.shape[1] == 0:
            return self.template.plain_text(utterances[0].text_ids_T)
        return self.template.document([s for u in utterances for s in self._spans(u, text_first)])

    def _spans(self, utterance: Utterance, text_first: bool) -> list[Span]:
        spans: list[Span] = [Speech(utterance.codes_KF)] if utterance.codes_KF.shape[1] else []
        if self.config.has_text and len(utterance.text_ids_T):
            spans.insert(0 if text_first else len(spans), Text(utterance.text_ids_T))
        return spans


def _join(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _recordings(parts: list[Columns]) -> np.ndarray:
    # Shards number their recordings on their own; a recording may continue in the next shard.
    numbers: dict[str, int] = {}
    return _join(
        [
            np.array([numbers.setdefault(r, len(numbers)) for r in c.recordings], np.int64)[c.recording]
            for c in parts
        ]
    )
