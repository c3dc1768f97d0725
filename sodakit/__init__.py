"""sodakit: discrete audio foundation models, from recordings to a model that listens and speaks.

Axis legend, used as suffixes on every array and tensor that crosses a function:

    B rows in a batch   S audio samples   F codec frames   K codebooks     T token positions in a row
    U documents in a row   D model width   N query heads   G key/value heads   H head width
    V vocabulary        L layers          C audio channels

    wave_S → codes_KF → ids_T → x_BTD → q_BTNH, k_BTGH → logits_BTV → ids_T → codes_KF → wave_S

Samples, frames and positions are three letters, so a mistake in time looks wrong on the page.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Wave": "sodakit.audio.wave",
    "read_wave": "sodakit.audio.files",
    "write_wave": "sodakit.audio.files",
    "Codec": "sodakit.codec.contract",
    "CodecSpec": "sodakit.codec.contract",
    "load_codec": "sodakit.codec.load",
    "Vocabulary": "sodakit.tokens.vocabulary",
    "Utterance": "sodakit.store.schema",
    "StoreReader": "sodakit.store.reader",
    "StoreWriter": "sodakit.store.writer",
    "ModelConfig": "sodakit.model.config",
    "Transformer": "sodakit.model.transformer",
    "TrainConfig": "sodakit.train.config",
    "train": "sodakit.train.trainer",
    "load_checkpoint": "sodakit.checkpoint.load",
    "SpeechModel": "sodakit.generate.speech_model",
    "SodakitError": "sodakit.errors",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    # Public names load on first use, so `import sodakit` costs milliseconds and no torch.
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'sodakit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
