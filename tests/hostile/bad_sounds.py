"""Sounds that are broken, hostile or odd: bytes by file name with a part of what their quarantine says."""

import gzip
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np

from tests.audio.joined import encoded, speechlike, vbr_mp3
from tests.hostile.odd_sounds import odd_sounds
from tests.prepare.test_bad_input import BAD_SOUNDS, sound_bytes


def bad_sounds() -> dict[str, tuple[bytes, str]]:
    """Content of each bad file, and what its quarantine says: a part of reason or detail."""
    found = {name: (data, detail) for name, (data, _, detail) in BAD_SOUNDS.items()} | odd_sounds()
    random = np.random.default_rng(0)
    tone = speechlike(1.0)
    whole = {
        "wav": encoded(tone, "WAV", "PCM_16"), "flac": encoded(tone, "FLAC", "PCM_16"), "aiff": encoded(tone, "AIFF", "PCM_16"),
        "au": encoded(tone, "AU", "PCM_16"), "caf": encoded(tone, "CAF", "PCM_16"), "w64": encoded(tone, "W64", "PCM_16"),
        "ogg": encoded(tone, "OGG", "VORBIS"), "opus": encoded(tone, "OGG", "OPUS"), "mp3": vbr_mp3(1.0),
    }  # fmt: skip
    for ending, data in whole.items():
        found[f"nothing.{ending}"] = b"", "0 bytes"
        found[f"first.{ending}"] = data[:12], ""
        found[f"noise.{ending}"] = random.bytes(4000), ""
        found[f"zeros.{ending}"] = bytes(4000), ""
        found[f"page.{ending}"] = b"<!DOCTYPE html><title>404 Not Found</title>" * 40, ""
        found[f"shifted.{ending}"] = random.bytes(64) + data[64:200], ""
    for ending in ("m4a", "mp4", "aac", "webm", "wma", "amr", "sph"):
        found[f"nothing.{ending}"] = b"", "0 bytes"
        found[f"noise.{ending}"] = random.bytes(4000), ""
        found[f"words.{ending}"] = b"these are words and no sound " * 99, ""
    for ending in ("wav", "aiff", "w64", "caf"):
        found[f"half.{ending}"] = whole[ending][: len(whole[ending]) // 2], ""
    silent, loud = np.zeros(16_000, np.float32), np.full(16_000, 1.0, np.float32)
    found |= {
        "silent.wav": (encoded(silent, "WAV", "PCM_16"), "silent"),
        "still.wav": (encoded(silent + 0.3, "WAV", "FLOAT"), "silent"),
        "clipped.wav": (encoded(loud * np.sign(tone), "WAV", "PCM_16"), "clipped"),
        "huge.wav": (encoded(tone * 1e30, "WAV", "FLOAT"), "beyond full scale"),
        "infinite.wav": (encoded(np.where(tone > 0.1, np.inf, tone), "WAV", "FLOAT"), "NaN or infinite"),
        "hertz.wav": (encoded(tone, "WAV", "PCM_16", rate_hz=1), ""),
        "slow.wav": (encoded(tone, "WAV", "PCM_16", rate_hz=100), ""),
        "fast.wav": (_with_rate(whole["wav"], 2**31 - 1), ""),
        "no-rate.wav": (_with_rate(whole["wav"], 0), ""),
        "many.wav": (encoded(np.repeat(tone[:800, None], 200, 1), "WAV", "PCM_16"), "channels"),
        "zip.wav": (zipped({"a.wav": whole["wav"]}), ""),
        "elf.wav": (b"\x7fELF" + random.bytes(4000), ""),
        "gzip.flac": (gzip.compress(whole["flac"]), ""),
        "long.flac": (encoded(np.zeros(8000 * 130, np.int16), "FLAC", "PCM_16", rate_hz=8000), "too long"),
    }  # fmt: skip
    return found


GOOD_SOUNDS = ("good-a.wav", "good-b.flac", "good-c.wav")


def sound_corpus(folder: Path, sounds: dict[str, tuple[bytes, str]]) -> None:
    """The bad sounds and three good ones, each with a transcript beside it; and what is called a sound and is no file."""
    folder.mkdir(parents=True)
    for name, (data, _) in sounds.items():
        (folder / name).write_bytes(data)
    for name in GOOD_SOUNDS:
        (folder / name).write_bytes(sound_bytes(kind=name.rpartition(".")[2].upper()))
    for name in (*sounds, *GOOD_SOUNDS):
        (folder / f"{name}.txt").write_text(f"words of {name}")
    os.mkfifo(folder / "pipe.wav")
    (folder / "device.wav").symlink_to("/dev/zero")
    (folder / "nowhere.wav").symlink_to(folder / "none")
    (folder / "folder.wav").mkdir()


ODD = ("pipe.wav", "device.wav", "nowhere.wav", "folder.wav")


def _with_rate(wav: bytes, rate_hz: int) -> bytes:
    return wav[:24] + struct.pack("<II", rate_hz, min(2 * rate_hz, 2**32 - 1)) + wav[32:]


def zipped(members: dict[str, bytes]) -> bytes:
    """A zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()
