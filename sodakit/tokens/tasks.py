"""What a pair of recordings is written as, one template for each task: the only thing a new task adds to training.

    s2st     BOS  source speech  <language>es</language>source text  <language>en</language>target text  target speech  EOS

The language tag is ordinary text in front of the transcript, as in the published fine-tuning (arXiv 2602.16687,
"method1"); the first spans of a template are given, the others are the answer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sodakit.errors import ConfigError, nearest
from sodakit.tokens.documents import Span, Speech, Text

PairSpan = Literal["source_speech", "source_text", "target_text", "target_speech"]

_TAGGED = re.compile(r"<language>([^<]*)</language>(.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task over pairs."""

    name: str
    """What configs and the command line call it."""
    spans: tuple[PairSpan, ...]
    """What stands in a document, in order."""
    num_given: int = 1
    """How many of the first spans are the question. The rest is the answer, which a loss may be confined to."""

    @property
    def speaks(self) -> bool:
        """Whether the answer holds speech."""
        return "target_speech" in self.spans[self.num_given :]

    @property
    def answer(self) -> tuple[PairSpan, ...]:
        """The spans that the model makes, in order."""
        return self.spans[self.num_given :]


@dataclass(frozen=True)
class Side:
    """One half of a pair."""

    codes_KF: np.ndarray
    tagged_ids_T: np.ndarray
    """Of `tagged(language, text)`."""


TASKS = {
    task.name: task
    for task in (
        Task(name="s2st", spans=("source_speech", "source_text", "target_text", "target_speech")),
        Task(name="s2st_no_source_text", spans=("source_speech", "target_text", "target_speech")),
        Task(name="s2st_direct", spans=("source_speech", "target_speech")),
        Task(name="s2tt", spans=("source_speech", "source_text", "target_text")),
        Task(name="s2tt_direct", spans=("source_speech", "target_text")),
    )
}
"""Speech-to-speech translation as published; without the source text; without any text; and speech to text."""


def task(name: str) -> Task:
    """The task of that name.

    Raises:
        ConfigError: no such task.
    """
    if name not in TASKS:
        raise ConfigError(f"No task {name!r}.{nearest(name, TASKS, 'Tasks')}")
    return TASKS[name]


def tagged(language: str, text: str) -> str:
    """The text as a document of pairs holds it: `<language>es</language>hola`."""
    return f"<language>{language}</language>{text}"


def open_tag(language: str) -> str:
    """What a prompt for a text in this language begins with.

    The closing `>` is left to the model: a tokenizer may have joined it to the first letters of the text, never to
    the word before it.
    """
    return f"<language>{language}</language"


def untagged(text: str) -> tuple[str, str]:
    """Language and text of a tagged text; language '' where there is no whole tag."""
    match = _TAGGED.fullmatch(text)
    return (match[1], match[2]) if match else ("", text)


def in_tag(text: str) -> bool:
    """Whether a text that is still being written may be a language tag that is not whole yet."""
    return text.startswith("<language>"[: len(text)]) and "</language>" not in text


def pair_spans(spans: Sequence[PairSpan], source: Side, target: Side) -> list[Span]:
    """Those spans of a pair."""
    sides = {"source": source, "target": target}
    made: list[Span] = []
    for span in spans:
        side = sides[span.split("_")[0]]
        made.append(Speech(side.codes_KF) if span.endswith("speech") else Text(side.tagged_ids_T))
    return made
