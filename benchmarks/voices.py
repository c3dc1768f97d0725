"""Every voice of every engine: word errors by a recogniser, DNSMOS, and the real-time factor.

    python benchmarks/voices.py --texts $DATA/tts_sentences/vctk_unique_sentences.jsonl.gz --judges models \\
        --voices all flite piper:models/piper-joe kokoro:models/kokoro --recordings $DATA/vctk --out benchmarks/voices.md

`--judges` is a folder with a Whisper and DNSMOS. Numbers are kept beside OUT, voice by voice: the same command goes on.
With `--speed N` it says N sentences in each voice again, and takes only the speed from that: for a quiet machine.
"""

import argparse
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.commands.options import MosOptions
from sodakit.eval.cases import read_recordings
from sodakit.eval.codecs import markdown
from sodakit.eval.judges import Judge
from sodakit.eval.opinion import OpinionJudge
from sodakit.eval.spoken_scores import spoken_errors
from sodakit.files import digest, read_json_lines, write_json_lines, write_text
from sodakit.log import say, track
from sodakit.prepare.synthesis import read_texts
from sodakit.voices.contract import Voice
from sodakit.voices.engines import Synthesizer
from sodakit.voices.names import find_voices

COLUMNS = ("Voice", "Engine", "Licence", "WER", "95 % interval", "DNSMOS overall", "signal", "background", "P.808",
           "Real-time factor", "To train on")  # fmt: skip
COMMAND = (
    "python benchmarks/voices.py --texts vctk_unique_sentences.jsonl.gz --judges MODELS --recordings VCTK --voices all flite "
    "piper:MODELS/piper-joe kokoro:MODELS/kokoro --out benchmarks/voices.md"
)
BELOW_RECORDINGS = 0.5
"""How much less DNSMOS overall than recordings a voice to train on may have."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--voices", nargs="+", required=True)
    parser.add_argument("--judges", type=Path, required=True)
    parser.add_argument("--recordings", type=Path, help="recordings with transcripts, scored alike")
    parser.add_argument("--sentences", type=int, default=20)
    parser.add_argument("--speed", type=int, help="measure only speed again, with so many sentences")
    parser.add_argument("--note", default="", help="what to say of the machine")
    parser.add_argument("--out", type=Path, required=True)
    words = parser.parse_args()
    options = MosOptions(judges=words.judges, judge_language="en")
    judge, opinions = options.named_recogniser(), options.mos()
    assert judge is not None and opinions is not None
    texts = [line.text for line in read_texts(words.texts, "en")][: words.sentences]
    kept, asked = words.out.with_suffix(".jsonl"), digest(*texts, judge.fingerprint, opinions.fingerprint)
    rows = read_json_lines(kept) if kept.exists() else []
    if any(row["asked"] != asked for row in rows):
        raise SystemExit(
            f"{kept} has numbers of other sentences or judges. Delete it, or name another --out."
        )
    done = {row["voice"]: row for row in rows}
    voices = find_voices(words.voices)
    for voice in track(voices, "voices"):
        if words.speed:
            done[voice.name]["rtf"] = speak(voice, texts[: words.speed])[1]
        elif voice.name not in done:
            done[voice.name] = {"asked": asked} | measure(voice, texts, judge, opinions)
            say(" ".join(cells(done[voice.name], None)))
        write_json_lines(kept, done.values())
    if words.recordings and "recordings" not in done:
        cases = read_recordings(words.recordings, words.sentences)
        waves, said = [case.read() for case in cases], [case.text for case in cases]
        row = {"asked": asked, "voice": "recordings", "engine": words.recordings.name}
        done["recordings"] = row | scores(waves, said, judge, opinions)
        write_json_lines(kept, done.values())
    write_text(words.out, page(list(done.values()), len(texts), judge, opinions, words.note))


def speak(voice: Voice, texts: Sequence[str]) -> tuple[list[Wave], float]:
    """The sounds and the real-time factor. The first is said twice: opening an engine is no part of its speed."""
    with Synthesizer() as synthesizer:
        synthesizer.speak(texts[0], voice)
        begun_s = time.monotonic()
        waves = [speech.wave for speech in synthesizer.speak_many((text, voice) for text in texts)]
        took_s = time.monotonic() - begun_s
    return waves, took_s / sum(wave.duration_s for wave in waves)


def measure(voice: Voice, texts: Sequence[str], judge: Judge, opinions: OpinionJudge) -> dict[str, Any]:
    """The row of one voice."""
    waves, rtf = speak(voice, texts)
    row = {"voice": voice.name, "engine": voice.engine, "licence": voice.licence, "rtf": rtf}
    return row | scores(waves, texts, judge, opinions)


def scores(
    waves: Sequence[Wave], texts: Sequence[str], judge: Judge, opinions: OpinionJudge
) -> dict[str, Any]:
    """Word errors and opinions of some sounds."""
    errors = spoken_errors(judge, texts, waves)
    rated = opinions.rate(waves)
    means = {name: float(np.mean([row[name] for row in rated])) for name in rated[0]}
    return {"wer": errors.wer, "wer_interval": errors.interval, **means}


def cells(row: dict[str, Any], recorded: dict[str, Any] | None) -> tuple[str, ...]:
    """A row as text; with the row of recordings, also whether a voice is good enough to train on."""
    low, high = row["wer_interval"]
    mos = [f"{row[name]:.2f}" for name in ("mos_ovrl", "mos_sig", "mos_bak", "mos_p808")]
    speed, fit = f"{row['rtf']:.3f}" if "rtf" in row else "–", "–"
    if recorded is not None and row is not recorded:
        fit = "yes" if is_fit(row, recorded) else "no"
    return (row["voice"], row["engine"], row.get("licence", "–"), f"{row['wer']:.1%}", f"{low:.1%} – {high:.1%}",
            *mos, speed, fit)  # fmt: skip


def is_fit(row: dict[str, Any], recorded: dict[str, Any]) -> bool:
    """Heard as well as recordings are, as far as intervals tell, and of nearly their quality."""
    heard = row["wer_interval"][0] <= recorded["wer_interval"][1]
    return bool(heard and row["mos_ovrl"] >= recorded["mos_ovrl"] - BELOW_RECORDINGS)


def page(rows: Sequence[dict[str, Any]], count: int, judge: Judge, opinions: OpinionJudge, note: str) -> str:
    """The table with what it was measured by."""
    ordered = sorted(rows, key=lambda row: -row["mos_ovrl"])
    recorded = next((row for row in rows if row["voice"] == "recordings"), None)
    lines = [
        "# Voices, measured",
        f"`{COMMAND}`",
        f"{count} sentences each, the same for all voices; recordings say their own. Made {time.strftime('%d %B %Y')}, "
        f"{platform.machine()}. Ordered by DNSMOS overall.",
        f"Words by {judge.name}, quality by {opinions.name}. {note}".strip(),
        "To train on: the interval of the word errors begins no higher than that of recordings ends, and DNSMOS overall is at "
        f"most {BELOW_RECORDINGS} below that of recordings. A real-time factor of 0.1 makes ten seconds of speech in one.",
        markdown(COLUMNS, [cells(row, recorded) for row in ordered]),
    ]
    return "\n\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
