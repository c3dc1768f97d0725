"""What a model hears and says of a few held-out utterances while it trains."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sodakit.audio.files import write_wave
from sodakit.codec.contract import Codec
from sodakit.codec.load import load_codec_of
from sodakit.errors import CodecError
from sodakit.eval.words import word_errors
from sodakit.files import write_json
from sodakit.generate.speech_model import SpeechModel
from sodakit.log import say
from sodakit.model.transformer import Transformer
from sodakit.store.reader import StoreReader
from sodakit.store.schema import Utterance
from sodakit.tokens.text import TextTokenizer
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.train.config import TrainConfig
from sodakit.train.trainer import Listen

CASES = 2
"""Utterances that are transcribed and spoken."""
MAX_S = 8.0
"""Longest speech."""


def listener(stores: Sequence[Path], run: Path, codec: Codec) -> Listen:
    """Transcripts (`samples.json`) and speech (`speech_0.wav`, …) of the first held-out utterances with text.

    Args:
        stores: they are taken from the first that has some.
        run: folder of the run, for its vocabulary.
        codec: the one of the stores.
    """
    cases = _cases(stores)

    def listen(model: Transformer, step: int, folder: Path) -> dict[str, Any]:
        if not cases:
            return {}
        vocabulary = run / "vocabulary"
        speech_model = SpeechModel(model, Vocabulary.load(vocabulary), TextTokenizer.load(vocabulary), codec)
        texts = [u.text or "" for u in cases]
        heard = [h.text for h in speech_model.transcribe_codes([u.codes_KF for u in cases])]
        for number, spoken in enumerate(speech_model.speak_many(texts, max_s=MAX_S, as_drawn=True)):
            if len(spoken.wave.samples_S):
                write_wave(folder / f"speech_{number}.wav", spoken.wave)
        write_json(
            folder / "samples.json", [{"text": t, "heard": h} for t, h in zip(texts, heard, strict=True)]
        )
        return {"samples/wer": word_errors(texts, heard).wer}

    return listen


def listener_of(config: TrainConfig, run: Path) -> Listen | None:
    """The listener of a run with the codec its stores name, or None where no samples are asked for.

    The codec is loaded when the first samples are due; one that cannot be had is said, and training goes on in silence.
    """
    if config.listen_every_steps is None:
        return None
    stores = list(dict.fromkeys(Path(s.store) for s in (*config.validation, *config.data.sources)))
    found: list[Listen] = []

    def silent(model: Transformer, step: int, folder: Path) -> dict[str, Any]:
        return {}

    def listen(model: Transformer, step: int, folder: Path) -> dict[str, Any]:
        if not found:
            try:
                found.append(listener(stores, run, _codec_of(stores[0])))
            except CodecError as error:
                say(f"No samples are made while it trains: {error}")
                found.append(silent)
        return found[0](model, step, folder)

    return listen


def _codec_of(store: Path) -> Codec:
    # Training itself needs no codec, so no option names one.
    return load_codec_of(StoreReader(store).codec_spec, f"{store} holds codes of", option=None)


def _cases(stores: Sequence[Path]) -> list[Utterance]:
    for reader in map(StoreReader, stores):
        for split in ("validation", "test"):
            if split in reader.splits:
                spoken = [u for u in reader.utterances(split)[: 8 * CASES] if u.text and u.codes_KF.shape[1]]
                if spoken:
                    return spoken[:CASES]
    return []
