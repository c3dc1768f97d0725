"""Text as ids: a Hugging Face `tokenizers` tokenizer, given or built from the data."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from sodakit.errors import VocabularyError
from sodakit.files import digest, read_json, write_text

BOS_TEXT = "<|begin_of_text|>"
EOS_TEXT = "<|end_of_text|>"
LONGEST_WORD = 4096
"""Characters without a space that are encoded at once."""
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD}}}(?=\S)")


class TextTokenizer:
    """Text to ids and back, without markers.

    A transcript that spells a special token (`<|text_end|>`) is encoded as the characters it consists of:
    data can never forge a marker.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._check_ids()
        self.bos = self._special(BOS_TEXT, "<s>")
        self.eos = self._special(EOS_TEXT, "<|endoftext|>", "</s>")

    def _check_ids(self) -> None:
        """Ids from `size` on would be taken for markers, and `to_str` walks through every id up to the largest one."""
        vocab = self._tokenizer.get_vocab(with_added_tokens=True)
        text = max(vocab, key=vocab.__getitem__, default=None)
        if text is not None and vocab[text] >= self.size:
            raise VocabularyError(
                f"The token {text!r:.80} has id {vocab[text]}; needed: below {self.size}, the number of tokens. "
                "Copy tokenizer.json again, or use a tokenizer whose ids have no gaps."
            )

    def _special(self, *names: str) -> int:
        for name in names:
            found = self._tokenizer.token_to_id(name)
            if found is not None:
                return found
        raise VocabularyError(
            f"The tokenizer has none of {', '.join(names)}. A Llama-3-type tokenizer is needed, or one built by train_bpe."
        )

    @property
    def size(self) -> int:
        """Ids 0 … size-1, added special tokens included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def fingerprint(self) -> str:
        """Digest of the whole tokenizer definition."""
        return digest(self._tokenizer.to_str())

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, no BOS, no markers.

        A stretch of more than `LONGEST_WORD` characters without a space is encoded in parts: its time grows with the
        square of its length.
        """
        if len(text) <= LONGEST_WORD:
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        parts = self._tokenizer.encode_batch(_parts(text), add_special_tokens=False)
        return [id_ for part in parts for id_ in part.ids]

    def places(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """First character of each id of `encode(text)`, and the one after its last: int32 (T,) each.

        Ids that share a character, such as the bytes of one letter, have the same. Whether the space before a word is
        counted depends on the tokenizer.
        """
        parts = [text] if len(text) <= LONGEST_WORD else _parts(text)
        spans, at = [], 0
        for part in parts:
            found = self._tokenizer.encode(part, add_special_tokens=False).offsets
            spans += [(start + at, end + at) for start, end in found]
            at += len(part)
        places_T2 = np.array(spans, np.int32).reshape(-1, 2)
        return places_T2[:, 0], places_T2[:, 1]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text."""
        if max(map(len, texts), default=0) > LONGEST_WORD:
            return [self.encode(text) for text in texts]
        return [e.ids for e in self._tokenizer.encode_batch(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; special ids give nothing."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`."""
        self._tokenizer.encode_special_tokens = False  # a property of use, not of the definition
        write_text(Path(folder) / "tokenizer.json", self._tokenizer.to_str(pretty=True))
        self._tokenizer.encode_special_tokens = True

    @classmethod
    def load(cls, name: Path | str) -> "TextTokenizer":
        """The tokenizer in a folder or file; a string may also be a hub id such as `meta-llama/Llama-3.1-8B`.

        Raises:
            VocabularyError: nothing there, nothing that `tokenizers` reads, or ids with gaps.
        """
        path = Path(name)
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file() and (path.exists() or isinstance(name, Path) or str(name).count("/") != 1):
            raise VocabularyError(
                f"No tokenizer at {name}. Needed: a folder with tokenizer.json, that file, or a hub id owner/name."
            )
        try:
            if file.is_file():
                return cls(parsed(file.read_text(encoding="utf-8")))
            return cls(Tokenizer.from_pretrained(str(name)))
        except Exception as error:  # tokenizers raises bare Exception
            where = file if file.is_file() else name
            raise VocabularyError(f"The tokenizer {where} cannot be read: {error}") from error


def parsed(definition: str) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`.

    Raises:
        ValueError: it is damaged.
    """
    try:
        tokenizer = Tokenizer.from_str(definition)
        with suppress(Exception):  # some know no such word, and say so
            tokenizer.encode("A word, 7.")
    except BaseException as error:
        # Where a number is out of range tokenizers does not raise but panics, which no `except Exception` sees.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(str(error)) from error
    return tokenizer


def train_bpe(texts: Iterable[str], vocab_size: int = 512) -> TextTokenizer:
    """A byte-level BPE of at most `vocab_size` ids learnt from the texts; every string round-trips.

    Raises:
        VocabularyError: `vocab_size` has no room for the 256 bytes and the two special tokens.
    """
    if vocab_size < 258:
        raise VocabularyError(f"vocab_size={vocab_size}; 256 bytes, BOS and EOS need at least 258.")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[BOS_TEXT, EOS_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_without_none(texts), trainer)
    return TextTokenizer(tokenizer)


def extended_tokenizer(text_model_tokenizer: Path | str) -> TextTokenizer:
    """A text model's tokenizer made ready for a warm start, as the published one for Qwen3 was.

    Its end-of-text keeps its id and is named as ours is, and a BOS is appended after all its ids. Its other tokens and
    their ids stay.

    Args:
        text_model_tokenizer: a `tokenizer.json`, or a folder with one.
    Raises:
        VocabularyError: none there, a damaged one, or one that has no `<|endoftext|>`.
    """
    path = Path(text_model_tokenizer)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise VocabularyError(
            f"No tokenizer.json at {path}. Download that of the text model, and name its folder."
        )
    plain = read_json(file)
    try:
        return _named_as_ours(plain, file)
    except VocabularyError:
        raise
    except Exception as error:  # a field that is none, or what tokenizers raises: bare Exception
        raise VocabularyError(
            f"The tokenizer {file} cannot be read ({type(error).__name__}: {error}). Download it again."
        ) from error


def _named_as_ours(plain: dict[str, Any], file: Path) -> TextTokenizer:
    renamed = [token for token in plain["added_tokens"] if token["content"] == "<|endoftext|>"]
    if not renamed:
        raise VocabularyError(
            f"{file} has no <|endoftext|> among its added tokens. Needed: Qwen3's, or one like it."
        )
    renamed[0]["content"] = EOS_TEXT
    vocab = plain["model"]["vocab"]
    if "<|endoftext|>" in vocab:  # some list their special tokens twice
        vocab[EOS_TEXT] = vocab.pop("<|endoftext|>")
    tokenizer = parsed(json.dumps(plain))
    tokenizer.add_special_tokens([AddedToken(BOS_TEXT, special=True, normalized=False)])
    return TextTokenizer(tokenizer)


def _without_none(texts: Iterable[str | None]) -> Iterator[str]:
    return (part for text in texts if text for part in _parts(text))


def _parts(text: str) -> list[str]:
    """The text whole, or cut inside words that are too long; joined they are the text."""
    borders = [0, *(found.end() for found in _LONG_WORD.finditer(text)), len(text)]
    return [text[a:b] for a, b in pairwise(borders)]
