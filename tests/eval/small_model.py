"""A speech model of a few thousand untrained weights, for tests of everything that scores one."""

from pathlib import Path

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.checkpoint.save import save_checkpoint
from sodakit.codec.toy import ToyCodec
from sodakit.config import to_plain
from sodakit.generate.speech_model import SpeechModel
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer
from sodakit.tokens.text import TextTokenizer, train_bpe
from sodakit.tokens.vocabulary import Vocabulary


def small_tokenizer() -> TextTokenizer:
    return train_bpe(["a dog ran home", "the cat sat on the mat", "dogs and cats"] * 4, 290)


def small_speech_model(
    *, seed: int = 0, codebooks: int = 2, size: int = 8, context: int = 512
) -> SpeechModel:
    codec = ToyCodec(codebooks, size)
    tokenizer = small_tokenizer()
    vocabulary = Vocabulary.layout(
        text_size=tokenizer.size,
        bos=tokenizer.bos,
        eos=tokenizer.eos,
        num_codebooks=codebooks,
        codebook_size=size,
    )
    config = model_size("nano", vocabulary.size, init_std=0.1, context=context)
    return SpeechModel(Transformer(config, seed=seed).eval(), vocabulary, tokenizer, codec)


def small_checkpoint(folder: Path, seed: int = 0) -> Path:
    """A checkpoint of such a model, with its vocabulary and codec, as `sodakit train` leaves it."""
    model = small_speech_model(seed=seed, size=32)
    model.vocabulary.save(folder / "language")
    model.tokenizer.save(folder / "language")
    return save_checkpoint(
        folder / "checkpoints" / "step_00000001",
        model=model.model,
        state={},
        config={},
        vocabulary_folder=folder / "language",
        codec=to_plain(model.codec.spec),
    ).parents[1]


def noise(seed: int, duration_s: float = 0.5, rate_hz: int = 8000) -> Wave:
    samples = np.random.default_rng(seed).normal(0, 0.1, round(duration_s * rate_hz))
    return Wave(samples.astype(np.float32), rate_hz)
