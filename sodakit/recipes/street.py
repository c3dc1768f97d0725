"""The stages of `sodakit demo`, from recordings to scores: store, judge, model, and what is measured of it.

The page is street_report.py's. Store, judge and model stay in the folder, so the same command goes on after a stop; only
the scores are measured again.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sodakit.codec.contract import Codec
from sodakit.errors import ConfigError
from sodakit.eval.judges import CtcJudge, Judge, train_judge
from sodakit.eval.speech import (
    Case,
    SecondOpinion,
    SpeakingScores,
    VoiceScores,
    guess_errors,
    score_speaking,
    score_transcription,
    score_voices,
    second_opinion,
)
from sodakit.eval.voiceprints import SpeakerJudge, SpectralSpeaker
from sodakit.eval.words import WordErrors
from sodakit.files import read_json, write_json
from sodakit.generate.speech_model import SpeechModel, VoiceSample
from sodakit.log import progress_bar, say
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.recording import Item
from sodakit.prepare.stages import prepare
from sodakit.recipes.listener import listener
from sodakit.store.reader import StoreReader
from sodakit.train.config import TrainConfig
from sodakit.train.trainer import train
from sodakit.units import format_duration, spread

JUDGE_RECORDINGS = 1500
"""Most training recordings the judge is taught with."""


class Stopwatch:
    """How long each stage took, over all runs into one folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: dict[str, float] = read_json(path) if path.exists() else {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; a stage that is only confirmed (under a second) keeps its earlier time."""
        say(f"— {name}")
        start_s = time.perf_counter()
        yield
        elapsed_s = time.perf_counter() - start_s
        if elapsed_s >= 1 or name not in self.seconds:
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed_s
        write_json(self._path, self.seconds)


@dataclass
class Street:
    """What the stages hand on."""

    folder: Path
    items: list[Item]
    unseen_speakers: frozenset[str]
    """Speakers of the test split that training never hears."""
    codec: Codec
    stopwatch: Stopwatch
    judge: CtcJudge | None = None
    model: SpeechModel | None = None
    scores: dict[str, "SetScores"] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        """Where the codes are."""
        return self.folder / "store"

    @property
    def run(self) -> Path:
        """Where the model is trained."""
        return self.folder / "model"

    def originals(self) -> dict[str, Item]:
        """The items by id, to hear what was encoded."""
        return {item.id: item for item in self.items}


@dataclass(frozen=True)
class SetScores:
    """Everything measured on one test set."""

    cases: list[Case]
    transcription: WordErrors
    guess: WordErrors
    speaking: SpeakingScores
    second: SecondOpinion | None = None
    """Of a judge that is named; None where none was."""
    voices: VoiceScores | None = None
    """Of voices that were given; None where no speaker has two recordings."""

    def by_voice(self) -> dict[str, float]:
        """Word error rate of transcription for each speaker, the worst first."""
        return {speaker: wrong / max(words, 1) for speaker, (wrong, words) in self._counts().items()}

    def worst_voice(self) -> str:
        """What to say of the voice with the highest rate, where more than half of all errors are its own; else ''."""
        (worst, (wrong, words)), *others = self._counts().items()
        rest_wrong = sum(errors for _, (errors, _) in others)
        if not others or wrong <= rest_wrong:
            return ""
        rest = rest_wrong / max(sum(own for _, (_, own) in others), 1)
        return (
            f"most of it in one voice, {worst} ({wrong / max(words, 1):.1%}); "
            f"the other {len(others)} together {rest:.1%}"
        )

    def _counts(self) -> dict[str, tuple[int, int]]:
        """Errors and reference words of each speaker, the highest rate first."""
        counts: dict[str, tuple[int, int]] = {}
        for case, item in zip(self.cases, self.transcription.items, strict=True):
            speaker = case.speaker or "unknown"
            wrong, words = counts.get(speaker, (0, 0))
            counts[speaker] = wrong + item.errors, words + item.reference_words
        return dict(sorted(counts.items(), key=lambda voice: -voice[1][0] / max(voice[1][1], 1)))


def build_store(street: Street, options: PrepareOptions) -> StoreReader:
    """Sound to codes and text."""
    with street.stopwatch.stage("Encode"):
        prepare(street.items, street.store, street.codec, options)
    reader = StoreReader(street.store, expect_codec=street.codec.spec.fingerprint)
    for split in ("train", "test"):
        if split not in reader.splits:
            raise ConfigError(
                f"No recording fell to the {split} split; the data is too small. Add recordings."
            )
    return reader


def teach_judge(street: Street, reader: StoreReader) -> CtcJudge:
    """A recogniser taught with original training recordings only."""
    path = street.folder / "judge.safetensors"
    with street.stopwatch.stage("Teach the judge"):
        if not path.exists():
            originals = street.originals()
            own = [
                u for u in reader.utterances("train") if u.text and "variant_of" not in originals[u.id].fields
            ]
            taught = spread(own, JUDGE_RECORDINGS)
            if not taught:
                raise ConfigError(
                    "No training recording has a transcript, so there is nothing to learn to read or to judge by."
                )
            waves = [originals[u.id].read(16_000) for u in taught]
            with progress_bar() as bar:
                task = bar.add_task("judge", total=1.0, note="")
                judge = train_judge(
                    waves,
                    [u.text or "" for u in taught],
                    progress=lambda done, loss: bar.update(task, completed=done, note=f"loss {loss:.2f}"),
                )
            judge.save(path)
        street.judge = CtcJudge.load(path)
    return street.judge


def train_model(street: Street, config: TrainConfig, *, other_code: bool = False) -> SpeechModel:
    """The language model, from scratch or from where it was stopped."""
    with street.stopwatch.stage("Train"):
        train(
            config,
            street.run,
            listen=listener([street.store], street.run, street.codec),
            other_code=other_code,
        )
        street.model = SpeechModel.load(street.run, codec=street.codec)
    return street.model


def test_cases(street: Street, reader: StoreReader) -> dict[str, list[Case]]:
    """The test utterances with transcripts: by speakers heard in training, and by others."""
    originals = street.originals()
    rate_hz = street.codec.spec.sample_rate_hz
    sets: dict[str, list[Case]] = {}
    for u in reader.utterances("test"):
        if u.text:
            name = "unseen voices" if u.speaker in street.unseen_speakers else "seen voices"
            sets.setdefault(name, []).append(
                Case(u.id, u.text, u.speaker, originals[u.id].read(rate_hz), u.codes_KF)
            )
    return sets


def measure(
    street: Street,
    reader: StoreReader,
    max_cases: int = 150,
    second: Judge | None = None,
    speakers: SpeakerJudge | None = None,
) -> dict[str, SetScores]:
    """Transcribe and speak the test sets.

    Args:
        second: hears some of the speech beside the judge that was taught.
        speakers: compares voices; default: by their spectra.
    """
    assert street.model is not None and street.judge is not None
    train_texts = [u.text for u in reader.utterances("train") if u.text]
    with street.stopwatch.stage("Listen and speak"):
        for name, cases in test_cases(street, reader).items():
            cases = spread(cases, max_cases)
            speaking = score_speaking(street.model, cases, street.judge)
            given = [voice_of(case, cases) for case in cases]
            street.scores[name] = SetScores(
                cases=cases,
                transcription=score_transcription(street.model, cases),
                guess=guess_errors(train_texts, [c.text for c in cases]),
                speaking=speaking,
                second=None
                if second is None
                else second_opinion(street.model, cases, speaking.spoken, second),
                voices=score_voices(street.model, cases, given, speakers or SpectralSpeaker()),
            )
    write_json(street.folder / "scores.json", {name: _plain(s) for name, s in street.scores.items()})
    return street.scores


def voice_of(case: Case, cases: Sequence[Case]) -> VoiceSample | None:
    """Another recording by the same speaker, to imitate."""
    for other in cases:
        if other.speaker == case.speaker and other.id != case.id:
            return VoiceSample(other.original, other.text)
    return None


def _plain(scores: SetScores) -> dict[str, object]:
    speaking = scores.speaking
    return {
        "cases": len(scores.cases),
        "transcription_wer": scores.transcription.wer,
        "transcription_interval": scores.transcription.interval,
        "transcription_wer_by_voice": scores.by_voice(),
        "guess_wer": scores.guess.wer,
        "speaking_wer": speaking.heard.wer,
        "speaking_interval": speaking.heard.interval,
        "speaking_unended": speaking.num_unended,
        "judge": speaking.judge,
        "judge_on_originals_wer": speaking.heard_original.wer,
        "judge_on_codec_wer": speaking.heard_codec.wer,
        "second_opinion": (second := scores.second)
        and {
            "judge": second.judge,
            "cases": len(second.places),
            "speaking_wer": second.heard.wer,
            "speaking_interval": second.heard.interval,
            "judge_on_originals_wer": second.heard_original.wer,
            "judge_on_originals_interval": second.heard_original.interval,
            "judge_on_codec_wer": second.heard_codec.wer,
        },
        "voices": scores.voices and asdict(scores.voices),
    }


def voice_line(scores: VoiceScores) -> str:
    """How much of a voice is kept, in a sentence."""
    error = scores.equal_error_rate
    sure = "" if error is None else f", equal error rate {error:.1%}"
    return (
        f"speech in a given voice is {scores.similarity.value:.3f} like it ({scores.similarity.low:.3f} to "
        f"{scores.similarity.high:.3f}), originals {scores.originals.value:.3f}; {scores.judge}{sure}"
    )


def say_scores(street: Street) -> None:
    """The result in a few lines."""
    for name, s in street.scores.items():
        say(f"{name}: transcription {s.transcription} (a guess without listening: {s.guess.wer:.0%})")
        if worst := s.worst_voice():
            say(f"{name}: {worst}")
        say(
            f"{name}: speech judged {s.speaking.heard}; {s.speaking.judge}: originals {s.speaking.heard_original.wer:.1%}, "
            f"codec copies {s.speaking.heard_codec.wer:.1%}"
        )
        if s.second:
            say(
                f"{name}: the same of {len(s.second.places)} by {s.second.judge}: {s.second.heard}; "
                f"originals {s.second.heard_original.wer:.1%}, codec copies {s.second.heard_codec.wer:.1%}"
            )
        if s.voices:
            say(f"{name}: {voice_line(s.voices)}")
    total_s = sum(street.stopwatch.seconds.values())
    say(f"{format_duration(total_s)} in all; {street.folder / 'report.html'}")
