"""`sodakit eval`: score a model on pairs, by likelihood, by what it writes and says; build benchmarks, compare."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sodakit.bounds import Bounds, Count, Positive
from sodakit.checkpoint.shipped import STARTER
from sodakit.commands.options import run_word
from sodakit.errors import ConfigError
from sodakit.log import say


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Score a model on a task of pairs under one or more policies, from one forward pass per clip.

    Tasks: salmon, swuggy, sblimp, sstorycloze, topic_storycloze, twuggy, tblimp, tstorycloze.
    Policies: soda, llama-mimi, slamkit, slm_scaling, zerospeech, salmon, sodakit.

    Example: sodakit eval pairs --task salmon --data slprl/SALMon --model runs/mine --policy soda sodakit
    """

    task: str
    """Which benchmark."""
    data: str | None = None
    """Folder or hub id with the pairs; default: where the task is released."""
    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])] = STARTER
    """Checkpoint, or run folder: its best checkpoint where it kept one, else its newest."""
    policy: tuple[str, ...] = ()
    """Scoring rules; default: all that are defined for the task."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/eval")
    """Folder for log-probabilities and TASK.json; the same command goes on where it stopped."""
    negative: str | None = None
    """Key of the wrong ending, where a text file offers several."""
    missing: str | None = None
    """Instead of the policies' own: skip, error or worst, for pairs with a clip that cannot be read."""
    subset: str | None = None
    """all, in_vocabulary or out_of_vocabulary, for words with a known frequency."""
    max_s: Positive | None = None
    """Cut clips here, for models of short context."""
    limit: Count | None = None
    """Only this many pairs of each part, evenly over its paradigms."""
    codec: str | None = None
    """Codec by name, hub id or folder; default: the one the model was trained with."""
    device: str | None = None
    """cpu, cuda, …"""

    def run(self) -> None:
        from sodakit.eval.pair_layouts import first_pairs, read_pairs
        from sodakit.eval.pairs import marks_ending, score_pairs, task
        from sodakit.eval.results import save_result, table
        from sodakit.generate.speech_model import SpeechModel

        chosen = task(self.task)
        source = self.data or chosen.hub
        if source is None:
            raise ConfigError(f"{chosen.name} has no release on the hub. Name its folder with --data.")
        pairs = first_pairs(read_pairs(source, speech=chosen.speech, negative=self.negative), self.limit)
        policies = self._policies(chosen.family)
        by_ending = [p.name for p in policies if p.span == "ending"]
        if by_ending and not self.policy and not all(map(marks_ending, pairs)):
            say(
                f"Left out: {', '.join(by_ending)}, which counts endings alone; not every pair says where its own begins."
            )
            policies = [p for p in policies if p.span == "whole"]
        model = SpeechModel.load(self.model, codec=self.codec, device=self.device)
        say(f"{chosen.name}: {len(pairs)} pairs, policies {', '.join(p.name for p in policies)}")
        result = score_pairs(model, chosen, pairs, policies, self.out / chosen.name)
        save_result(self.out / f"{chosen.name}.json", result)
        print(table([result]))

    def _policies(self, family: Any) -> list[Any]:
        from sodakit.config import override
        from sodakit.eval.policies import policies_for, policy

        found = [policy(name, family) for name in self.policy] or list(policies_for(family))
        changes = {
            "missing": self.missing,
            "subset": self.subset,
            "max_s": None if self.max_s is None else str(self.max_s),
        }
        changed = {name: value for name, value in changes.items() if value is not None}
        return [override(p, changed) for p in found]


