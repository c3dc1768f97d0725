"""SALMon-style pairs from any recordings: does the second half go with the first, does the background fit the words?

Every two pairs are crossed: what is the right second half in one is the wrong one in the other.

    right   A1 + A2        B1 + B2
    wrong   A1 + B2        B1 + A2

So a model (or a loudness meter) that merely likes A2 better than B2 is right once and wrong once: 50 % by
construction. Both sides are cut and faded alike at the join, and each half has the same level. That is not enough for
cues such as the highest peak: of two halves of one voice it is the more extreme in both pairs. So a crossing is kept
only if every cue (`cues.CUES`) is right once and wrong once, or says nothing twice; else other dice are thrown.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.signal import fftconvolve

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.errors import AudioError, ConfigError
from sodakit.eval.build import BuildConfig, Clip, Draft, normalised
from sodakit.files import digest
from sodakit.log import say
from sodakit.prepare.recording import Item
from sodakit.voices.engines import Synthesizer
from sodakit.voices.names import find_voices

FADE_S = 0.01
"""At the ends of each half, so that no side clicks where it was joined."""
_HOP_S = 0.1
_ACTIVE = 0.5
"""A segment is used if its level is at least this fraction of the recording's."""

PARTS = (
    "speaker_consistency",
    "gender_consistency",
    "rir_consistency",
    "bg_all_consistency",
    "bg_domain_consistency",
    "bg_alignment",
)
"""By the names of SALMon's parts. Sentiment needs acted speech, which cannot be made from any recordings."""


@dataclass(frozen=True)
class Sources:
    """What the pairs are made of."""

    recordings: Sequence[Item]
    """Speech, with speakers; with `gender` where the manifest knows it."""
    noises: Sequence[Item] = ()
    """Backgrounds, with `label` where the manifest has one."""
    rooms: Sequence[Item] = ()
    """Impulse responses."""

    def origin(self) -> dict[str, Any]:
        """Digest of each kind, for `build.json`."""
        return {
            name: digest(*(item.fingerprint() for item in items))
            for name, items in vars(self).items()
            if len(items)
        }


def sound_pairs(sources: Sources, config: BuildConfig, parts: Sequence[str] | None = None) -> Iterator[Draft]:
    """Drafts of each part in turn, `config.pairs_per_part` of them.

    Args:
        parts: which; default: all that the sources allow.
    Raises:
        ConfigError: an unknown part, or one whose sources are missing.
    """
    available = {
        "speaker_consistency": _speakers(sources),
        "gender_consistency": _speakers(sources) and bool(_genders(sources)),
        "rir_consistency": len(sources.rooms) > 1,
        "bg_all_consistency": len(sources.noises) > 1,
        "bg_domain_consistency": any(len(items) > 1 for label, items in _labels(sources).items() if label),
        "bg_alignment": len([label for label in _labels(sources) if label]) > 1,
    }
    for part in parts or [part for part in PARTS if available[part]]:
        if not available.get(part):
            raise ConfigError(
                f"part {part!r} cannot be made: {_NEEDS.get(part, 'its name is unknown')}. Parts: {', '.join(PARTS)}."
            )
        rng = np.random.default_rng([config.seed, PARTS.index(part)])
        yield from _MAKERS[part](_Studio(sources, config, rng, part))


_NEEDS = {
    "speaker_consistency": "it needs recordings of two speakers, with `speaker` in the manifest",
    "gender_consistency": "it needs two speakers of different `gender`",
    "rir_consistency": "it needs two impulse responses",
    "bg_all_consistency": "it needs two noises",
    "bg_domain_consistency": "it needs two noises of one `label`",
    "bg_alignment": "it needs noises of two labels",
}


