"""Where a sound comes from, as its file says: synthetic speech is marked, and the mark can be read again.

The mark is one line in the comment of the file: LIST/INFO in WAV, a Vorbis comment in FLAC and Ogg, ID3 in MP3 and AAC.
It tells people and programs; whoever wants to can remove it. A watermark in the sound itself is harder to remove:
`audio/watermark.py`.
"""

from pathlib import Path
from typing import BinaryIO

import soundfile

import sodakit
from sodakit.errors import AudioError

SYNTHETIC = "Synthetic speech"
"""How every mark begins."""
IPTC_TRAINED = "trainedAlgorithmicMedia"
"""The IPTC's word (NewsCodes, digitalsourcetype) for what a trained model made."""


def synthetic(*, model: str = "", voice: str = "", watermark: str = "") -> str:
    """The mark of speech that is made here, in ASCII.

    Args:
        model: what made it; '' for a speech synthesiser.
        voice: whose voice it is in, and who agreed to that.
        watermark: name of the one in the sound.
    """
    parts = [f"{SYNTHETIC} by sodakit {sodakit.__version__}"]
    if model:
        parts += [f"digital source type: {IPTC_TRAINED}", f"model: {model}"]
    parts += [f"{name}: {value}" for name, value in (("voice", voice), ("watermark", watermark)) if value]
    whole = "; ".join(parts)
    # Headers of HTTP and of WAV hold ASCII.
    return "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in whole)


def origin_of(source: Path | str | BinaryIO) -> str:
    """What a sound file says of its origin: the mark of synthetic speech, or '' where it says nothing of the kind.

    Raises:
        AudioError: it cannot be read, or is of a format without comments.
    """
    try:
        with soundfile.SoundFile(str(source) if isinstance(source, Path) else source) as file:
            said: str = file.comment
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise AudioError(f"{source} cannot be read ({error}). Name a sound file.") from error
    return said if said.startswith(SYNTHETIC) else ""
