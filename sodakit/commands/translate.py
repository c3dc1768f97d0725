"""`sodakit translate`: speech in one language to speech in another, in the same voice."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.commands.options import read_options


@dataclass(frozen=True)
class Options:
    """Translate a recording: print what was heard and its translation, and write the speech.

    Example: sodakit translate hola.wav --to en --model runs/s2st_demo/finetuned_pretrained --out hello.wav
    """

    file: tyro.conf.Positional[Path]
    """Sound file."""
    to: str = "en"
    """Language to translate to, as the model was taught to call it."""
    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])] = Path("runs/s2st_demo/finetuned_pretrained")
    """Checkpoint fine-tuned on pairs, or run folder of `sodakit finetune`: its best checkpoint."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Sound file to write; default: beside the recording, with the language in its name."""
    temperature: float = 0.9
    """Of the sound."""
    top_p: float = 0.8
    """Of the sound."""
    max_s: float = 30.0
    """Longest translation."""
    seed: int = 0
    """Same seed, same sound."""
    codec: str | None = None
    """Codec by name, hub id or folder; default: the one the model was trained with."""
    device: str | None = None
    """cpu, cuda, …"""


def main(argv: list[str]) -> None:
    """Translate the file that argv names."""
    options = read_options(Options, "translate", argv)
    from sodakit.audio.files import read_wave, write_wave
    from sodakit.generate.sampling import Sampling
    from sodakit.generate.translate import Translator
    from sodakit.log import say

    translator = Translator.load(options.model, codec=options.codec, device=options.device)
    made = translator.translate(
        read_wave(options.file),
        to=options.to,
        sampling=Sampling(temperature=options.temperature, top_p=options.top_p),
        max_s=options.max_s,
        seed=options.seed,
    )
    if made.source_text:
        print(f"{made.source_language or '?'}\t{made.source_text}")
    if made.text:
        print(f"{made.language}\t{made.text}")
    if not made.ended:
        say("It did not come to an end by itself: the translation is cut off.")
    if made.spoken is not None and len(made.spoken.wave.samples_S):
        out = options.out or options.file.with_name(f"{options.file.stem}.{options.to}.wav")
        write_wave(out, made.spoken.wave)
        say(str(out))
