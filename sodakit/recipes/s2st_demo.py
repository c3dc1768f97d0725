"""The experiment of `sodakit s2st_demo`: a small model taught to translate speech in the speaker's voice, and its baselines.

It learns to listen and speak in the languages asked for (by default English, Spanish and German); then the same
fine-tuning on spoken pairs starts from it, from it with replay, and from scratch, and a cascade of the model's own
parts stands beside. All speech is made by espeak-ng, whose voices keep their timbre across languages. Stores, judge and
models that are there are taken as they are, so the same command goes on after a stop; outputs and scores are made anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sodakit.codec.contract import Codec
from sodakit.data.language import open_language
from sodakit.eval.cascade import WordTable, cascade, learn_table
from sodakit.eval.judges import MAX_STEPS, CtcJudge, Judge, heard_texts, train_judge
from sodakit.eval.speech import Case, score_speaking, score_transcription
from sodakit.eval.translated import Heard, PairCase, bleu_difference, listen_to, scores_of, write_outputs
from sodakit.eval.voiceprints import SpeakerJudge, SpectralSpeaker
from sodakit.eval.words import WordErrors, normalise
from sodakit.files import atomic_folder, write_json
from sodakit.generate.speech_model import SpeechModel
from sodakit.generate.translate import Translator
from sodakit.model.any_config import Family, family_config
from sodakit.model.config import model_size
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.spoken_pairs import Dialogue, speak_pairs
from sodakit.prepare.sources.voices import Reading, speak_readings
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import prepare
from sodakit.recipes.demo import demo
from sodakit.recipes.finetune import finetune, pair_cases, translate_cases
from sodakit.recipes.finetune_config import FinetuneSettings, finetune_config
from sodakit.recipes.street import JUDGE_RECORDINGS, Stopwatch
from sodakit.store.reader import StoreReader
from sodakit.tokens.tasks import tagged
from sodakit.tokens.text import TextTokenizer, train_bpe
from sodakit.train.config import LossConfig, TrainConfig
from sodakit.train.trainer import train
from sodakit.units import spread
from sodakit.voices.names import find_voices, held_apart
from sodakit.voices.parallel import parallel_sentences

FINETUNED = ("pretrained", "pretrained, replay", "scratch")
"""The same fine-tuning from three beginnings."""
CASCADE = "cascade"


@dataclass(frozen=True, kw_only=True)
class S2stDemoConfig:
    """How large the experiment is. The defaults suit two CPU cores and an hour."""

    sources: tuple[str, ...] = ("es", "de")
    """Languages to translate from, of `voices/parallel.py`."""
    target: str = "en"
    """Language to translate to."""
    voices: tuple[str, ...] = ("seen",)
    """Who speaks in training, as `voices/names.py` names them; each must speak every language."""
    unseen_voices: tuple[str, ...] = ("unseen",)
    """Who else speaks in the test."""
    base_sentences: int = 1600
    """Sentences of each language to pretrain on, each spoken once."""
    held_out_sentences: int = 40
    """Sentences of each language for the validation, and as many for the test, of listening and speaking."""
    train_pairs: int = 800
    """Pairs of each source language to fine-tune on."""
    validation_pairs: int = 12
    """Pairs of each source language translated after each epoch."""
    test_pairs: int = 60
    """Pairs of each source language for the scores."""
    size: str = "demo"
    """Shape of the model."""
    family: Family = "flat"
    """Of models."""
    pretrain_steps: int = 1500
    """Steps of pretraining, of the demo's rows: 4,096 tokens of a flat model."""
    epochs: int = 3
    """Passes over the pairs."""
    peak_lr: float = 1.5e-3
    """Of fine-tuning: the published 2e-5 is for 600M parameters and tens of thousands of steps."""
    replay_fraction: float = 0.25
    """Share of the tokens of the run with replay that come from the pretraining store."""
    max_s: float = 8.0
    """Longest speech."""
    seed: int = 0
    """Keys sentences, weights and order."""


