"""One shard of a plan: sound and text to utterances, in batches of about equal length."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.codec.contract import Codec
from sodakit.errors import AudioError, CodecError
from sodakit.prepare.checks import Limits, Rejection, check_wave
from sodakit.prepare.plan import PlannedShard
from sodakit.prepare.quality import QualityMeter
from sodakit.prepare.recording import Item
from sodakit.store.schema import Utterance
from sodakit.store.writer import StoreWriter
from sodakit.tokens.text import TextTokenizer
from sodakit.tokens.words import TimedWord, shifted, timed_words


@dataclass(frozen=True)
class ShardEncoder:
    """Everything a process needs to make shards."""

    codec: Codec
    tokenizer: TextTokenizer
    writer: StoreWriter
    limits: Limits
    batch_duration_s: float
    meter: QualityMeter | None = None
    """Measures each sound; None where nobody asked."""

    def encode(
        self, shard: PlannedShard, items: Sequence[Item], on_batch: Callable[[int], None] = lambda count: None
    ) -> int:
        """Write one shard; the number of items in it that were left out.

        Args:
            shard: which one.
            items: those of its rows, in its order.
            on_batch: told the number of items after each batch, for a progress bar.
        """
        results: list[Utterance | Rejection] = [Rejection("not reached", "")] * len(items)
        for batch in length_batches(shard.durations_s, self.batch_duration_s):
            for place, result in zip(batch, self._encode_batch([items[i] for i in batch]), strict=True):
                results[place] = result
            on_batch(len(batch))
        done = [result for result in results if isinstance(result, Utterance)]
        rejected = [r.row(i) for i, r in zip(items, results, strict=True) if isinstance(r, Rejection)]
        self.writer.write_shard(shard.split, shard.index, done, rejected)
        return len(rejected)

    def _encode_batch(self, items: list[Item]) -> list[Utterance | Rejection]:
        read = [self._read(item) for item in items]
        sounds = [sound for sound, _ in read]
        codes = iter(self._codes([s.samples_S for s in sounds if isinstance(s, Wave) and len(s.samples_S)]))
        results: list[Utterance | Rejection] = []
        for item, (sound, measured) in zip(items, read, strict=True):
            if isinstance(sound, np.ndarray):
                results.append(self._utterance(item, item.sound_duration_s(), sound, measured))
            elif isinstance(sound, Wave):
                codes_KF = next(codes) if len(sound.samples_S) else self._no_codes()
                results.append(self._utterance(item, sound.duration_s, codes_KF, measured))
            else:
                results.append(sound)
        return results

    def _read(self, item: Item) -> tuple[Wave | np.ndarray | Rejection, dict[str, float]]:
        """The sound at the codec's rate, with what was measured of it; of zero length for text; the codes_KF of an item
        that has them."""
        rate_hz = self.codec.spec.sample_rate_hz
        if item.is_text:
            return Wave(np.zeros(0, np.float32), rate_hz), {}
        try:
            given_KF = None if item.held is None else item.held.codes()
            if given_KF is not None:
                return given_KF, {}
            wave = item.read()
        except AudioError as error:
            return Rejection("undecodable", str(error)), {}
        # Checked before resampling, which spreads a NaN and rings at the ends of a silent offset.
        rejection, measured = check_wave(wave, self.limits), {}
        if self.meter is not None and rejection is None:
            measured = self.meter.measure(wave)
            rejection = self.meter.check(measured)
        return rejection or resample(wave, rate_hz), measured

    def _codes(self, waves_S: list[np.ndarray]) -> list[np.ndarray | Rejection]:
        try:
            return list(self.codec.encode_batch(waves_S)) if waves_S else []
        except CodecError as error:
            # One sound that the codec refuses must not take its neighbours along.
            if len(waves_S) == 1:
                return [Rejection("refused by the codec", str(error))]
            return [codes for wave_S in waves_S for codes in self._codes([wave_S])]

    def _no_codes(self) -> np.ndarray:
        return np.zeros((self.codec.spec.num_codebooks, 0), np.uint16)

    def _utterance(
        self, item: Item, duration_s: float, codes_KF: np.ndarray | Rejection, measured: dict[str, float]
    ) -> Utterance | Rejection:
        if isinstance(codes_KF, Rejection):
            return codes_KF
        start_s = item.begins_s
        text = item.text if (item.text or "").strip() else None
        words: tuple[TimedWord, ...] = ()
        if text and item.words and codes_KF.shape[1]:
            words = timed_words(text, shifted(item.words, -(item.start_s or 0.0)), duration_s, self.tokenizer)
        return Utterance(
            id=item.id,
            recording=item.recording,
            start_s=start_s,
            end_s=round(start_s + duration_s, 6),
            codes_KF=codes_KF,
            text=text,
            text_ids_T=np.array(self.tokenizer.encode(text) if text else [], np.int32),
            speaker=item.speaker,
            language=item.language,
            source=item.source,
            licence=item.licence,
            words=words,
            words_source=item.words_source if words else "",
            quality=measured,
        )


def length_batches(durations_s: Sequence[float], batch_duration_s: float) -> Iterator[list[int]]:
    """Places of about equally long items: number times longest is at most `batch_duration_s`, or one item.

    The batches depend on the shard alone, so any number of workers makes the same codes.
    """
    batch: list[int] = []
    for place in sorted(range(len(durations_s)), key=lambda i: (durations_s[i], i)):
        if batch and (len(batch) + 1) * durations_s[place] > batch_duration_s:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
