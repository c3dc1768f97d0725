"""`sodakit align`: when each word is said."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sodakit.bounds import Share
from sodakit.commands.options import read_options, refuse_unused
from sodakit.log import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sodakit.align.contract import Aligner
    from sodakit.prepare.recording import Item


@dataclass(frozen=True)
class Options:
    """Times of words, for interleaving speech and text, for subtitles and for error analysis.

    A store becomes a new one that has them; a folder of recordings with transcripts becomes a manifest.jsonl that
    `sodakit prepare` reads. Recordings are better heard than the sound of a store's codes. What cannot be aligned, or
    only with doubt, stays as it was and is counted. Killed at any moment, the same command resumes.

    Example: sodakit align recordings/ --aligner facebook/wav2vec2-base-960h --out aligned/

    Example: sodakit align stores/mine --aligner Systran/faster-whisper-base --out stores/mine_timed
    """

    data: Annotated[Path, tyro.conf.Positional]
    """A store, or recordings in any layout that `sodakit prepare` reads."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the new store, or of the manifest."""
    aligner: str = "taught"
    """A CTC model of transformers (wav2vec 2, HuBERT, MMS) by hub id or folder, a Whisper in CTranslate2 form, or a judge's
    .safetensors. `taught` downloads nothing: a small recogniser is taught these very sounds first."""
    language: str | None = None
    """What a multilingual Whisper is told to expect, as en; default: as the recordings say, else it guesses."""
    min_confidence: Share = 0.2
    """An utterance whose words the aligner finds less probable, on average, stays as it was: its text is likely another's."""
    again: bool = False
    """Align also utterances whose words have times already."""
    codec: str | None = None
    """Of a store: its codec by name, hub id or folder; default: the one of that name."""
    device: str = "cpu"
    """Where aligner and codec run: cpu, cuda, …"""
    fresh: bool = False
    """Start over; what another aligner noted is set aside."""


def main(argv: list[str]) -> None:
    """Align as argv says."""
    options = read_options(Options, "align", argv)
    from sodakit.align.folders import align_folder
    from sodakit.align.notes import AlignRule
    from sodakit.align.stores import align_store, stored_items
    from sodakit.codec.load import load_codec_of
    from sodakit.prepare.sources.detect import open_folder
    from sodakit.store.reader import StoreReader

    rule = AlignRule(min_confidence=options.min_confidence, again=options.again)
    if (options.data / "store.json").is_file():
        store = StoreReader(options.data)
        codec = load_codec_of(
            store.codec_spec, f"{options.data} holds codes of", options.codec, device=options.device
        )
        aligner = _aligner(options, lambda: list(stored_items(store, codec)))
        counts = align_store(store, options.out, aligner, codec, rule, options.fresh)
        say(f"{options.out}: {counts}. Name it where {options.data} was named.")
        return
    refuse_unused(options, ("codec",), "on recordings")
    items = list(open_folder(options.data))
    aligner = _aligner(options, lambda: items)
    counts = align_folder(items, options.out, aligner, rule, options.fresh)
    say(f"{options.out}: {counts}. Next: sodakit prepare {options.out} --out STORE")


def _aligner(options: Options, items: "Callable[[], Sequence[Item]]") -> "Aligner":
    from sodakit.align.named import named_aligner
    from sodakit.align.taught import TAUGHT, teach_aligner

    if options.aligner == TAUGHT:
        refuse_unused(options, ("language",), "on an aligner that is taught here")
        return teach_aligner(items(), options.out / "aligner.safetensors")
    return named_aligner(options.aligner, language=options.language, device=options.device)