@dataclass(frozen=True)
class Texts:
    """Who is asked to say what: no sentence is in two parts, in any language."""

    readings: list[Reading]
    dialogues: list[Dialogue]


def make_texts(config: S2stDemoConfig) -> Texts:
    """The sentences of pretraining and of the pairs, with voices and splits.

    Test pairs are spoken by voices of the training and by unseen ones in turn.
    """
    seen, unseen = find_voices(config.voices), find_voices(config.unseen_voices)
    held_apart(seen, unseen)
    languages = (config.target, *config.sources)
    base = {
        "train": config.base_sentences,
        "validation": config.held_out_sentences,
        "test": config.held_out_sentences,
    }
    pairs = {"train": config.train_pairs, "validation": config.validation_pairs, "test": config.test_pairs}
    count = len(languages) * sum(base.values()) + len(config.sources) * sum(pairs.values())
    left = iter(parallel_sentences(count, config.seed))
    readings = [
        Reading(
            seen[n % len(seen)].in_language(language),
            (next(left).texts[language],),
            split,
            language,
        )
        for split, number in base.items()
        for language in languages
        for n in range(number)
    ]
    dialogues = [
        Dialogue(next(left), voices[n % len(voices)], source, config.target, split)
        for split, number in pairs.items()
        for voices in [(*seen, *unseen) if split == "test" else seen]
        for source in config.sources
        for n in range(number)
    ]
    return Texts(readings, dialogues)


@dataclass
class Experiment:
    """The stages and what they hand on."""

    config: S2stDemoConfig
    folder: Path
    codec: Codec
    stopwatch: Stopwatch
    listener: Judge | None = None
    """The recogniser named; None has one taught."""
    speakers: SpeakerJudge = field(default_factory=SpectralSpeaker)
    """Who tells voices apart."""
    results: dict[str, list[Heard]] = field(default_factory=dict)
    """Of each system, the test pairs translated."""
    base_scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of each model, listening and speaking by language."""
    other_code: bool = False
    """Resume runs that other code began."""

    @property
    def base(self) -> Path:
        """Store of pretraining."""
        return self.folder / "base_store"

    @property
    def pairs(self) -> Path:
        """Store of pairs."""
        return self.folder / "pair_store"

    @property
    def pretrained(self) -> Path:
        """Run of pretraining."""
        return self.folder / "pretrained"

    @cached_property
    def texts(self) -> Texts:
        """What is said."""
        return make_texts(self.config)

    @cached_property
    def base_items(self) -> list[Item]:
        """The recordings of pretraining; readings of two languages by one voice are told apart by their ids."""
        items = list(speak_readings(self.texts.readings))
        return [replace(i, id=f"{i.language}-{i.id}", recording=f"{i.language}-{i.recording}") for i in items]

    def finetuned(self, name: str) -> Path:
        """Run of a fine-tuning."""
        return self.folder / ("finetuned_" + name.replace(", ", "_"))

    @cached_property
    def judge(self) -> Judge:
        """The recogniser named, or one of all the languages, taught with original recordings."""
        return self.listener or CtcJudge.load(self.folder / "judge.safetensors")


def make_stores(experiment: Experiment) -> None:
    """Both stores, with one tokenizer that has seen language tags."""
    folder = experiment.folder / "tokenizer"
    texts, options = experiment.texts, PrepareOptions(split=SplitRule(by_field="split"))
    if not folder.exists():
        train_texts = [
            tagged(r.language, s) for r in texts.readings if r.split == "train" for s in r.sentences
        ]
        with atomic_folder(folder) as temporary:
            train_bpe(train_texts, options.text_vocab_size).save(temporary)
    tokenizer = TextTokenizer.load(folder)
    with experiment.stopwatch.stage("Make speech and encode it"):
        for store, items in (
            (experiment.base, lambda: experiment.base_items),
            (experiment.pairs, lambda: list(speak_pairs(texts.dialogues))),
        ):
            if not (store / "store.json").exists():
                prepare(items(), store, experiment.codec, options, tokenizer)


def teach_judge(experiment: Experiment) -> None:
    """Teach the judge with original recordings of pretraining, of all languages, unless one is named."""
    if experiment.listener is not None:
        return
    path = experiment.folder / "judge.safetensors"
    with experiment.stopwatch.stage("Teach the judge"):
        if not path.exists():
            items = [i for i in experiment.base_items if i.fields["split"] == "train"]
            items = spread(items, JUDGE_RECORDINGS)
            # One language has the words of three to learn.
            train_judge(
                [i.read(16_000) for i in items], [i.text or "" for i in items], max_steps=2 * MAX_STEPS
            ).save(path)


def pretrain(experiment: Experiment) -> None:
    """The model of all languages: the demo's recipe on the base store."""
    config = experiment.config
    with experiment.stopwatch.stage("Pretrain"):
        train(
            pretrain_config(experiment.base, config),
            experiment.pretrained,
            other_code=experiment.other_code,
        )


