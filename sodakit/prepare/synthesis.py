"""A corpus from texts: many voices, several processes, the same bytes however often it is stopped.

OUT/synthesis.json      what was asked for, with a digest of texts and voices: another job needs another folder
OUT/shards/00007/       atomic: the sounds of one voice's lines, and rows.jsonl of what was said and what was not
OUT/manifest.jsonl      at the end: a row for each sound, in the order of the texts; `prepare` reads it
OUT/unsaid.jsonl        at the end: what an engine could not say, with its reason
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.audio.files import resample, write_wave
from sodakit.audio.wave import Wave
from sodakit.bounds import Bounded, Count
from sodakit.distributed import end_with_parent
from sodakit.errors import AudioError, ConfigError
from sodakit.files import atomic_folder, digest, read_json, read_json_lines, write_json, write_json_lines
from sodakit.holding import NAME, hold
from sodakit.log import progress_bar, say
from sodakit.prepare.sources.columns import fields_of
from sodakit.prepare.sources.rows import ends_with, parse_object, read_lines
from sodakit.voices.contract import Speech, Voice
from sodakit.voices.engines import DRAW_NOISE, SLOWNESS, Synthesizer

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig(Bounded):
    """How a corpus is made. All but `workers` decides its bytes."""

    voices_per_text: Count = 1
    """How many voices say each text, in turn; a text goes to those that speak its language."""
    language: str = "en"
    """ISO 639 code of the texts that name none."""
    sample_rate_hz: Count | None = None
    """Rate of the sounds; None for each engine's own."""
    format: str = "flac"
    """flac or wav, 16 bits."""
    shard_lines: Count = 64
    """Lines that one process says at a time; what is lost by a stop."""
    lines_per_recording: Count = 1
    """Lines that a voice says in one recording, which is one document of a store: from documents of several a model learns
    to keep to a voice. The last recording of a shard may have fewer."""
    seed: int = 0
    """Decides who says what, and the noise that engines draw."""
    workers: Count = 2
    """Processes; the bytes are the same for any number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format not in ("flac", "wav"):
            raise ConfigError(f"format={self.format!r}; needed: flac or wav.")


@dataclass(frozen=True)
class Line:
    """A text and who says it."""

    id: str
    text: str
    language: str


@dataclass(frozen=True)
class Shard:
    """Lines of one voice, said one after the other by one run of its engine."""

    number: int
    voice: Voice
    lines: tuple[tuple[int, Line], ...]
    """Place in the whole corpus, and the line."""


@dataclass(frozen=True)
class Synthesis:
    """What a job made."""

    said: int
    unsaid: int
    duration_s: float


def read_texts(path: Path, language: str) -> list[Line]:
    """The texts of a .txt (one a line) or .jsonl (text; id and language where it has them), plain or compressed.

    Raises:
        ConfigError: no such file, nothing in it, a line that is no text, or one id twice.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist. Needed: a text a line, or JSON lines with `text`.")
    is_json = ends_with(path, ".jsonl", ".ndjson")
    found = []
    for number, line in read_lines(path):
        try:
            row = fields_of(parse_object(line)) if is_json else {"text": line}
            text = row.get("text")
            if not isinstance(text, str) or not text.strip():
                raise ValueError("no text" if line is not None else "not UTF-8")
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {error}. Mend or remove it.") from error
        own = str(row.get("id") or f"{number:06d}")
        found.append(Line(own, " ".join(text.split()), str(row.get("language") or language)))
    if not found:
        raise ConfigError(f"{path} holds no text.")
    if len({line.id for line in found}) < len(found):
        raise ConfigError(f"{path} has one id for several texts; needed: an id of its own for each.")
    return found


def plan_shards(lines: Sequence[Line], voices: Sequence[Voice], config: SynthesisConfig) -> list[Shard]:
    """Who says what: the voices of a text's language take turns, in an order that the seed decides.

    Raises:
        ConfigError: more voices asked of a text than speak its language.
    """
    turns_of = np.random.default_rng(config.seed).permutation(len(lines)).tolist()
    able = {
        language: [n for n, voice in enumerate(voices) if language.split("-")[0] in voice.languages]
        for language in {line.language for line in lines}
    }
    for language, who in sorted(able.items()):
        if len(who) < config.voices_per_text:
            raise ConfigError(
                f"{len(who)} of the {len(voices)} voices speak {language!r}; needed: {config.voices_per_text} for each text. "
                "Name voices of that language, as espeak:es+f2."
            )
    by_voice: dict[int, list[tuple[int, Line]]] = {n: [] for n in range(len(voices))}
    place = 0
    for line, turn in zip(lines, turns_of, strict=True):
        who = able[line.language]
        for number in range(config.voices_per_text):
            by_voice[who[(turn + number) % len(who)]].append((place, line))
            place += 1
    parts = [
        (voices[n], tuple(own[first : first + config.shard_lines]))
        for n, own in by_voice.items()
        for first in range(0, len(own), config.shard_lines)
    ]
    return [Shard(number, voice, part) for number, (voice, part) in enumerate(parts)]


