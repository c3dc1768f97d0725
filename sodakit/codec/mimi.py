"""Mimi, through Hugging Face transformers: the first K codebooks of any Mimi checkpoint.

Tested with transformers 5.17, where Mimi is one model, 5.23, where its two halves are models of their own, and 5.24, where
the past of attention has another name.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sodakit.codec.causal import CausalLayers
from sodakit.codec.chunks import chunks
from sodakit.codec.contract import Codec, CodecSpec, StreamingDecoder
from sodakit.errors import CodecError
from sodakit.files import digest
from sodakit.pretrained import Pretrained, weights_digests

_CPU_CHUNK_FRAMES = 25
"""Frames per pass on a CPU. Two seconds at a time is faster than whole clips (cache) and bounds memory."""
_GPU_CHUNK_FRAMES = 250
_BATCH_ROWS = 32
_DOUBT = 2e-5
"""Margin, over the latent's length, under which rounding may decide; a test holds that latents differ by far less."""


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
        # One by one on a CPU: batches are slower there, and products of another shape round to other codes.
        if self.device.type == "cpu":
            return [self.encode_padded([wave_S])[0] for wave_S in waves_S]
        return self.encode_checked(waves_S)

    def encode_checked(self, waves_S: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The codes of the sounds, in padded batches of similar length, equal to those of each alone.

        A batch has matrix products of another shape, which round differently. Where a latent lies so near the border
        between two entries that rounding could decide, its sound is encoded again, alone.
        """
        order = sorted(range(len(waves_S)), key=lambda i: len(waves_S[i]))
        codes: dict[int, np.ndarray] = {}
        for start in range(0, len(order), _BATCH_ROWS):
            rows = order[start : start + _BATCH_ROWS]
            batched, doubtful = self._encode_doubtful([waves_S[i] for i in rows])
            for i, codes_KF, in_doubt in zip(rows, batched, doubtful, strict=True):
                codes[i] = self.encode_padded([waves_S[i]])[0] if in_doubt and len(rows) > 1 else codes_KF
        return [codes[i] for i in range(len(waves_S))]

    def encode_padded(self, waves_S: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The codes of the sounds in one right-padded batch, whatever rounding makes of them.

        transformers ignores `padding_mask` here (its issue 43377), which does no harm if every sound is padded with
        silence to whole frames: the network is causal, so what follows cannot reach back.
        """
        frames = [self.spec.num_frames(len(wave_S)) for wave_S in waves_S]
        pieces = [np.zeros((len(waves_S), self.spec.num_codebooks, 0), np.int64)]
        pieces += [codes_BKF.cpu().numpy() for codes_BKF, _ in self._encode_chunks(waves_S)]
        codes_BKF = np.concatenate(pieces, axis=-1).astype(np.uint16)
        return [codes_BKF[row, :, :count] for row, count in enumerate(frames)]

    def _encode_doubtful(self, waves_S: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[bool]]:
        """What `encode_padded` gives, and of each sound whether rounding could have decided one of its codes."""
        frames = [self.spec.num_frames(len(wave_S)) for wave_S in waves_S]
        pieces, doubts = [], []
        for chunk_BKF, latent_BDF in self._encode_chunks(waves_S):
            pieces.append(chunk_BKF.cpu().numpy().astype(np.uint16))
            # Without latents to look at, nothing speaks for the batch.
            margin_BF = 0 * chunk_BKF[:, 0] if latent_BDF is None else self._margins(latent_BDF, chunk_BKF)
            doubts.append((margin_BF < _DOUBT).cpu().numpy())
        if not pieces:
            return self.encode_padded(waves_S), [False] * len(waves_S)
        codes_BKF, doubt_BF = np.concatenate(pieces, axis=-1), np.concatenate(doubts, axis=-1)
        return (
            [codes_BKF[row, :, :count] for row, count in enumerate(frames)],
            [bool(doubt_BF[row, :count].any()) for row, count in enumerate(frames)],
        )

    def encode_blocks(self, blocks_S: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        frame = self.spec.frame_samples
        parts = chunks(blocks_S, self.chunk_frames * frame, frame)
        for codes_BKF, _ in self._encode_parts(part_S[None, None] for part_S in parts):
            yield codes_BKF[0].cpu().numpy().astype(np.uint16)

    def _encode_chunks(self, waves_S: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor | None]]:
        """`_encode_parts` of a right-padded batch of sounds."""
        frame, chunk = self.spec.frame_samples, self.chunk_frames
        frames = self.spec.num_frames(max((len(wave_S) for wave_S in waves_S), default=0))

        def parts() -> Iterator[np.ndarray]:
            for start in range(0, frames, chunk):
                length = (min(start + chunk, frames) - start) * frame
                # Padded chunk by chunk: a batch of long sounds is never in memory twice.
                padded = np.zeros((len(waves_S), 1, length), np.float32)
                for row, wave_S in enumerate(waves_S):
                    part_S = wave_S[start * frame : start * frame + length]
                    padded[row, 0, : len(part_S)] = part_S
                yield padded

        return self._encode_parts(parts())

    def _encode_parts(self, parts: Iterable[np.ndarray]) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The codes_BKF of one part of the sounds (float32 (B, 1, S), whole frames) after the other, beside the latents
        (B, D, F) they were taken from.

        No latents come from a Mimi whose encoder already runs at the frame rate, without a layer to listen at.
        """
        past, padding = None, None
        past_name = _taken(self.model.encode, "encoder_cache", "encoder_past_key_values")
        latents: list[Tensor] = []
        # In transformers 5.17 a part of the model, in 5.23 of its encoder.
        holder = self.model if "downsample" in dict(self.model.named_children()) else self.model.encoder
        last_layer = getattr(holder, "downsample", None)
        listener = last_layer and last_layer.register_forward_hook(
            lambda _, __, latent_BDF: latents.append(latent_BDF)
        )
        try:
            for part in parts:
                # Not around the loop: the mode would be that of whoever takes the parts, too.
                with torch.inference_mode():
                    output = self.model.encode(
                        torch.from_numpy(part).to(self.device),
                        num_quantizers=self.spec.num_codebooks,
                        padding_cache=padding,
                        use_streaming=True,
                        return_dict=True,
                        **{past_name: past},
                    )
                past, padding = getattr(output, past_name), output.padding_cache
                yield output.audio_codes, latents.pop() if latents else None
        finally:
            if listener:
                listener.remove()

    @torch.inference_mode()
    def _margins(self, latent_BDF: Tensor, codes_BKF: Tensor) -> Tensor:
        """At the closest call of each frame: how much further the second entry is than the first, over the latent's length."""
        quantizer = self.model.quantizer
        semantic = quantizer.num_semantic_quantizers
        chains = (
            (quantizer.semantic_residual_vector_quantizer, codes_BKF[:, :semantic]),
            (quantizer.acoustic_residual_vector_quantizer, codes_BKF[:, semantic:]),
        )
        closest_BF = latent_BDF.new_full((len(latent_BDF), latent_BDF.shape[-1]), torch.inf)
        for chain, chosen_BKF in chains:
            residual_BDF = chain.input_proj(latent_BDF) if chain.input_proj is not None else latent_BDF
            length_BF = residual_BDF.norm(dim=1).clamp_min(1e-9)
            for layer, codes_BF in zip(chain.layers, chosen_BKF.unbind(1), strict=False):
                entries_ND = layer.codebook.embed
                two_BF2 = (
                    torch.cdist(residual_BDF.transpose(1, 2), entries_ND[None]).topk(2, largest=False).values
                )
                closest_BF = torch.minimum(closest_BF, (two_BF2[..., 1] - two_BF2[..., 0]) / length_BF)
                residual_BDF = residual_BDF - layer.decode(codes_BF)
        return closest_BF

    def decode(self, codes_KF: np.ndarray) -> np.ndarray:
        return self.stream().push(codes_KF)

    def stream(self) -> "MimiStream":
        return MimiStream(self)


class MimiStream(StreamingDecoder):
    """Codes to sound in pieces. transformers streams Mimi's encoder only, so the decoder's state is kept here."""

    def __init__(self, codec: MimiCodec) -> None:
        self._codec = codec
        self._layers = CausalLayers()
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
        # In transformers 5.17 parts of the model, in 5.23 of its decoder.
        holder = model if "decoder_transformer" in dict(model.named_children()) else model.decoder
        x = model.quantizer.decode(codes_BKF)
        if holder.upsample is not None:
            x = self._layers(holder.upsample, x)
        past_name = _taken(holder.decoder_transformer.forward, "cache", "past_key_values")
        output = holder.decoder_transformer(x.transpose(1, 2), use_cache=True, **{past_name: self._past})
        self._past = getattr(output, past_name)
        x = output.last_hidden_state.transpose(1, 2)
        for layer in getattr(model.decoder, "decoder_seanet", model.decoder).layers:
            x = self._layers(layer, x)
        return x


def _taken(function: Callable[..., Any], *names: str) -> str:
    """The first of the names by which a function takes an argument.

    transformers 5.24 calls the past of attention `cache`, earlier ones `past_key_values`, and `encode` ignores a name it
    does not know: each chunk would be encoded as if it were the first.
    """
    parameters = inspect.signature(function).parameters
    for name in names:
        if name in parameters:
            return name
    raise CodecError(
        f"transformers {version('transformers')} has a Mimi that takes none of {', '.join(names)}. "
        "Install another version; sodakit knows 5.0 to 5.24."
    )


def load_mimi(source: str, name: str, num_codebooks: int | None = None, device: str = "cpu") -> MimiCodec:
    """The Mimi checkpoint in a folder or under a Hugging Face id, cut to its first codebooks (default 8).

    Raises:
        CodecError: it cannot be found, or is no causal Mimi.
    """
    from transformers import MimiModel

    model = Pretrained(source, "a MimiModel", error=CodecError).model(MimiModel)
    kept = min(8, model.config.num_quantizers) if num_codebooks is None else num_codebooks
    model.to(device)
    return MimiCodec(model, name, kept)


def _fingerprint(model: Any, num_codebooks: int) -> str:
    tensors = weights_digests(model)
    config = model.config
    shape = (config.sampling_rate, config.frame_rate, config.codebook_size, config.num_quantizers)
    return digest("mimi", repr(tuple(float(value) for value in shape)), str(num_codebooks), *tensors)