def pretrain_config(store: Path, config: S2stDemoConfig) -> TrainConfig:
    """The demo's recipe, for a model of `config.size`."""
    made = demo(store, steps=config.pretrain_steps, seed=config.seed, family=config.family)
    shape = model_size(config.size, made.model.vocab_size, context=made.model.context)
    model = family_config(config.family, shape, open_language(store)[1])
    return replace(made, model=model, listen_every_steps=None)


def finetune_settings(experiment: Experiment, name: str) -> FinetuneSettings:
    """The same settings from each beginning, with replay in one."""
    config = experiment.config
    weights = {"text": 4.0, "semantic": 6.0}
    return FinetuneSettings(
        epochs=config.epochs,
        patience=config.epochs,  # equal steps for all, so that they can be compared
        batch_rows=2,
        peak_lr=config.peak_lr,
        loss=LossConfig(z_loss=1e-4, slot_softmax=True, kind_weights=weights),
        base=str(experiment.base),
        replay_fraction=config.replay_fraction if "replay" in name else 0.0,
        report_cases=config.validation_pairs * len(config.sources),
        max_s=config.max_s,
        seed=config.seed,
    )


def finetune_all(experiment: Experiment) -> None:
    """The same fine-tuning from the pretrained model, with replay, and from scratch."""
    for name in FINETUNED:
        settings = finetune_settings(experiment, name)
        init = None if name == "scratch" else experiment.pretrained
        shape = pretrain_config(experiment.base, experiment.config).model
        config = finetune_config(settings, experiment.pairs, init, shape)
        # With replay an epoch has more steps, so that the pairs are seen as often.
        with experiment.stopwatch.stage(f"Fine-tune: {name}"):
            finetune(
                config,
                settings,
                experiment.finetuned(name),
                experiment.codec,
                experiment.judge,
                experiment.speakers,
                other_code=experiment.other_code,
            )


def measure(experiment: Experiment) -> dict[str, Any]:
    """Translate the test pairs with every system and write `scores.json`."""
    config, codec = experiment.config, experiment.codec
    cases = pair_cases(experiment.pairs, "test", "s2st", codec)
    speakers = experiment.speakers
    with experiment.stopwatch.stage("Translate the test pairs"):
        for name in FINETUNED:
            translator = Translator.load(experiment.finetuned(name), codec=codec)
            experiment.results[name] = translate_cases(
                translator, cases, experiment.judge, speakers, max_s=config.max_s, seed=config.seed
            )
        model = SpeechModel.load(experiment.pretrained, codec=codec)
        made = cascade(model, word_tables(experiment), cases, max_s=config.max_s, seed=config.seed)
        experiment.results[CASCADE] = listen_to(cases, made, experiment.judge, speakers)
        for name, results in experiment.results.items():
            write_outputs(results, experiment.folder / "outputs" / name.replace(", ", "_"))
    with experiment.stopwatch.stage("What it cost on listening and speaking"):
        for name, run in (
            ("before", experiment.pretrained),
            *((n, experiment.finetuned(n)) for n in FINETUNED if n != "scratch"),
        ):
            experiment.base_scores[name] = score_base(experiment, SpeechModel.load(run, codec=codec))
    plain = plain_scores(experiment, cases)
    write_json(experiment.folder / "scores.json", plain)
    return plain


