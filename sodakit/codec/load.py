"""Codecs by name. Adding a codec: its file, and a row here."""

from pathlib import Path

from sodakit.codec.contract import Codec
from sodakit.errors import CodecError, nearest
from sodakit.files import read_json
from sodakit.hardware import device_named

NAMES = ("mini", "toy", "mimi")
"""Names that need no folder."""

_MIMI_ID = "kyutai/mimi"


def load_codec(name: str = "mini", *, num_codebooks: int | None = None, device: str = "cpu") -> Codec:
    """The codec of that name.

    Args:
        name: `mini` (comes with the package), `toy` (for tests), `mimi` (kyutai/mimi), a Hugging Face id
            `owner/name` of a Mimi checkpoint, or a folder with a mini codec or a Mimi checkpoint.
        num_codebooks: keep the first codebooks only. Default: all, and 8 for Mimi.
        device: where it runs, as PyTorch names devices.
    Raises:
        CodecError: no such codec, or fewer codebooks than asked for.
        ConfigError: no such device here.
    """
    if device != "cpu":
        device_named(device)
    # Heavy imports wait for the codec that needs them: the toy needs no PyTorch, the mini no transformers.
    if name == "toy":
        from sodakit.codec.toy import ToyCodec

        return ToyCodec() if num_codebooks is None else ToyCodec(num_codebooks)
    if name == "mini":
        from sodakit.codec.mini import load_mini

        return load_mini(num_codebooks=num_codebooks, device=device)
    if name == "mimi":
        return _load_mimi(_MIMI_ID, _MIMI_ID, num_codebooks, device)
    if Path(name).is_dir():
        return _load_folder(Path(name), num_codebooks, device)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _load_mimi(name, name, num_codebooks, device)
    hint = nearest(name, NAMES, "A folder, owner/name on the hub, or one of")
    raise CodecError(f"No codec {name!r}, and no folder of that name.{hint}")


def _load_folder(folder: Path, num_codebooks: int | None, device: str) -> Codec:
    name = folder.resolve().name
    if (folder / "mini.json").exists():
        from sodakit.codec.mini import load_mini

        return load_mini(folder, name, num_codebooks, device)
    if (folder / "config.json").exists() and read_json(folder / "config.json").get("model_type") == "mimi":
        return _load_mimi(str(folder), name, num_codebooks, device)
    raise CodecError(
        f"{folder} holds no codec; needed: mini.json (sodakit codec train) or config.json of a Mimi."
    )


def _load_mimi(source: str, name: str, num_codebooks: int | None, device: str) -> Codec:
    from sodakit.codec.mimi import load_mimi

    return load_mimi(source, name, num_codebooks, device)
