"""What the comparison of families is trained and measured on: three kinds of speech in fixed shares, one set of held-out rows.

    natural       neural and recorded-unit voices that read public sentences (Piper, Kokoro, flite)
    synthetic     the built-in voices of espeak-ng, other sentences
    recordings    people

Nothing held out is in a training store: sentences are divided before anybody reads them, and the people of `held_out` are heard
nowhere else. Its split `validation` is what losses are measured on, the same for all families; its split `test` is for
transcription and speech afterwards. Every store is made where it is missing, so a stop loses one part at most.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from sodakit.codec.contract import Codec
from sodakit.data.config import SourceConfig, ViewConfig
from sodakit.errors import ConfigError
from sodakit.log import say
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.sources.voices import Reading, speak_readings
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import prepare
from sodakit.recipes.study import REAL_HELD_OUT, REAL_TRAIN, public_sentences, readings, trained_tokenizer
from sodakit.store.reader import StoreReader
from sodakit.tokens.text import TextTokenizer
from sodakit.voices.contract import Voice
from sodakit.voices.names import find_voices

SHARES = {"natural": 0.4, "synthetic": 0.55, "recordings": 0.05}
"""Of the positions, so of the hours heard. More would repeat the hour of recordings too often."""
PART_SENTENCES = 1000
"""Of one store of made speech: about an hour and a half, which is what a stop loses."""
VALIDATION_SENTENCES, TEST_SENTENCES = 48, 96
"""Held out for each kind of made voices: four minutes for the losses, eight for what is transcribed and spoken."""
VALIDATION_CLIPS = 30
"""Recordings of held-out people for the losses, four minutes; the others are for test."""


@dataclass(frozen=True, kw_only=True)
class FamilyData:
    """How much of what there is to make."""

    natural: tuple[str, ...]
    """Voices, as `voices/names.py` names them: `piper:FOLDER`, `kokoro:FOLDER`, `flite`."""
    synthetic: tuple[str, ...] = ("seen",)
    """Voices."""
    natural_parts: int = 8
    """Stores of `PART_SENTENCES` sentences each."""
    synthetic_parts: int = 19
    """The same."""
    part_sentences: int = PART_SENTENCES
    """Sentences of a part."""


@dataclass(frozen=True)
class FamilyStores:
    """The stores of the comparison."""

    natural: tuple[Path, ...]
    synthetic: tuple[Path, ...]
    recordings: Path
    held_out: Path

    def sources(self, view: ViewConfig) -> tuple[SourceConfig, ...]:
        """The mixture: each kind's share, spread evenly over its stores."""
        kinds = {"natural": self.natural, "synthetic": self.synthetic, "recordings": (self.recordings,)}
        return tuple(
            SourceConfig(store=str(store), weight=SHARES[kind] / len(stores), view=view)
            for kind, stores in kinds.items()
            for store in stores
        )

    def hours(self) -> dict[str, float]:
        """Unique hours of sound to train on, by kind."""
        kinds = {"natural": self.natural, "synthetic": self.synthetic, "recordings": (self.recordings,)}
        return {kind: sum(_train_hours(store) for store in stores) for kind, stores in kinds.items()}


def family_stores(folder: Path, data: Path, codec: Codec, settings: FamilyData) -> FamilyStores:
    """The stores, made where they are missing.

    Args:
        folder: gets the tokenizer and a folder for each store.
        data: where sentences and recordings lie (docs/data.md).
    Raises:
        ConfigError: too few sentences, a voice in both kinds, or data that are not there.
    """
    voices = {"natural": find_voices(settings.natural), "synthetic": find_voices(settings.synthetic)}
    both = {v.name for v in voices["natural"]} & {v.name for v in voices["synthetic"]}
    if both:
        raise ConfigError(
            f"{', '.join(sorted(both))}: natural and synthetic at once. Name each voice in one kind."
        )
    counts = {"natural": settings.natural_parts, "synthetic": settings.synthetic_parts}
    held_out, trained = divided(data, counts, settings.part_sentences)
    tokenizer = trained_tokenizer(
        folder / "tokenizer", chain.from_iterable(chain.from_iterable(trained.values()))
    )
    made: dict[str, list[Path]] = {"natural": [], "synthetic": []}
    _held_out_store(folder / "held_out", data, codec, tokenizer, held_out, voices)
    for kind, parts in trained.items():
        for number, sentences in enumerate(parts):
            store = folder / f"{kind}_{number}"
            made[kind].append(store)
            if not (store / "store.json").exists():
                say(f"{kind}: part {number + 1} of {len(parts)}")
                items = list(speak_readings(readings(sentences, "train", voices[kind])))
                prepare(items, store, codec, _BY_FIELD, tokenizer)
    recordings = folder / "recordings"
    if not (recordings / "store.json").exists():
        items = list(chain.from_iterable(open_folder(data / name, name) for name in REAL_TRAIN))
        prepare(items, recordings, codec, _ALL_TRAIN, tokenizer)
    return FamilyStores(tuple(made["natural"]), tuple(made["synthetic"]), recordings, folder / "held_out")


_BY_FIELD = PrepareOptions(split=SplitRule(by_field="split"))
_ALL_TRAIN = PrepareOptions(split=SplitRule(rule=lambda _: "train"), max_failed_fraction=0.5)


def divided(
    data: Path, counts: dict[str, int], part_sentences: int
) -> tuple[dict[str, list[str]], dict[str, list[list[str]]]]:
    """Who reads which sentence: held-out ones by kind, and parts to train on by kind. No sentence is read twice.

    Raises:
        ConfigError: too few sentences.
    """
    sentences = public_sentences(data)
    per_kind = VALIDATION_SENTENCES + TEST_SENTENCES
    needed = len(counts) * per_kind + sum(counts.values()) * part_sentences
    if needed > len(sentences):
        raise ConfigError(
            f"{len(sentences)} sentences in {data}; needed: {needed}. Ask for fewer parts, or smaller ones."
        )
    # Evenly apart, so that both lists are held out from.
    stride = len(sentences) // (len(counts) * per_kind)
    aside = sentences[::stride][: len(counts) * per_kind]
    kept = iter([s for s in sentences if s not in set(aside)])
    held_out = {kind: aside[place :: len(counts)] for place, kind in enumerate(counts)}
    return held_out, {
        kind: [list(islice(kept, part_sentences)) for _ in range(count)] for kind, count in counts.items()
    }


def _held_out_store(
    store: Path,
    data: Path,
    codec: Codec,
    tokenizer: TextTokenizer,
    sentences: dict[str, list[str]],
    voices: Mapping[str, Sequence[Voice]],
) -> None:
    if (store / "store.json").exists():
        return
    spoken: list[Reading] = []
    for kind, said in sentences.items():
        spoken += readings(said[:VALIDATION_SENTENCES], "validation", voices[kind])
        spoken += readings(said[VALIDATION_SENTENCES:], "test", voices[kind])
    people = list(_people(data))
    prepare([*speak_readings(spoken), *people], store, codec, _BY_FIELD, tokenizer)


def _people(data: Path) -> Iterator[Item]:
    """Held-out recordings, of every speaker some in either split."""
    for number, item in enumerate(
        sorted(open_folder(data / REAL_HELD_OUT, REAL_HELD_OUT), key=lambda i: i.id)
    ):
        split = "validation" if number % 2 == 0 and number < 2 * VALIDATION_CLIPS else "test"
        yield replace(item, fields={**item.fields, "split": split})


def _train_hours(store: Path) -> float:
    return float(StoreReader(store).description["splits"].get("train", {}).get("hours", 0.0))
