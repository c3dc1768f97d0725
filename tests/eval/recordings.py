"""Folders of small recordings with transcripts, and a seed-tts-eval list over them."""

from pathlib import Path

from sodakit.audio.files import write_wave
from sodakit.files import write_json_lines
from tests.eval.small_model import noise

TEXTS = ("a dog ran home", "the cat sat", "dogs and cats", "the mat", "a cat ran", "home")


def recordings_folder(folder: Path, first_seed: int = 0, damaged: int | None = None) -> Path:
    """Six recordings by three speakers; the `damaged` one is no sound."""
    rows = []
    for n, text in enumerate(TEXTS):
        path = folder / "audio" / f"{first_seed + n}.wav"
        write_wave(path, noise(first_seed + n, 0.3 + 0.05 * n))
        rows.append({"audio": f"audio/{path.name}", "text": text, "speaker": f"s{n % 3}", "duration_s": 0.3})
        if n == damaged:
            path.write_bytes(b"no sound")
    write_json_lines(folder / "manifest.jsonl", rows)
    return folder


def voice_list(folder: Path, damaged: int | None = None) -> Path:
    """A list whose prompts and originals are the recordings, one after the other."""
    recordings_folder(folder, damaged=damaged)
    lines = [
        f"case-{n}|{TEXTS[n]}|audio/{n}.wav|{TEXTS[(n + 1) % 6]}|audio/{(n + 1) % 6}.wav" for n in range(6)
    ]
    (folder / "meta.lst").write_text("\n".join(lines) + "\n")
    return folder
