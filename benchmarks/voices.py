"""Every voice of every engine: word errors by a recogniser, DNSMOS, and the real-time factor.

    python benchmarks/voices.py --texts $DATA/tts_sentences/harvard.txt --judges models --out benchmarks/voices.md \\
        --voices all flite piper:models/piper-joe kokoro:models/kokoro --recordings $DATA/vctk

`--judges` is a folder with a Whisper and DNSMOS. Numbers are kept in OUT.jsonl voice by voice; the same command goes on.
"""

import argparse
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.audio.files import read_wave
from sodakit.audio.wave import Wave
from sodakit.commands.options import MosOptions
from sodakit.eval.cases import read_recordings
from sodakit.eval.codecs import markdown
from sodakit.eval.judges import Judge
from sodakit.eval.opinion import OpinionJudge
from sodakit.eval.spoken_scores import spoken_errors
from sodakit.files import read_json_lines, write_json_lines, write_text
from sodakit.log import say
from sodakit.prepare.synthesis import read_texts
from sodakit.voices.contract import Voice
from sodakit.voices.engines import Synthesizer
from sodakit.voices.names import find_voices

COLUMNS = ("Voice", "Engine", "Licence", "WER", "95 % interval", "DNSMOS overall", "signal", "background", "P.808",
           "Real-time factor")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--voices", nargs="+", required=True)
    parser.add_argument("--judges", type=Path, required=True)
    parser.add_argument("--recordings", type=Path, help="recordings with transcripts, scored alike")
    parser.add_argument("--sentences", type=int, default=20)
    parser.add_argument("--note", default="", help="what to say of the machine")
    parser.add_argument("--out", type=Path, required=True)
    words = parser.parse_args()
    options = MosOptions(judges=words.judges, judge_language="en")
    judge, opinions = options.named_recogniser(), options.mos()
    assert judge is not None and opinions is not None
    texts = [line.text for line in read_texts(words.texts, "en")][: words.sentences]
    kept = words.out.with_suffix(".jsonl")
    rows = read_json_lines(kept) if kept.exists() else []
    for voice in find_voices(words.voices):
        if voice.name not in {row["voice"] for row in rows}:
            rows.append(measure(voice, texts, judge, opinions))
            write_json_lines(kept, rows)
            say(" ".join(cells(rows[-1])))
    if words.recordings and "recordings" not in {row["voice"] for row in rows}:
        cases = read_recordings(words.recordings, words.sentences)
        waves, said = [read_wave(case.audio) for case in cases], [case.text for case in cases]
        rows.append(
            scores(waves, said, judge, opinions) | {"voice": "recordings", "engine": words.recordings.name}
        )
        write_json_lines(kept, rows)
    write_text(words.out, page(rows, len(texts), judge, opinions, words.note))


def measure(voice: Voice, texts: Sequence[str], judge: Judge, opinions: OpinionJudge) -> dict[str, Any]:
    """The row of one voice. The first sentence is said twice: opening an engine is no part of its speed."""
    with Synthesizer() as synthesizer:
        synthesizer.speak(texts[0], voice)
        begun_s = time.monotonic()
        waves = [speech.wave for speech in synthesizer.speak_many((text, voice) for text in texts)]
        took_s = time.monotonic() - begun_s
    row = {"voice": voice.name, "engine": voice.engine, "licence": voice.licence}
    row |= {"rtf": took_s / sum(wave.duration_s for wave in waves)}
    return row | scores(waves, texts, judge, opinions)


def scores(
    waves: Sequence[Wave], texts: Sequence[str], judge: Judge, opinions: OpinionJudge
) -> dict[str, Any]:
    """Word errors and opinions of some sounds."""
    errors = spoken_errors(judge, texts, waves)
    rated = opinions.rate(waves)
    means = {name: float(np.mean([row[name] for row in rated])) for name in rated[0]}
    return {"wer": errors.wer, "wer_interval": errors.interval, **means}


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row as text."""
    low, high = row["wer_interval"]
    mos = [f"{row[name]:.2f}" for name in ("mos_ovrl", "mos_sig", "mos_bak", "mos_p808")]
    speed = f"{row['rtf']:.3f}" if "rtf" in row else "–"
    return (row["voice"], row["engine"], row.get("licence", "–"), f"{row['wer']:.1%}", f"{low:.1%} – {high:.1%}",
            *mos, speed)  # fmt: skip


def page(rows: Sequence[dict[str, Any]], count: int, judge: Judge, opinions: OpinionJudge, note: str) -> str:
    """The table with what it was measured by."""
    ordered = sorted(rows, key=lambda row: -row["mos_ovrl"])
    lines = [
        "# Voices, measured",
        f"`benchmarks/voices.py`: {count} sentences each, the same for all; made {time.strftime('%d %B %Y')}, "
        f"{platform.machine()}, one thread. Ordered by DNSMOS overall.",
        f"Words by {judge.name}, quality by {opinions.name}. {note}".strip(),
        markdown(COLUMNS, [cells(row) for row in ordered]),
    ]
    return "\n\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
