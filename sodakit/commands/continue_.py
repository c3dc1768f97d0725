"""`sodakit continue`: a recording, and what the model says after it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from sodakit.audio.files import probe, read_blocks, resample
from sodakit.audio.wave import Wave
from sodakit.audio.writing import check_sound_path, write_blocks
from sodakit.bounds import Positive, PositiveShare
from sodakit.commands.options import SpeechOptions, ask_for_consent, read_options, shown
from sodakit.errors import AudioError
from sodakit.generate.defaults import CONTINUATION, CONTINUATION_S
from sodakit.log import say


@dataclass(frozen=True, kw_only=True)
class Options(SpeechOptions):
    """Write the recording followed by what the model says next.

    Of a recording longer than the model's context the last seconds are heard.

    Example: sodakit continue hello.wav --prompt-s 3 --out more.wav
    """

    file: tyro.conf.Positional[Path]
    """Sound to continue."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("continued.wav")
    """Sound file to write (.wav or .flac), at the rate of the recording."""
    prompt_s: Positive | None = None
    """Use only the first seconds of the file: they are written, and continued; default: all of it."""
    max_s: Positive = CONTINUATION_S
    """Longest continuation, in seconds."""
    temperature: float = CONTINUATION.temperature
    """Variety of the sound; 0 for the most likely codes."""
    top_p: PositiveShare = CONTINUATION.top_p
    """Sample from the most likely codes with this share of the probability."""


def main(argv: list[str]) -> None:
    """Continue the file that argv names."""
    options = read_options(Options, "continue", argv)
    check_sound_path(options.out)
    sampling, model = options.sampling, options.speech_model()
    heard_hz = model.codec.spec.sample_rate_hz
    end = _end(_beginning(options.file, options.prompt_s, heard_hz), model.context_s)
    spoken = model.continue_speech(
        end, sampling=sampling, max_s=options.max_s, seed=options.seed, consent=options.consent
    )
    rate_hz = probe(options.file).sample_rate_hz
    more = resample(spoken.wave, rate_hz)

    def parts() -> Iterator[Wave]:
        yield from _beginning(options.file, options.prompt_s)
        yield more

    given_s = write_blocks(options.out, parts(), rate_hz, more.origin) - more.duration_s
    heard = "" if spoken.heard_s >= given_s - 0.2 else f" (heard: its last {spoken.heard_s:.1f} s)"
    ending = "" if spoken.ended else ", where it was stopped"
    say(f"{shown(options.out)}: {given_s:.2f} s given{heard}, {more.duration_s:.2f} s continued{ending}.")
    ask_for_consent(options.consent)


def _beginning(file: Path, prompt_s: float | None, sample_rate_hz: int | None = None) -> Iterator[Wave]:
    """The recording block by block, up to `prompt_s`."""
    left_s = prompt_s
    for block in read_blocks(file, sample_rate_hz):
        if left_s is None:
            yield block
            continue
        yield block.cut(0, min(left_s, block.duration_s))
        left_s -= block.duration_s
        if left_s <= 0:
            return


def _end(blocks: Iterator[Wave], longest_s: float) -> Wave:
    """The last `longest_s` of a sound, of which no more is held."""
    held: list[Wave] = []
    for block in blocks:
        held.append(block)
        while sum(b.duration_s for b in held[1:]) >= longest_s:
            held.pop(0)
    samples_S = np.concatenate([b.samples_S for b in held])
    if not len(samples_S):
        raise AudioError("The recording holds no samples.")
    whole = Wave(samples_S, held[0].sample_rate_hz)
    return whole.cut(max(0.0, whole.duration_s - longest_s), whole.duration_s)
