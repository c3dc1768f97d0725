"""Speech translation learnt from people: prompts of telephone systems in five languages, the same file name with the same meaning.

    python benchmarks/human_s2st.py PROMPTS --out runs/human_s2st --judges MODELS

PROMPTS has a folder for each language (en, es, fr, it, ru), into which the Debian packages `asterisk-core-sounds-LANGUAGE` (texts)
and `asterisk-core-sounds-LANGUAGE-g722` (sounds) were unpacked. One professional speaker a language, about 25 minutes each. The
reader of this layout is here, because nothing else has it. What is compared and what came of it: docs/studies/human_s2st.md.

What is done is not done again: the same line goes on after a stop. `--tiny` walks through everything in minutes and shows nothing.
"""

import argparse
import gzip
import random
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sodakit.audio.files import read_wave, write_wave
from sodakit.codec.contract import Codec
from sodakit.codec.load import load_codec
from sodakit.errors import ConfigError
from sodakit.eval.judge_folder import find_judges, named_speaker_judge
from sodakit.eval.judges import Judge, named_judge
from sodakit.eval.translated import Heard, PairCase, bleu_difference, listen_to, scores_of, write_outputs
from sodakit.eval.words import normalise
from sodakit.files import atomic_folder, read_json_lines, write_json, write_json_lines
from sodakit.generate.speech_model import Spoken
from sodakit.generate.translate import Translation, Translator
from sodakit.log import say
from sodakit.model.any_config import AnyConfig, Family
from sodakit.prepare.options import PrepareOptions
from sodakit.prepare.sources.detect import open_folder
from sodakit.prepare.splits import SplitRule
from sodakit.prepare.stages import prepare
from sodakit.recipes.demo import demo
from sodakit.recipes.finetune import finetune, pair_cases
from sodakit.recipes.finetune_config import FinetuneSettings, finetune_config
from sodakit.tokens.text import TextTokenizer
from sodakit.train.config import LossConfig, TrainConfig
from sodakit.train.trainer import train
from sodakit.voices.contract import Voice
from sodakit.voices.engines import Synthesizer
from sodakit.voices.names import find_voices

LANGUAGES = ("en", "es", "fr", "it", "ru")
HELD_OUT = {"test": 0.15, "validation": 0.05}
"""Shares of the meanings that have at least `TEST_WORDS` English words."""
TEST_WORDS = 3
NO_SENTENCES = ("letters/", "phonetic/", "silence/")
"""Folders whose names mean other sounds in other languages: heard and spoken, never translated."""
READERS = 4
"""Voices that read each training text in each language."""
SYSTEMS = {
    "people": ("pairs_people",),
    "voices": ("pairs_voices",),
    "both": ("pairs_people", "pairs_voices"),
    "both, from nothing": ("pairs_people", "pairs_voices"),
}
"""What each model is fine-tuned on."""


@dataclass(frozen=True)
class Prompt:
    """One recording with its text."""

    name: str
    language: str
    text: str
    sound: Path


def read_prompts(folder: Path) -> list[Prompt]:
    """Every prompt with a text and a sound; texts in brackets describe tones."""
    found = []
    for language in LANGUAGES:
        (texts,) = folder.glob(f"{language}/usr/share/doc/*/core-sounds-{language}.txt.gz")
        sounds = {
            path.as_posix().partition("/sounds/")[2].partition("/")[2].removesuffix(".g722"): path
            for path in folder.glob(f"{language}/usr/share/asterisk/sounds/**/*.g722")
        }
        for line in gzip.decompress(texts.read_bytes()).decode("utf-8").splitlines():
            name, colon, text = (part.strip() for part in line.partition(":"))
            # Some texts begin with their own name once more.
            text = re.sub(rf"^{re.escape(name)}\s*:\s*", "", text)
            if colon and name in sounds and text and not text.startswith(("[", "(")) and line[0] != ";":
                found.append(Prompt(name, language, " ".join(text.split()), sounds[name]))
    return found


