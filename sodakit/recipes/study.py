"""A scaling study that two CPU cores can do: its data, its sweep, and the run that is predicted before it is trained.

Speech is made and found: hours of built-in voices that read public sentences, and an hour of recordings, of which those
of LibriSpeech test-other (six speakers heard nowhere else) are held out. Tokens are those of the paper: semantic,
acoustic and text, both orders. The protocol and its reasons: docs/studies/cpu_scaling.md.
"""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from sodakit.codec.contract import Codec
from sodakit.data.config import SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.errors import ConfigError
from sodakit.files import atomic_folder, read_json_lines
from sodakit.log import say
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.sources.voices import Reading, speak_readings
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import prepare
from sodakit.recipes.isoflop import isoflop
from sodakit.scaling.design import GridRule, isoflop_grid, point_at
from sodakit.scaling.point import DesignPoint
from sodakit.tokens.text import TextTokenizer, train_bpe
from sodakit.train.config import TrainConfig
from sodakit.voices.catalogue import SEEN_VOICES
from sodakit.voices.contract import Voice
from sodakit.voices.names import find_voices

CONTEXT = 1024
"""Tokens of a row, ten seconds of speech."""
SWEEP: dict[float, tuple[int, ...]] = {
    1e13: (64, 80, 96, 128, 160, 192),
    3e13: (64, 80, 96, 128, 160, 192),
    1e14: (80, 96, 128, 160, 256),
    3e14: (128, 160, 192, 256),
}
"""Training FLOPs → widths: 30-fold in compute, and 3- to 5-fold in parameters at each budget."""
REPEATED_WIDTHS, REPEATED_SEEDS = (80, 128, 192), (1, 2)
"""Repeats at the lowest budget: they measure the noise, which decides how sure the fit can be."""
PREDICTED = (9.1e14, 256)
"""Budget and width of the run that is predicted first: 3.03 times the largest budget of the sweep."""
REAL_TRAIN = ("librispeech_clean100", "ljspeech", "vctk", "wakewords", "fsdd")
REAL_HELD_OUT = "librispeech_test_other"
SENTENCES = ("tts_sentences/ljspeech_texts.jsonl.gz", "tts_sentences/vctk_unique_sentences.jsonl.gz")
REAL_SHARE = 0.05
"""Share of the tokens that are of real recordings: more would repeat their hour too often."""
HELD_OUT_SENTENCES = 120
SENTENCES_PER_READING = 2
SENTENCES_PER_PART = 3500
"""Of one store; made speech is kept in memory until it is encoded."""
TEXT_IDS = 512
BOOK_CHARACTERS = 12_000_000
"""Plain text for the text-ratio ablation, about five million tokens."""


@dataclass(frozen=True)
class StudyStores:
    """The stores of a study."""

    made: tuple[Path, ...]
    """Made speech, in parts; the first holds the held-out sentences."""
    real: Path
    """Recordings; its validation split is test-other."""
    books: Path
    """Plain text."""


def study_rule(vocab_size: int) -> GridRule:
    """The paper's rule in small: short rows, small batches, and exact FLOPs."""
    return GridRule(
        vocab_size=vocab_size,
        context=CONTEXT,
        reference_steps=2400,
        min_batch_rows=1,
        raise_to_min=True,
        flops="exact",
        tolerance=0.02,
    )


def study_design(vocab_size: int) -> list[DesignPoint]:
    """The runs of the sweep.

    Raises:
        ConfigError: the rule leaves out one of them.
    """
    rule = study_rule(vocab_size)
    points = []
    for budget, widths in SWEEP.items():
        for width in widths:
            repeated = budget == min(SWEEP) and width in REPEATED_WIDTHS
            seeds = (0, *REPEATED_SEEDS) if repeated else (0,)
            points += isoflop_grid([budget], [width], rule=rule, seeds=seeds)
    return points


def predicted_point(vocab_size: int) -> DesignPoint:
    """The run beyond the sweep.

    Raises:
        ConfigError: the rule leaves it out.
    """
    point = point_at(*PREDICTED, study_rule(vocab_size), source="target")
    if point is None:
        raise ConfigError(
            f"The rule has no run of width {PREDICTED[1]} at {PREDICTED[0]:.1g} FLOPs. Change PREDICTED."
        )
    return point


def study_run(
    point: DesignPoint,
    stores: StudyStores,
    *,
    view: ViewConfig | None = None,
    real_share: float = REAL_SHARE,
    text_share: float = 0.0,
) -> TrainConfig:
    """A run on made and real speech, validated on the held-out sentences and speakers, half and half.

    Args:
        view: how speech is written as documents; validation is written in the same way.
        real_share: of the speech tokens.
        text_share: of all tokens, plain text.
    """
    view = view or ViewConfig()
    speech = 1 - text_share
    sources = [(path, speech * (1 - real_share) / len(stores.made), view) for path in stores.made]
    sources += [(stores.real, speech * real_share, view), (stores.books, text_share, ViewConfig())]
    kept = [(path, weight, how) for path, weight, how in sources if weight > 0]
    config = isoflop(point, [stores.made[0]])
    return replace(
        config,
        data=replace(
            config.data,
            sources=tuple(SourceConfig(store=str(path), weight=w, view=how) for path, w, how in kept),
        ),
        validation=tuple(
            SourceConfig(store=str(path), view=view, split="validation")
            for path in (stores.made[0], stores.real)
        ),
        validation_rows=128,
    )


