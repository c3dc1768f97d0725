"""Benchmarks that anyone can build: pairs as sound files, their hashes, and what trivial cues achieve on them.

    FOLDER/
      pairs.jsonl     one pair a line: sides with audio, text, sha256; part, voice, type, source
      audio/PART/ID_0.wav, ID_1.wav
      cues.json       accuracy of choosing the longer, the louder, the larger side, by part
      build.json      settings, counts, and one digest of all sound and text

The same inputs and settings give the same bytes. `sound_pairs` and `spoken_pairs` make the drafts written here, two by
two: whatever a trivial cue gains by one pair of a couple it loses by the other.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from sodakit.audio.files import write_wave
from sodakit.audio.levels import peak, rms
from sodakit.audio.wave import Wave
from sodakit.bounds import Bounded, Bounds, Count
from sodakit.errors import ConfigError
from sodakit.eval.cues import CUES, Cue, cue_accuracies, cue_signs, measure
from sodakit.eval.labels import Labels, Question
from sodakit.eval.results import plain_estimate
from sodakit.files import atomic_folder, digest, write_json, write_json_lines
from sodakit.log import track

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class BuildConfig(Bounded):
    """How pairs are made."""

    pairs_per_part: Count = 200
    """Pairs in each part, as SALMon has; fewer where the recordings give no more."""
    sample_rate_hz: Count = 24_000
    """Rate of the sound files."""
    segment_s: Annotated[float, Bounds(least=0.2)] = 2.0
    """Length of each half of a consistency pair."""
    snr_db: float = 5.0
    """Speech above background."""
    loudness_db: Annotated[float, Bounds(least=-60, most=-10)] = -26.0
    """RMS level of every clip, relative to full scale."""
    max_length_difference: float = 0.2
    """Spoken pairs whose sides differ more than this fraction in length are left out."""
    voices_per_pair: Count = 1
    """How many voices speak each spoken pair."""
    voices: tuple[str, ...] = ()
    """Who speaks, as `voices/names.py` names them; none: the seen ones, and all fourteen where recordings are the rest."""
    seed: int = 0
    """Decides every choice."""


@dataclass(frozen=True)
class Clip:
    """One side before it is written."""

    wave: Wave = field(repr=False)
    text: str | None = None
    prefix: str = ""
    ending_start_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Draft(Labels):
    """A pair before it is written; the right side is the first."""

    sides: tuple[Clip, ...]

    def cue_signs(self) -> tuple[int, ...]:
        """Which side has more of each trivial cue, as it will be written: see `cues.cue_signs`."""
        return cue_signs([measure(wave) for wave in unclipped([clip.wave for clip in self.sides])])

    def question(self) -> Question:
        """The pair as policies and cues see it."""
        wrong = tuple(str(n) for n in range(1, len(self.sides)))
        return Question(right="0", wrong=wrong, **self.labels())


@dataclass(frozen=True)
class Built:
    """What was written."""

    folder: Path
    digest: str
    """Of every sound and text: equal digest, equal benchmark."""
    num_pairs: dict[str, int]
    """By part."""
    cues: dict[str, dict[str, Cue]]
    """By part, then cue."""

    @property
    def leaks(self) -> list[str]:
        """Cues whose interval leaves chance out, as `part: cue`."""
        return [f"{part}: {cue}" for part, cues in self.cues.items() for cue in CUES if cues[cue].gives_away]


def write_benchmark(
    drafts: Iterable[Draft], folder: Path | str, config: BuildConfig, origin: dict[str, Any]
) -> Built:
    """Write the pairs, their hashes and cues; the folder is complete or absent.

    Args:
        origin: what they were made from, for `build.json`: digests of recordings, noises, texts, voices.
    Raises:
        ConfigError: no pairs, or a folder there that no build has written.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / "build.json").exists():
        raise ConfigError(
            f"{folder} holds something else than a benchmark. Choose another folder, or empty this one."
        )
    rows: list[dict[str, Any]] = []
    questions: list[Question] = []
    measured: list[list[dict[str, float]]] = []
    with atomic_folder(folder) as temporary:
        for draft in track(drafts, "building"):
            sides = unclipped([clip.wave for clip in draft.sides])
            rows.append(_write(draft, sides, temporary))
            questions.append(draft.question())
            measured.append([measure(wave) for wave in sides])
        if not rows:
            raise ConfigError(
                "Not one pair could be made. Are there enough recordings, long enough, of two speakers or more?"
            )
        built = _summary(folder, rows, questions, measured)
        write_json_lines(temporary / "pairs.jsonl", rows)
        write_json(temporary / "cues.json", _plain_cues(built))
        write_json(
            temporary / "build.json",
            {
                "format": FORMAT_VERSION,
                "settings": asdict(config),
                "origin": origin,
                "num_pairs": built.num_pairs,
                "leaks": built.leaks,
                "digest": built.digest,
            },
        )
    return built


