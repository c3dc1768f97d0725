"""Spans as documents, and the prompt of each task. Training documents, prompts and scores agree here on one template."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sodakit.tokens.frames import codes_to_ids
from sodakit.tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class Speech:
    """An audio span."""

    codes_KF: np.ndarray


@dataclass(frozen=True)
class Text:
    """A transcript span."""

    ids_T: np.ndarray


Span = Speech | Text


@dataclass(frozen=True)
class Template:
    """How one vocabulary and number of codebooks write spans, documents and prompts."""

    vocabulary: Vocabulary
    num_codebooks: int

    def span(self, span: Span, *, opened: bool = False) -> np.ndarray:
        """int32 ids of a span between its markers; `opened` leaves the closing marker out."""
        v = self.vocabulary
        if isinstance(span, Speech):
            start, body, end = v.audio_start, codes_to_ids(span.codes_KF, v, self.num_codebooks), v.audio_end
        else:
            start, body, end = v.text_start, span.ids_T, v.text_end
        return np.concatenate([[start], body, [] if opened else [end]]).astype(np.int32)

    def document(self, spans: Sequence[Span]) -> np.ndarray:
        """BOS, every span between its markers, EOS."""
        v = self.vocabulary
        return np.concatenate([[v.bos], *(self.span(s) for s in spans), [v.eos]]).astype(np.int32)

    def plain_text(self, ids_T: np.ndarray) -> np.ndarray:
        """BOS, text without markers, EOS: how text-only sources are written."""
        return np.concatenate([[self.vocabulary.bos], ids_T, [self.vocabulary.eos]]).astype(np.int32)

    def prompt(self, spans: Sequence[Span], then: int) -> np.ndarray:
        """BOS, the spans, and the marker that opens the answer."""
        return np.concatenate([[self.vocabulary.bos], *(self.span(s) for s in spans), [then]]).astype(
            np.int32
        )

    def transcribe_prompt(self, codes_KF: np.ndarray) -> np.ndarray:
        """Speech, then an opened transcript. The answer ends with text_end."""
        return self.prompt([Speech(codes_KF)], self.vocabulary.text_start)

    def speak_prompt(self, text_ids_T: np.ndarray, voice: Sequence[Span] = ()) -> np.ndarray:
        """Text (after a reference transcript and its speech, to clone a voice), then opened speech: ends with audio_end."""
        return self.prompt([*voice, Text(text_ids_T)], self.vocabulary.audio_start)

    def continue_prompt(self, codes_KF: np.ndarray) -> np.ndarray:
        """Opened speech to go on with."""
        return np.concatenate([[self.vocabulary.bos], self.span(Speech(codes_KF), opened=True)]).astype(
            np.int32
        )

    def span_length(self, *, num_frames: int = 0, num_text_tokens: int | None = None) -> int:
        """Tokens of an audio span of `num_frames`, or of a transcript of `num_text_tokens`, with both markers."""
        body = num_frames * self.num_codebooks if num_text_tokens is None else num_text_tokens
        return body + 2
