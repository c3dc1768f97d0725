"""Fine-tuning on a task of pairs: the published settings, a safety report after each epoch, and the best epoch kept.

A run folder of `sodakit train` with three things more: `epochs.jsonl` (a row of the safety report for each epoch),
`best/` (the checkpoint of the best epoch, plain weights) and `report.html`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sodakit.audio.wave import Wave
from sodakit.checkpoint.load import load_checkpoint
from sodakit.checkpoint.save import save_checkpoint
from sodakit.codec.contract import Codec
from sodakit.config import to_plain
from sodakit.data.config import DataConfig, SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.data.loader import open_stream
from sodakit.data.pairs import PairView
from sodakit.errors import CheckpointError, ConfigError
from sodakit.eval.hub import named
from sodakit.eval.judges import Judge
from sodakit.eval.translated import Heard, PairCase, listen_to, scores_of, write_outputs
from sodakit.eval.voiceprints import SpeakerJudge
from sodakit.files import read_json_lines, write_json_lines
from sodakit.generate.speech_model import SpeechModel
from sodakit.generate.translate import Translator
from sodakit.hardware import has_fast_bfloat16
from sodakit.log import say
from sodakit.model.config import ModelConfig, model_size
from sodakit.model.lora import merge_adapters
from sodakit.model.transformer import Transformer
from sodakit.recipes.finetune_report import write_epochs_report
from sodakit.store.reader import StoreReader
from sodakit.tokens.tasks import task
from sodakit.tokens.text import TextTokenizer
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.train.config import LoraConfig, LossConfig, OptimConfig, ScheduleConfig, TrainConfig
from sodakit.train.objective import LossVector, Objective
from sodakit.train.trainer import train
from sodakit.train.validate import Validation

PUBLISHED_OPTIM = OptimConfig(beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01, clip_norm=1.0)
"""Of the published S2ST fine-tuning (arXiv 2602.16687 and its public scripts)."""


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """What to fine-tune on what. The defaults are the published settings."""

    task: str = "s2st"
    """A task of `tokens/tasks.py`."""
    epochs: int = 5
    """Passes over the pairs, at most."""
    patience: int = 2
    """Stop after this many epochs without a better score."""
    batch_rows: int = 64
    """Rows in a step."""
    peak_lr: float = 2e-5
    """Learning rate; adapters want about ten times as much."""
    given_spans: int | None = None
    """Spans without loss: None for the question of the task, 0 for a loss on the whole sequence."""
    lora: LoraConfig | None = None
    """Train adapters; None for all weights."""
    loss: LossConfig = LossConfig(z_loss=1e-4)
    """The loss; `given_spans` is set from above."""
    base: str | None = None
    """Store of what the model was pretrained on: for the report of what is lost, and for replay."""
    replay_fraction: float = 0.0
    """Share of the tokens that come from `base`."""
    report_cases: int = 24
    """Validation pairs translated after each epoch."""
    max_s: float = 12.0
    """Longest translation that is made for the report."""
    context: int | None = None
    """Tokens of a row; None for the model's."""
    seed: int = 0
    """Of order, adapters and sounds."""

    def __post_init__(self) -> None:
        task(self.task)
        if not 0 <= self.replay_fraction < 1 or (self.replay_fraction and not self.base):
            raise ConfigError(
                f"replay_fraction={self.replay_fraction} with base={self.base}; needed: a share under 1, and a store to "
                "replay. Name it with --base."
            )


