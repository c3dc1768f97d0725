"""Mimi, through Hugging Face transformers: the first K codebooks of any Mimi checkpoint.

Tested with transformers 5.17, where Mimi is one model, and 5.23, where its two halves are models of their own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sodakit.codec.contract import Codec, CodecSpec, StreamingDecoder
from sodakit.errors import CodecError
from sodakit.files import digest

_CPU_CHUNK_FRAMES = 25
"""Frames per pass on a CPU. Two seconds at a time is faster than whole clips (cache) and bounds memory."""
_GPU_CHUNK_FRAMES = 250


class MimiCodec(Codec):
    """A transformers `MimiModel` behind the codec contract."""

    def __init__(self, model: Any, name: str, num_codebooks: int = 8) -> None:
        config = model.config
        if not 1 <= num_codebooks <= config.num_quantizers:
            raise CodecError(
                f"num_codebooks={num_codebooks}; {name} has {config.num_quantizers}. Use 1 to {config.num_quantizers}."
            )
        if not config.use_causal_conv or config.pad_mode != "constant" or config.trim_right_ratio != 1.0:
            raise CodecError(
                f"{name} is not causal (or pads unlike Mimi), so it cannot stream. Use a causal Mimi."
            )
        self.model = model.eval().requires_grad_(False).float()
        self.spec = CodecSpec(
            name=name,
            sample_rate_hz=config.sampling_rate,
            frame_samples=round(config.sampling_rate / config.frame_rate),
            num_codebooks=num_codebooks,
            codebook_size=config.codebook_size,
            fingerprint=_fingerprint(model, num_codebooks),
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def chunk_frames(self) -> int:
        """Frames per pass."""
        return _CPU_CHUNK_FRAMES if self.device.type == "cpu" else _GPU_CHUNK_FRAMES

    def encode_batch(self, waves_S: Sequence[np.ndarray]) -> list[np.ndarray]:
        # One by one on a CPU: batches are slower there, and products of another shape may round to another code.
        rows = 1 if self.device.type == "cpu" else max(1, len(waves_S))
        codes: list[np.ndarray] = []
        for start in range(0, len(waves_S), rows):
            codes += self.encode_padded(waves_S[start : start + rows])
        return codes

    @torch.inference_mode()
    def encode_padded(self, waves_S: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The codes of the sounds in one right-padded batch.

        transformers ignores `padding_mask` here (its issue 43377), which does no harm if every sound is padded with
        silence to whole frames: the network is causal, so what follows cannot reach back.
        """
        frames = [self.spec.num_frames(len(wave_S)) for wave_S in waves_S]
        padded = np.zeros((len(waves_S), max(frames, default=0) * self.spec.frame_samples), np.float32)
        for row, wave_S in enumerate(waves_S):
            padded[row, : len(wave_S)] = wave_S
        codes_BKF = self._encode_chunks(torch.from_numpy(padded)[:, None].to(self.device))
        return [codes_BKF[row, :, :count].astype(np.uint16) for row, count in enumerate(frames)]

    def _encode_chunks(self, wave_BCS: Tensor) -> np.ndarray:
        past, padding = None, None
        pieces = [np.zeros((len(wave_BCS), self.spec.num_codebooks, 0), np.int64)]
        chunk = self.chunk_frames * self.spec.frame_samples
        for start in range(0, wave_BCS.shape[-1], chunk):
            output = self.model.encode(
                wave_BCS[..., start : start + chunk],
                num_quantizers=self.spec.num_codebooks,
                encoder_past_key_values=past,
                padding_cache=padding,
                use_streaming=True,
                return_dict=True,
            )
            past, padding = output.encoder_past_key_values, output.padding_cache
            pieces.append(output.audio_codes.cpu().numpy())
        return np.concatenate(pieces, axis=-1)

    def decode(self, codes_KF: np.ndarray) -> np.ndarray:
        return self.stream().push(codes_KF)

    def stream(self) -> "MimiStream":
        return MimiStream(self)


