"""A checkpoint with its codec and tokenizer: transcribe, speak, continue.

Whatever uses a model counts in seconds and frames, and asks `SpeechModel` for positions: how many a second of speech
takes is a property of the family of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from sodakit.audio.files import resample
from sodakit.audio.origin import synthetic
from sodakit.audio.watermark import Watermark, load_watermark
from sodakit.audio.wave import Wave
from sodakit.checkpoint.about import About
from sodakit.checkpoint.load import load_checkpoint
from sodakit.codec.contract import Codec, CodecSpec
from sodakit.codec.load import load_codec_of
from sodakit.config import from_plain
from sodakit.errors import AudioError, CheckpointError, CodecError, ConfigError
from sodakit.generate.defaults import CONTINUATION, CONTINUATION_S, SPEECH
from sodakit.generate.engine import Completion, Engine, Request
from sodakit.generate.sampling import GREEDY, Sampling
from sodakit.hardware import device_named
from sodakit.model.compiled import Precision
from sodakit.model.transformer import Transformer
from sodakit.tokens.documents import Span, Speech, Template, Text
from sodakit.tokens.frames import ids_to_codes
from sodakit.tokens.layouts.contract import Layout, lay
from sodakit.tokens.text import TextTokenizer
from sodakit.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from sodakit.generate.long_form import Transcript


@dataclass(frozen=True)
class VoiceSample:
    """A voice to imitate: somebody's speech and what is said in it."""

    wave: Wave
    text: str
    consent: str | None = None
    """A note of who agreed to the use of this voice, and how; None where nothing is stated."""


def consent_state(consent: str | None) -> str:
    """What is said where the note itself is nobody's business."""
    return "consent stated" if consent and consent.strip() else "consent unstated"


@dataclass(frozen=True)
class Spoken:
    """Speech the model made."""

    wave: Wave
    codes_KF: np.ndarray
    ended: bool
    """Whether all of it was said and ended by itself, rather than at a limit."""
    stopped: tuple[str, ...] = ()
    """What was cut off, a line each: which sentence, after how many seconds, and why."""
    unspoken: str = ""
    """The end of the text, for which no time was left."""
    heard_s: float = 0.0
    """Of a continuation: how much of the recording was in view, its last seconds."""


