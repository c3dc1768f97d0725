"""Damaged sounds of every format that is read, for as long as you like; run by hand.

    python -m tests.hostile.fuzz_audio --minutes 10 --keep /tmp/fuzz

Status 1 if a reader crashed, hung, or raised something other than an AudioError (`fuzzing.py`).
"""

import io
import sys
from pathlib import Path

import numpy as np

from sodakit.audio.files import probe, read_blocks, read_part
from tests.audio.joined import encoded, speechlike, vbr_mp3, without_info
from tests.hostile.fuzzing import Target, fuzz

PLAIN = (
    "WAV",
    "AIFF",
    "FLAC",
    "AU",
    "CAF",
    "W64",
    "RF64",
    "VOC",
    "PAF",
    "SVX",
    "NIST",
    "IRCAM",
    "AVR",
    "MAT5",
)


def originals() -> dict[str, bytes]:
    """A small file of each format, by name."""
    mono, stereo = speechlike(1.0), np.stack([speechlike(1.0), -0.5 * speechlike(1.0, seed=1)], 1)
    found = {kind.lower(): encoded(mono if kind == "SVX" else stereo, kind, "PCM_16") for kind in PLAIN}
    for subtype in ("GSM610", "IMA_ADPCM", "MS_ADPCM", "ULAW", "FLOAT", "PCM_24"):
        found[f"wav-{subtype}"] = encoded(mono, "WAV", subtype)
    found |= {"vorbis": encoded(stereo, "OGG", "VORBIS"), "opus": encoded(mono, "OGG", "OPUS")}
    found["vorbis-joined"] = found["vorbis"] * 2
    found |= {"mp3": vbr_mp3(1.0), "mp3-bare": without_info(vbr_mp3(1.0)), "mp3-joined": vbr_mp3(1.0) * 2}
    try:
        from tests.audio.test_containers import contained
    except ImportError:  # pytest's way of saying that PyAV is absent
        return found
    found |= {"aac": contained("adts", "aac", 1.0), "mp4": contained("mp4", "aac", 1.0)}
    return found | {"webm": contained("webm", "libopus", 1.0, 48_000)}


def read(data: bytes) -> None:
    """Read it in every way."""
    probe(io.BytesIO(data))
    read_part(io.BytesIO(data), 0.2, 0.5)
    for _ in read_blocks(io.BytesIO(data), 24_000, longest_s=60.0):
        pass


def targets(folder: Path) -> dict[str, Target]:
    """All of them; nothing is written."""
    return {name: Target(data, read) for name, data in originals().items()}


if __name__ == "__main__":
    sys.exit(fuzz("tests.hostile.fuzz_audio", "Damaged sounds of every format that is read.", targets))
