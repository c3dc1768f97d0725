"""What survives a codec: copies against their originals, whoever made the copies."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.codec.quality import SoundDistance, compare, pesq
from sodakit.errors import AudioError, ConfigError
from sodakit.eval.judges import CtcJudge, Judge, train_judge
from sodakit.eval.named import named
from sodakit.eval.opinion import WORST, OpinionJudge
from sodakit.eval.results import Estimate, estimate
from sodakit.eval.spoken_scores import opinion_items, opinion_scores, opinions, spoken_errors
from sodakit.eval.voiceprints import SpeakerJudge, SpeakerScores, score_speakers
from sodakit.eval.words import WordErrors, normalise
from sodakit.log import say
from sodakit.prepare.recording import Item
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.sources.voices import Reading, speak_readings
from sodakit.units import spread
from sodakit.voices.catalogue import SEEN_VOICES, UNSEEN_VOICES
from sodakit.voices.contract import Voice
from sodakit.voices.household import sentences

HELD_OUT_SEED = 999_983
"""Of the sentences that the unseen voices say; training draws from other seeds."""
_TAUGHT_SEED = 999_979

MOST_WORDS = 200
"""Different words up to which a small judge can be taught by a folder's own recordings."""
_FEWEST_LESSONS = 100
_SHORTEST_S = 0.3


@dataclass(frozen=True)
class Recording:
    """An original."""

    wave: Wave = field(repr=False)
    text: str | None
    """What is said; None where nobody wrote it down."""
    speaker: str
    """'' if unknown."""


@dataclass(frozen=True)
class SoundSet:
    """Originals under one name, and who can be trusted to write down what is said in them."""

    name: str
    recordings: tuple[Recording, ...]
    judge: Judge | None
    """None: nobody here understands them; `why_no_judge` says why."""
    why_no_judge: str = ""


def folder_set(folder: Path, clips: int, judge: Judge | None, teach: bool = False) -> SoundSet:
    """`clips` recordings of a folder, evenly spread.

    Args:
        judge: who listens. None with `teach`: a small recogniser taught by the folder's other recordings, if there
            are enough of them and their words are few.
    Raises:
        ConfigError: the folder holds no readable recording.
    """
    items = [
        item
        for item in open_folder(folder, keep_untranscribed=True)
        if item.problem is None and not item.is_text
    ]
    chosen = spread(items, clips)
    recordings = tuple(_readable(chosen))
    if not recordings:
        raise ConfigError(f"{folder} holds no readable recording longer than {_SHORTEST_S} s.")
    if not all(recording.text for recording in recordings):
        return SoundSet(folder.name, recordings, None, "no transcripts")
    if judge is not None or not teach:
        return SoundSet(folder.name, recordings, judge, "" if judge else "no judge asked for")
    taken = {item.id for item in chosen}
    lessons = [item for item in items if item.id not in taken and item.text]
    words = {word for item in items for word in normalise(item.text or "").split()}
    if len(words) > MOST_WORDS or len(lessons) < _FEWEST_LESSONS:
        why = f"{len(words)} words and {len(lessons)} lessons: too much for the small judge; name one with --judge"
        return SoundSet(folder.name, recordings, None, why)
    return SoundSet(folder.name, recordings, _taught(_readable(lessons)))


def voices_set(
    clips: int, judge: Judge | None, teach: bool = False, voices: Sequence[Voice] = UNSEEN_VOICES
) -> SoundSet:
    """`clips` household sentences by synthetic voices, those that nothing is trained on unless others are named.

    Args:
        judge: who listens. None with `teach`: a small recogniser taught by the seen voices.
    """
    readings = [
        Reading(voices[i % len(voices)], (text,), "test")
        for i, text in enumerate(sentences(clips, HELD_OUT_SEED))
    ]
    recordings = tuple(_readable(speak_readings(readings)))
    if judge is None and teach:
        judge = _taught(_lessons())
    name = "unseen voices" if voices == UNSEEN_VOICES else ", ".join(voice.name for voice in voices)
    return SoundSet(name, recordings, judge, "" if judge else "no judge asked for")


def _lessons(count: int = 1200) -> Iterable[Recording]:
    texts = sentences(count, _TAUGHT_SEED)
    voices = len(SEEN_VOICES)
    return _readable(
        speak_readings([Reading(SEEN_VOICES[i % voices], (t,), "train") for i, t in enumerate(texts)])
    )


def _taught(lessons: Iterable[Recording]) -> CtcJudge:
    heard = [recording for recording in lessons if recording.text]
    say(f"Teaching a judge on {len(heard)} originals that are not in the test.")
    return train_judge([recording.wave for recording in heard], [recording.text or "" for recording in heard])


