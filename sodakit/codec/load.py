"""Codecs by name. Adding a codec: its file, and a row here."""

from pathlib import Path
from typing import Any

from sodakit.codec.contract import Codec, CodecSpec
from sodakit.errors import CodecError, first_line, nearest
from sodakit.hardware import convolve_in_float32, device_named

NAMES = ("mini", "toy", "mimi")
"""Names that need no folder."""

_MIMI_ID = "kyutai/mimi"
_LARGEST = 2**20
"""No size or rate in the config of a codec is larger."""


def load_codec(name: str = "mini", *, num_codebooks: int | None = None, device: str = "cpu") -> Codec:
    """The codec of that name.

    Args:
        name: `mini` (comes with the package), `toy` (for tests), `mimi` (kyutai/mimi), a Hugging Face id
            `owner/name` of a Mimi or of a codec in `codec/kinds.py` (EnCodec, DAC, X-Codec, …), or a folder with one of
            them or a mini codec.
        num_codebooks: keep the first codebooks only. Default: all, and 8 for Mimi and EnCodec.
        device: where it runs, as PyTorch names devices.
    Raises:
        CodecError: no such codec, or fewer codebooks than asked for.
        ConfigError: no such device here.
    """
    if device != "cpu":
        device_named(device)
        convolve_in_float32()
    # Heavy imports wait for the codec that needs them: the toy needs no PyTorch, the mini no transformers.
    if name == "toy":
        from sodakit.codec.toy import ToyCodec

        return ToyCodec() if num_codebooks is None else ToyCodec(num_codebooks)
    if name == "mini":
        from sodakit.codec.mini import load_mini

        return load_mini(num_codebooks=num_codebooks, device=device)
    if name == "mimi":
        return _load_hub(_MIMI_ID, _MIMI_ID, num_codebooks, device)
    if Path(name).is_dir():
        return _load_folder(Path(name), num_codebooks, device)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _load_hub(name, name, num_codebooks, device)
    hint = nearest(name, NAMES, "A folder, owner/name on the hub, or one of")
    raise CodecError(f"No codec {name!r}, and no folder of that name.{hint}")


def load_codec_of(
    spec: CodecSpec,
    what: str,
    name: str | None = None,
    *,
    device: str = "cpu",
    option: str | None = "--codec",
) -> Codec:
    """The codec that made some codes.

    Args:
        spec: what they tell of it.
        what: how the message begins, as "STORE holds codes of".
        name: where it is, if not where its own name says.
        option: by which the caller names another place; None where it has none.
    Raises:
        CodecError: it is not at hand, or another one is under its name; says which is needed, and how to get it.
    """
    told = (
        f"{what} {spec.name} ({spec.sample_rate_hz} Hz, {spec.frame_rate_hz:g} frames/s, "
        f"{spec.codebooks_shown}, fingerprint {spec.fingerprint})"
    )
    on_hub = spec.name.count("/") == 1
    if option is None:
        get = f"Get it where there is a network (hf download {spec.name})." if on_hub else ""
    elif on_hub:
        get = f"Get it where there is a network (hf download {spec.name} --local-dir FOLDER), and give {option} FOLDER."
    else:
        get = f"Copy the folder {spec.name!r} of that codec here, and give {option} FOLDER."
    try:
        codec = load_codec(name or spec.name, num_codebooks=spec.num_codebooks, device=device)
    except CodecError as error:
        raise CodecError(f"{told}, which is not at hand: {error} {get}".rstrip()) from error
    if codec.spec.fingerprint != spec.fingerprint:
        raise CodecError(
            f"{told}; the one here is {codec.spec.name} {codec.spec.fingerprint}. {get}".rstrip()
        )
    return codec


def _load_folder(folder: Path, num_codebooks: int | None, device: str) -> Codec:
    name = folder.resolve().name
    if (folder / "mini.json").exists():
        from sodakit.codec.mini import load_mini

        return load_mini(folder, name, num_codebooks, device)
    if (folder / "config.json").exists():
        return _load_hub(str(folder), name, num_codebooks, device)
    raise CodecError(
        f"{folder} holds no codec; needed: mini.json (sodakit codec train), or config.json of a codec of transformers."
    )


def _load_hub(source: str, name: str, num_codebooks: int | None, device: str) -> Codec:
    from sodakit.codec.kinds import CONTINUOUS, KINDS

    config = _config(source)
    model_type = config.get("model_type")
    if (largest := _largest(config)) > _LARGEST:
        raise CodecError(f"{name}: its config.json asks for {largest:,} of something. Download it again.")
    if model_type == "mimi":
        from sodakit.codec.mimi import load_mimi

        return load_mimi(source, name, num_codebooks, device)
    if model_type in KINDS:
        from sodakit.codec.adapter import load_hub_codec

        return load_hub_codec(source, name, model_type, num_codebooks, device)
    if model_type in CONTINUOUS:
        raise CodecError(
            f"{name} ({model_type}) turns sound into numbers, not into codes. Use another codec."
        )
    raise CodecError(
        f"{name} is a {model_type or 'model without model_type in its config.json'}; codecs known here: "
        f"mimi, {', '.join(KINDS)}."
    )


def _config(source: str) -> dict[str, Any]:
    from transformers import PreTrainedConfig

    try:
        return dict(PreTrainedConfig.get_config_dict(source)[0])
    except (OSError, ValueError, TypeError) as error:
        raise CodecError(
            f"No codec could be loaded from {source!r} ({first_line(error)}). "
            "Needed: a folder made by save_pretrained, or a Hugging Face id and a network."
        ) from error


def _largest(value: Any) -> float:
    """The largest number in a config: what a damaged one asks for is not allocated."""
    if isinstance(value, (dict, list, tuple)):
        return max(map(_largest, value.values() if isinstance(value, dict) else value), default=0)
    return value if isinstance(value, (int, float)) else 0
