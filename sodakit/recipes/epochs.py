"""Fine-tuning epoch by epoch: a safety report after each, the best epoch kept, and an early stop. What is asked of the model
after an epoch is an `Exam`: pairs to translate (`finetune.py`), utterances to hear and to say (`adapt.py`).

A run folder of `sodakit train` with three things more: `epochs.jsonl` (a row of the safety report for each epoch),
`best/` (the checkpoint of the best epoch, plain weights) and `report.html`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from sodakit.checkpoint.about import About
from sodakit.checkpoint.load import latest_checkpoint, load_checkpoint
from sodakit.checkpoint.save import save_checkpoint
from sodakit.codec.contract import Codec
from sodakit.config import to_plain
from sodakit.data.config import SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.errors import ConfigError
from sodakit.files import read_json_lines, write_json_lines
from sodakit.generate.speech_model import SpeechModel
from sodakit.log import say
from sodakit.model.families import pattern_of
from sodakit.model.lora import merge_adapters
from sodakit.model.transformer import Transformer
from sodakit.store.reader import StoreReader
from sodakit.tokens.text import TextTokenizer
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.train.config import TrainConfig
from sodakit.train.objective import LossVector, Objective
from sodakit.train.trainer import train
from sodakit.train.validate import Validation

LOSS_ROWS = 16
"""Rows that a held-out loss is taken on."""
Row = dict[str, Any]
"""One epoch in `epochs.jsonl`."""


class Exam(Protocol):
    """What is asked of a model after an epoch."""

    @property
    def listeners(self) -> Mapping[str, dict[str, str] | None]:
        """Who listens, by role, name and fingerprint: scores of other judges are not comparable."""

    def ask(self, model: SpeechModel, samples: Path) -> Row:
        """What the epoch's row holds of the model; writes sounds into `samples`."""

    def rank(self, row: Row) -> tuple[float, ...]:
        """The higher, the better the epoch."""

    def line(self, row: Row) -> str:
        """The epoch in a line."""

    def metrics(self, row: Row) -> dict[str, float]:
        """The epoch's numbers for the metrics of the run."""

    def write_page(self, path: Path, rows: Sequence[Row]) -> None:
        """The page of all epochs, with the latest answers to be heard."""

    def kept(self) -> tuple[dict[str, Any], About | None]:
        """What the best checkpoint says beside its weights: more of its state, and of itself."""


