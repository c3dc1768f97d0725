"""Translation as a service: what may be asked for, and the answer as words and chunks of sound."""

import math
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sodakit.generate.interpreter import Interpreter, Passage, longest_piece_s
from sodakit.generate.long_form import Piece, Segment
from sodakit.generate.plans import Plan
from sodakit.generate.stream import Chunk
from sodakit.generate.translate import Direction, Translator, Wanted
from sodakit.serve.problems import Problem
from sodakit.serve.recording import Recording
from sodakit.serve.service import Service, Timing
from sodakit.serve.worker import Finished, Ids, PieceEnded
from sodakit.tokens.tasks import PairSpan, in_tag

_LANGUAGE = re.compile(r"[A-Za-z]{1,8}([-_][A-Za-z0-9]{1,8}){0,3}")
_SIDES: dict[PairSpan, Literal["transcript", "translation"]] = {
    "source_text": "transcript",
    "target_text": "translation",
}


@dataclass(frozen=True)
class Words:
    """More of a text, or at the end the whole of it."""

    side: Literal["transcript", "translation"]
    text: str
    done: bool = False
    language: str = ""
    """Known at the end; '' where the model does not say."""

    def to_plain(self) -> dict[str, Any]:
        """What clients are told."""
        if not self.done:
            return {"type": f"{self.side}.text.delta", "delta": self.text}
        return {"type": f"{self.side}.text.done", "text": self.text, "language": self.language or None}


def translator_of(service: Service, makes: Literal["target_text", "target_speech"]) -> Translator:
    """Who translates.

    Raises:
        Problem: 501, the model does not translate, or not to what is asked for.
    """
    translator = service.translator
    if translator is None:
        message = (
            f"{service.name!r} does not translate: it was trained to write what it hears, in the language it hears. "
            "Use /v1/audio/transcriptions, or serve a model fine-tuned to translate."
        )
    elif makes in translator.task.answer:
        return translator
    elif makes == "target_text":
        message = (
            f"{service.name!r} speaks its translations and writes none. Use /v1/audio/speech_translations."
        )
    else:
        message = f"{service.name!r} writes its translations and speaks none. Use /v1/audio/translations."
    raise Problem(501, message, code="not_supported")


def languages(translator: Translator, to: str | None, source: str | None) -> tuple[str, str]:
    """The language to translate to, and that of the recording or ''. English, or the only one there is, by default.

    Raises:
        Problem: 400, what was not learnt, or cannot be chosen in this task.
    """
    if source and "source_text" not in translator.task.answer:
        raise _no_language(
            f"The task {translator.task.name!r} writes no source text, so it cannot be told the language of the "
            "recording. Leave 'from' out.",
            "from",
        )
    for name, language in (("to", to), ("from", source)):
        if language and not _LANGUAGE.fullmatch(language):
            raise _no_language(f"{language[:40]!r} is no language; needed: a code such as 'en'.", name)
    known = translator.directions
    if not known:
        return to or "en", source or ""
    targets = sorted({b for a, b in known if source in (None, "", a)})
    if not targets:
        raise _no_language(f"No translation from {source!r} here; learnt: {_listed(known)}.", "from")
    to = to or ("en" if "en" in targets else targets[0] if len(targets) == 1 else None)
    if to not in targets:
        asked = f"No translation to {to!r} here" if to else "Several languages are possible: name one as 'to'"
        raise _no_language(f"{asked}; learnt: {_listed(known)}.", "to")
    if "target_text" not in translator.task.answer and len(targets) > 1:
        raise _no_language(
            f"The task {translator.task.name!r} writes no target text, so it cannot be told which of {len(targets)} "
            "languages to speak. Serve a model fine-tuned on one, or on 's2st'.",
            "to",
        )
    return to, source or ""


def _listed(directions: tuple[Direction, ...]) -> str:
    return ", ".join(f"{source} to {to}" for source, to in directions)


def _no_language(message: str, param: str) -> Problem:
    return Problem(400, message, code="unsupported_language", param=param)


def abilities(service: Service) -> dict[str, Any] | None:
    """What `/v1/models` says: task and languages; None where the model does not translate."""
    translator = service.translator
    if translator is None:
        return None
    answer, known = translator.task.answer, translator.directions
    return {
        "task": translator.task.name,
        "writes_source": "source_text" in answer,
        "writes": "target_text" in answer,
        "speaks": "target_speech" in answer,
        "languages": [{"from": source, "to": to} for source, to in known] or None,
        "longest_piece_s": round(_piece_s(service, translator, Wanted()), 2),
    }


