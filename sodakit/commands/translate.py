"""`sodakit translate`: speech in one language to speech in another, in the same voice."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.bounds import Positive
from sodakit.commands.options import SpeechOptions, ask_for_consent, read_options, shown
from sodakit.generate.defaults import TRANSLATION_S


@dataclass(frozen=True, kw_only=True)
class Options(SpeechOptions):
    """Translate a recording of any length: print what was heard and its translation, and write the speech.

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
    max_s: Positive = TRANSLATION_S
    """Longest spoken translation, in seconds."""


def main(argv: list[str]) -> None:
    """Translate the file that argv names."""
    options = read_options(Options, "translate", argv)
    from sodakit.audio.files import read_blocks, write_wave
    from sodakit.audio.writing import check_sound_path
    from sodakit.generate.interpreter import translate_long
    from sodakit.generate.translate import Translator, Wanted
    from sodakit.log import say

    out = options.out or options.file.with_name(f"{options.file.stem}.{options.to}.wav")
    check_sound_path(out)
    wanted = Wanted(
        to=options.to,
        sampling=options.sampling,
        max_s=options.max_s,
        seed=options.seed,
        consent=options.consent,
    )
    translator = Translator.load(
        options.model, codec=options.codec, device=options.device, watermark=options.watermark
    )
    made = translate_long(
        translator, read_blocks(options.file, translator.model.codec.spec.sample_rate_hz), wanted
    )
    if made.source_text:
        print(f"{made.source_language or '?'}\t{shown(made.source_text)}")
    if made.text:
        print(f"{made.language}\t{shown(made.text)}")
    for line in made.stopped:
        say(f"Cut off: {line}.")
    if made.spoken is not None and len(made.spoken.wave.samples_S):
        write_wave(out, made.spoken.wave)
        say(shown(out))
        ask_for_consent(options.consent)
