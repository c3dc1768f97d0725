"""Fine-tuning on a task of pairs: the published settings, a safety report after each epoch, and the best epoch kept.

A run folder of `sodakit train` with three things more: `epochs.jsonl` (a row of the safety report for each epoch),
`best/` (the checkpoint of the best epoch, plain weights) and `report.html`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sodakit.audio.wave import Wave
from sodakit.checkpoint.load import latest_checkpoint, load_checkpoint
from sodakit.checkpoint.save import save_checkpoint
from sodakit.codec.contract import Codec
from sodakit.config import to_plain
from sodakit.data.config import SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.data.pairs import PairView
from sodakit.errors import ConfigError
from sodakit.eval.hub import named
from sodakit.eval.judges import Judge
from sodakit.eval.translated import Heard, PairCase, listen_to, scores_of, write_outputs
from sodakit.eval.voiceprints import SpeakerJudge
from sodakit.files import read_json_lines, write_json_lines
from sodakit.generate.speech_model import SpeechModel
from sodakit.generate.translate import Translator
from sodakit.log import say
from sodakit.model.families import pattern_of
from sodakit.model.lora import merge_adapters
from sodakit.model.transformer import Transformer
from sodakit.recipes.finetune_config import FinetuneSettings
from sodakit.recipes.finetune_report import write_epochs_report
from sodakit.store.reader import StoreReader
from sodakit.tokens.tasks import task
from sodakit.tokens.text import TextTokenizer
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.train.config import TrainConfig
from sodakit.train.objective import LossVector, Objective
from sodakit.train.trainer import train
from sodakit.train.validate import Validation
from sodakit.units import spread


def pair_cases(
    store: Path, split: str, task_name: str, codec: Codec, most: int | None = None
) -> list[PairCase]:
    """The pairs of a split to be translated, spread evenly over it. Sounds are the codec's copies: what the model hears."""
    reader, vocabulary = open_language(store)
    view = PairView(reader, split, task_name, vocabulary)
    chosen = spread(view.pairs, most)
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
        """Numbers of this epoch for the metrics; writes sounds, the row, and the checkpoint if it is the best yet."""
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
        row["chosen_on"] = held_out_split(Path(self.config.data.sources[0].store))
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
        flat = {name: value for name, value in scores["all"].items() if isinstance(value, int)}
        return {f"task/{name}": value for name, value in flat.items()} | {"task/score": row["score"]}

    def is_stale(self) -> bool:
        """Whether the best epoch lies `patience` epochs back: the run ends there."""
        return bool((rows := self.rows()) and rows[-1]["stopped"])

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
        objective = Objective(
            vocabulary, replace(self.config.loss, given_spans=0), self.config.model, device, dtype
        )
        found = {}
        for name, order in (("asr", "audio_first"), ("tts", "text_first")):
            view = ViewConfig(order=order, utterances_per_document=1)  # type: ignore[arg-type]
            source = SourceConfig(store=self.settings.base, split="validation", view=view)
            validation = Validation(
                (source,), self.config.data, 16, vocabulary, pattern_of(self.config.model)
            )
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
    other_code: bool = False,
) -> Path:
    """Fine-tune, or resume, in `folder`; the folder of the best epoch.

    Raises:
        ConfigError: no validation pairs to report on, or the folder belongs to another run.
    """
    pairs = Path(config.data.sources[0].store)
    split = held_out_split(pairs)
    if split == "test":
        say(
            f"{pairs} has no validation split: the best epoch is chosen on its test split, so its scores there will be "
            "too good. Prepare it with --validation to have one."
        )
    cases = pair_cases(pairs, split, settings.task, codec, settings.report_cases)
    report = SafetyReport(config, settings, folder, codec, cases, judge, speakers)
    if not _ended_early(folder, report):
        train(config, folder, device=device, listen=report, enough=report.is_stale, other_code=other_code)
        if report.is_stale():
            say(f"No better epoch in {settings.patience}; the best is kept in {folder / 'best'}.")
    return folder / "best"


def held_out_split(pairs: Path) -> str:
    """The split that the best epoch is chosen on: validation, or test where there is none.

    Raises:
        ConfigError: there is neither.
    """
    splits = StoreReader(pairs).splits
    for split in ("validation", "test"):
        if split in splits:
            return split
    raise ConfigError(f"{pairs} has no held-out pairs to choose the best epoch by. Prepare it with some.")


def _ended_early(folder: Path, report: SafetyReport) -> bool:
    """Whether the last epoch that was reported ended the run, and its checkpoint was written."""
    latest = latest_checkpoint(folder / "checkpoints")
    return (
        report.is_stale()
        and latest is not None
        and load_checkpoint(latest).state["step"] >= report.rows()[-1]["step"]
    )


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