def finetune_config(
    settings: FinetuneSettings, pairs: Path, init: Path | None, size: str | ModelConfig = "demo"
) -> TrainConfig:
    """The run: cosine to a tenth after 3 % warm-up, over `epochs` passes of packed pairs.

    Args:
        settings: what to do.
        pairs: store of pairs, encoded with the tokenizer and codec of the model.
        init: checkpoint or run folder to start from, ours or imported; None for weights from scratch.
        size: shape of a model from scratch.
    Raises:
        ConfigError: the store is of another vocabulary than the model.
    """
    _, vocabulary = open_language(pairs)
    model = _shape(init, size, vocabulary, pairs)
    context = min(settings.context or model.context, model.context)
    source = SourceConfig(
        store=str(pairs), weight=1 - settings.replay_fraction, view=ViewConfig(task=settings.task)
    )
    sources = [source]
    if settings.base and settings.replay_fraction:
        sources.append(SourceConfig(store=settings.base, weight=settings.replay_fraction))
    steps = epoch_steps(settings, source, vocabulary, context)
    given = task(settings.task).num_given if settings.given_spans is None else settings.given_spans
    held_out = "validation" in StoreReader(pairs).splits
    return TrainConfig(
        model=model,
        data=DataConfig(
            sources=tuple(sources), context=context, batch_rows=settings.batch_rows, seed=settings.seed
        ),
        steps=settings.epochs * steps,
        optim=PUBLISHED_OPTIM,
        schedule=ScheduleConfig(
            peak_lr=settings.peak_lr,
            warmup_fraction=0.03,
            decay_fraction=0.97,
            decay_shape="cosine",
            final_fraction=0.1,
        ),
        loss=replace(settings.loss, given_spans=given),
        precision="bfloat16" if has_fast_bfloat16() else "float32",
        seed=settings.seed,
        lora=settings.lora,
        init_from=None if init is None else str(_checkpoint_folder(init)),
        validation=(replace(source, split="validation"),) if held_out else (),
        validate_every_steps=steps,
        listen_every_steps=steps,
        save_every_steps=max(1, steps // 2),
        keep_checkpoints=1,
    )


def epoch_steps(
    settings: FinetuneSettings, source: SourceConfig, vocabulary: Vocabulary, context: int
) -> int:
    """Steps of one pass over the pairs."""
    windows = open_stream(source, vocabulary, context, settings.seed).num_windows
    return ceil(windows / (settings.batch_rows * (1 - settings.replay_fraction)))


def _checkpoint_folder(init: Path) -> Path:
    inner = Path(init) / "checkpoints"
    return load_checkpoint(inner if inner.is_dir() else init).folder


def _shape(init: Path | None, size: str | ModelConfig, vocabulary: Vocabulary, pairs: Path) -> ModelConfig:
    if init is None:
        return size if isinstance(size, ModelConfig) else model_size(size, vocabulary.size, context=2048)
    checkpoint = load_checkpoint(_checkpoint_folder(init))
    if checkpoint.vocabulary_folder is None:
        raise CheckpointError(
            f"{init} was saved without its vocabulary; needed: one written by `sodakit train`."
        )
    known = Vocabulary.load(checkpoint.vocabulary_folder)
    if replace(known, tokenizer_fingerprint=vocabulary.tokenizer_fingerprint) != vocabulary or (
        known.tokenizer_fingerprint not in ("", vocabulary.tokenizer_fingerprint)
    ):
        raise ConfigError(
            f"{pairs} was prepared with another tokenizer or codec than {init} was trained with. Prepare it again: "
            f"sodakit prepare … --tokenizer {checkpoint.vocabulary_folder} --codec {(checkpoint.codec or {}).get('name')}"
        )
    return checkpoint.model_config


def pair_cases(
    store: Path, split: str, task_name: str, codec: Codec, most: int | None = None
) -> list[PairCase]:
    """The pairs of a split to be translated, spread evenly over it. Sounds are the codec's copies: what the model hears."""
    reader, vocabulary = open_language(store)
    view = PairView(reader, split, task_name, vocabulary)
    step = max(1.0, len(view) / (most or len(view)))
    chosen = [view.pairs[int(n * step)] for n in range(min(len(view), most or len(view)))]
    rate_hz = codec.spec.sample_rate_hz
    cases = []
    for first, second in chosen:
        source, target = view.utterances[first], view.utterances[second]
        cases.append(
            PairCase(
                id=source.recording,
                source_language=source.language,
                target_language=target.language,
                source_text=source.text or "",
                reference=target.text or "",
                speaker=source.speaker,
                source=Wave(codec.decode(source.codes_KF), rate_hz),
                codes_KF=np.array(source.codes_KF),
                spoken_reference=Wave(codec.decode(target.codes_KF), rate_hz),
            )
        )
    return cases


def directions(store: Path, task_name: str) -> list[tuple[str, str]]:
    """The languages (from, to) of the pairs trained on, for whoever serves the model."""
    reader, vocabulary = open_language(store)
    view = PairView(reader, "train", task_name, vocabulary)
    languages = [(view.utterances[a].language, view.utterances[b].language) for a, b in view.pairs]
    return sorted({(source, target) for source, target in languages if source and target})


def translate_cases(
    translator: Translator,
    cases: Sequence[PairCase],
    judge: Judge,
    speakers: SpeakerJudge | None,
    *,
    max_s: float,
    seed: int = 0,
) -> list[Heard]:
    """Each case translated and listened to."""
    made = translator.translate_codes(
        [c.codes_KF for c in cases], to=[c.target_language for c in cases], max_s=max_s, seed=seed
    )
    return listen_to(cases, made, judge, speakers)


class StopEarly(Exception):
    """The best epoch lies `patience` epochs back."""


@dataclass
class SafetyReport:
    """After each epoch: translate, measure, keep the best. What `train` calls to listen."""

    config: TrainConfig
    settings: FinetuneSettings
    folder: Path
    codec: Codec
    cases: list[PairCase]
    judge: Judge
    speakers: SpeakerJudge | None

    def __call__(self, model: Transformer, step: int, samples: Path) -> dict[str, Any]:
        """Numbers of this epoch for the metrics; writes sounds, the row, and the checkpoint if it is the best yet.

        Raises:
            StopEarly: no better epoch for too long.
        """
        results = translate_cases(
            self._translator(model), self.cases, self.judge, self.speakers,
            max_s=self.settings.max_s, seed=self.settings.seed,
        )  # fmt: skip
        write_outputs(results, samples)
        scores = scores_of(results)
        row = {"step": step, "epoch": step / (self.config.listen_every_steps or step), "scores": scores}
        row["score"] = scores["all"].get("asr_bleu", scores["all"]["text_bleu"])["value"]
        row["chrf"] = scores["all"].get("asr_chrf", scores["all"]["text_chrf"])["value"]
        row["base"] = self.base_losses(model)
        row |= self.listeners
        before = [r for r in self.rows() if r["step"] < step]
        if all(_rank(row) > _rank(r) for r in before):
            self._keep(model, step)
        row["stopped"] = _stale([*before, row]) >= self.settings.patience
        write_json_lines(self.folder / "epochs.jsonl", [*before, row])
        write_epochs_report(
            self.folder / "report.html", f"Fine-tuning: {self.settings.task}", [*before, row], results
        )
        say(_line(row))
        if row["stopped"] and step < self.config.steps:
            raise StopEarly
        flat = {name: value for name, value in scores["all"].items() if isinstance(value, int)}
        return {f"task/{name}": value for name, value in flat.items()} | {"task/score": row["score"]}

    @property
    def listeners(self) -> dict[str, Any]:
        """Who listens, by name and fingerprint: scores of other judges are not comparable."""
        return {"judge": named(self.judge), "speaker_judge": self.speakers and named(self.speakers)}

    def rows(self) -> list[dict[str, Any]]:
        """The epochs reported so far.

        Raises:
            ConfigError: other judges listened to them.
        """
        path = self.folder / "epochs.jsonl"
        rows = read_json_lines(path) if path.exists() else []
        for role, judge in self.listeners.items():
            if other := [row[role] for row in rows if row.get(role, judge) != judge]:
                raise ConfigError(
                    f"{path} holds scores by {_name(other[0])}, and now {_name(judge)} would listen: epochs could not "
                    "be compared. Name the same judge, or another folder."
                )
        return rows

    def base_losses(self, model: Transformer) -> dict[str, float]:
        """Losses on held-out recordings of the pretraining store: what the model forgets shows here."""
        if not self.settings.base or "validation" not in StoreReader(self.settings.base).splits:
            return {}
        store, vocabulary = open_language(self.settings.base)
        device = next(model.parameters()).device
        dtype = getattr(torch, self.config.precision)
        objective = Objective(vocabulary, replace(self.config.loss, given_spans=0), device, dtype)
        found = {}
        for name, order in (("asr", "audio_first"), ("tts", "text_first")):
            view = ViewConfig(order=order, utterances_per_document=1)  # type: ignore[arg-type]
            source = SourceConfig(store=self.settings.base, split="validation", view=view)
            validation = Validation((source,), self.config.data, 16, vocabulary)
            values = validation(
                model, objective, LossVector(vocabulary, store.codec_spec.frame_rate_hz, device)
            )
            wanted = "text" if name == "asr" else "semantic"
            found[f"{name}_{wanted}_nats"] = values[f"validation/loss/{wanted}"]
        return found

    def _translator(self, model: Transformer) -> Translator:
        folder = self.folder / "vocabulary"
        speech_model = SpeechModel(model, Vocabulary.load(folder), TextTokenizer.load(folder), self.codec)
        return Translator(speech_model, task(self.settings.task))

    def _keep(self, model: Transformer, step: int) -> None:
        save_checkpoint(
            self.folder / "best",
            model=model,
            weights=merge_adapters(model.state_dict()),
            state={
                "step": step,
                "directions": directions(Path(self.config.data.sources[0].store), self.settings.task),
            },
            config=to_plain(self.config),
            vocabulary_folder=self.folder / "vocabulary",
            codec=to_plain(self.codec.spec),
        )


def finetune(
    config: TrainConfig,
    settings: FinetuneSettings,
    folder: Path,
    codec: Codec,
    judge: Judge,
    speakers: SpeakerJudge | None = None,
    *,
    device: str | None = None,
) -> Path:
    """Fine-tune, or go on with it, in `folder`; the folder of the best epoch.

    Raises:
        ConfigError: no validation pairs to report on, or the folder belongs to another run.
    """
    pairs = Path(config.data.sources[0].store)
    split = "validation" if "validation" in StoreReader(pairs).splits else "test"
    if split not in StoreReader(pairs).splits:
        raise ConfigError(f"{pairs} has no held-out pairs to choose the best epoch by. Prepare it with some.")
    cases = pair_cases(pairs, split, settings.task, codec, settings.report_cases)
    report = SafetyReport(config, settings, folder, codec, cases, judge, speakers)
    if not any(row["stopped"] for row in report.rows()):
        try:
            train(config, folder, device=device, listen=report)
        except StopEarly:
            say(f"No better epoch in {settings.patience}; the best is kept in {folder / 'best'}.")
    return folder / "best"


def _rank(row: dict[str, Any]) -> tuple[float, float]:
    # BLEU is 0 until four words in a row are right; chrF tells such epochs apart.
    return row["score"], row["chrf"]


def _name(judge: dict[str, str] | None) -> str:
    return "nobody" if judge is None else judge["name"]


def _stale(rows: list[dict[str, Any]]) -> int:
    """Epochs since the best one."""
    ranks = [_rank(row) for row in rows]
    return len(ranks) - 1 - ranks.index(max(ranks))


def _line(row: dict[str, Any]) -> str:
    scores = row["scores"]["all"]
    parts = [f"epoch {row['epoch']:.0f}: BLEU {row['score']:.1f}, chrF {row['chrf']:.1f}"]
    if "wer" in scores:
        parts.append(f"WER {scores['wer']['value']:.0%}")
    if scores.get("similarity"):
        parts.append(f"voice {scores['similarity']['value']:.2f}")
    parts += [f"{name} {value:.3f}" for name, value in row["base"].items()]
    return ", ".join([*parts, f"{scores['num_failed']} failed, {scores['num_unended']} unended"])
