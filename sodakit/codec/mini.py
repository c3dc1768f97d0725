"""The project's own codec: small enough to ship in the package and to run on a laptop.

24 kHz, 12.5 frames a second, 8 codebooks of 1024, 1.0 kbit/s. Codebook 0 was taught phones.
Trained by `sodakit codec train`; what it was trained on and how well it does is in LOG.md.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from sodakit.codec.blocks import Memory
from sodakit.codec.chunks import chunks
from sodakit.codec.contract import Codec, CodecSpec, StreamingDecoder
from sodakit.codec.network import MiniConfig, MiniNetwork
from sodakit.config import from_plain, to_plain
from sodakit.errors import CodecError
from sodakit.files import atomic_path, digest, read_json, write_json
from sodakit.tensors import broken_weight, odd_kind

SHIPPED = Path(__file__).parent / "weights"
"""The folder of the weights that come with the package."""

_CHUNK_LATENTS = 100


class MiniCodec(Codec):
    """A `MiniNetwork` behind the codec contract."""

    def __init__(self, network: MiniNetwork, name: str = "mini", num_codebooks: int | None = None) -> None:
        config = network.config
        counts = config.codes_per_frame
        whole = list(accumulate(counts))
        kept = whole[-1] if num_codebooks is None else num_codebooks
        if kept not in whole:
            fits = f"1 to {whole[-1]}" if max(counts) == 1 else ", ".join(map(str, whole))
            raise CodecError(f"num_codebooks={kept}; {name} has {whole[-1]}. Use {fits}.")
        counts = counts[: whole.index(kept) + 1]
        self.network = network.eval().requires_grad_(False)
        self.spec = CodecSpec(
            name=name,
            sample_rate_hz=config.sample_rate_hz,
            frame_samples=config.frame_samples * config.latents_per_frame,
            num_codebooks=kept,
            codebook_size=config.codebook_size,
            semantic_codebooks=tuple(range(counts[0])),
            fingerprint=_fingerprint(network, kept),
            codes_per_frame=counts if max(config.codes_per_frame) > 1 else (),
        )

    @property
    def chunk_frames(self) -> int:
        """Frames per pass: 8 s, which stays in a CPU's cache. Bounds memory on long sounds; the layers' memory makes
        pieces equal to the whole."""
        return max(1, _CHUNK_LATENTS // self.network.config.latents_per_frame)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.encoder_norm.weight.device

    def encode_batch(self, waves_S: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The codes of each sound, each encoded alone: matrix products of another shape round differently, and a
        code on the border between two entries would then depend on its neighbours in the batch."""
        return [self._encode_one(wave_S) for wave_S in waves_S]

    def _encode_one(self, wave_S: np.ndarray) -> np.ndarray:
        if wave_S.ndim != 1:
            raise CodecError(f"A sound of shape {wave_S.shape}; needed: mono samples, one axis S.")
        empty_KF = np.zeros((self.spec.num_codebooks, 0), np.uint16)
        return np.concatenate([empty_KF, *self.encode_blocks([wave_S])], axis=1)

    def encode_blocks(self, blocks_S: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        frame, lookahead = self.spec.frame_samples, self.network.config.lookahead_samples
        memory: Memory = {}
        for part_S in chunks(blocks_S, self.chunk_frames * frame, frame, lookahead):
            # Not around the loop: the mode would be that of whoever takes the parts, too.
            with torch.inference_mode():
                codes_BKF = self.network.encode(torch.from_numpy(part_S)[None].to(self.device), memory)
            yield codes_BKF[0, : self.spec.num_codebooks].cpu().numpy().astype(np.uint16)

    def decode(self, codes_KF: np.ndarray) -> np.ndarray:
        return self.stream().push(codes_KF)

    def stream(self) -> "MiniStream":
        return MiniStream(self)

    def save(self, folder: Path | str) -> None:
        """Write `mini.json` and `mini.safetensors` (float16) into `folder`; `load_mini` reads them back."""
        folder = Path(folder)
        tensors = {name: tensor.half().contiguous() for name, tensor in self.network.state_dict().items()}
        with atomic_path(folder / "mini.safetensors") as temporary:
            temporary.write_bytes(save(tensors))
        write_json(folder / "mini.json", to_plain(self.network.config))


class MiniStream(StreamingDecoder):
    """Codes to sound in pieces."""

    def __init__(self, codec: MiniCodec) -> None:
        self._codec = codec
        self._memory: Memory = {}

    @torch.inference_mode()
    def push(self, codes_KF: np.ndarray) -> np.ndarray:
        self._codec.spec.check_codes(codes_KF)
        pieces = [np.zeros(0, np.float32)]
        for start in range(0, codes_KF.shape[1], self._codec.chunk_frames):
            piece_KF = codes_KF[:, start : start + self._codec.chunk_frames].astype(np.int64)
            codes_BKF = torch.from_numpy(piece_KF)[None].to(self._codec.device)
            pieces.append(self._codec.network.decode(codes_BKF, self._memory)[0].cpu().numpy())
        return np.concatenate(pieces)


def load_mini(
    folder: Path | str = SHIPPED, name: str = "mini", num_codebooks: int | None = None, device: str = "cpu"
) -> MiniCodec:
    """The codec that `MiniCodec.save` wrote into `folder` (default: the one that comes with the package).

    Raises:
        CodecError: no codec in the folder, or weights that do not fit its config.
    """
    folder = Path(folder)
    weights = folder / "mini.safetensors"
    if not weights.exists() or not (folder / "mini.json").exists():
        raise CodecError(
            f"{folder} holds no mini codec; needed: mini.json and mini.safetensors. Train one: sodakit codec train."
        )
    config = from_plain(MiniConfig, read_json(folder / "mini.json"), "mini.json")
    try:
        stored = load_file(weights)
        odd = odd_kind(stored)
        if odd is not None:
            raise CodecError(f"{weights}: {odd}.")
        tensors = {key: tensor.float() for key, tensor in stored.items()}
        _check_sizes(config, tensors)
        network = MiniNetwork(config)
        network.load_state_dict(tensors)
    except (RuntimeError, SafetensorError) as error:
        raise CodecError(
            f"{weights} does not fit {folder / 'mini.json'}: {str(error).splitlines()[-1].strip()}"
        ) from error
    if broken := broken_weight(tensors, begin_at_zero=("melody_in",)):
        raise CodecError(
            f"{weights}: {broken}, so it is no codec. Copy it again, or train one: sodakit codec train."
        )
    return MiniCodec(network.to(device), name, num_codebooks)


def _check_sizes(config: MiniConfig, tensors: dict[str, torch.Tensor]) -> None:
    """Raise where a config asks for a size that no tensor has: what a damaged one asks for is not allocated.

    Raises:
        RuntimeError: as PyTorch does of tensors that do not fit.
    """
    sizes = {size for tensor in tensors.values() for size in tensor.shape}
    asked = {*config.encoder_widths, *config.decoder_widths, config.code_width, config.codebook_size}
    asked |= {config.hops_per_frame * config.num_bands, config.kernel}
    widened = zip(
        (*config.encoder_widths, *config.decoder_widths),
        (*config.encoder_blocks, *config.decoder_blocks),
        strict=True,
    )
    asked |= {config.expansion * width for width, number in widened if number}
    blocks = sum(config.encoder_blocks) + sum(config.decoder_blocks)
    if not asked <= sizes or max(blocks, config.num_codebooks) > len(tensors):
        raise RuntimeError(
            f"it has no tensors of {', '.join(map(str, sorted(asked - sizes))) or 'so many blocks'}"
        )


def _fingerprint(network: MiniNetwork, num_codebooks: int) -> str:
    # As float16: a codec in memory and the one it saves then have the same fingerprint.
    tensors = sorted(network.state_dict().items())
    parts = [part for key, value in tensors for part in (key, value.detach().half().cpu().numpy().tobytes())]
    return digest(json.dumps(to_plain(network.config), sort_keys=True), str(num_codebooks), *parts)