@dataclass
class EpochReport:
    """After each epoch: ask, measure, keep the best. What `train` calls to listen."""

    config: TrainConfig
    folder: Path
    codec: Codec
    exam: Exam
    patience: int
    """Epochs without a better one after which the run ends."""
    base: str | None = None
    """Store of what the model was trained on before: what it forgets shows there."""

    def __call__(self, model: Transformer, step: int, samples: Path) -> dict[str, Any]:
        """Numbers of this epoch for the metrics; writes sounds, the row, and the checkpoint if it is the best yet."""
        row: Row = {"step": step, "epoch": step / (self.config.listen_every_steps or step or 1)}
        row |= self.exam.ask(self.speech_model(model), samples)
        row["base"] = self.base_losses(model)
        row["chosen_on"] = held_out_split(Path(self.config.data.sources[0].store))
        row |= self.exam.listeners
        before = [r for r in self.rows() if r["step"] < step]
        if all(self.exam.rank(row) > self.exam.rank(r) for r in before):
            self._keep(model, step)
        row["stopped"] = self._stale([*before, row]) >= self.patience
        write_json_lines(self.folder / "epochs.jsonl", [*before, row])
        self.exam.write_page(self.folder / "report.html", [*before, row])
        say(self.exam.line(row))
        return self.exam.metrics(row)

    def is_stale(self) -> bool:
        """Whether the best epoch lies `patience` epochs back: the run ends there."""
        return bool((rows := self.rows()) and rows[-1]["stopped"])

    def rows(self) -> list[Row]:
        """The epochs reported so far.

        Raises:
            ConfigError: other judges listened to them.
        """
        path = self.folder / "epochs.jsonl"
        rows = read_json_lines(path) if path.exists() else []
        for role, judge in self.exam.listeners.items():
            if other := [row[role] for row in rows if row.get(role, judge) != judge]:
                raise ConfigError(
                    f"{path} holds scores by {_name(other[0])}, and now {_name(judge)} would listen: epochs could not "
                    "be compared. Name the same judge, or another folder."
                )
        return rows

    def base_losses(self, model: Transformer) -> dict[str, float]:
        """Losses on held-out recordings of the pretraining store: what the model forgets shows here."""
        if not self.base or "validation" not in StoreReader(self.base).splits:
            return {}
        return held_out_losses(model, self.base, "validation", self.config)

    def speech_model(self, model: Transformer) -> SpeechModel:
        """The model with the run's vocabulary and codec."""
        folder = self.folder / "vocabulary"
        return SpeechModel(model, Vocabulary.load(folder), TextTokenizer.load(folder), self.codec)

    def begin(self, model: SpeechModel) -> None:
        """The row of the model as it is before the first step, as epoch 0, where there is no row yet. Where no epoch is
        better, it is the one that is kept."""
        if self.rows():
            return
        vocabulary = self.folder / "vocabulary"
        model.vocabulary.save(vocabulary)
        model.tokenizer.save(vocabulary)
        samples = self.folder / "samples" / "step_00000000"
        samples.mkdir(parents=True, exist_ok=True)
        self(model.model, 0, samples)

    def run(self, *, device: str | None = None, other_code: bool = False) -> Path:
        """Train, or resume, until the last epoch or an early stop; the folder of the best epoch."""
        if not self._ended_early():
            train(
                self.config,
                self.folder,
                device=device,
                listen=self,
                enough=self.is_stale,
                other_code=other_code,
            )
            if self.is_stale():
                say(f"No better epoch in {self.patience}; the best is kept in {self.folder / 'best'}.")
        return self.folder / "best"

    def _keep(self, model: Transformer, step: int) -> None:
        state, about = self.exam.kept()
        save_checkpoint(
            self.folder / "best",
            model=model,
            weights=merge_adapters(model.state_dict()),
            state={"step": step, **state},
            config=to_plain(self.config),
            vocabulary_folder=self.folder / "vocabulary",
            codec=to_plain(self.codec.spec),
            about=about,
        )

    def _ended_early(self) -> bool:
        """Whether the last epoch that was reported ended the run, and its checkpoint was written."""
        latest = latest_checkpoint(self.folder / "checkpoints")
        return (
            self.is_stale()
            and latest is not None
            and load_checkpoint(latest).state["step"] >= self.rows()[-1]["step"]
        )

    def _stale(self, rows: list[Row]) -> int:
        """Epochs since the best one."""
        ranks = [self.exam.rank(row) for row in rows]
        return len(ranks) - 1 - ranks.index(max(ranks))


def held_out_losses(model: Transformer, store: str, split: str, config: TrainConfig) -> dict[str, float]:
    """Nats per token on utterances of a split, as the run counts its loss, by the task they tell of: those of the text after
    its sound (`asr_text_nats`), those of the semantic codes after their text (`tts_semantic_nats`)."""
    reader, vocabulary = open_language(store)
    device = next(model.parameters()).device
    dtype = getattr(torch, config.precision)
    objective = Objective(vocabulary, replace(config.loss, given_spans=0), config.model, device, dtype)
    found = {}
    for name, order in (("asr", "audio_first"), ("tts", "text_first")):
        view = ViewConfig(order=order, utterances_per_document=1)  # type: ignore[arg-type]
        source = SourceConfig(store=store, split=split, view=view)
        validation = Validation((source,), config.data, LOSS_ROWS, vocabulary, pattern_of(config.model))
        values = validation(model, objective, LossVector(vocabulary, reader.codec_spec.frame_rate_hz, device))
        wanted = "text" if name == "asr" else "semantic"
        found[f"{name}_{wanted}_nats"] = values[f"validation/loss/{wanted}"]
    return found


def held_out_split(store: Path) -> str:
    """The split that the best epoch is chosen on: validation, or test where there is none.

    Raises:
        ConfigError: there is neither.
    """
    splits = StoreReader(store).splits
    for split in ("validation", "test"):
        if split in splits:
            return split
    raise ConfigError(
        f"{store} has nothing held out to choose the best epoch by. Prepare it with --validation."
    )


def _name(judge: dict[str, str] | None) -> str:
    return "nobody" if judge is None else judge["name"]
