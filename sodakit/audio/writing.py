"""Sound that is written part by part, as it comes."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from sodakit.audio.wave import Wave
from sodakit.errors import AudioError
from sodakit.files import atomic_path


def check_sound_path(path: Path | str) -> None:
    """Raise unless sound can be written there: asked before anything is made.

    Raises:
        AudioError: another suffix than .wav and .flac, or a folder that is a file.
    """
    path = Path(path)
    if path.suffix.lower() not in (".wav", ".flac"):
        raise AudioError(f"{path} names no format that is written here. Use .wav or .flac.")
    above = next((p for p in path.absolute().parents if p.exists()), None)
    if path.is_dir() or (above is not None and not above.is_dir()):
        raise AudioError(f"{path} cannot be written: {path if path.is_dir() else above} is in the way.")


def write_blocks(path: Path | str, blocks: Iterable[Wave], sample_rate_hz: int, origin: str = "") -> float:
    """Write consecutive parts of a sound as 16-bit PCM in the format the suffix names, atomically; its length in seconds.

    Args:
        path: of the file.
        blocks: the parts.
        sample_rate_hz: of each.
        origin: what the file says of where the sound comes from.

    Raises:
        AudioError: as `check_sound_path`; or parts of another rate.
    """
    check_sound_path(path)
    kind = Path(path).suffix.lstrip(".").upper()
    with (
        atomic_path(path) as temporary,
        open(temporary, "wb") as handle,  # not by name: a name that is no text is none to libsndfile
        soundfile.SoundFile(handle, "w", sample_rate_hz, 1, "PCM_16", format=kind) as file,
    ):
        if origin:
            file.comment = origin
        for block in blocks:
            if block.sample_rate_hz != sample_rate_hz:
                raise AudioError(f"A part at {block.sample_rate_hz} Hz of a sound at {sample_rate_hz} Hz.")
            file.write(np.clip(block.samples_S, -1, 1))
        return file.frames / sample_rate_hz