class SpeechModel:
    """A language model of speech and text, and what it takes to use it."""

    def __init__(
        self,
        model: Transformer,
        vocabulary: Vocabulary,
        tokenizer: TextTokenizer,
        codec: Codec,
        precision: Precision | None = None,
        *,
        name: str = "",
        about: About | None = None,
        watermark: Watermark | None = None,
    ) -> None:
        self.name, self.about, self.watermark = name, about, watermark
        self.model, self.vocabulary, self.tokenizer, self.codec = model, vocabulary, tokenizer, codec
        num_codebooks = codec.spec.num_codebooks
        if (num_codebooks, codec.spec.codebook_size) != (vocabulary.num_codebooks, vocabulary.codebook_size):
            raise CheckpointError(
                f"The model speaks {vocabulary.num_codebooks} codebooks of {vocabulary.codebook_size}; "
                f"{codec.spec.name} has {num_codebooks} of {codec.spec.codebook_size}. Name the codec it was trained with."
            )
        self.template = Template(vocabulary, num_codebooks)
        self.engine = Engine(model, vocabulary, num_codebooks, precision)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        codec: str | Codec | None = None,
        device: str | None = None,
        precision: Precision | None = None,
        watermark: str | None = None,
    ) -> "SpeechModel":
        """The model of a checkpoint, or of a run's best or newest one (`checkpoint.load.find_checkpoint`).

        Args:
            path: its folder.
            codec: the codec, or its name, hub id or folder; by default the one named in the checkpoint.
            device: `cpu`, `cuda`, …; default: the GPU where there is one.
            precision: of the weights; default: the checkpoint's own on a CPU, bfloat16 on a GPU, as it was trained.
            watermark: put into all speech that is made; by name (`audio/watermark.py`).
        Raises:
            CheckpointError: no checkpoint there, a damaged one, or a codec given that has another fingerprint.
            CodecError: the codec named is not at hand, or another one has its name.
            ConfigError: no such device here, a precision that it has not, or no such watermark.
        """
        mark = None if watermark is None else load_watermark(watermark)
        device = device_named(device)
        dtype = None
        if device.startswith("cuda"):
            if precision not in (None, "float32", "bfloat16"):
                raise ConfigError(f"precision={precision!r} on {device}; needed: float32 or bfloat16 there.")
            dtype, precision = getattr(torch, precision or "bfloat16"), None
        checkpoint = load_checkpoint(path)
        spec, folder = checkpoint.codec, checkpoint.vocabulary_folder
        if spec is None or folder is None:
            raise CheckpointError(
                f"{path} was saved without its codec or vocabulary; needed: one written by `sodakit train`."
            )
        try:
            told = from_plain(CodecSpec, spec, "codec.json")
        except (ConfigError, CodecError) as error:
            raise CheckpointError(f"{checkpoint.folder}: {error} Copy the checkpoint again.") from error
        if not isinstance(codec, Codec):
            codec = load_codec_of(told, f"{path} was trained on codes of", codec, device=device)
        if spec["fingerprint"] != codec.spec.fingerprint:
            raise CheckpointError(
                f"{path} was trained on codes of {spec['name']} {spec['fingerprint']}; the codec here is "
                f"{codec.spec.name} {codec.spec.fingerprint}. Name the right one with --codec."
            )
        return cls(
            checkpoint.model(device=device, dtype=dtype),
            Vocabulary.load(folder),
            TextTokenizer.load(folder),
            codec,
            precision,
            name=checkpoint.name,
            about=checkpoint.about,
            watermark=mark,
        )

    def origin(self, *, cloned: bool = False, consent: str | None = None) -> str:
        """What a file says of speech that this model makes.

        Args:
            cloned: in the voice of a recording, rather than in one that the model picks.
            consent: the note of who agreed to that. The mark says that there is one, not what it says.
        """
        if cloned:
            voice = f"of a recording, {consent_state(consent)}"
        elif self.about and self.about.adapted_from:
            voice = f"the model was adapted to, {consent_state(self.about.consent)}"
        else:
            voice = "of the model's choice"
        return synthetic(
            model=self.name, voice=voice, watermark=self.watermark.name if self.watermark else ""
        )

    @property
    def layout(self) -> Layout:
        """How documents lie along the model's positions."""
        return self.engine.layout

    @property
    def context_positions(self) -> int:
        """Positions of prompt and answer together."""
        return self.model.config.context

    @property
    def positions_per_s(self) -> float:
        """Positions that a second of speech takes."""
        return self.layout.frame_positions * self.codec.spec.frame_rate_hz

    @property
    def context_s(self) -> float:
        """The seconds of speech that fill the context."""
        return self.context_positions / self.positions_per_s

    def frames(self, duration_s: float) -> int:
        """The whole frames in so many seconds."""
        return int(duration_s * self.codec.spec.frame_rate_hz + 1e-6)

    def duration_s(self, codes_KF: np.ndarray) -> float:
        """How long the sound of these codes is."""
        return codes_KF.shape[1] / self.codec.spec.frame_rate_hz

    def prompt_positions(self, spans: Sequence[Span]) -> int:
        """Positions of a prompt of these spans: with what begins the document, and what opens the answer."""
        return 2 + sum(len(lay(self.layout, self.template.span(span))) for span in spans)

    def num_positions(self, ids_T: np.ndarray) -> int:
        """Positions of a document or of its beginning."""
        return len(lay(self.layout, ids_T))

    def fits(self, prompt_T: np.ndarray) -> bool:
        """Whether a prompt leaves room for an answer, however short."""
        return self.num_positions(prompt_T) < self.context_positions

    def room_frames(self, prompt_T: np.ndarray) -> int:
        """Whole frames that may follow a prompt, and the marker that closes them."""
        left = self.context_positions - self.num_positions(prompt_T) - 1 - self.layout.positions_after_end
        return max(0, left) // self.layout.frame_positions

    def room_s(self, prompt_T: np.ndarray) -> float:
        """Seconds of speech that may follow a prompt."""
        return self.room_frames(prompt_T) / self.codec.spec.frame_rate_hz

    def speech_request(
        self,
        prompt_T: np.ndarray,
        *,
        max_s: float,
        sampling: Sampling = SPEECH,
        seed: int = 0,
        shared: Sequence[Span] | None = None,
    ) -> Request:
        """The request for speech after a prompt: whole frames, at most `max_s` of them and what the context leaves.

        Args:
            shared: the spans that the prompt begins with, where others begin with them too.
        """
        frames = min(max(1, self.frames(max_s)), self.room_frames(prompt_T))
        return Request(
            prompt_T=prompt_T,
            closing=self.vocabulary.audio_end,
            max_new_tokens=frames * self.template.num_codebooks + 1,
            semantic=sampling,
            acoustic=sampling,
            seed=seed,
            shared_tokens=0 if shared is None else 1 + sum(len(self.template.span(s)) for s in shared),
        )

    def text_request(
        self, prompt_T: np.ndarray, *, max_tokens: int, sampling: Sampling = GREEDY, seed: int = 0
    ) -> Request:
        """The request for a text after a prompt."""
        return Request(
            prompt_T=prompt_T,
            closing=self.vocabulary.text_end,
            max_new_tokens=max_tokens,
            text=sampling,
            seed=seed,
        )

    def codes_of(self, completion: Completion) -> np.ndarray:
        """The codes_KF of an answer in speech."""
        return ids_to_codes(completion.ids_T, self.vocabulary, self.template.num_codebooks)

    def sound_of(self, codes_KF: np.ndarray, origin: str | None = None) -> Wave:
        """The sound of codes that the model made, marked as synthetic; of no frames, no samples.

        Args:
            codes_KF: its speech.
            origin: what a file says of it; default: `origin()`.
        """
        samples_S = self.codec.decode(codes_KF) if codes_KF.shape[1] else np.zeros(0, np.float32)
        wave = Wave(samples_S, self.codec.spec.sample_rate_hz, self.origin() if origin is None else origin)
        return self.watermark.of(wave) if self.watermark else wave

    def spoken(self, completion: Completion, origin: str | None = None) -> Spoken:
        """An answer in speech with its sound."""
        codes_KF = self.codes_of(completion)
        return Spoken(self.sound_of(codes_KF, origin), codes_KF, completion.ended)

    def text_ids(self, text: str) -> np.ndarray:
        """The int32 ids of a text.

        Raises:
            ConfigError: characters that are none (halves of a surrogate pair).
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"The text holds half a character ({text[error.start : error.end]!a} at {error.start}). Give it as UTF-8."
            ) from None
        return np.array(self.tokenizer.encode(text), np.int32)

    def voice_spans(self, voice: VoiceSample) -> tuple[Span, ...]:
        """A voice sample as it stands in prompts."""
        return (Text(self.text_ids(voice.text)), Speech(self.encode(voice.wave)))

    def encode(self, wave: Wave) -> np.ndarray:
        """The codes_KF of a sound at any rate.

        Raises:
            AudioError: NaN or infinite samples.
        """
        if not np.isfinite(wave.samples_S).all():
            raise AudioError("The recording holds NaN or infinite samples.")
        return self.codec.encode(resample(wave, self.codec.spec.sample_rate_hz).samples_S)

    def transcribe_codes(
        self, codes: Sequence[np.ndarray], *, sampling: Sampling = GREEDY, seed: int = 0
    ) -> "list[Transcript]":
        """What is said in each codes_KF that fits the context; room for text follows its length.

        Raises:
            ConfigError: one does not fit.
        """
        from sodakit.generate.long_form import transcribe_codes

        return transcribe_codes(self, codes, sampling=sampling, seed=seed)

    def transcribe(self, wave: Wave, *, sampling: Sampling = GREEDY, seed: int = 0) -> "Transcript":
        """What is said in a recording of any length."""
        from sodakit.generate.long_form import transcribe

        return transcribe(self, [wave], sampling=sampling, seed=seed)

    def speak_many(
        self,
        texts: Sequence[str],
        *,
        voices: Sequence[VoiceSample | None] | None = None,
        sampling: Sampling = SPEECH,
        max_s: float | None = None,
        seed: int = 0,
        as_drawn: bool = False,
    ) -> list[Spoken]:
        """Each text spoken, of any length, in the voice of the sample beside it or in one the model picks.

        Args:
            texts: what to say.
            voices: a sample for each text, or None.
            sampling: how codes are drawn.
            max_s: longest speech for a text; default: what it takes.
            seed: of the first text; the next has the next.
            as_drawn: keep silence and repetition at the end, as evaluation does.
        Raises:
            ConfigError: a text without words, or a voice sample that fills the context.
        """
        from sodakit.generate.long_form import speak_together

        return speak_together(
            self, texts, voices=voices, sampling=sampling, max_s=max_s, seed=seed, as_drawn=as_drawn
        )

    def speak(
        self,
        text: str,
        *,
        voice: VoiceSample | None = None,
        sampling: Sampling = SPEECH,
        max_s: float | None = None,
        seed: int = 0,
    ) -> Spoken:
        """The text spoken."""
        return self.speak_many([text], voices=[voice], sampling=sampling, max_s=max_s, seed=seed)[0]

    def continue_speech(
        self,
        wave: Wave,
        *,
        sampling: Sampling = CONTINUATION,
        max_s: float = CONTINUATION_S,
        seed: int = 0,
        consent: str | None = None,
    ) -> Spoken:
        """What might be said next, in the voice of the recording: the continuation alone, without the given sound.

        Of a recording longer than the context the last seconds are heard. `consent` is a note of who agreed.
        """
        from sodakit.generate.long_form import continue_long

        codes_KF = self.encode(wave)
        return continue_long(self, codes_KF, sampling=sampling, max_s=max_s, seed=seed, consent=consent)
