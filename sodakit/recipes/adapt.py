"""A model adapted to recordings of one's own: a voice, an accent, words, a language, from minutes with transcripts.

The folder is a run of `sodakit train` (the store of the recordings in `store/`), with `epochs.jsonl`, `best/` and
`report.html` of `epochs.py`, and `adapted.json`: the test recordings heard and said before and after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.checkpoint.about import About, write_about
from sodakit.checkpoint.contents import Checkpoint
from sodakit.checkpoint.load import load_checkpoint
from sodakit.checkpoint.shipped import replay_of
from sodakit.errors import ConfigError
from sodakit.eval.judges import Judge
from sodakit.eval.named import named
from sodakit.eval.results import plain_estimate
from sodakit.eval.speech import Case, score_transcription
from sodakit.eval.spoken_scores import likeness, mean_estimate, spoken_errors
from sodakit.eval.voiceprints import SpeakerJudge
from sodakit.eval.words import ItemErrors, WordErrors
from sodakit.files import write_json
from sodakit.generate.speech_model import SpeechModel, Spoken, VoiceSample
from sodakit.log import say
from sodakit.prepare.recording import Item
from sodakit.prepare.stages import prepare
from sodakit.recipes.adapt_config import AdaptSettings, adapt_config
from sodakit.recipes.adapt_report import write_adapt_report
from sodakit.recipes.demo import DemoSource, recordings
from sodakit.recipes.epochs import EpochReport, Row, held_out_losses, held_out_split
from sodakit.store.reader import StoreReader
from sodakit.tokens.spelling import spelling
from sodakit.train.config import TrainConfig
from sodakit.units import spread

PROMPT_S = 5.0
"""A voice is given by the training recording that lasts about as long."""


@dataclass(frozen=True)
class Said:
    """Sentences as a model says them."""

    spoken: list[Spoken]
    errors: WordErrors | None
    """By the judge; None where there is none."""
    alike: list[float | None]
    """How like each is to its original, by the speaker judge; None of what is no sound."""

    def plain(self) -> dict[str, Any]:
        """JSON-ready. A failed sentence is 0 alike."""
        return {
            "wer": None if self.errors is None else plain_estimate(self.errors.micro),
            "similarity": mean_estimate(self.alike, [str(n) for n in range(len(self.alike))], failed=0.0),
            "num_unended": sum(not s.ended for s in self.spoken),
            "num_failed": sum(not len(s.wave.samples_S) for s in self.spoken),
        }


@dataclass(frozen=True)
class Measured:
    """What a model makes of recordings: written down, said in their voice, and said in a voice of its own choice."""

    heard: WordErrors
    given: Said | None
    """In the voice of a training recording; None where no speaker has one."""
    free: Said

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "heard_wer": plain_estimate(self.heard.micro),
            "given": None if self.given is None else self.given.plain(),
            "free": self.free.plain(),
        }


@dataclass(frozen=True)
class Ears:
    """Who listens."""

    judge: Judge | None
    speakers: SpeakerJudge

    @property
    def names(self) -> dict[str, dict[str, str] | None]:
        """By role, name and fingerprint."""
        judge = None if self.judge is None else named(self.judge)
        return {"judge": judge, "speaker_judge": named(self.speakers)}


def measure(
    model: SpeechModel,
    cases: Sequence[Case],
    prompts: Mapping[str, VoiceSample],
    ears: Ears,
    settings: AdaptSettings,
) -> Measured:
    """The cases heard and said by a model."""
    voices = [prompts.get(case.speaker) for case in cases]
    return Measured(
        heard=score_transcription(model, cases),
        given=_said(model, cases, voices, ears, settings) if any(voices) else None,
        free=_said(model, cases, [None] * len(cases), ears, settings),
    )


def _said(
    model: SpeechModel,
    cases: Sequence[Case],
    voices: Sequence[VoiceSample | None],
    ears: Ears,
    settings: AdaptSettings,
) -> Said:
    texts = [case.text for case in cases]
    spoken = model.speak_many(texts, voices=voices, max_s=settings.max_s, seed=settings.seed, as_drawn=True)
    waves = [s.wave for s in spoken]
    errors = None if ears.judge is None else spoken_errors(ears.judge, texts, waves)
    return Said(spoken, errors, likeness(ears.speakers, waves, [case.original for case in cases]))


@dataclass
class UtteranceExam:
    """Held-out recordings are heard and said; epochs are ranked by their losses on them, which a few cases do not blur."""

    config: TrainConfig
    settings: AdaptSettings
    store: Path
    split: str
    cases: list[Case]
    prompts: Mapping[str, VoiceSample]
    ears: Ears
    about: About
    title: str
    _latest: Measured | None = field(default=None, repr=False)

    @property
    def listeners(self) -> Mapping[str, dict[str, str] | None]:
        """Who listens."""
        return self.ears.names

    def ask(self, model: SpeechModel, samples: Path) -> Row:
        """Losses on all that is held out; scores of some of it."""
        losses = held_out_losses(model.model, str(self.store), self.split, self.config)
        self._latest = made = measure(model, self.cases, self.prompts, self.ears, self.settings)
        rows = [{"text": item.reference, "heard": item.hypothesis} for item in made.heard.items]
        write_json(samples / "samples.json", rows)
        for number, spoken in enumerate((made.given or made.free).spoken):
            if len(spoken.wave.samples_S):
                write_wave(samples / f"speech_{number}.wav", spoken.wave)
        return {"losses": losses, "score": -sum(losses.values()), "scores": made.plain()}

    def rank(self, row: Row) -> tuple[float, ...]:
        """Nats of what is heard and of what is said, together."""
        return (row["score"],)

    def line(self, row: Row) -> str:
        """The epoch in a line."""
        scores = row["scores"]
        said = scores["given"] or scores["free"]
        parts = [f"epoch {row['epoch']:.0f}: heard with {scores['heard_wer']['value']:.0%} word errors"]
        if said["wer"]:
            parts.append(f"said with {said['wer']['value']:.0%}")
        if said["similarity"]:
            parts.append(f"voice {said['similarity']['value']:.2f}")
        parts += [f"{name} {value:.3f}" for name, value in row["losses"].items()]
        parts += [f"before {name} {value:.3f}" for name, value in row["base"].items()]
        return ", ".join(parts)

    def metrics(self, row: Row) -> dict[str, float]:
        """Its losses, and the words it hears wrong."""
        return {f"held_out/{name}": value for name, value in row["losses"].items()} | {
            "held_out/heard_wer": row["scores"]["heard_wer"]["value"]
        }

    def write_page(self, path: Path, rows: Sequence[Row]) -> None:
        """The page of all epochs, while there are more to come."""
        write_adapt_report(path, self.title, rows)

    def kept(self) -> tuple[dict[str, Any], About]:
        """What the adapted model says of itself."""
        return {}, self.about


@dataclass(frozen=True)
class Adaptation:
    """What is known before the first step: the model, the recordings, what becomes of them."""

    folder: Path
    settings: AdaptSettings
    base: SpeechModel
    checkpoint: Checkpoint
    source: DemoSource

    @property
    def store(self) -> Path:
        """Where the recordings' codes are."""
        return self.folder / "store"

    def warnings(self) -> list[str]:
        """What the model has not met: letters that its tokenizer does not have, languages that it was not trained on."""
        texts = [item.text for item in self.source.items if item.text and "variant_of" not in item.fields]
        lines = spelling(self.base.tokenizer, texts).lines()
        known = self.base.about.languages if self.base.about else ()
        new = sorted({i.language for i in self.source.items if i.language} - set(known))
        if known and new:
            lines.append(
                f"The recordings are in {', '.join(new)}; {self.base.name} was trained on {', '.join(known)}: it learns a "
                "language, not a voice alone. Give more recordings than for a voice, and look at the report."
            )
        if not self.settings.replay:
            lines.append(
                f"{self.base.name} brings nothing along of what it was trained on, and no --replay names a store: what it "
                "forgets is not counteracted, and not shown."
            )
        elif "validation" not in StoreReader(self.settings.replay).splits:
            lines.append(
                f"{self.settings.replay} holds nothing out for validation: it is replayed, but what the model forgets of it is "
                "not shown."
            )
        return lines

    def prepare(self) -> StoreReader:
        """The recordings as a store, with the model's codec and tokenizer.

        Raises:
            ConfigError: too few to train on and to hold out, or none with a transcript.
        """
        prepare(self.source.items, self.store, self.base.codec, self.source.options, self.base.tokenizer)
        reader = StoreReader(self.store, expect_codec=self.base.codec.spec.fingerprint)
        if missing := [split for split in ("train", "validation", "test") if split not in reader.splits]:
            raise ConfigError(
                f"No recording fell to {' and '.join(missing)}: the recordings are too few to hold some out. Give more of "
                "them, or a folder for the test with --test."
            )
        if not any(u.text for u in reader.utterances("train")):
            raise ConfigError("No training recording has a transcript, so there is nothing to learn from.")
        return reader

    def about(self) -> About:
        """What the adapted model says of itself."""
        own = [i for i in self.source.items if "variant_of" not in i.fields and not i.is_text]
        before = self.base.about or About(name=self.base.name)
        languages = sorted({i.language for i in own if i.language} | set(before.languages))
        return About(
            name=self.folder.resolve().name,
            summary=f"{self.base.name}, adapted to {len(own)} recordings",
            languages=tuple(languages),
            licence=before.licence,
            attribution=before.attribution,
            adapted_from=self.base.name,
            consent=self.settings.consent,
        )


