"""Sentences in the built-in voices, as a folder that `eval asr` and `eval tts` read alike.

    FOLDER/
      audio/VOICE/0000.wav …
      manifest.jsonl    audio, text, speaker, language, duration_s
      meta.lst          seed-tts-eval's columns: each sentence after another one in the same voice; last its own sound
      build.json        settings and a digest of all sound and text

Nothing of it depends on a model: the same sentences, voices and seed give the same bytes.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from sodakit.audio.files import resample, write_wave
from sodakit.audio.wave import Wave
from sodakit.bounds import Bounded, Bounds, Count, Positive
from sodakit.errors import ConfigError
from sodakit.eval.cases import plain_language
from sodakit.files import (
    atomic_folder,
    digest,
    read_json_lines,
    read_text_lines,
    write_json,
    write_json_lines,
    write_text,
)
from sodakit.log import track
from sodakit.store.reader import StoreReader
from sodakit.voices.catalogue import SEEN_VOICES
from sodakit.voices.contract import Voice
from sodakit.voices.engines import Synthesizer
from sodakit.voices.parallel import LANGUAGES, parallel_sentences

FORMAT_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class SpokenCasesConfig(Bounded):
    """Which sentences are kept, and how they are written."""

    count: Annotated[int, Bounds(least=2)] = 120
    """Sentences, as far as there are so many."""
    max_s: Positive = 6.0
    """Longer ones are left out: prompt and answer must fit a model's context."""
    sample_rate_hz: Count = 24_000
    """Rate of the sound files."""
    seed: int = 0
    """Decides the order in which sentences are taken."""


def household_sentences(language: str, count: int, seed: int) -> list[str]:
    """Built-in sentences of a language, twice as many as are asked for: long ones are left out later.

    Raises:
        ConfigError: there are none in that language.
    """
    if language not in LANGUAGES:
        raise ConfigError(
            f"No sentences in {language!r} are built in, only in {', '.join(LANGUAGES)}. Give some with --texts FILE."
        )
    return list(dict.fromkeys(text.texts[language] for text in parallel_sentences(2 * count, seed)))


def read_sentences(source: Path, language: str = "") -> list[str]:
    """Sentences of a text file (one a line), of JSON lines (`text`), or the held-out ones of a store; each once.

    Args:
        language: of JSON lines and stores, leave out those that name another.
    Raises:
        ConfigError: nothing there, or not a sentence in it.
    """
    if not source.exists():
        raise ConfigError(
            f"{source} does not exist. Needed: a text file, JSON lines with `text`, or a store."
        )
    said = (
        text for text, own in _texts(source) if not (own and language and plain_language(own) != language)
    )
    found = list(dict.fromkeys(text for text in said if text))
    if not found:
        raise ConfigError(
            f"{source} has not one sentence{f' in {language}' if language else ''}; in a store they come from validation "
            "and test."
        )
    return found


def write_spoken_cases(
    sentences: Sequence[str],
    folder: Path,
    config: SpokenCasesConfig,
    voices: Sequence[Voice] = SEEN_VOICES,
    language: str = "en",
) -> int:
    """Speak sentences in turn by each voice and write the folder, complete or not at all; how many there are.

    Args:
        voices: they speak that language.
    Raises:
        ConfigError: no voice has two sentences that are short enough, or the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "build.json").exists():
        raise ConfigError(
            f"{folder} holds something else than such sentences. Choose another folder, or empty it."
        )
    with atomic_folder(folder) as temporary:
        rows = list(_write_sounds(sentences, temporary, config, voices, language))
        lines = list(_voice_lines(rows))
        if not lines:
            raise ConfigError(
                f"{len(rows)} of {len(sentences)} sentences are at most {config.max_s:g} s long, and no voice has two. "
                "Give more or shorter ones, or a larger max_s."
            )
        write_json_lines(temporary / "manifest.jsonl", rows)
        write_text(temporary / "meta.lst", "".join(f"{line}\n" for line in lines))
        write_json(
            temporary / "build.json",
            {
                "format": FORMAT_VERSION,
                "settings": asdict(config),
                "language": language,
                "voices": [voice.name for voice in voices],
                "digest": digest(*(repr(row) for row in rows)),
            },
        )
    return len(rows)


def _write_sounds(
    sentences: Sequence[str],
    folder: Path,
    config: SpokenCasesConfig,
    voices: Sequence[Voice],
    language: str,
) -> Iterator[dict[str, Any]]:
    order = np.random.default_rng(config.seed).permutation(len(sentences))
    with Synthesizer() as synthesizer:
        number = 0
        for place in track(order.tolist(), "speaking"):
            if number == config.count:
                break
            text, voice = sentences[place], voices[number % len(voices)]
            speech = synthesizer.speak(text, voice).wave
            if not 0 < speech.duration_s <= config.max_s:
                continue
            wave = Wave(resample(speech, config.sample_rate_hz).samples_S, config.sample_rate_hz)
            path = folder / "audio" / voice.name / f"{number:04d}.wav"
            write_wave(path, wave)
            yield {
                "audio": path.relative_to(folder).as_posix(),
                "text": text,
                "speaker": voice.name,
                "language": language,
                "duration_s": round(wave.duration_s, 4),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            number += 1


def _voice_lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Each sentence after the one before it in the same voice, and the first after the last."""
    by_voice: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_voice.setdefault(row["speaker"], []).append(row)
    for row in rows:
        own = by_voice[row["speaker"]]
        if len(own) > 1:
            prompt = own[own.index(row) - 1]
            cells = (Path(row["audio"]).stem, prompt["text"], prompt["audio"], row["text"], row["audio"])
            yield "|".join(cells)


def _texts(source: Path) -> Iterator[tuple[str, str]]:
    """Each with the language it names, or ''."""
    if source.is_dir():
        reader = StoreReader(source)
        for split in ("validation", "test"):
            if split in reader.splits:
                yield from ((_one_line(u.text or ""), u.language) for u in reader.utterances(split))
        return
    rows: Iterable[dict[str, Any]]
    if ".jsonl" in source.suffixes:
        rows = read_json_lines(source, ours=False)
    else:
        rows = ({"text": line} for line in read_text_lines(source))
    for row in rows:
        yield _one_line(str(row.get("text") or "")), str(row.get("language") or "")


def _one_line(text: str) -> str:
    """Without line breaks and without the character that parts the columns of a list."""
    return " ".join(text.replace("|", " ").split())