def synthesise(
    lines: Sequence[Line], voices: Sequence[Voice], out: Path, config: SynthesisConfig
) -> Synthesis:
    """Make the corpus, or what of it is missing.

    Raises:
        ConfigError: the folder holds another job or is filled by another process, or a process died.
        MissingExtra: what a voice's engine needs is not installed.
    """
    shards = plan_shards(lines, voices, config)
    _check_free(out)
    with hold(out, "filled"):
        _claim(out, lines, voices, config)
        return _make(shards, out, config)


def _make(shards: Sequence[Shard], out: Path, config: SynthesisConfig) -> Synthesis:
    for torn in (out / "shards").glob(".*.tmp"):  # by a process that was killed
        shutil.rmtree(torn, ignore_errors=True)
    missing = [shard for shard in shards if not (_folder(out, shard) / "rows.jsonl").exists()]
    if len(missing) < len(shards):
        say(f"{out}: {len(shards) - len(missing)} of {len(shards)} shards are there; resuming.")
    with progress_bar() as bar:
        total = sum(len(shard.lines) for shard in shards)
        left = sum(len(shard.lines) for shard in missing)
        task = bar.add_task("speaking", total=total, completed=total - left, note="")
        for shard in _say_shards(missing, out, config):
            bar.advance(task, len(shard.lines))
    rows = sorted((row for shard in shards for row in _rows(out, shard)), key=_place)
    said = [row for row in rows if "problem" not in row]
    unsaid = [row for row in rows if "problem" in row]
    for name, kept in (("unsaid.jsonl", unsaid), ("manifest.jsonl", said)):
        write_json_lines(out / name, ({k: v for k, v in row.items() if k != "place"} for row in kept))
    return Synthesis(len(said), len(unsaid), sum(row["duration_s"] for row in said))


def estimate(
    lines: Sequence[Line], voices: Sequence[Voice], config: SynthesisConfig, probes: int = 3
) -> list[dict[str, Any]]:
    """What each voice costs, from the first `probes` of its lines: lines, seconds of speech, of one core, and bytes."""
    by_voice: dict[str, list[Shard]] = {}
    for shard in plan_shards(lines, voices, config):
        by_voice.setdefault(shard.voice.name, []).append(shard)
    return [_cost(shards, config, probes) for shards in by_voice.values()]


def _cost(shards: Sequence[Shard], config: SynthesisConfig, probes: int) -> dict[str, Any]:
    all_lines = [line for shard in shards for _, line in shard.lines]
    voice, spoken_s, characters = shards[0].voice, 0.0, 0
    with Synthesizer(config.seed) as synthesizer:
        list(_spoken(synthesizer, [all_lines[0].text], voice))  # opening the engine is no part of the speed
        begun_s = time.monotonic()
        probed = [line.text for line in all_lines[:probes]]
        for text, speech in zip(probed, _spoken(synthesizer, probed, voice), strict=True):
            if isinstance(speech, Speech):
                spoken_s += speech.wave.duration_s
                characters += len(text)
                rate_hz = config.sample_rate_hz or speech.wave.sample_rate_hz
        took_s = time.monotonic() - begun_s
    times = sum(len(line.text) for line in all_lines) / max(1, characters)
    speech_s = spoken_s * times
    row = {"voice": voice.name, "lines": len(all_lines), "speech_s": speech_s, "core_s": took_s * times}
    return row | {"bytes": round(speech_s * rate_hz * 2) if characters else 0}


