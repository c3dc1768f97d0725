"""Codecs of Hugging Face transformers behind the codec contract: one adapter, and a row for each class (`kinds.py`).

Every sound is encoded alone. These networks pad inside their layers, so a batch of different lengths would change the
codes at the ends of the shorter ones. Long sounds go through in windows: where a network is made of convolutions only, a
window holds all that it sees, and windows give what the whole gives. Where it sees everything (attention, norms over
time), the windows are part of the codec: sounds of up to `WINDOW_S` are encoded and decoded whole, as transformers does.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sodakit.codec.causal import CausalLayers
from sodakit.codec.chunks import Windows, chunks
from sodakit.codec.contract import Codec, CodecSpec, StreamingDecoder
from sodakit.codec.kinds import KINDS, Kind, frame_of
from sodakit.codec.reach import mirrored_frames, on_codes, on_sound, reach
from sodakit.errors import CodecError, SodakitError, first_line
from sodakit.files import digest
from sodakit.pretrained import Pretrained, weights_digests

WINDOW_S = 20.0
"""Piece of a sound that is encoded in one pass."""
DECODED_S = 10.0
"""The same of codes; a stream of a codec that sees everything waits for so much."""
_AROUND_S = 2.0
"""What a network that sees everything is shown on each side of a piece."""
_CAUSAL_S = 2.0
"""Piece of a causal codec: what comes before is remembered, so pieces may be short."""
_TRIAL_FRAMES = 16


class HubCodec(Codec):
    """A codec of transformers, window by window."""

    def __init__(self, model: Any, kind: Kind, name: str, num_codebooks: int | None = None) -> None:
        config = model.config
        all_codebooks = getattr(config, kind.codebooks) if kind.codebooks else 1
        kept = min(kind.default_codebooks or all_codebooks, all_codebooks)
        kept = kept if num_codebooks is None else num_codebooks
        if not 1 <= kept <= all_codebooks:
            raise CodecError(f"num_codebooks={kept}; {name} has {all_codebooks}. Use 1 to {all_codebooks}.")
        if why := kind.refused(config):
            raise CodecError(f"{name} {why}. Use another codec.")
        rate_hz, frame, size = frame_of(kind, config, name)
        self.model, self.kind = model.eval().requires_grad_(False).float(), kind
        self._rate_hz = rate_hz / frame
        self._encoder_sees = self._sees(kind.encoder, on_sound(frame))
        self._decoder_sees = self._sees(kind.decoder, on_codes)
        self.lookahead_frames = self._decoder_sees[1] + (0 if kind.decoder else self._frames(DECODED_S) - 1)
        self.spec = CodecSpec(
            name=name,
            sample_rate_hz=rate_hz,
            frame_samples=frame,
            num_codebooks=kept,
            codebook_size=size,
            fingerprint=digest(
                kind.model,
                repr((rate_hz, frame, size, all_codebooks, kept)),
                repr([getattr(config, name, None) for name in ("use_causal_conv", "pad_mode")]),
                "" if kind.encoder else repr((WINDOW_S, _AROUND_S)),
                *weights_digests(model),
            ),
        )
        _make_plain(model)
        # Says now, and not within a corpus, that its parts do not fit.
        trial_KF = self._encode(np.zeros(_TRIAL_FRAMES * frame, np.float32), 0, _TRIAL_FRAMES)
        self._decode(trial_KF, 0, _TRIAL_FRAMES)

    def __reduce__(self) -> tuple[Any, ...]:
        # transformers leaves hooks in its models that cannot be sent to another process; weights can.
        weights = {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
        return _received, (type(self), self.model.config, weights, self.spec, str(self.device))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    def encode_batch(self, waves_S: Sequence[np.ndarray]) -> list[np.ndarray]:
        empty_KF = np.zeros((self.spec.num_codebooks, 0), np.uint16)
        return [
            np.concatenate([empty_KF, *self.encode_blocks([wave_S])], axis=1) if len(wave_S) else empty_KF
            for wave_S in waves_S
        ]

    def encode_blocks(self, blocks_S: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        windows = Windows(self.spec.frame_samples, *self._encoder_sees, self._frames(WINDOW_S))
        for block_S in blocks_S:
            for window in windows.push(block_S):
                yield self._encode(*window)
        for window in windows.finish():
            yield self._encode(*window)

    @torch.inference_mode()
    def _encode(self, wave_S: np.ndarray, before: int, taken: int) -> np.ndarray:
        wave_BCS = torch.from_numpy(np.ascontiguousarray(wave_S, np.float32))[None, None].to(self.device)
        codes_BKF = self.kind.encode(self.model, wave_BCS)
        if codes_BKF.shape[-1] != len(wave_S) // self.spec.frame_samples:
            raise CodecError(
                f"{self.spec.name} made {codes_BKF.shape[-1]} frames of {len(wave_S)} samples; needed: one for each "
                f"{self.spec.frame_samples}. Its config does not fit its parts."
            )
        kept_KF = codes_BKF[0, : self.spec.num_codebooks, before : before + taken]
        return kept_KF.cpu().numpy().astype(np.uint16)

    def decode(self, codes_KF: np.ndarray) -> np.ndarray:
        self.spec.check_codes(codes_KF)
        # As large as a window of the encoder where windows do not matter: fewer passes.
        piece = self._frames(WINDOW_S if self.kind.decoder else DECODED_S)
        windows = Windows(1, *self._decoder_sees, piece)
        pieces = [self._decode(*window) for window in windows.push(codes_KF)]
        pieces += [self._decode(*window) for window in windows.finish()]
        return np.concatenate([np.zeros(0, np.float32), *pieces])

    def stream(self) -> StreamingDecoder:
        return _WindowedStream(self)

    @torch.inference_mode()
    def _decode(self, codes_KF: np.ndarray, before: int, taken: int) -> np.ndarray:
        codes_BKF = torch.from_numpy(codes_KF.astype(np.int64))[None].to(self.device)
        samples_S = self.kind.decode(self.model, codes_BKF).reshape(-1).cpu().numpy()
        frame = self.spec.frame_samples
        if not 0 <= codes_KF.shape[1] * frame - len(samples_S) < frame:
            raise CodecError(
                f"{self.spec.name} made {len(samples_S)} samples of {codes_KF.shape[1]} frames of {frame}; needed: as "
                "many as they hold. Its config does not fit its parts."
            )
        kept_S = samples_S[before * frame : (before + taken) * frame]
        # A transposed convolution of odd stride gives a few samples less than a whole frame.
        return np.pad(kept_S, (0, taken * frame - len(kept_S))).astype(np.float32, copy=False)

    def _frames(self, duration_s: float) -> int:
        return max(1, round(duration_s * self._rate_hz))

    def _sees(self, part: str, run: Callable[[nn.Module, int], Any]) -> tuple[int, int]:
        """Frames to the left and right of one that it depends on: measured of convolutions, else what we show it."""
        if part:
            return reach(self.model.get_submodule(part), run)
        around = self._frames(_AROUND_S)
        return around, around


class _WindowedStream(StreamingDecoder):
    """Frames to sound, as soon as what follows them is there."""

    def __init__(self, codec: HubCodec) -> None:
        self._codec = codec
        piece = None if codec.kind.decoder else codec._frames(DECODED_S)
        self._windows = Windows(1, *codec._decoder_sees, piece)

    def push(self, codes_KF: np.ndarray) -> np.ndarray:
        self._codec.spec.check_codes(codes_KF)
        return self._sound(self._windows.push(codes_KF))

    def finish(self) -> np.ndarray:
        return self._sound(self._windows.finish())

    def _sound(self, windows: Iterator[tuple[np.ndarray, int, int]]) -> np.ndarray:
        return np.concatenate(
            [np.zeros(0, np.float32), *(self._codec._decode(*window) for window in windows)]
        )


class CausalEncodec(HubCodec):
    """EnCodec where it is causal: its layers remember what came before.

    Its convolutions begin with the mirror image of what they hear first, so a stream waits for a few frames at its
    start, and for none after.
    """

    def __init__(self, model: Any, kind: Kind, name: str, num_codebooks: int | None = None) -> None:
        super().__init__(model, kind, name, num_codebooks)
        if model.config.trim_right_ratio != 1.0:
            raise CodecError(f"{name} trims sound on both sides, so it cannot stream. Use another EnCodec.")
        self.first_frames = mirrored_frames(model.decoder, on_codes)
        self.lookahead_frames = self.first_frames - 1
        self._chunk_frames = max(
            self._frames(_CAUSAL_S),
            self.first_frames,
            mirrored_frames(model.encoder, on_sound(self.spec.frame_samples)),
        )

    def encode_blocks(self, blocks_S: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        frame, layers = self.spec.frame_samples, CausalLayers()
        for part_S in chunks(blocks_S, self._chunk_frames * frame, frame):
            with torch.inference_mode():
                x = torch.from_numpy(part_S)[None, None].to(self.device)
                for layer in self.model.encoder.layers:
                    x = layers(layer, x)
                codes_KBF = self.model.quantizer.encode(x, self._bandwidth())
            yield codes_KBF[:, 0].cpu().numpy().astype(np.uint16)

    def _bandwidth(self) -> float:
        """Of so many codebooks, and a half, so that rounding does not matter."""
        config = self.model.config
        return (self.spec.num_codebooks + 0.5) * np.log2(config.codebook_size) * config.frame_rate / 1000

    def decode(self, codes_KF: np.ndarray) -> np.ndarray:
        stream = self.stream()
        return np.concatenate([stream.push(codes_KF), stream.finish()])

    def stream(self) -> StreamingDecoder:
        return _EncodecStream(self)


class _EncodecStream(StreamingDecoder):
    def __init__(self, codec: CausalEncodec) -> None:
        self._codec = codec
        self._layers = CausalLayers()
        self._waiting_KF: np.ndarray | None = np.zeros((codec.spec.num_codebooks, 0), np.int64)

    def push(self, codes_KF: np.ndarray) -> np.ndarray:
        self._codec.spec.check_codes(codes_KF)
        if self._waiting_KF is not None:
            self._waiting_KF = np.concatenate([self._waiting_KF, codes_KF], axis=1)
            if self._waiting_KF.shape[1] < self._codec.first_frames:
                return np.zeros(0, np.float32)
            codes_KF, self._waiting_KF = self._waiting_KF, None
        return self._sound(codes_KF)

    def finish(self) -> np.ndarray:
        codes_KF, self._waiting_KF = self._waiting_KF, None
        return np.zeros(0, np.float32) if codes_KF is None else self._sound(codes_KF)

    @torch.inference_mode()
    def _sound(self, codes_KF: np.ndarray) -> np.ndarray:
        model, pieces = self._codec.model, [np.zeros(0, np.float32)]
        for start in range(0, codes_KF.shape[1], self._codec._chunk_frames):
            piece_KF = codes_KF[:, start : start + self._codec._chunk_frames].astype(np.int64)
            x = model.quantizer.decode(torch.from_numpy(piece_KF)[:, None].to(self._codec.device))
            for layer in model.decoder.layers:
                x = self._layers(layer, x)
            pieces.append(x[0, 0].cpu().numpy())
        return np.concatenate(pieces)


def load_hub_codec(
    source: str, name: str, model_type: str, num_codebooks: int | None = None, device: str = "cpu"
) -> HubCodec:
    """The codec of a class in `KINDS` in a folder or under a Hugging Face id.

    Raises:
        CodecError: it cannot be loaded, needs a package that is not here, or cannot be told by codes.
    """
    kind = KINDS[model_type]
    model_class = _model_class(kind, name)
    model = Pretrained(source, f"a {model_class.__name__}", error=CodecError).model(model_class)
    causal = model_type == "encodec" and model.config.use_causal_conv
    try:
        codec = (CausalEncodec if causal else HubCodec)(model, kind, name, num_codebooks)
    except SodakitError:
        raise
    # A network whose config was damaged, and which nevertheless came about, may fail in any way when it is tried.
    except Exception as error:
        raise CodecError(f"{name} does not run ({first_line(error)}). Download it again.") from error
    codec.model.to(device)
    return codec


def _model_class(kind: Kind, name: str) -> Any:
    module, _, name_of_class = kind.model.rpartition(".")
    try:
        return getattr(import_module(f"transformers.models.{module}"), name_of_class)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        what = f"pip install {missing}" if not missing.startswith("transformers") else "a newer transformers"
        raise CodecError(
            f"{name} ({name_of_class}) needs {missing}, which is not here. Get it: {what}."
        ) from error


def _make_plain(model: nn.Module) -> None:
    """Keep each weight as it is, in place of the direction and the length that it is made of anew in every call."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


def _received(
    codec_class: type[HubCodec], config: Any, weights: dict[str, Tensor], spec: CodecSpec, device: str
) -> HubCodec:
    """A codec that another process sent."""
    kind = KINDS[config.model_type]
    model = _model_class(kind, spec.name)(config)
    _make_plain(model)
    model.load_state_dict(weights)
    codec = codec_class(model, kind, spec.name, spec.num_codebooks)
    codec.model.to(device)
    codec.spec = spec
    return codec