def open_adaptation(
    model: Path | str,
    data: Path,
    folder: Path,
    settings: AdaptSettings,
    *,
    test: Path | None = None,
    codec: str | None = None,
    device: str | None = None,
) -> Adaptation:
    """The model and the recordings, read; nothing is written.

    Where the settings name no store to replay, what the model brings along is taken.

    Raises:
        CheckpointError: no such model.
        ConfigError: no recordings.
    """
    checkpoint = load_checkpoint(model)
    brought = replay_of(checkpoint.folder)
    if settings.replay is None and brought is not None:
        settings = replace(settings, replay=str(brought))
    base = SpeechModel.load(checkpoint.folder, codec=codec, device=device)
    base.name = checkpoint.name
    source = recordings(
        data,
        settings.seed,
        validation_fraction=settings.validation_fraction,
        test_fraction=settings.test_fraction,
        copies=settings.variants,
        test=test,
    )
    return Adaptation(folder, settings, base, checkpoint, source)


def adapt(
    adaptation: Adaptation,
    ears: Ears,
    config: TrainConfig | None = None,
    *,
    device: str | None = None,
    other_code: bool = False,
) -> Path:
    """Adapt, or resume, in the folder; the folder of the best epoch. The store is there (`Adaptation.prepare`).

    Args:
        adaptation: what to do.
        ears: who listens.
        config: the run; default: as `adapt_config` makes it.
        device: where it trains.
        other_code: resume a run that other code began.
    Raises:
        ConfigError: the folder belongs to another run.
    """
    settings, base, store = adaptation.settings, adaptation.base, adaptation.store
    config = config or adapt_config(settings, store, adaptation.checkpoint)
    reader, originals = StoreReader(store), {item.id: item for item in adaptation.source.items}
    prompts = voice_prompts(reader, originals, settings.consent)
    split = held_out_split(store)
    title = f"{adaptation.folder.resolve().name}: {base.name}, adapted"
    exam = UtteranceExam(
        config=config,
        settings=settings,
        store=store,
        split=split,
        cases=spread(cases_of(reader, split, originals, base), settings.report_cases),
        prompts=prompts,
        ears=ears,
        about=adaptation.about(),
        title=title,
    )
    report = EpochReport(config, adaptation.folder, base.codec, exam, settings.patience, settings.replay)
    report.begin(base)
    best = report.run(device=device, other_code=other_code)
    write_about(best, adaptation.about())  # a note of consent may come later
    cases = spread(cases_of(reader, "test", originals, base), settings.test_cases)
    after_model = SpeechModel.load(best, codec=base.codec, device=device)
    before = measure(base, cases, prompts, ears, settings)
    after = measure(after_model, cases, prompts, ears, settings)
    write_json(
        adaptation.folder / "adapted.json",
        {"cases": len(cases), **ears.names, "before": before.plain(), "after": after.plain()},
    )
    copies = [Wave(base.codec.decode(c.codes_KF), base.codec.spec.sample_rate_hz) for c in cases]
    write_adapt_report(
        adaptation.folder / "report.html", title, report.rows(), Heard(cases, copies, before, after, ears)
    )
    return best