def _readable(items: Iterable[Item]) -> Iterable[Recording]:
    for item in items:
        try:
            wave = item.read()
        except AudioError as error:
            say(f"Left out: {error}")
            continue
        if wave.duration_s >= _SHORTEST_S and np.isfinite(wave.samples_S).all():
            yield Recording(wave, item.text, item.speaker)


@dataclass(frozen=True)
class CopyScores:
    """How near the copies of a set are to their originals. Means over clips; the rates of errors over words."""

    name: str
    num_clips: int
    duration_s: float
    mel_db: float
    stft_db: float
    stoi: Estimate | None
    """With the interval over clips; None where no clip holds the third of a second of sound that it needs."""
    pitch_semitones: float
    voicing: float
    pesq: float | None
    """Wideband PESQ (MOS-LQO, 1.0 to 4.6); None where the package is not installed."""
    heard: WordErrors | None
    """The judge on the copies; None without a judge."""
    heard_original: WordErrors | None
    """The judge on the originals: what the judge itself costs."""
    judge: str
    """Who listened, or why nobody did."""
    speakers: SpeakerScores | None
    """None where there are no two speakers to tell apart."""
    mos: dict[str, dict[str, Any]] | None = None
    """By column the mean opinion of the copies, with its interval over clips; None without such a judge."""
    mos_originals: dict[str, dict[str, Any]] | None = None
    """The same of the originals."""
    mos_judge: dict[str, str] | None = None
    """Name and fingerprint of who foretold the opinions."""
    items: tuple[dict[str, Any], ...] = ()
    """Each copy: distances, opinions, and under `original` those of its original."""

    def plain(self) -> dict[str, Any]:
        """For JSON; NaN becomes None."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["stoi"] = asdict(self.stoi) if self.stoi else None
        values["speakers"] = asdict(self.speakers) if self.speakers else None
        for name in ("heard", "heard_original"):
            errors = getattr(self, name)
            values[name] = errors and {
                "wer": errors.wer,
                "interval": errors.interval,
                "words": errors.reference_words,
            }
        return without_nan(values)


def score_copies(
    sounds: SoundSet,
    copies: Sequence[Wave],
    speaker_judge: SpeakerJudge,
    mos: OpinionJudge | None = None,
) -> CopyScores:
    """The scores of one copy for each recording of the set.

    A copy may have another rate than its original: the copy is resampled to compare. It must begin when the original
    does; shift copies of a codec with a delay first.
    """
    originals = [recording.wave for recording in sounds.recordings]
    matched = [resample(copy, wave.sample_rate_hz) for copy, wave in zip(copies, originals, strict=True)]
    distances = [compare(wave, copy) for wave, copy in zip(originals, matched, strict=True)]
    qualities = [pesq(wave, copy) for wave, copy in zip(originals, matched, strict=True)]
    texts = [recording.text or "" for recording in sounds.recordings]
    clips = [str(i) for i in range(len(originals))]
    judge = sounds.judge
    rated, rated_originals = opinions(mos, matched), opinions(mos, originals)
    intelligible = [distance.stoi for distance in distances if np.isfinite(distance.stoi)]
    return CopyScores(
        name=sounds.name,
        num_clips=len(originals),
        duration_s=sum(wave.duration_s for wave in originals),
        mel_db=_mean(distances, "mel_db"),
        stft_db=_mean(distances, "stft_db"),
        stoi=estimate(intelligible, [str(i) for i in range(len(intelligible))]) if intelligible else None,
        pitch_semitones=_mean(distances, "pitch_semitones"),
        voicing=_mean(distances, "voicing"),
        pesq=None if None in qualities else float(np.nanmean(np.array(qualities, float))),
        heard=spoken_errors(judge, texts, matched) if judge else None,
        heard_original=spoken_errors(judge, texts, originals) if judge else None,
        judge=judge.name if judge else sounds.why_no_judge,
        speakers=score_speakers(originals, matched, [r.speaker for r in sounds.recordings], speaker_judge),
        mos=opinion_scores(rated, clips, failed=WORST) or None,
        mos_originals=opinion_scores(rated_originals, clips) or None,
        mos_judge=None if mos is None else named(mos),
        items=tuple(
            {
                "clip": int(clip),
                "speaker": recording.speaker,
                "mel_db": distance.mel_db,
                "stoi": distance.stoi,
            }
            | ({"pesq": quality} if quality is not None else {})
            | opinion
            | ({"original": own} if own else {})
            for clip, recording, distance, quality, opinion, own in zip(
                clips,
                sounds.recordings,
                distances,
                qualities,
                opinion_items(rated),
                opinion_items(rated_originals),
                strict=True,
            )
        ),
    )


def _mean(distances: Sequence[SoundDistance], name: str) -> float:
    values = np.array([getattr(distance, name) for distance in distances])
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def without_nan(value: Any) -> Any:
    """`value` with None for every NaN in it, since JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and np.isnan(value) else value