def word_tables(experiment: Experiment) -> dict[str, WordTable]:
    """What the sentences of the training pairs teach a dictionary."""
    pairs: dict[str, list[tuple[str, str]]] = {}
    for d in experiment.texts.dialogues:
        if d.split == "train":
            pairs.setdefault(f"{d.source}-{d.target}", []).append(
                (d.text.texts[d.source], d.text.texts[d.target])
            )
    return {name: learn_table(texts) for name, texts in pairs.items()}


def score_base(experiment: Experiment, model: SpeechModel) -> dict[str, Any]:
    """Word errors of transcribing and of speaking the base test set, by language."""
    utterances = [u for u in StoreReader(experiment.base).utterances("test") if u.text]
    originals = {i.id: i for i in experiment.base_items}
    rate_hz = experiment.codec.spec.sample_rate_hz
    scores = {}
    for language in sorted({u.language for u in utterances}):
        cases = [
            Case(u.id, u.text or "", u.speaker, originals[u.id].read(rate_hz), u.codes_KF)
            for u in utterances
            if u.language == language
        ]
        speaking = score_speaking(model, cases, experiment.judge, max_s=experiment.config.max_s)
        scores[language] = {
            "transcription": _plain_errors(score_transcription(model, cases)),
            "speaking": _plain_errors(speaking.heard),
            "judge_on_originals": _plain_errors(speaking.heard_original),
            "unended": speaking.num_unended,
        }
    return scores


def plain_scores(experiment: Experiment, cases: Sequence[PairCase]) -> dict[str, Any]:
    """Everything measured, JSON-ready."""
    results = experiment.results
    references = heard_texts(experiment.judge, [case.spoken_reference for case in cases])
    own = [
        replace(r, heard=normalise(text or ""))
        for r, text in zip(results["pretrained"], references, strict=True)
    ]
    return {
        "systems": {name: scores_of(heard) for name, heard in results.items()},
        "judge_on_spoken_references": scores_of(own)["all"]["asr_bleu"],
        "differences": {
            f"pretrained − {other}": vars(bleu_difference(results["pretrained"], results[other]))
            for other in ("scratch", CASCADE, "pretrained, replay")
        },
        "base": experiment.base_scores,
        "judge": experiment.judge.name,
        "speaker_judge": experiment.speakers.name,
        "seconds": experiment.stopwatch.seconds,
    }


def _plain_errors(errors: WordErrors) -> dict[str, Any]:
    return {"wer": errors.wer, "low": errors.interval[0], "high": errors.interval[1]}


def run(
    config: S2stDemoConfig,
    folder: Path,
    codec: Codec,
    judge: Judge | None = None,
    speakers: SpeakerJudge | None = None,
    *,
    other_code: bool = False,
) -> tuple[Experiment, dict[str, Any]]:
    """The whole experiment; what was measured.

    Args:
        judge: who listens; None has one taught with the recordings of pretraining.
        speakers: who tells voices apart; None for the spectral voice print.
        other_code: resume runs that other code began.
    """
    experiment = Experiment(
        config,
        folder,
        codec,
        Stopwatch(folder / "stages.json"),
        judge,
        speakers or SpectralSpeaker(),
        other_code=other_code,
    )
    make_stores(experiment)
    teach_judge(experiment)
    pretrain(experiment)
    finetune_all(experiment)
    return experiment, measure(experiment)