@dataclass(frozen=True, kw_only=True)
class Nll:
    """Validation likelihood of a store: the paper's six variants, nats by kind of token, bits per second of audio.

    Example: sodakit eval nll --store stores/mine --model runs/mine --split validation
    """

    store: Path
    """A store made by `sodakit prepare` with the model's codec and tokenizer."""
    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])] = STARTER
    """Checkpoint, or run folder: its best checkpoint where it kept one, else its newest."""
    split: str = "validation"
    """Which split."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/eval")
    """Folder for log-probabilities and nll_SPLIT.json."""
    limit: Count | None = None
    """Only this many utterances, spread over the split."""
    softmax: Literal["full", "slot"] | None = None
    """Over all ids, or over those legal in their place; default: as the model was trained."""
    device: str | None = None
    """cpu, cuda, …"""

    def run(self) -> None:
        from sodakit.checkpoint.load import load_checkpoint
        from sodakit.errors import CheckpointError
        from sodakit.eval.nll import store_likelihood
        from sodakit.eval.results import save_result
        from sodakit.store.reader import StoreReader
        from sodakit.tokens.vocabulary import Vocabulary

        checkpoint = load_checkpoint(self.model)
        if checkpoint.vocabulary_folder is None:
            raise CheckpointError(
                f"{self.model} was saved without its vocabulary; train it with `sodakit train`."
            )
        vocabulary = Vocabulary.load(checkpoint.vocabulary_folder)
        codec = (checkpoint.codec or {}).get("fingerprint")
        store = StoreReader(self.store, expect_codec=codec)
        slots = checkpoint.config.get("loss", {}).get("slot_softmax")
        found, result = store_likelihood(
            checkpoint.model(device=self.device or "cpu"),
            vocabulary,
            store,
            self.split,
            self.out / f"nll_{self.split}",
            limit=self.limit,
            softmax=self.softmax or ("slot" if slots else "full"),
        )
        save_result(self.out / f"nll_{self.split}.json", result)
        print(
            f"{found.num_utterances} utterances, {found.audio_s:.0f} s of audio, softmax: {result['softmax']}"
        )
        for number, (name, value) in enumerate(found.variants.items(), start=1):
            print(f"{number} {name:<12} {value.value:.4f} nats ({value.low:.4f} to {value.high:.4f})")
        for view, bits in found.bits_per_audio_s.items():
            print(f"  {view:<12} {bits:.1f} bits per second of audio")


@dataclass(frozen=True, kw_only=True)
class Build:
    """Build a benchmark of pairs: SALMon-style from recordings, noises and rooms, or spoken from written pairs.

    Example: sodakit eval build --out bench/salmon --recordings data/vctk --noises data/esc10 --rooms data/rir

    Example: sodakit eval build --out bench/swuggy --texts data/word_pairs --part swuggy
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the benchmark; an older one there is replaced."""
    recordings: tuple[Path, ...] = ()
    """Folders of speech by several speakers, in any layout that `sodakit prepare` reads."""
    noises: tuple[Path, ...] = ()
    """Folders of backgrounds, with `label` in their manifest where they have classes."""
    rooms: tuple[Path, ...] = ()
    """Folders of impulse responses."""
    texts: Path | None = None
    """Word, sentence or story pairs to be spoken, instead of recordings."""
    negative: str | None = None
    """Key of the wrong ending, where a text file offers several."""
    part: tuple[str, ...] = ()
    """Which parts; for texts, the one name. Default: all that the sources allow."""
    pairs: Count = 200
    """Pairs in each part."""
    voices_per_pair: Count = 1
    """Voices that speak each written pair."""
    voices: tuple[str, ...] = ()
    """Who speaks: `sodakit voices` lists the names. Default: the built-in ones."""
    segment_s: Annotated[float, Bounds(least=0.2)] = 2.0
    """Length of each half of a consistency pair."""
    snr_db: float = 5.0
    """Speech above background."""
    sample_rate_hz: Count = 24_000
    """Rate of the sound files."""
    seed: int = 0
    """Decides every choice."""

    def run(self) -> None:
        from sodakit.eval.build import BuildConfig, cue_lines, write_benchmark

        config = BuildConfig(
            pairs_per_part=self.pairs,
            voices_per_pair=self.voices_per_pair,
            voices=self.voices,
            segment_s=self.segment_s,
            snr_db=self.snr_db,
            sample_rate_hz=self.sample_rate_hz,
            seed=self.seed,
        )
        drafts, origin = self._spoken(config) if self.texts else self._sounds(config)
        built = write_benchmark(drafts, self.out, config, origin)
        print("\n".join(cue_lines(built)))
        say(f"{self.out}: {sum(built.num_pairs.values())} pairs, digest {built.digest}")
        for leak in built.leaks:
            say(f"Warning: {leak} gives the answer away. Use more or longer recordings.")

    def _sounds(self, config: Any) -> tuple[Any, dict[str, Any]]:
        from sodakit.eval.sound_pairs import Sources, sound_pairs, usable
        from sodakit.prepare.sources.detect import open_folder

        if not self.recordings:
            raise ConfigError("Nothing to build from. Name --recordings FOLDER, or --texts FOLDER.")
        found = [
            usable([item for folder in folders for item in open_folder(folder, keep_untranscribed=True)])
            for folders in (self.recordings, self.noises, self.rooms)
        ]
        sources = Sources(*found)
        return sound_pairs(sources, config, self.part or None), sources.origin()

    def _spoken(self, config: Any) -> tuple[Any, dict[str, Any]]:
        from sodakit.eval.pair_layouts import pairs_digest, read_pairs
        from sodakit.eval.spoken_pairs import spoken_pairs

        if self.recordings or len(self.part) > 1:
            raise ConfigError(
                "--texts goes with one --part and without --recordings: build one after the other."
            )
        assert self.texts is not None, "run looked"
        pairs = read_pairs(self.texts, speech=False, negative=self.negative)
        name = self.part[0] if self.part else self.texts.stem
        return spoken_pairs(pairs, config, name), {"texts": pairs_digest(pairs), "negative": self.negative}


@dataclass(frozen=True, kw_only=True)
class Compare:
    """A paired test of two results of the same benchmark, by policy, variant of likelihood, words, voice, or BLEU.

    Example: sodakit eval compare runs/a/eval/salmon.json runs/b/eval/salmon.json
    """

    first: Annotated[Path, tyro.conf.Positional]
    """TASK.json of one model."""
    second: Annotated[Path, tyro.conf.Positional]
    """TASK.json of another."""

    def run(self) -> None:
        from sodakit.eval.results import comparable, compare, load_result
        from sodakit.eval.translation import compare_translations

        a, b = load_result(self.first), load_result(self.second)
        names = [name for name in comparable(a) if name in comparable(b)]
        translations = a["task"] == b["task"] == "s2st"
        if not names and not translations:
            raise ConfigError(
                f"{self.first} and {self.second} have no score that a paired test can compare. Needed: two results of "
                "one task among pairs, nll, text, asr, tts, continue and s2st; likelihoods and texts by this version."
            )
        for name in ("asr_bleu", "chrf") if translations else ():
            found = compare_translations(a, b, name)
            v = found.value
            print(f"{name}: {v.value:+.2f} ({v.low:+.2f} to {v.high:+.2f}), p = {found.p_value:.4f}")
        for name in names:
            found = compare(a, b, name)
            v = found.value
            form = "+.4f" if name in ("similarity", "gen_nll") or "nll" in a else "+.1%"
            print(f"{name}: {v.value:{form}} ({v.low:{form}} to {v.high:{form}}), p = {found.p_value:.4f}")


def main(argv: list[str]) -> None:
    """Run `sodakit eval` with these arguments."""
    from sodakit.commands.eval_reports import Expected, Page, TextBenchmarks
    from sodakit.commands.eval_sentences import Sentences
    from sodakit.commands.eval_spoken import Asr, Continue, S2st, Tts

    run_word(
        {
            "pairs": Pairs,
            "nll": Nll,
            "text": TextBenchmarks,
            "asr": Asr,
            "tts": Tts,
            "continue": Continue,
            "s2st": S2st,
            "build": Build,
            "sentences": Sentences,
            "compare": Compare,
            "expected": Expected,
            "report": Page,
        },
        "eval",
        "Score a model, build benchmarks, compare results.",
        argv,
    )