def _say_shards(shards: Sequence[Shard], out: Path, config: SynthesisConfig) -> Iterator[Shard]:
    if min(config.workers, len(shards)) <= 1:
        try:
            for shard in shards:
                _say(shard, out, config)
                yield shard
        finally:
            _steady().close()
        return
    context = get_context("spawn")
    workers = min(config.workers, len(shards))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        # The longest first, so that none is left for one worker at the end.
        longest = sorted(shards, key=lambda shard: -_work(shard))
        running = {pool.submit(_say, shard, out, config): shard for shard in longest}
        try:
            for future in as_completed(running):
                future.result()
                yield running[future]
        except BrokenProcessPool as error:
            raise ConfigError(
                "A process that speaks died: out of memory, or killed. Finished shards are kept: run the same again."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _work(shard: Shard) -> int:
    return SLOWNESS[shard.voice.engine] * sum(len(line.text) for _, line in shard.lines)


@cache
def _steady() -> Synthesizer:
    """Engines of this process that draw no noise. To start one takes as long as ten short sentences."""
    engines = Synthesizer()
    # A worker ends without what `atexit` promises.
    Finalize(None, engines.close, exitpriority=1)
    return engines


@contextmanager
def _synthesizer(shard: Shard, config: SynthesisConfig) -> Iterator[Synthesizer]:
    """Who says a shard: an engine that draws noise begins afresh, so that no shard depends on another."""
    if shard.voice.engine not in DRAW_NOISE:
        yield _steady()
        return
    with Synthesizer(int(digest(f"{config.seed}/{shard.number}")[:7], 16)) as fresh:
        yield fresh


def _say(shard: Shard, out: Path, config: SynthesisConfig) -> None:
    """One shard, written whole or not at all."""
    folder = _folder(out, shard)
    with atomic_folder(folder) as temporary, _synthesizer(shard, config) as synthesizer:
        rows = []
        spoken = _spoken(synthesizer, [line.text for _, line in shard.lines], shard.voice)
        for number, ((place, line), speech) in enumerate(zip(shard.lines, spoken, strict=True)):
            row = {"place": place, "id": f"{line.id}-{shard.voice.name}", "text": line.text}
            row |= {"speaker": shard.voice.name, "language": line.language}
            if config.lines_per_recording > 1:
                row["recording"] = f"{folder.name}-{number // config.lines_per_recording:03d}"
            if isinstance(speech, str):
                rows.append(row | {"problem": speech})
                continue
            name = f"{place:07d}.{config.format}"
            wave = speech.wave
            if config.sample_rate_hz is not None:
                wave = resample(wave, config.sample_rate_hz)
            write_wave(temporary / name, wave)
            rows.append(row | _told(speech, wave, shard.voice) | {"audio": f"shards/{folder.name}/{name}"})
        write_json_lines(temporary / "rows.jsonl", rows)


def _told(speech: Speech, wave: Wave, voice: Voice) -> dict[str, Any]:
    told: dict[str, Any] = {"voice": voice.name, "engine": voice.engine, "licence": voice.licence}
    told["duration_s"] = round(wave.duration_s, 4)
    if speech.words:
        told["words"] = [
            {"word": w.word, "start": round(w.start_s, 4), "end": round(w.end_s, 4)} for w in speech.words
        ]
    return told


def _spoken(synthesizer: Synthesizer, texts: Sequence[str], voice: Voice) -> Iterator[Speech | str]:
    """The sound of each text, or why there is none; an engine in a process of its own speaks ahead."""
    done = 0
    while done < len(texts):
        try:
            for speech in synthesizer.speak_many((text, voice) for text in texts[done:]):
                done += 1
                yield speech
        except AudioError as error:
            synthesizer.close()  # it may have died of this text; the next begins with another
            done += 1
            yield str(error)


def _claim(out: Path, lines: Sequence[Line], voices: Sequence[Voice], config: SynthesisConfig) -> None:
    settings = {name: value for name, value in asdict(config).items() if name != "workers"}
    if config.lines_per_recording == 1:  # folders of before it could be said are of the same job
        del settings["lines_per_recording"]
    asked = {"format_version": FORMAT_VERSION, "settings": settings, "voices": [v.name for v in voices]}
    asked["texts_digest"] = digest(*(repr(line) for line in lines))
    asked["voices_digest"] = digest(*(voice.fingerprint for voice in voices))
    path = out / "synthesis.json"
    if path.exists():
        if read_json(path) != asked:
            kept = read_json(path)
            other = [name for name, value in asked.items() if kept.get(name) != value]
            raise ConfigError(f"{out} was begun with other {', '.join(other)}. Choose another folder.")
        return
    write_json(path, asked)


def _check_free(out: Path) -> None:
    """Refuse a folder of something else, before anything is written into it.

    Raises:
        ConfigError: it holds files, and none of a job.
    """
    ours = ("synthesis.json", NAME)
    if out.exists() and any(out.iterdir()) and not any((out / name).exists() for name in ours):
        raise ConfigError(f"{out} holds something else. Choose another folder, or empty it.")


def _folder(out: Path, shard: Shard) -> Path:
    return out / "shards" / f"{shard.number:05d}"


def _rows(out: Path, shard: Shard) -> list[dict[str, Any]]:
    """What a finished shard says of its lines.

    Raises:
        ConfigError: it is damaged; the message says how to make it again.
    """
    folder = _folder(out, shard)
    advice = f"Delete {folder} and run the same command again: that shard is made anew."
    try:
        rows = read_json_lines(folder / "rows.jsonl")
    except ConfigError as error:
        raise ConfigError(f"{error} {advice}") from error
    places = {place for place, _ in shard.lines}
    for row in rows:
        known = isinstance(row.get("place"), int) and row["place"] in places
        if not known or not ("problem" in row or isinstance(row.get("duration_s"), (int, float))):
            raise ConfigError(f"{folder / 'rows.jsonl'} is damaged ({row!s:.60}). {advice}")
    if len(rows) != len(places):
        raise ConfigError(f"{folder / 'rows.jsonl'} has {len(rows)} rows for {len(places)} lines. {advice}")
    return rows


def _place(row: dict[str, Any]) -> int:
    return int(row["place"])