def unclipped(waves: list[Wave]) -> list[Wave]:
    """The sounds of a pair, all lowered alike if one of them would clip: what they share stays the same."""
    loudest = max(peak(wave.samples_S) for wave in waves)
    return [Wave(wave.samples_S * min(1.0, 0.99 / max(loudest, 1e-9)), wave.sample_rate_hz) for wave in waves]


def normalised(samples_S: np.ndarray, loudness_db: float) -> np.ndarray:
    """The samples at this RMS level; silence stays silent."""
    level = rms(samples_S)
    return samples_S if level < 1e-7 else (samples_S * (10 ** (loudness_db / 20) / level)).astype(np.float32)


def _write(draft: Draft, waves: list[Wave], folder: Path) -> dict[str, Any]:
    sides = []
    for number, (clip, wave) in enumerate(zip(draft.sides, waves, strict=True)):
        name = (
            f"audio/{draft.part or 'pairs'}/{draft.id}{f'-{draft.voice}' if draft.voice else ''}_{number}.wav"
        )
        write_wave(folder / name, wave)
        sides.append(
            {
                "audio": name,
                "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
                "duration_s": round(wave.duration_s, 4),
                "text": clip.text,
                "prefix": clip.prefix,
                "ending_start_s": clip.ending_start_s,
            }
        )
    return draft.labels() | {"positive": sides[0], "negatives": sides[1:]}


def _summary(
    folder: Path,
    rows: list[dict[str, Any]],
    questions: list[Question],
    measured: list[list[dict[str, float]]],
) -> Built:
    members: dict[str, list[int]] = {}
    for number, question in enumerate(questions):
        members.setdefault(question.part, []).append(number)
    cues = {
        part: cue_accuracies([questions[n] for n in numbers], [measured[n] for n in numbers])
        for part, numbers in members.items()
    }
    return Built(
        folder=folder,
        digest=digest(*(repr(row) for row in rows)),
        num_pairs={part: len(numbers) for part, numbers in members.items()},
        cues=cues,
    )


def _plain_cues(built: Built) -> dict[str, Any]:
    return {
        part: {
            cue: {
                "larger_is_right": plain_estimate(value.larger_is_right),
                "num_ties": value.num_ties,
                "gives_away": value.gives_away,
            }
            for cue, value in cues.items()
        }
        for part, cues in built.cues.items()
    }


def cue_lines(built: Built) -> Iterator[str]:
    """Markdown: what each cue achieves on each part."""
    yield "| part | pairs | longer | louder | larger file | higher peak | larger FLAC |"
    yield "|---|---|---|---|---|---|---|"
    order = ("duration_s", "loudness_db", "file_bytes", "peak_db", "flac_bytes")
    for part, cues in built.cues.items():
        values = " | ".join(f"{cues[cue].larger_is_right.value:.1%}" for cue in order)
        yield f"| {part} | {built.num_pairs[part]} | {values} |"