class _Studio:
    """One part being made: sources, settings, and the dice."""

    def __init__(self, sources: Sources, config: BuildConfig, rng: np.random.Generator, part: str) -> None:
        self.sources, self.config, self.rng, self.part = sources, config, rng, part
        self.segment = round(config.segment_s * config.sample_rate_hz)
        every = (*sources.recordings, *sources.noises, *sources.rooms)
        self._items = {item.id: item for item in every}
        self._read = lru_cache(maxsize=64)(self._samples)

    def _samples(self, item_id: str) -> np.ndarray:
        return resample(self._items[item_id].read(), self.config.sample_rate_hz).samples_S

    def samples(self, item: Item) -> np.ndarray:
        """The sound of an item at the benchmark's rate."""
        return self._read(item.id)

    def pick(self, items: Sequence[Any]) -> Any:
        """One of them."""
        return items[int(self.rng.integers(len(items)))]

    def active(self, item: Item, length: int, *, loop: bool = False) -> np.ndarray | None:
        """A stretch of an item that is not silent; None if it is too short."""
        samples_S = self.samples(item)
        if loop and 0 < len(samples_S) < 2 * length:
            samples_S = np.tile(samples_S, -(-2 * length // len(samples_S)))
        starts = np.arange(0, len(samples_S) - length + 1, round(_HOP_S * self.config.sample_rate_hz))
        if not len(starts):
            return None
        energy = np.concatenate([[0.0], np.cumsum(np.square(samples_S, dtype=np.float64))])
        level = np.sqrt((energy[starts + length] - energy[starts]) / length)
        overall = np.sqrt(energy[-1] / len(samples_S))
        if overall < 1e-5:
            return None
        start = int(self.pick(starts[level >= min(_ACTIVE * overall, level.max())]))
        return samples_S[start : start + length]

    def join(self, first_S: np.ndarray, second_S: np.ndarray) -> Clip:
        """Two halves at one level, faded where they meet."""
        halves = [self.faded(normalised(half, self.config.loudness_db)) for half in (first_S, second_S)]
        return Clip(Wave(np.concatenate(halves), self.config.sample_rate_hz))

    def clip(self, samples_S: np.ndarray, text: str) -> Clip:
        """A whole sound at the benchmark's level, with what is said in it."""
        leveled_S = self.faded(normalised(samples_S, self.config.loudness_db))
        return Clip(Wave(leveled_S, self.config.sample_rate_hz), text)

    def faded(self, samples_S: np.ndarray) -> np.ndarray:
        """The samples rising from silence and falling back to it, over FADE_S."""
        ramp = np.sin(np.linspace(0, np.pi / 2, round(FADE_S * self.config.sample_rate_hz))) ** 2
        shaped = samples_S.astype(np.float32).copy()
        shaped[: len(ramp)] *= ramp.astype(np.float32)
        shaped[len(shaped) - len(ramp) :] *= ramp[::-1].astype(np.float32)
        return shaped

    def crossed(
        self, number: int, origin: Sequence[str], first: tuple[Clip, Clip], second: tuple[Clip, Clip]
    ) -> list[Draft] | None:
        """The two pairs of one crossing; None if a trivial cue would gain by them.

        Args:
            origin: speakers, recordings or sounds that tell crossings apart; those of equal origin are no independent
                evidence, and are resampled together.
        """
        source = f"{self.part}: {' + '.join(sorted(origin))}"
        drafts = [
            Draft(id=f"{number:04d}{letter}", part=self.part, sides=sides, source=source)
            for letter, sides in (("a", first), ("b", second))
        ]
        gains = np.sum([draft.cue_signs() for draft in drafts], axis=0)
        return None if gains.any() else drafts

    def repeat(self, make: Callable[[int], list[Draft] | None]) -> Iterator[Draft]:
        """Crossings until the part is full; those that fail (too short, a cue) are tried again with other dice."""
        made = tried = 0
        crossings = max(1, self.config.pairs_per_part // 2)
        while made < crossings and tried < 20 * crossings:
            drafts = make(made)
            tried += 1
            if drafts is not None:
                made += 1
                yield from drafts
        if made < crossings:
            say(
                f"{self.part}: {2 * made} of {2 * crossings} pairs; {tried - made} of {tried} tries were too short, silent "
                "or told apart by a trivial cue. Give more recordings, or ask for fewer pairs."
            )


def _pairs_of_speakers(studio: _Studio, *, other_gender: bool) -> Iterator[Draft]:
    by_speaker = defaultdict(list)
    for item in studio.sources.recordings:
        if item.speaker:
            by_speaker[item.speaker].append(item)
    gender = {name: str(items[0].fields.get("gender") or "") for name, items in by_speaker.items()}
    names = sorted(by_speaker)
    if other_gender:
        allowed = [
            (a, b)
            for a in names
            for b in names
            if a != b and gender[a] and gender[b] and gender[a] != gender[b]
        ]
    else:
        # Voices of one gender where there are some: else the part would be half a gender test.
        alike = [(a, b) for a in names for b in names if a != b and gender[a] == gender[b]]
        allowed = alike or [(a, b) for a in names for b in names if a != b]
    # And of one corpus where there are some: else microphone and file format would tell them apart.
    corpus = {name: items[0].source for name, items in by_speaker.items()}
    allowed = [(a, b) for a, b in allowed if corpus[a] == corpus[b]] or allowed

    def make(number: int) -> list[Draft] | None:
        halves = []
        couple = studio.pick(allowed)
        for name in couple:
            items = by_speaker[name]
            first = int(studio.rng.integers(len(items)))
            # Two recordings where there are two; of one recording, two stretches.
            second = (first + 1 + int(studio.rng.integers(max(1, len(items) - 1)))) % len(items)
            halves += [studio.active(items[n], studio.segment) for n in (first, second)]
        found = [half for half in halves if half is not None]
        if len(found) < 4:
            return None
        a1, a2, b1, b2 = found
        return studio.crossed(
            number,
            couple,
            (studio.join(a1, a2), studio.join(a1, b2)),
            (studio.join(b1, b2), studio.join(b1, a2)),
        )

    return studio.repeat(make)


def _rooms(studio: _Studio) -> Iterator[Draft]:
    def make(number: int) -> list[Draft] | None:
        recording = studio.pick(studio.sources.recordings)
        speech_S = studio.active(recording, 2 * studio.segment)
        if speech_S is None:
            return None
        rooms = studio.rng.permutation(len(studio.sources.rooms))[:2]
        one, two = (_in_room(speech_S, studio.samples(studio.sources.rooms[int(r)])) for r in rooms)
        return _crossed_halves(studio, number, recording.id, one, two)

    return studio.repeat(make)


def _in_room(speech_S: np.ndarray, response_S: np.ndarray) -> np.ndarray:
    # From the direct sound on: a response that begins late would tell itself by the delay.
    direct = int(np.abs(response_S).argmax())
    return fftconvolve(speech_S, response_S[direct:])[: len(speech_S)].astype(np.float32)


def _backgrounds(studio: _Studio, *, same_label: bool) -> Iterator[Draft]:
    labels = _labels(studio.sources)
    repeated = [label for label, items in labels.items() if label and len(items) > 1]

    def two_noises() -> list[Item]:
        if same_label:
            items = labels[studio.pick(repeated)]
            return [items[int(n)] for n in studio.rng.permutation(len(items))[:2]]
        if len(labels) > 1:
            chosen = [sorted(labels)[int(n)] for n in studio.rng.permutation(len(labels))[:2]]
            return [studio.pick(labels[label]) for label in chosen]
        return [studio.sources.noises[int(n)] for n in studio.rng.permutation(len(studio.sources.noises))[:2]]

    def make(number: int) -> list[Draft] | None:
        recording = studio.pick(studio.sources.recordings)
        speech_S = studio.active(recording, 2 * studio.segment)
        noises = [[studio.active(n, studio.segment, loop=True) for _ in range(2)] for n in two_noises()]
        if speech_S is None or any(part is None for parts in noises for part in parts):
            return None
        one, two = (_mix(studio, speech_S, parts) for parts in noises)
        return _crossed_halves(studio, number, recording.id, one, two)

    return studio.repeat(make)


def _crossed_halves(
    studio: _Studio, number: int, recording: str, one: np.ndarray, two: np.ndarray
) -> list[Draft] | None:
    """The same speech in two surroundings, halves exchanged."""
    cut = studio.segment
    return studio.crossed(
        number,
        [recording],
        (studio.join(one[:cut], one[cut:]), studio.join(one[:cut], two[cut:])),
        (studio.join(two[:cut], two[cut:]), studio.join(two[:cut], one[cut:])),
    )


def _mix(studio: _Studio, speech_S: np.ndarray, noises: Sequence[Any]) -> np.ndarray:
    """Speech over noise, part by part at the same distance in level."""
    loudness_db, parts = studio.config.loudness_db, np.split(speech_S, len(noises))
    return np.concatenate(
        [
            normalised(part, loudness_db) + normalised(noise, loudness_db - studio.config.snr_db)
            for part, noise in zip(parts, noises, strict=True)
        ]
    )


def _alignment(studio: _Studio) -> Iterator[Draft]:
    labels = {label: items for label, items in _labels(studio.sources).items() if label}
    voices = find_voices(studio.config.voices or ("all",))

    def make(number: int) -> list[Draft] | None:
        chosen = [sorted(labels)[int(n)] for n in studio.rng.permutation(len(labels))[:2]]
        voice = studio.pick(voices)
        texts = [f"Listen, this is the sound of {label.replace('_', ' ')}." for label in chosen]
        speech = [
            resample(s.wave, studio.config.sample_rate_hz).samples_S
            for s in synthesizer.speak_many([(t, voice) for t in texts])
        ]
        noises = [studio.pick(labels[label]) for label in chosen]
        longest = max(map(len, speech))
        stretches = [studio.active(noise, longest, loop=True) for noise in noises]
        if any(stretch is None for stretch in stretches):
            return None
        clips = [
            [studio.clip(_mix(studio, spoken, [stretch[: len(spoken)]]), text) for stretch in stretches]  # type: ignore[index]
            for spoken, text in zip(speech, texts, strict=True)
        ]
        return studio.crossed(number, chosen, (clips[0][0], clips[0][1]), (clips[1][1], clips[1][0]))

    with Synthesizer() as synthesizer:
        yield from studio.repeat(make)


_MAKERS: dict[str, Callable[[_Studio], Iterator[Draft]]] = {
    "speaker_consistency": lambda studio: _pairs_of_speakers(studio, other_gender=False),
    "gender_consistency": lambda studio: _pairs_of_speakers(studio, other_gender=True),
    "rir_consistency": _rooms,
    "bg_all_consistency": lambda studio: _backgrounds(studio, same_label=False),
    "bg_domain_consistency": lambda studio: _backgrounds(studio, same_label=True),
    "bg_alignment": _alignment,
}


def _speakers(sources: Sources) -> bool:
    return len({item.speaker for item in sources.recordings if item.speaker}) > 1


def _genders(sources: Sources) -> bool:
    return len({item.fields.get("gender") for item in sources.recordings} - {None, ""}) > 1


def _labels(sources: Sources) -> dict[str, list[Item]]:
    labels = defaultdict(list)
    for item in sources.noises:
        labels[str(item.fields.get("label") or "")].append(item)
    return labels


def usable(items: Sequence[Item]) -> list[Item]:
    """Those with sound that can be read, in order of their ids."""
    found = []
    for item in sorted(items, key=lambda item: item.id):
        if item.problem is None and not item.is_text:
            try:
                item.sound_duration_s()
            except AudioError:
                continue
            found.append(item)
    return found
