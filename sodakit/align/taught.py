"""An aligner without any download: a small recogniser that is taught the very sounds it aligns."""

from collections.abc import Sequence
from pathlib import Path

from sodakit.align.contract import Aligner
from sodakit.align.ctc import taught_aligner
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, CodecError, ConfigError
from sodakit.eval.judges import CtcJudge, train_judge
from sodakit.eval.normalisers import normalise
from sodakit.log import say
from sodakit.prepare.recording import Item
from sodakit.units import spread

TAUGHT = "taught"
"""The name of the aligner that needs no download: it is taught the very sounds that it aligns."""
LESSON_S, LESSONS, FEWEST = 15.0, 2000, 8
"""It is taught sounds up to so long, at most so many of them, and at least these few."""


def teach_aligner(items: Sequence[Item], path: Path, epochs: int | None = None) -> Aligner:
    """An aligner taught the sounds and texts of the items, and kept in `path`; the one that is there.

    Raises:
        ConfigError: too few sounds with a text.
    """
    if path.is_file():
        return taught_aligner(CtcJudge.load(path))
    waves: list[Wave] = []
    texts: list[str] = []
    for item in spread(items, LESSONS):
        try:
            wave = item.read()
        except (AudioError, CodecError):
            continue
        if wave.duration_s <= LESSON_S and normalise(item.text or ""):
            waves.append(wave)
            texts.append(item.text or "")
    if len(waves) < FEWEST:
        raise ConfigError(
            f"{len(waves)} sounds of at most {LESSON_S:g} s with a text; an aligner that is taught here needs {FEWEST}. "
            "Name one with --aligner."
        )
    hours = sum(wave.duration_s for wave in waves) / 3600
    say(f"No aligner named: teaching a small one {len(waves)} of the sounds ({hours:.2f} h).")
    judge = train_judge(waves, texts, epochs=epochs or _epochs(len(waves)), max_steps=None)
    path.parent.mkdir(parents=True, exist_ok=True)
    judge.save(path)
    return taught_aligner(judge)


def _epochs(count: int) -> int:
    """As many passes as make about 1,500 steps of 16 sounds."""
    return max(12, min(200, round(1500 * 16 / count)))