@dataclass(frozen=True)
class Heard:
    """The test recordings before and after, to be heard."""

    cases: list[Case]
    copies: list[Wave]
    before: Measured
    after: Measured
    ears: Ears

    def errors(self, number: int, said: Said | None) -> ItemErrors | None:
        """What the judge heard in a sentence."""
        return None if said is None or said.errors is None else said.errors.items[number]


def cases_of(
    reader: StoreReader, split: str, originals: Mapping[str, Item], model: SpeechModel
) -> list[Case]:
    """The recordings of a split that have a transcript."""
    rate_hz = model.codec.spec.sample_rate_hz
    return [
        Case(u.id, u.text, u.speaker, originals[u.id].read(rate_hz), u.codes_KF)
        for u in reader.utterances(split)
        if u.text and u.codes_KF.shape[1]
    ]


def voice_prompts(
    reader: StoreReader, originals: Mapping[str, Item], consent: str | None
) -> dict[str, VoiceSample]:
    """A training recording of each speaker, to give their voice by."""
    prompts: dict[str, tuple[float, str]] = {}
    for u in reader.utterances("train"):
        if u.text and "variant_of" not in originals[u.id].fields:
            found = (abs(u.end_s - u.start_s - PROMPT_S), u.id)
            prompts[u.speaker] = min(prompts.get(u.speaker, found), found)
    return {
        speaker: VoiceSample(originals[name].read(), originals[name].text or "", consent)
        for speaker, (_, name) in prompts.items()
    }


def say_result(plain: Mapping[str, Any], folder: Path) -> None:
    """Before and after in a few lines."""
    for what, read in (
        ("word errors of what is heard", lambda row: row["heard_wer"]),
        ("word errors of what is said in the voice", lambda row: (row["given"] or row["free"])["wer"]),
        ("likeness of the voice", lambda row: (row["given"] or row["free"])["similarity"]),
    ):
        before, after = read(plain["before"]), read(plain["after"])
        if before and after:
            say(
                f"{what}: {before['value']:.3f} before, {after['value']:.3f} after "
                f"({after['low']:.3f} to {after['high']:.3f}, {plain['cases']} recordings)"
            )
    say(f"Before and after, to be heard: {folder / 'report.html'}")