def study_stores(
    folder: Path,
    data: Path,
    codec: Codec,
    parts: int | None = None,
    voices: Sequence[str] = ("seen",),
) -> StudyStores:
    """The stores of a study, made where they are missing.

    Args:
        folder: gets the tokenizer and a folder for each store.
        data: where the recordings, sentences and books lie.
        parts: stores of made speech at most, to try things out; all sentences by default.
        voices: who speaks, as `voices/names.py` names them.
    """
    made = sentence_parts(data, find_voices(voices))[:parts]
    tokenizer = trained_tokenizer(
        folder / "tokenizer", (s for part in made for reading in part for s in reading.sentences)
    )
    by_field = PrepareOptions(split=SplitRule(by_field="split"))
    folders = []
    for number, readings in enumerate(made):
        store = folder / f"made_{number}"
        if not (store / "store.json").exists():
            say(f"Speech and codes, part {number + 1} of {len(made)}")
            prepare(list(speak_readings(readings)), store, codec, by_field, tokenizer)
        folders.append(store)
    held_out = PrepareOptions(split=SplitRule(rule=_real_split), max_failed_fraction=0.5)
    if not (folder / "real" / "store.json").exists():
        prepare(list(real_items(data)), folder / "real", codec, held_out, tokenizer)
    if not (folder / "books" / "store.json").exists():
        train_only = PrepareOptions(split=SplitRule(validation_fraction=0.0, test_fraction=0.0))
        prepare(list(book_items(data / "books_en")), folder / "books", codec, train_only, tokenizer)
    return StudyStores(tuple(folders), folder / "real", folder / "books")


def real_items(data: Path) -> Iterator[Item]:
    """The recordings. Each is of the source its folder is called, which may be a link to a corpus of another name."""
    return chain.from_iterable(open_folder(data / name, name) for name in (*REAL_TRAIN, REAL_HELD_OUT))


def sentence_parts(data: Path, voices: Sequence[Voice] = SEEN_VOICES) -> list[list[Reading]]:
    """Who reads what, in parts: the voices in turn; the held-out sentences open the first part."""
    sentences = public_sentences(data)
    # Evenly apart, so that both lists are held out from.
    stride = max(len(sentences) // HELD_OUT_SENTENCES, 2)
    held_out = sentences[::stride][:HELD_OUT_SENTENCES]
    kept = set(held_out)
    train = [s for s in sentences if s not in kept]
    parts = []
    for first in range(0, len(train), SENTENCES_PER_PART):
        part = readings(train[first : first + SENTENCES_PER_PART], "train", voices)
        parts.append(readings(held_out, "validation", voices) + part if first == 0 else part)
    return parts


def public_sentences(data: Path) -> list[str]:
    """Every sentence of `SENTENCES` once, in order.

    Raises:
        ConfigError: a list that is not there, or a row without text.
    """
    return list(dict.fromkeys(s for name in SENTENCES for s in _sentences(data / name)))


def readings(sentences: Sequence[str], split: str, voices: Sequence[Voice]) -> list[Reading]:
    """`SENTENCES_PER_READING` sentences a sitting, the voices in turn."""
    groups = [
        tuple(sentences[i : i + SENTENCES_PER_READING])
        for i in range(0, len(sentences), SENTENCES_PER_READING)
    ]
    return [Reading(voices[n % len(voices)], group, split) for n, group in enumerate(groups)]


def _sentences(path: Path) -> Iterator[str]:
    if not path.exists():
        raise ConfigError(
            f"{path} does not exist. --data names the folder that holds {', '.join(SENTENCES)}."
        )
    for number, row in enumerate(read_json_lines(path, ours=False), start=1):
        if not isinstance(row.get("text"), str):
            raise ConfigError(f"{path}, row {number}, has no text. Needed: JSON lines with `text`.")
        yield row["text"]


def trained_tokenizer(folder: Path, sentences: Iterable[str]) -> TextTokenizer:
    """The text tokenizer of a study, trained on these sentences where it is missing."""
    if not folder.exists():
        with atomic_folder(folder) as temporary:
            train_bpe(sentences, TEXT_IDS).save(temporary)
    return TextTokenizer.load(folder)


def _real_split(item: Item) -> str:
    return "validation" if item.source == REAL_HELD_OUT else "train"


def book_items(folder: Path, characters: int = BOOK_CHARACTERS) -> Iterator[Item]:
    """Paragraphs of the books, in turn from each, until there are so many characters."""
    paths = sorted((folder / "text").glob("*.txt.gz"))
    share = characters // max(len(paths), 1)
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as text:
            used = 0
            for number, paragraph in enumerate(text.read().split("\n\n")):
                words = " ".join(paragraph.split())
                if not 80 <= len(words) <= 2000:
                    continue
                if (used := used + len(words)) > share:
                    break
                yield Item(id=f"{path.stem}/{number}", text=words, language="en", source="books")


def vocabulary_size(stores: StudyStores) -> int:
    """V of the study."""
    return open_language(stores.made[0])[1].size