def _piece_s(service: Service, translator: Translator, wanted: Wanted) -> float:
    return min(longest_piece_s(translator, wanted), service.piece_s or math.inf)


async def interpret(
    service: Service, translator: Translator, recording: Recording, wanted: Wanted, timing: Timing
) -> AsyncGenerator[Words | Chunk | list[Passage]]:
    """The translation as it is made: words, chunks of sound; at the end both whole texts, and the passages.

    Raises:
        Problem: too many requests, or no answer in time.
    """
    interpreter: Interpreter

    def plan(pieces: list[Piece]) -> Plan[list[Passage]]:
        nonlocal interpreter
        interpreter = Interpreter(translator, pieces, wanted)
        return interpreter.plan()

    stream = service.stream()
    written = {
        span: _Written(translator, span, wanted) for span in translator.spans(wanted) if span in _SIDES
    }
    piece_s = _piece_s(service, translator, wanted)
    async with service.heard(recording, piece_s, plan) as (job, events):
        job.is_listened_to = wanted.spoken
        async for event in events:
            if isinstance(event, Ids | PieceEnded):
                span = interpreter.asked[event.piece]
                if span not in _SIDES:
                    for chunk in await service.sound_of(job, event, timing, stream):
                        yield chunk
                    continue
                if isinstance(event, PieceEnded):
                    timing.note("end" if event.completion.ended else "limit")
                if words := written[span].take(event):
                    yield words
            elif isinstance(event, Finished) and event.result is not None:
                for chunk in await service.rest(stream, timing):
                    yield chunk
                if interpreter.untranslated_s is not None:
                    timing.note("limit")
                for text in written.values():
                    yield text.whole()
                yield event.result


class _Written:
    """One text of the translation, in all pieces."""

    def __init__(self, translator: Translator, span: PairSpan, wanted: Wanted) -> None:
        self._translator, self._span, self._wanted = translator, span, wanted
        self._ids: list[int] = []
        self._before = self._told = self._language = ""

    def take(self, event: Ids | PieceEnded) -> Words | None:
        """What is new in the text, its language tag apart."""
        ended = isinstance(event, PieceEnded)
        self._ids = (
            event.completion.ids_T.tolist() if isinstance(event, PieceEnded) else self._ids + event.ids
        )
        language, text = self._translator.read(self._span, self._ids, self._wanted)
        self._language = self._language or language
        # Of a tag, and of a letter of several bytes (U+FFFD), the rest is still to come.
        if not ended and ((not language and in_tag(text)) or text.endswith("\ufffd")):
            return None
        new, self._told = (self._before + text)[len(self._told) :], self._before + text
        if ended:
            apart = "" if not self._told or self._told.endswith(" ") else " "
            self._ids, self._before = [], self._told + apart
        return Words(_SIDES[self._span], new) if new else None

    def whole(self) -> Words:
        """All of the text."""
        return Words(_SIDES[self._span], self._told.strip(), True, self._language)


async def passages(
    service: Service, translator: Translator, recording: Recording, wanted: Wanted, timing: Timing
) -> list[Passage]:
    """The whole translation."""
    found: list[Passage] = []
    async with aclosing(interpret(service, translator, recording, wanted, timing)) as parts:
        async for part in parts:
            found = part if isinstance(part, list) else found
    return found


def segments(service: Service, found: list[Passage]) -> list[Segment]:
    """The translation in the form of a transcript."""
    texts = [p.made.text.strip() for p in found]
    ids = [np.array(ids, np.int32) for ids in service.model.tokenizer.encode_batch(texts)]
    return [Segment(p.start_s, p.end_s, t, i) for p, t, i in zip(found, texts, ids, strict=True)]


def described(found: list[Passage]) -> dict[str, Any]:
    """What a translation knows and a transcript does not."""
    heard = next((p.made.source_language for p in found if p.made.source_language), None)
    return {
        "task": "translate",
        "source_text": " ".join(t for p in found if (t := p.made.source_text.strip())),
        "source_language": heard,
        "language": next((p.made.language for p in found if p.made.language), None),
    }
