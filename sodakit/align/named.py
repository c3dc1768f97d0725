"""The aligner of a name, a folder or a file, or in a judge."""

from pathlib import Path

from sodakit.align.contract import Aligner
from sodakit.align.ctc import hub_aligner, taught_aligner
from sodakit.align.whisper import WhisperAligner
from sodakit.audio.faster_whisper import is_faster_whisper
from sodakit.eval.judges import CtcJudge, HubJudge, Judge
from sodakit.eval.whisper import FasterWhisperJudge


def named_aligner(name: str, *, language: str | None = None, device: str = "cpu") -> Aligner:
    """The aligner in a judge's .safetensors, a CTC model of transformers, or a Whisper in CTranslate2 form.

    Args:
        name: hub id, folder or file.
        language: what a multilingual Whisper is told to expect; None: what is said of each sound, else it guesses.
        device: cpu, cuda, …
    Raises:
        CheckpointError: the file holds no judge.
        ConfigError: no such model, or one that aligns nothing.
        MissingExtra: it needs faster-whisper.
    """
    if Path(name).is_file() or name.endswith(".safetensors"):
        return taught_aligner(CtcJudge.load(name))
    if is_faster_whisper(name):
        return WhisperAligner(FasterWhisperJudge.load(name, language=language, device=device))
    return hub_aligner(HubJudge.load(name, device=device))


def aligner_of(judge: Judge | None) -> Aligner | None:
    """The aligner in a judge that is loaded; None where it tells no times."""
    if isinstance(judge, CtcJudge):
        return taught_aligner(judge)
    if isinstance(judge, FasterWhisperJudge):
        return WhisperAligner(judge)
    return hub_aligner(judge) if isinstance(judge, HubJudge) and not judge.writes else None
