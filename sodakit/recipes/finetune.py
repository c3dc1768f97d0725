"""Fine-tuning on a task of pairs: the published settings, and what is asked of the model after each epoch (`epochs.py`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.codec.contract import Codec
from sodakit.data.language import open_language
from sodakit.data.pairs import PairView
from sodakit.eval.judges import Judge
from sodakit.eval.named import named
from sodakit.eval.translated import Heard, PairCase, listen_to, scores_of, write_outputs
from sodakit.eval.voiceprints import SpeakerJudge
from sodakit.generate.speech_model import SpeechModel
from sodakit.generate.translate import Translator
from sodakit.log import say
from sodakit.recipes.epochs import EpochReport, Row, held_out_split
from sodakit.recipes.finetune_config import FinetuneSettings
from sodakit.recipes.finetune_report import write_epochs_report
from sodakit.tokens.tasks import task
from sodakit.train.config import TrainConfig
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
class PairExam:
    """Held-out pairs are translated, and listened to."""

    settings: FinetuneSettings
    pairs: Path
    cases: list[PairCase]
    judge: Judge
    speakers: SpeakerJudge | None
    _latest: list[Heard] = field(default_factory=list)

    @property
    def listeners(self) -> Mapping[str, dict[str, str] | None]:
        """Who listens."""
        return {
            "judge": named(self.judge),
            "speaker_judge": None if self.speakers is None else named(self.speakers),
        }

    def ask(self, model: SpeechModel, samples: Path) -> Row:
        """Scores by pair of languages; BLEU and chrF of all."""
        self._latest = translate_cases(
            Translator(model, task(self.settings.task)), self.cases, self.judge, self.speakers,
            max_s=self.settings.max_s, seed=self.settings.seed,
        )  # fmt: skip
        write_outputs(self._latest, samples)
        scores = scores_of(self._latest)
        whole = scores["all"]
        return {
            "scores": scores,
            "score": whole.get("asr_bleu", whole["text_bleu"])["value"],
            "chrf": whole.get("asr_chrf", whole["text_chrf"])["value"],
        }

    def rank(self, row: Row) -> tuple[float, ...]:
        """BLEU is 0 until four words in a row are right; chrF tells such epochs apart."""
        return row["score"], row["chrf"]

    def line(self, row: Row) -> str:
        """The epoch in a line."""
        scores = row["scores"]["all"]
        parts = [f"epoch {row['epoch']:.0f}: BLEU {row['score']:.1f}, chrF {row['chrf']:.1f}"]
        if "wer" in scores:
            parts.append(f"WER {scores['wer']['value']:.0%}")
        if scores.get("similarity"):
            parts.append(f"voice {scores['similarity']['value']:.2f}")
        parts += [f"{name} {value:.3f}" for name, value in row["base"].items()]
        return ", ".join([*parts, f"{scores['num_failed']} failed, {scores['num_unended']} unended"])

    def metrics(self, row: Row) -> dict[str, float]:
        """Counts, and the score."""
        scores = row["scores"]["all"]
        counts = {f"task/{name}": value for name, value in scores.items() if isinstance(value, int)}
        return {**counts, "task/score": row["score"]}

    def write_page(self, path: Path, rows: Sequence[Row]) -> None:
        """The page of all epochs."""
        write_epochs_report(path, f"Fine-tuning: {self.settings.task}", rows, self._latest)

    def kept(self) -> tuple[dict[str, Any], None]:
        """The languages that it was trained to translate."""
        return {"directions": directions(self.pairs, self.settings.task)}, None


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
    exam = PairExam(settings, pairs, cases, judge, speakers)
    report = EpochReport(config, folder, codec, exam, settings.patience, settings.base)
    return report.run(device=device, other_code=other_code)
