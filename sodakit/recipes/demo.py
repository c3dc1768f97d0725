"""What is set for `sodakit demo`: which speech it makes or reads, what is held out, and the run of minutes on a CPU.

The stages themselves are in street.py.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sodakit.data.config import DataConfig, SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.data.views import DocumentView
from sodakit.errors import AudioError
from sodakit.hardware import has_fast_bfloat16
from sodakit.log import track
from sodakit.model.any_config import Family, family_config
from sodakit.model.config import model_size
from sodakit.model.families import pattern_of
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.sources.voices import Reading, speak_readings
from sodakit.prepare.splits import SplitRule, assign_splits
from sodakit.prepare.variants import with_variants
from sodakit.store.reader import StoreReader
from sodakit.train.config import LossConfig, OptimConfig, ScheduleConfig, TrainConfig
from sodakit.voices.household import sentences
from sodakit.voices.names import find_voices, held_apart

ROWS = {"flat": (2048, 2), "depth": (512, 4), "delay": (512, 4)}
"""Positions of a row, about 20 seconds of speech or 35, and rows of a step, by family."""
MAX_STEPS = 1150
"""More would take longer than a demo should."""
MAX_PASSES = 8
"""More passes over a small set teach it by heart."""
ENOUGH_HOURS = 1.5
"""Less speech than this is also trained on in variants: begun later, spoken faster or slower."""
MAX_COPIES = 7
"""Variants of a recording at most: they are not new words."""

SHARES = (
    (ViewConfig(order="audio_first"), 0.27),
    (ViewConfig(order="text_first"), 0.38),
    (ViewConfig(order="audio_first", num_codebooks=1), 0.11),
    (ViewConfig(order="text_first", num_codebooks=1), 0.24),
)
"""How the one store is seen, and the share of the tokens for each view."""
LOSS = LossConfig(z_loss=1e-4, slot_softmax=True, kind_weights={"text": 5.0, "semantic": 6.0})
"""The ids that the grammar allows share the softmax; what is said weighs more than how it sounds."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """How large the default demo is."""

    train_sentences: int = 4000
    """Sentences to train on, each spoken once by one of the seen voices."""
    validation_sentences: int = 60
    """Sentences for the validation loss."""
    test_sentences: int = 100
    """Held-out sentences by seen voices."""
    unseen_voice_sentences: int = 60
    """Held-out sentences by voices never trained on."""
    voices: tuple[str, ...] = ("seen",)
    """Who speaks in training and test, as `voices/names.py` names them."""
    unseen_voices: tuple[str, ...] = ("unseen",)
    """Who else speaks in the test."""
    sentences_per_reading: int = 2
    """Sentences one voice reads in a row: one document, so that a voice sample can be followed."""
    seed: int = 0
    """Keys sentences, weights and data order."""


def household_readings(config: DemoConfig) -> list[Reading]:
    """Who says what: no sentence is in two splits, and the unseen voices are only in the test split."""
    seen, unseen = find_voices(config.voices), find_voices(config.unseen_voices)
    held_apart(seen, unseen)
    parts = (
        ("train", seen, config.train_sentences),
        ("validation", seen, config.validation_sentences),
        ("test", seen, config.test_sentences),
        ("test", unseen, config.unseen_voice_sentences),
    )
    texts = iter(sentences(sum(count for _, _, count in parts), config.seed))
    readings = []
    for split, voices, count in parts:
        taken = [next(texts) for _ in range(count)]
        for number, first in enumerate(range(0, count, config.sentences_per_reading)):
            together = tuple(taken[first : first + config.sentences_per_reading])
            readings.append(Reading(voices[number % len(voices)], together, split))
    return readings


def demo(store: Path, *, steps: int | None = None, seed: int = 0, family: Family = "flat") -> TrainConfig:
    """A 4M-parameter body on one store, both orders, with the demo's departures from the SODA recipe.

    They buy learning per minute on two cores and are named in the report: a third of the tokens are documents with
    the semantic codebook alone, eight times as much speech per token; more than half put the text first, because
    speaking is learnt later than listening; text and semantic tokens weigh more in the loss; the softmax is restricted to the
    ids that the grammar allows; the learning rate suits small batches.

    Args:
        store: made by `sodakit prepare`.
        steps: default: at most `MAX_STEPS`, fewer where that would be more than `MAX_PASSES` over the store.
        seed: keys weights and order.
        family: of models.
    """
    reader, vocabulary = open_language(store)
    context, batch_rows = ROWS[family]
    model = family_config(family, model_size("demo", vocabulary.size, context=context), vocabulary)
    sources = tuple(SourceConfig(store=str(store), weight=weight, view=view) for view, weight in SHARES)
    views = (DocumentView(reader, "train", view, vocabulary, pattern_of(model)) for view, _ in SHARES)
    positions = [view.num_positions for view in views]
    # A handful of recordings, seen through one codebook, may be shorter than a row.
    data = DataConfig(sources=sources, context=min(context, *positions), batch_rows=batch_rows, seed=seed)
    passes = MAX_PASSES * (positions[0] + positions[1])
    steps = steps or max(1, min(MAX_STEPS, round(passes / data.batch_positions)))
    return TrainConfig(
        model=model,
        data=data,
        steps=steps,
        precision="bfloat16" if has_fast_bfloat16() else "float32",
        optim=OptimConfig(beta1=0.95, beta2=0.98, weight_decay=0.1),
        schedule=ScheduleConfig(peak_lr=3e-3, warmup_fraction=0.05, decay_fraction=0.3),
        loss=LOSS,
        seed=seed,
        validation=(SourceConfig(store=str(store), split="validation"),)
        if "validation" in reader.splits
        else (),
        validate_every_steps=max(steps // 15, 1),
        listen_every_steps=max(steps // 3, 1),
        save_every_steps=max(steps // 6, 1),
        keep_checkpoints=1,
    )


@dataclass(frozen=True)
class DemoSource:
    """Where the recordings of a demo come from, and how they are held out."""

    title: str
    items: list[Item]
    options: PrepareOptions
    unseen_speakers: frozenset[str] = frozenset()

    @property
    def example(self) -> str:
        """A text to try."""
        return next((i.text for i in self.items if i.text), "")

    def describe(self, reader: StoreReader) -> str:
        """One line on what was trained on."""
        parts = reader.description["splits"]
        speakers = {i.speaker for i in self.items if i.speaker} - self.unseen_speakers
        variants = sum("variant_of" in i.fields for i in self.items)
        made = f" ({variants} of them variants of others)" if variants else ""
        return (
            f"{parts['train']['rows']} utterances{made}, {parts['train']['hours']:.2f} hours, {len(speakers)} voices; "
            f"{parts['test']['rows']} utterances held out for the test."
        )


def household(config: DemoConfig) -> DemoSource:
    """The default: household sentences by synthetic voices, made on the spot."""
    return DemoSource(
        "A model that listens and speaks",
        list(track(speak_readings(household_readings(config)), "speech")),
        PrepareOptions(split=SplitRule(by_field="split")),
        frozenset(voice.name for voice in find_voices(config.unseen_voices)),
    )


def recordings(
    folder: Path,
    seed: int = 0,
    *,
    validation_fraction: float = 0.03,
    test_fraction: float = 0.1,
    copies: int | None = None,
    test: Path | None = None,
) -> DemoSource:
    """Real recordings: a tenth of each speaker's is held out for the test; the rest, if little, is also heard in variants.

    Args:
        folder: in any layout that `sodakit prepare` reads.
        seed: of the splits and the variants.
        validation_fraction: share of each speaker's recordings for validation.
        test_fraction: share for the test, where it is no folder of its own.
        copies: variants of each recording; default: as many as make enough.
        test: recordings for the test.
    """
    items = list(open_folder(folder))
    rule = SplitRule(
        stratify=True,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction if test is None else 0.0,
        seed=seed,
    )
    placed = [
        replace(item, fields={**item.fields, "demo_split": split})
        for item, split in zip(items, assign_splits(items, rule), strict=True)
    ]
    train = [item for item in placed if item.fields["demo_split"] == "train"]
    held_out = [item for item in placed if item.fields["demo_split"] != "train"]
    if test is not None:
        held_out += [_of_test(item) for item in open_folder(test)]
    copies = num_copies(_hours_up_to(train, ENOUGH_HOURS)) if copies is None else copies
    everything = [*with_variants(train, copies, seed), *held_out]
    return DemoSource(
        f"A model of {folder.name}", everything, PrepareOptions(split=SplitRule(by_field="demo_split"))
    )


def _of_test(item: Item) -> Item:
    """An item of a folder for the test: two folders may name their items alike."""
    return replace(
        item,
        id=f"test/{item.id}",
        recording=f"test/{item.recording}",
        fields={**item.fields, "demo_split": "test"},
    )


def num_copies(hours: float) -> int:
    """Variants made of each training recording, so that there is enough to hear."""
    return 0 if hours <= 0 else min(MAX_COPIES, max(0, round(ENOUGH_HOURS / hours) - 1))


def _hours_up_to(items: list[Item], enough: float) -> float:
    """Hours of sound, counted until there are enough."""
    hours = 0.0
    for item in items:
        with suppress(AudioError):
            whole_s = item.sound_duration_s() if item.end_s is None else item.end_s
            hours += (whole_s - (item.start_s or 0.0)) / 3600
        if hours >= enough:
            break
    return hours


def notes(config: TrainConfig) -> list[str]:
    """What the report says of the training."""
    weights = ", ".join(f"{kind} ×{weight:g}" for kind, weight in config.loss.kind_weights.items())
    return [
        f"{config.model.backbone.layers} layers of width {config.model.backbone.width}, {config.steps} steps of {config.data.batch_positions:,} positions, "
        f"cautious AdamW, peak learning rate {config.schedule.peak_lr:g}, Warmup-Stable-Decay.",
        "Departures from the SODA recipe, to learn in minutes: a third of the tokens are documents with the semantic "
        f"codebook alone, more than half put the text first; loss weights ({weights or 'none'}); "
        f"softmax {'over the ids the grammar allows' if config.loss.slot_softmax else 'over all ids'}. "
        "Losses shown are unweighted nats per token.",
    ]
