"""Errors of aligners on synthetic speech whose words have known times: espeak-ng tells them, in fourteen voices.

    python benchmarks/alignment.py TEXTS.jsonl --aligners taught spread models/whisper-base --out /tmp/alignment

`taught` learns the very sounds that it aligns, as `sodakit align` does; `spread` is the guess without a model; others are
names or folders of models. Each also gets every sound with another sound's text: what of its confidence tells them apart.
The times of espeak-ng are those of its phones; the borders of words are where one phone ends and the next begins.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from sodakit.align.contract import Aligner
from sodakit.align.named import named_aligner
from sodakit.align.spread import SpreadAligner
from sodakit.align.taught import teach_aligner
from sodakit.hardware import torch_threads
from sodakit.prepare.recording import Item
from sodakit.tokens.words import timed_words
from sodakit.voices.catalogue import SEEN_VOICES, UNSEEN_VOICES
from sodakit.voices.contract import Speech, WordSpan
from sodakit.voices.engines import Synthesizer


def spoken(texts: list[str]) -> list[Speech]:
    """Each text by one of the built-in voices in turn."""
    voices = [*SEEN_VOICES, *UNSEEN_VOICES]
    with Synthesizer() as engines:
        return list(engines.speak_many([(text, voices[n % len(voices)]) for n, text in enumerate(texts)]))


def errors_s(
    texts: list[str], said: list[Speech], found: list[tuple[WordSpan, ...]]
) -> dict[str, np.ndarray]:
    """Found less known times of the words that both tell, in seconds."""
    errors: dict[str, list[float]] = {"start": [], "end": []}
    for text, speech, words in zip(texts, said, found, strict=True):
        mine, known = (timed_words(text, spans, speech.wave.duration_s) for spans in (words, speech.words))
        theirs = {word.text_at: word for word in known}
        for word in mine:
            other = theirs.get(word.text_at)
            for edge in errors if other is not None else ():
                a, b = getattr(word, f"{edge}_s"), getattr(other, f"{edge}_s")
                if a is not None and b is not None:
                    errors[edge].append(a - b)
    return {edge: np.array(values) for edge, values in errors.items()}


def confidences(found: list[tuple[WordSpan, ...]]) -> list[float]:
    """Of each text, the mean of its words; 0 where it could not be aligned."""
    return [
        float(np.mean([w.confidence for w in words if w.confidence is not None] or [0.0])) for words in found
    ]


def aligner_of(name: str, items: list[Item], out: Path) -> Aligner:
    """The aligner of a name, or the one that is taught these sounds."""
    if name == "spread":
        return SpreadAligner()
    return teach_aligner(items, out / "aligner.safetensors") if name == "taught" else named_aligner(name)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", type=Path, help='JSON lines with "text"')
    parser.add_argument("--aligners", nargs="+", default=["taught", "spread"])
    parser.add_argument("--sentences", type=int, default=280)
    parser.add_argument("--measured", type=int, default=84, help="of them aligned and measured")
    parser.add_argument("--out", type=Path, default=Path("/tmp/alignment"), help="keeps the taught aligner")
    options = parser.parse_args()
    rows = [json.loads(line)["text"] for line in options.texts.read_text("utf-8").splitlines()]
    texts = [text for text in rows if 5 <= len(text.split()) <= 20]
    np.random.default_rng(0).shuffle(texts)
    texts = texts[: options.sentences]
    said = spoken(texts)
    items = [Item(id=str(n), wave=s.wave, text=t) for n, (t, s) in enumerate(zip(texts, said, strict=True))]
    texts, said = texts[: options.measured], said[: options.measured]
    waves, languages = [s.wave for s in said], ["en"] * len(said)
    wrong = [texts[(n + 7) % len(texts)] for n in range(len(texts))]
    print(f"{len(texts)} sentences, {sum(w.duration_s for w in waves) / 60:.1f} min")
    with torch_threads(1):
        for name in options.aligners:
            aligner = aligner_of(name, items, options.out)
            begun_s = time.process_time()
            found = aligner.align(waves, texts, languages)
            took_s = time.process_time() - begun_s
            for edge, error in errors_s(texts, said, found).items():
                middle, tenth = np.quantile(np.abs(error), [0.5, 0.9])
                print(
                    f"{name:24} {edge:5} {len(error):5} words: median {1000 * middle:.0f} ms, 90 % {1000 * tenth:.0f} ms, "
                    f"bias {1000 * np.median(error):+.0f} ms"
                )
            right = np.quantile(confidences(found), [0.05, 0.5])
            other = np.quantile(confidences(aligner.align(waves, wrong, languages)), [0.5, 0.95])
            print(
                f"{name:24} confidence: its own text {right[1]:.2f} (5 % below {right[0]:.2f}), another's {other[0]:.2f} "
                f"(5 % above {other[1]:.2f}); {took_s / sum(w.duration_s for w in waves):.3f} CPU-s per second of sound"
            )


if __name__ == "__main__":
    main()
