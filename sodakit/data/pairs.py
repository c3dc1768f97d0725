"""A store of pairs seen through a task: two utterances of one recording, source then target, written as one document."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from sodakit.errors import ConfigError
from sodakit.store.reader import StoreReader
from sodakit.store.schema import Utterance
from sodakit.tokens.documents import Template
from sodakit.tokens.layouts.contract import lay
from sodakit.tokens.layouts.pattern import FLAT, Pattern
from sodakit.tokens.tasks import Side, pair_spans, tagged, task
from sodakit.tokens.vocabulary import Vocabulary


class PairView(Sequence[np.ndarray]):
    """The pairs of one split as documents of a task: `view[u]` is the int32 ids_T of pair u.

    A pair is a recording of exactly two utterances, the source first. Pairs that lack what the task writes (a
    transcript, a language, sound) are left out and counted.

    Raises:
        ConfigError: no such task, or not one usable pair.
    """

    def __init__(
        self,
        reader: StoreReader,
        split: str,
        task_name: str,
        vocabulary: Vocabulary,
        pattern: Pattern = FLAT,
    ) -> None:
        self.task = task(task_name)
        self.utterances: Sequence[Utterance] = reader.utterances(split)
        self.template = Template(vocabulary, reader.codec_spec.num_codebooks)
        self.layout = pattern.layout(vocabulary, reader.codec_spec.num_codebooks)
        self.frame_rate_hz = reader.codec_spec.frame_rate_hz
        self._tokenizer = reader.tokenizer()
        self.pairs: list[tuple[int, int]] = []
        """Numbers of the two utterances of each document."""
        self.num_left_out = 0
        """Recordings that are no usable pair."""
        self._find(reader, split)
        if not self.pairs:
            raise ConfigError(
                f"{reader.folder}, {split}: none of {self.num_left_out} recordings is a pair for {task_name!r}; needed: two "
                "utterances each, source then target, with language and transcript. Prepare it from translations.jsonl."
            )

    def _find(self, reader: StoreReader, split: str) -> None:
        members: dict[str, list[int]] = {}
        for number, utterance in enumerate(self.utterances):
            members.setdefault(utterance.recording, []).append(number)
        for numbers in members.values():
            if len(numbers) == 2 and self._usable(numbers):
                self.pairs.append((numbers[0], numbers[1]))
            else:
                self.num_left_out += 1

    def _usable(self, numbers: list[int]) -> bool:
        sides = dict(zip(("source", "target"), (self.utterances[n] for n in numbers), strict=True))
        for span in self.task.spans:
            side = sides[span.split("_")[0]]
            if not (side.codes_KF.shape[1] if span.endswith("speech") else side.text and side.language):
                return False
        return True

    @cached_property
    def _lengths_U2(self) -> np.ndarray:
        """Positions and ids of each document."""
        documents = (self[u] for u in range(len(self)))
        return np.array([(len(lay(self.layout, ids_T)), len(ids_T)) for ids_T in documents], np.int64)

    @property
    def lengths_U(self) -> np.ndarray:
        """Positions of each document, BOS and EOS included: int64."""
        return self._lengths_U2[:, 0]

    @property
    def num_positions(self) -> int:
        """Positions of all documents."""
        return int(self._lengths_U2[:, 0].sum())

    @property
    def num_tokens(self) -> int:
        """Ids of all documents."""
        return int(self._lengths_U2[:, 1].sum())

    @property
    def hours(self) -> float:
        """Sound of both utterances of every pair."""
        frames = sum(self.utterances[n].codes_KF.shape[1] for pair in self.pairs for n in pair)
        return frames / self.frame_rate_hz / 3600

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        source, target = (self._side(self.utterances[n]) for n in self.pairs[index])
        return self.template.document(pair_spans(self.task.spans, source, target))

    def _side(self, utterance: Utterance) -> Side:
        # The tag and the text are encoded as one string, as published: a tokenizer may join them.
        ids = self._tokenizer.encode(tagged(utterance.language, utterance.text or ""))
        return Side(utterance.codes_KF, np.array(ids, np.int32))