class MimiStream(StreamingDecoder):
    """Codes to sound in pieces. transformers streams Mimi's encoder only, so the decoder's state is kept here."""

    def __init__(self, codec: MimiCodec) -> None:
        self._codec = codec
        self._tails: dict[Any, Tensor] = {}
        self._past: Any = None

    @torch.inference_mode()
    def push(self, codes_KF: np.ndarray) -> np.ndarray:
        self._codec.spec.check_codes(codes_KF)
        pieces = [np.zeros(0, np.float32)]
        for start in range(0, codes_KF.shape[1], self._codec.chunk_frames):
            piece_KF = codes_KF[:, start : start + self._codec.chunk_frames].astype(np.int64)
            wave_BCS = self._decode(torch.from_numpy(piece_KF)[None].to(self._codec.device))
            pieces.append(wave_BCS[0, 0].cpu().numpy())
        return np.concatenate(pieces)

    def _decode(self, codes_BKF: Tensor) -> Tensor:
        model = self._codec.model
        x = model.quantizer.decode(codes_BKF)
        if model.upsample is not None:
            x = self._layer(model.upsample, x)
        output = model.decoder_transformer(x.transpose(1, 2), past_key_values=self._past, use_cache=True)
        self._past = output.past_key_values
        x = output.last_hidden_state.transpose(1, 2)
        for layer in getattr(model.decoder, "decoder_seanet", model.decoder).layers:
            x = self._layer(layer, x)
        return x

    def _layer(self, layer: Any, x: Tensor) -> Tensor:
        from transformers.models.mimi import modeling_mimi

        if isinstance(layer, modeling_mimi.MimiConv1d):
            return self._convolution(layer, x)
        if isinstance(layer, modeling_mimi.MimiConvTranspose1d):
            return self._transposed(layer, x)
        if isinstance(layer, modeling_mimi.MimiResnetBlock):
            inner = x
            for part in layer.block:
                inner = self._layer(part, inner)
            return self._layer(layer.shortcut, x) + inner
        return layer(x)

    def _convolution(self, layer: Any, x: Tensor) -> Tensor:
        past = int(layer.padding_total)
        tail = self._tails.get(layer)
        x = torch.cat([x.new_zeros(*x.shape[:2], past) if tail is None else tail, x], dim=-1)
        self._tails[layer] = x[..., x.shape[-1] - past :].clone()
        return layer.conv(x)

    def _transposed(self, layer: Any, x: Tensor) -> Tensor:
        """Each input spreads over `kernel` outputs; those that the next input also reaches wait for it."""
        stride, kernel = layer.conv.stride[0], layer.conv.kernel_size[0]
        y = layer.conv(x)
        if layer in self._tails:
            y[..., : kernel - stride] += self._tails[layer]
        ready = x.shape[-1] * stride
        waiting = y[..., ready:].clone()
        # Both the waiting part and the next one carry the bias: it must count once.
        self._tails[layer] = waiting if layer.conv.bias is None else waiting - layer.conv.bias[:, None]
        return y[..., :ready]


def load_mimi(source: str, name: str, num_codebooks: int | None = None, device: str = "cpu") -> MimiCodec:
    """The Mimi checkpoint in a folder or under a Hugging Face id, cut to its first codebooks (default 8).

    Raises:
        CodecError: it cannot be found, or is no causal Mimi.
    """
    from transformers import MimiModel

    try:
        model = MimiModel.from_pretrained(source, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise CodecError(
            f"No Mimi checkpoint could be loaded from {source!r} ({str(error).splitlines()[0]}). "
            "Needed: a folder made by save_pretrained, or a Hugging Face id and a network."
        ) from error
    kept = num_codebooks or min(8, model.config.num_quantizers)
    model.to(device)  # type: ignore[arg-type]  # transformers 5.23 wraps `to` with another signature
    return MimiCodec(model, name, kept)


def _fingerprint(model: Any, num_codebooks: int) -> str:
    # By content and not by name: transformers renamed the weights between versions, and codes did not change.
    tensors = sorted(digest(t.detach().cpu().float().numpy().tobytes()) for t in model.state_dict().values())
    config = model.config
    shape = (config.sampling_rate, config.frame_rate, config.codebook_size, config.num_quantizers)
    return digest("mimi", repr(tuple(float(value) for value in shape)), str(num_codebooks), *tensors)
