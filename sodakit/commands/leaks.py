"""`sodakit leaks`: what of evaluation sets is in a store's training split."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from sodakit.bounds import Count, PositiveShare
from sodakit.commands.options import read_options


@dataclass(frozen=True, kw_only=True)
class Options:
    """Overlap of a store's training split with evaluation sets, by transcripts and by codes.

    Ends with status 1 where something leaked, so that a script can stop there.

    Example: sodakit leaks stores/mine --against stores/librispeech_test sblimp.jsonl
    """

    store: tyro.conf.Positional[Path]
    """Store whose train split is searched."""
    against: tuple[Path, ...]
    """Evaluation sets: stores (their test split), or .jsonl and .txt files of transcripts."""
    words: Count = 8
    """Words in a run; a transcript of fewer is compared whole."""
    share: PositiveShare = 0.5
    """An item counts as leaked when this share of its runs is in training."""
    examples: int = 3
    """Leaked items shown of each set."""


def main(argv: list[str]) -> None:
    """Compare as argv says."""
    options = read_options(Options, "leaks", argv)
    from sodakit.errors import ConfigError
    from sodakit.prepare.leaks import find_leaks, leaks_table, read_evaluation
    from sodakit.prepare.overlap import word_runs
    from sodakit.store.reader import StoreReader

    if options.words < 1 or not 0 < options.share <= 1:
        raise ConfigError(
            f"words={options.words}, share={options.share}; needed: at least 1, and above 0 up to 1."
        )
    store = StoreReader(options.store)
    if "train" not in store.splits or not len(store.utterances("train")):
        raise ConfigError(f"{options.store} has no train split with utterances: there is nothing to search.")
    evaluations = {}
    for where in options.against:
        if (where / "store.json").is_file():
            # Codes of another codec do not compare.
            StoreReader(where, expect_codec=store.codec_spec.fingerprint)
        evaluations[str(where)] = read_evaluation(where)
    overlaps = find_leaks(store, evaluations, words=options.words, share=options.share)
    if not overlaps:
        raise ConfigError(
            "Nothing was compared: no set has transcripts of words, or codes, to look for. Check what they hold."
        )
    Console().print(leaks_table(overlaps, options.examples))
    leaked = sum(len(overlap.leaked) for overlap in overlaps)
    compared = sum(overlap.compared for overlap in overlaps)
    print(f"{leaked} leaked" if leaked else f"nothing leaked; {compared} compared by transcripts or codes")
    for name, items in evaluations.items():
        without = sum(not (item.runs or word_runs(item.text, options.words)) for item in items)
        if without:
            print(
                f"{name}: {without} of {len(items)} items have neither words nor enough codes: not compared"
            )
    if leaked:
        raise SystemExit(1)