def split_of_names(prompts: Sequence[Prompt], seed: int = 0) -> dict[str, str]:
    """The split of each name: names that share a text in any language are held out together."""
    group = {p.name: p.name for p in prompts}

    def first(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    named: dict[tuple[str, str], str] = {}
    for p in prompts:
        other = named.setdefault((p.language, normalise(p.text)), p.name)
        group[first(p.name)] = first(other)
    members = defaultdict(list)
    for name in group:
        members[first(name)].append(name)
    english = {p.name: p for p in prompts if p.language == "en"}
    long = [
        head
        for head, names in sorted(members.items())
        if all(n in english and len(english[n].text.split()) >= TEST_WORDS and _translates(n) for n in names)
    ]
    random.Random(seed).shuffle(long)
    splits, begin = dict.fromkeys(group, "train"), 0
    for split, share in HELD_OUT.items():
        end = begin + round(share * len(long))
        splits |= {name: split for head in long[begin:end] for name in members[head]}
        begin = end
    return splits


def _translates(name: str) -> bool:
    return not name.startswith(NO_SENTENCES)


def directions(by_name: dict[str, dict[str, Prompt]]) -> Iterator[tuple[Prompt, Prompt]]:
    """Every prompt with its translation: English to each language and back."""
    for name, prompts in sorted(by_name.items()):
        if "en" in prompts and _translates(name):
            for language in LANGUAGES[1:]:
                if language in prompts:
                    yield prompts["en"], prompts[language]
                    yield prompts[language], prompts["en"]


def make_corpora(prompts: Sequence[Prompt], voices: Sequence[Voice], out: Path) -> None:
    """Three folders for `prepare`: what the base hears, pairs of recordings, pairs of voices."""
    splits = split_of_names(prompts)
    by_name: dict[str, dict[str, Prompt]] = defaultdict(dict)
    for p in prompts:
        by_name[p.name][p.language] = p
    said: dict[tuple[str, str], str] = {}
    with atomic_folder(out) as folder, Synthesizer() as synthesizer:

        def recorded(p: Prompt) -> str:
            path = folder / "people" / p.language / f"{p.name.replace('/', '-')}.wav"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["ffmpeg", "-v", "error", "-i", p.sound, path], check=True)
            return str(path.relative_to(folder))

        def spoken(p: Prompt, voice: Voice) -> str:
            key = (p.language + normalise(p.text), voice.name)
            if key not in said:
                path = folder / "voices" / p.language / f"{len(said):06d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_wave(path, synthesizer.speak(p.text, voice.in_language(p.language)).wave)
                said[key] = str(path.relative_to(folder))
            return said[key]

        base = []
        for number, p in enumerate(prompts):
            about = {"text": p.text, "language": p.language, "split": splits[p.name]}
            base.append(
                about
                | {"audio": f"../{recorded(p)}", "speaker": f"person-{p.language}", "id": f"people-{number}"}
            )
            for n in range(READERS if splits[p.name] == "train" else 1):
                voice = voices[(number + n) % len(voices)]
                base.append(
                    about
                    | {
                        "audio": f"../{spoken(p, voice)}",
                        "speaker": voice.name,
                        "id": f"{voice.name}-{number}",
                    }
                )
        pairs: dict[str, list[dict[str, Any]]] = {"people": [], "voices": []}
        for number, (source, target) in enumerate(directions(by_name)):
            voice = voices[number // 2 % len(voices)]
            about = {"split": splits[source.name]}
            for side, p in (("source", source), ("target", target)):
                about |= {f"{side}_text": p.text, f"{side}_language": p.language}
            name = f"{source.name}-{source.language}-{target.language}"
            sounds = {
                f"{side}_audio": f"../{recorded(p)}" for side, p in (("source", source), ("target", target))
            }
            who = {
                "source_speaker": f"person-{source.language}",
                "target_speaker": f"person-{target.language}",
            }
            pairs["people"].append({"id": name} | about | sounds | who)
            sounds = {
                f"{side}_audio": f"../{spoken(p, voice)}"
                for side, p in (("source", source), ("target", target))
            }
            pairs["voices"].append({"id": name} | about | sounds | {"speaker": voice.name})
        (folder / "base").mkdir()
        write_json_lines(folder / "base" / "manifest.jsonl", base)
        for kind, rows in pairs.items():
            (folder / f"pairs_{kind}").mkdir()
            write_json_lines(folder / f"pairs_{kind}" / "translations.jsonl", rows)


def make_stores(out: Path, codec: Codec) -> None:
    """A store of each corpus, with the tokenizer of the base."""
    options = PrepareOptions(split=SplitRule(by_field="split"), workers=2)
    tokenizer = None
    for name in ("base", "pairs_people", "pairs_voices"):
        store = out / "stores" / name
        if not (store / "store.json").exists():
            prepare(open_folder(out / "corpora" / name), store, codec, options, tokenizer)
        tokenizer = tokenizer or TextTokenizer.load(store / "tokenizer")


def fine_tuned(
    name: str, out: Path, base: Path, codec: Codec, judge: Judge, family: Family, epochs: int
) -> Path:
    """The run of one system."""
    stores = [out / "stores" / kind for kind in SYSTEMS[name]]
    settings = FinetuneSettings(
        epochs=epochs,
        patience=epochs,
        batch_rows=2,
        peak_lr=1.5e-3,
        loss=LossConfig(z_loss=1e-4, slot_softmax=True, kind_weights={"text": 4.0, "semantic": 6.0}),
        base=str(out / "stores" / "base"),
        report_cases=32,
    )
    init = None if "nothing" in name else base
    shape = demo(out / "stores" / "base", family=family).model
    folder = out / ("tuned_" + re.sub(r"\W+", "_", name))
    finetune(_config(settings, stores, init, shape), settings, folder, codec, judge, None)
    return folder


def _config(
    settings: FinetuneSettings, stores: Sequence[Path], init: Path | None, shape: AnyConfig
) -> TrainConfig:
    """The run on all the stores, each seen once an epoch."""
    alone = [finetune_config(settings, store, init, shape) for store in stores]
    steps = sum(config.steps for config in alone)
    sources = tuple(replace(config.data.sources[0], weight=config.steps / steps) for config in alone)
    every = steps // settings.epochs
    return replace(
        alone[0],
        steps=every * settings.epochs,
        data=replace(alone[0].data, sources=sources),
        validate_every_steps=every,
        listen_every_steps=every,
        save_every_steps=every // 2,
    )


def measured(
    cases: Sequence[PairCase], made: Sequence[Translation], out: Path, whisper: Path, speakers: Path
) -> list[Heard]:
    """Everything heard by a judge that is told which language to expect."""
    known = named_speaker_judge(str(speakers))
    heard: dict[str, Heard] = {}
    for language in sorted({case.target_language for case in cases}):
        here = [n for n, case in enumerate(cases) if case.target_language == language]
        judge = named_judge(str(whisper), language=language)
        found = listen_to([cases[n] for n in here], [made[n] for n in here], judge, known)
        heard |= {r.case.id: r for r in found}
    results = [heard[case.id] for case in cases]
    write_outputs(results, out)
    return results


def ceilings(cases: Sequence[PairCase], out: Path, whisper: Path, speakers: Path) -> dict[str, Any]:
    """What the judge hears in people who say the translation, and in the codec's copies of them: nobody is above it."""
    rows = read_json_lines(out / "corpora" / "pairs_people" / "translations.jsonl")
    sounds = {f"pairs_people/{row['id']}": row["target_audio"] for row in rows}
    found = {}
    for name in ("recordings", "copies"):
        made = []
        for case in cases:
            wave = case.spoken_reference
            if name == "recordings":
                wave = read_wave(out / "corpora" / "pairs_people" / sounds[case.id])
            spoken = Spoken(wave, case.codes_KF, ended=True)
            made.append(Translation(text=case.reference, language=case.target_language, spoken=spoken))
        found[name] = scores_of(measured(cases, made, out / "outputs" / name, whisper, speakers))
    return found


def main() -> None:
    """Corpora, stores, the base, its fine-tunings, and what they say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/human_s2st"))
    parser.add_argument(
        "--judges", type=Path, required=True, help="folder with a Whisper and a speaker encoder"
    )
    parser.add_argument("--voices", nargs="+", default=["seen"])
    parser.add_argument("--family", default="depth", choices=("flat", "depth", "delay"))
    parser.add_argument("--steps", type=int, default=3000, help="of pretraining")
    parser.add_argument("--epochs", type=int, default=6, help="of fine-tuning")
    parser.add_argument("--tiny", action="store_true", help="few prompts and steps")
    asked = parser.parse_args()
    found = find_judges(asked.judges)
    if found.recogniser is None or found.speakers is None:
        raise ConfigError(f"{asked.judges} lacks a recogniser or a speaker encoder.")
    out, codec = asked.out, load_codec("mini")
    if not (out / "corpora").exists():
        prompts = read_prompts(asked.prompts)
        if asked.tiny:
            kept = {p.name for p in prompts if p.language == "en"} & {
                p.name for p in prompts if p.language == "fr"
            }
            prompts = [p for p in prompts if p.name in sorted(kept)[:60] and p.language in ("en", "fr")]
        make_corpora(prompts, find_voices(asked.voices), out / "corpora")
    make_stores(out, codec)
    base = out / "base"
    train(demo(out / "stores" / "base", steps=6 if asked.tiny else asked.steps, family=asked.family), base)
    whisper, speakers = found.recogniser, found.speakers
    listener = named_judge(str(whisper))
    cases = {
        kind: pair_cases(out / "stores" / f"pairs_{kind}", "test", "s2st", codec, 12 if asked.tiny else None)
        for kind in ("people", "voices")
    }
    scores: dict[str, Any] = {"ceilings": ceilings(cases["people"], out, whisper, speakers)}
    heard: dict[str, list[Heard]] = {}
    for name in SYSTEMS:
        folder = fine_tuned(name, out, base, codec, listener, asked.family, 1 if asked.tiny else asked.epochs)
        translator = Translator.load(folder, codec=codec)
        for kind, asking in cases.items():
            made = translator.translate_codes(
                [c.codes_KF for c in asking], to=[c.target_language for c in asking], max_s=12.0
            )
            key = f"{name}, asked by {kind}"
            heard[key] = measured(asking, made, out / "outputs" / re.sub(r"\W+", "_", key), whisper, speakers)
            scores[key] = scores_of(heard[key])
            say(f"{key}: {scores[key]['all']}")
    differences = {
        f"{name} − people, asked by {kind}": vars(
            bleu_difference(heard[f"{name}, asked by {kind}"], heard[f"people, asked by {kind}"])
        )
        for kind in cases
        for name in list(SYSTEMS)[1:]
    }
    write_json(out / "scores.json", {"scores": scores, "differences": differences})


if __name__ == "__main__":
    main()
