"""A view turns stored utterances into documents: which order, which tokens, how many codebooks.

Nothing is encoded or written: changing a view costs a pass over the utterance lengths.
"""

from collections.abc import Sequence

import numpy as np

from sodakit.data.config import ViewConfig
from sodakit.data.outline import outline_of
from sodakit.errors import ConfigError
from sodakit.store.flat import FlatShard
from sodakit.store.reader import StoreReader
from sodakit.store.schema import Utterance
from sodakit.tokens.documents import Span, Speech, Template, Text
from sodakit.tokens.layouts.pattern import FLAT, Pattern
from sodakit.tokens.vocabulary import Vocabulary


class DocumentView(Sequence[np.ndarray]):
    """The documents of one split under one view: `view[u]` is the int32 ids_T of document u.

    Documents are numbered audio-first ones first, then text-first ones where the order is `both`.
    """

    def __init__(
        self,
        reader: StoreReader,
        split: str,
        config: ViewConfig,
        vocabulary: Vocabulary,
        pattern: Pattern = FLAT,
    ) -> None:
        self.config = config
        self.utterances: Sequence[Utterance] = reader.utterances(split)
        num_codebooks = self._codebooks(reader, vocabulary)
        self.template = Template(vocabulary, num_codebooks)
        self.layout = pattern.layout(vocabulary, num_codebooks)
        self.frame_rate_hz = reader.codec_spec.frame_rate_hz
        self.shards = reader.flat_shards(split)
        self.stored_codebooks = reader.codec_spec.num_codebooks
        self.outline = outline_of(
            reader.each_flat_shard(split),
            len(self.utterances),
            self._frames_and_text,
            self.layout.speech_positions,
            config.utterances_per_document,
        )

    def _frames_and_text(self, shard: FlatShard) -> tuple[np.ndarray, np.ndarray]:
        """Frames and text ids of each utterance: counts of one fit 32 bits."""
        frames_N = (np.diff(shard.code_offsets) // self.stored_codebooks).astype(np.int32)
        return frames_N, np.diff(shard.text_offsets).astype(np.int32) * np.int32(self.config.has_text)

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

    @property
    def num_groups(self) -> int:
        """Groups of utterances that make a document, or with `both` two."""
        return len(self.outline.plain_G)

    @property
    def lengths_U(self) -> np.ndarray:
        """Positions of each document, BOS and EOS included: int64."""
        return self.lengths_of(np.arange(len(self)))

    @property
    def num_positions(self) -> int:
        """Positions of all documents: with `both`, every utterance counts twice."""
        edges = 2 * int(np.count_nonzero(~self.outline.plain_G)) + self.more_bos * self.num_groups
        return (int(self.outline.begin_M[-1]) + edges) * self.orders

    @property
    def num_tokens(self) -> int:
        """Ids of all documents, counted likewise: what is predicted of them."""
        outline = self.outline
        codes = outline.num_frames * self.template.num_codebooks
        edges = (2 + self.more_bos) * self.num_groups
        return (codes + outline.num_text_tokens + outline.num_markers + edges) * self.orders

    @property
    def more_bos(self) -> int:
        """BOS of a document beyond the first."""
        return self.config.num_bos - 1

    @property
    def orders(self) -> int:
        """Documents made of each group of utterances."""
        return 2 if self.config.order == "both" else 1

    @property
    def writes_twice(self) -> bool:
        """Whether a pass holds the same words twice: text without sound, once for each order."""
        return self.orders == 2 and not self.outline.num_frames

    @property
    def hours(self) -> float:
        """Sound that the documents tell, each second once."""
        return self.outline.num_frames / self.frame_rate_hz / 3600

    def tokens_by_kind(self) -> dict[str, int]:
        """Tokens of all documents: text, semantic, acoustic, and markers with BOS and EOS; `num_tokens` in all."""
        semantic = sum(k < self.template.num_codebooks for k in self.template.vocabulary.semantic_codebooks)
        kinds = {
            "text": self.orders * self.outline.num_text_tokens,
            "semantic": self.orders * self.outline.num_frames * semantic,
            "acoustic": self.orders * self.outline.num_frames * (self.template.num_codebooks - semantic),
        }
        return kinds | {"markers": self.num_tokens - sum(kinds.values())}

    def lengths_of(self, documents: np.ndarray) -> np.ndarray:
        """Positions of the documents of these numbers: int64."""
        outline = self.outline
        group = documents % self.num_groups if self.num_groups else documents
        bodies = outline.begin_M[outline.first_G[group + 1]] - outline.begin_M[outline.first_G[group]]
        return bodies + np.where(outline.plain_G[group], 0, 2) + self.more_bos

    def members(self, document: int) -> np.ndarray:
        """Numbers of the utterances of a document, in time."""
        outline = self.outline
        group = document % self.num_groups
        first, last = int(outline.first_G[group]), int(outline.first_G[group + 1])
        return np.arange(first, last) if outline.utterance_M is None else outline.utterance_M[first:last]

    def __len__(self) -> int:
        return self.num_groups * self.orders

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        """A whole document by the template: the definition. `native.cpp` is the fast way."""
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        text_first = self._text_first(index)
        utterances = [self.utterances[int(i)] for i in self.members(index)]
        if len(utterances) == 1 and utterances[0].codes_KF.shape[1] == 0:
            ids_T = self.template.plain_text(utterances[0].text_ids_T)
        else:
            ids_T = self.template.document([s for u in utterances for s in self._spans(u, text_first)])
        return np.concatenate([np.repeat(ids_T[:1], self.more_bos), ids_T])

    def _text_first(self, document: int) -> bool:
        return self.config.order == "text_first" or document >= self.num_groups

    def _spans(self, utterance: Utterance, text_first: bool) -> list[Span]:
        spans: list[Span] = [Speech(utterance.codes_KF)] if utterance.codes_KF.shape[1] else []
        if self.config.has_text and len(utterance.text_ids_T):
            spans.insert(0 if text_first else len(spans), Text(utterance.text_ids_T))
        return spans
