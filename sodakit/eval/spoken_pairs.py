"""sWUGGY-, sBLIMP- and StoryCloze-style pairs: texts spoken by synthetic voices.

A pair whose right side is longer, of higher peak and smaller as FLAC waits until one comes along whose right side is
shorter, of lower peak and larger, and both are written. So none of the trivial cues (`cues.CUES`) says anything.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence

import numpy as np

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.errors import ConfigError
from sodakit.eval.build import BuildConfig, Clip, Draft, normalised
from sodakit.eval.pair_layouts import Pair, Side
from sodakit.voices.contract import Voice
from sodakit.voices.engines import Synthesizer
from sodakit.voices.names import find_voices

PAUSE_S = 0.25
"""Between a story and its ending."""


def spoken_pairs(
    pairs: Sequence[Pair], config: BuildConfig, part: str, voices: Sequence[Voice] = ()
) -> Iterator[Draft]:
    """Drafts of text pairs, `config.pairs_per_part` (or one more) in each of `config.voices_per_pair` turns.

    Args:
        pairs: written pairs with one wrong side each; taken in an order that the seed decides.
        part: name of the part, for example `swuggy`.
        voices: who speaks; they take turns. None: those of the config.
    Raises:
        ConfigError: more voices asked of a pair than there are.
    """
    voices = voices or find_voices(config.voices or ("seen",))
    if config.voices_per_pair > len(voices):
        raise ConfigError(
            f"voices_per_pair={config.voices_per_pair} and {len(voices)} voices. Name more voices, or ask for fewer."
        )
    order = np.random.default_rng(config.seed).permutation(len(pairs))
    with Synthesizer() as synthesizer:
        for turn in range(config.voices_per_pair):
            balance = _Balance(config.pairs_per_part)
            for place, number in enumerate(order):
                if balance.full:
                    break
                pair, voice = pairs[int(number)], voices[(place + turn) % len(voices)]
                clips = _speak(synthesizer, pair, voice, config)
                if _alike(clips, config.max_length_difference):
                    yield from balance.add(_draft(pair, clips, part, voice))


class _Balance:
    """Lets pairs through two by two: one with another in which every trivial cue points the other way."""

    def __init__(self, num_pairs: int) -> None:
        self._room = num_pairs
        self._waiting: dict[tuple[int, ...], deque[Draft]] = defaultdict(deque)

    @property
    def full(self) -> bool:
        """Whether no more pairs are wanted."""
        return self._room < 1

    def add(self, draft: Draft) -> list[Draft]:
        """What may be written now: a pair of which no cue says anything, a couple, or nothing yet."""
        signs = draft.cue_signs()
        opposite = self._waiting[tuple(-sign for sign in signs)]
        if not any(signs):
            ready = [draft]
        elif opposite:
            ready = [opposite.popleft(), draft]
        else:
            self._waiting[signs].append(draft)
            ready = []
        self._room -= len(ready)  # a couple may exceed it by one: balance counts more than a round number
        return ready


def _speak(synthesizer: Synthesizer, pair: Pair, voice: Voice, config: BuildConfig) -> list[Clip]:
    rate_hz, loudness_db = config.sample_rate_hz, config.loudness_db
    prefix = pair.positive.prefix
    texts = [_ending(side) for side in (pair.positive, pair.negatives[0])]
    spoken = [
        resample(speech.wave, rate_hz).samples_S
        for speech in synthesizer.speak_many([(t, voice) for t in ([prefix] if prefix else []) + texts])
    ]
    before_S = np.zeros(0, np.float32)
    if prefix:
        before_S = np.concatenate(
            [normalised(spoken[0], loudness_db), np.zeros(round(PAUSE_S * rate_hz), np.float32)]
        )
    return [
        Clip(
            Wave(np.concatenate([before_S, normalised(ending_S, loudness_db)]), rate_hz),
            side.text,
            prefix,
            len(before_S) / rate_hz if prefix else None,
        )
        for side, ending_S in zip(
            (pair.positive, pair.negatives[0]), spoken[1:] if prefix else spoken, strict=True
        )
    ]


def _ending(side: Side) -> str:
    text = side.text or ""
    return text[len(side.prefix) :].strip() if side.prefix else text


def _alike(clips: Sequence[Clip], most: float) -> bool:
    starts = [clip.ending_start_s or 0.0 for clip in clips]
    lengths = [clip.wave.duration_s - start_s for clip, start_s in zip(clips, starts, strict=True)]
    return abs(lengths[0] - lengths[1]) <= most * max(lengths)


def _draft(pair: Pair, clips: list[Clip], part: str, voice: Voice) -> Draft:
    name = "-".join(name for name in (pair.subtype, pair.id) if name).replace("/", "-")
    return Draft(**pair.labels() | {"id": name, "part": part, "voice": voice.name}, sides=tuple(clips))
