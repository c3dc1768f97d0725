"""A checkpoint with its codec and tokenizer: transcribe, speak, continue."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.checkpoint.load import load_checkpoint
from sodakit.codec.contract import Codec
from sodakit.codec.load import load_codec
from sodakit.errors import CheckpointError
from sodakit.generate.engine import Completion, Engine, Request
from sodakit.generate.sampling import GREEDY, Sampling
from sodakit.model.cpu_decoder import Precision
from sodakit.model.transformer import Transformer
from sodakit.tokens.documents import Span, Speech, Template, Text
from sodakit.tokens.frames import ids_to_codes
from sodakit.tokens.text import TextTokenizer
from sodakit.tokens.vocabulary import Vocabulary

SPEECH = Sampling(temperature=0.9, top_p=0.8)
"""SODA's settings for speech."""


@dataclass(frozen=True)
class VoiceSample:
    """A voice to imitate: somebody's speech and what is said in it."""

    wave: Wave
    text: str


@dataclass(frozen=True)
class Spoken:
    """Speech the model made."""

    wave: Wave
    codes_KF: np.ndarray
    ended: bool
    """Whether it ended by itself rather than at the limit."""


class SpeechModel:
    """A language model of speech and text, and what it takes to use it."""

    def __init__(
        self,
        model: Transformer,
        vocabulary: Vocabulary,
        tokenizer: TextTokenizer,
        codec: Codec,
        precision: Precision | None = None,
    ) -> None:
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
    ) -> "SpeechModel":
        """The model of a checkpoint, or of a run's best or newest one (`checkpoint.load.find_checkpoint`).

        Args:
            path: its folder.
            codec: the codec, or its name, hub id or folder; by default the one named in the checkpoint.
            device: `cpu`, `cuda`, …
            precision: of the weights on a CPU; default: the checkpoint's own.
        Raises:
            CheckpointError: no checkpoint there, a damaged one, or a codec with another fingerprint.
        """
        import torch

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        checkpoint = load_checkpoint(path)
        spec, folder = checkpoint.codec, checkpoint.vocabulary_folder
        if spec is None or folder is None:
            raise CheckpointError(
                f"{path} was saved without its codec or vocabulary; needed: one written by `sodakit train`."
            )
        if not isinstance(codec, Codec):
            codec = load_codec(codec or spec["name"], num_codebooks=spec["num_codebooks"], device=device)
        if spec["fingerprint"] != codec.spec.fingerprint:
            raise CheckpointError(
                f"{path} was trained on codes of {spec['name']} {spec['fingerprint']}; the codec here is "
                f"{codec.spec.name} {codec.spec.fingerprint}. Name the right one with --codec."
            )
        return cls(
            checkpoint.model(device=device),
            Vocabulary.load(folder),
            TextTokenizer.load(folder),
            codec,
            precision,
        )

    def transcribe_codes(
        self,
        codes: Sequence[np.ndarray],
        *,
        sampling: Sampling = GREEDY,
        max_new_tokens: int = 200,
        seed: int = 0,
    ) -> list[str]:
        """What is said in each codes_KF."""
        requests = [
            Request(
                prompt_T=self.template.transcribe_prompt(c),
                closing=self.vocabulary.text_end,
                max_new_tokens=max_new_tokens,
                text=sampling,
                seed=seed,
            )
            for c in codes
        ]
        return [self.tokenizer.decode(c.ids_T) for c in self.engine.generate(requests)]

    def transcribe(self, wave: Wave) -> str:
        """What is said."""
        return self.transcribe_codes([self.encode(wave)])[0]

    def speak_many(
        self,
        texts: Sequence[str],
        *,
        voices: Sequence[VoiceSample | None] | None = None,
        sampling: Sampling = SPEECH,
        max_s: float = 15.0,
        seed: int = 0,
    ) -> list[Spoken]:
        """Speech for each text, in the voice of the sample beside it or in one the model picks."""
        requests = [
            self._speech_request(
                self.template.speak_prompt(self._text(text), self._voice(voice)),
                sampling,
                max_s,
                seed + number,
            )
            for number, (text, voice) in enumerate(zip(texts, voices or [None] * len(texts), strict=True))
        ]
        return [self._spoken(c) for c in self.engine.generate(requests)]

    def speak(
        self,
        text: str,
        *,
        voice: VoiceSample | None = None,
        sampling: Sampling = SPEECH,
        max_s: float = 15.0,
        seed: int = 0,
    ) -> Spoken:
        """The text spoken."""
        return self.speak_many([text], voices=[voice], sampling=sampling, max_s=max_s, seed=seed)[0]

    def continue_speech(
        self, wave: Wave, *, sampling: Sampling = SPEECH, max_s: float = 10.0, seed: int = 0
    ) -> Spoken:
        """What might be said next: the continuation alone, without the given sound."""
        prompt_T = self.template.continue_prompt(self.encode(wave))
        return self._spoken(self.engine.generate([self._speech_request(prompt_T, sampling, max_s, seed)])[0])

    def encode(self, wave: Wave) -> np.ndarray:
        """The codes_KF of a sound at any rate."""
        return self.codec.encode(resample(wave, self.codec.spec.sample_rate_hz).samples_S)

    def _text(self, text: str) -> np.ndarray:
        return np.array(self.tokenizer.encode(text), np.int32)

    def _voice(self, voice: VoiceSample | None) -> list[Span]:
        return [] if voice is None else [Text(self._text(voice.text)), Speech(self.encode(voice.wave))]

    def _speech_request(self, prompt_T: np.ndarray, sampling: Sampling, max_s: float, seed: int) -> Request:
        frames = max(1, round(max_s * self.codec.spec.frame_rate_hz))
        return Request(
            prompt_T=prompt_T,
            closing=self.vocabulary.audio_end,
            max_new_tokens=frames * self.template.num_codebooks + 1,
            semantic=sampling,
            acoustic=sampling,
            seed=seed,
        )

    def _spoken(self, completion: Completion) -> Spoken:
        codes_KF = ids_to_codes(completion.ids_T, self.vocabulary, self.template.num_codebooks)
        samples_S = self.codec.decode(codes_KF) if codes_KF.shape[1] else np.zeros(0, np.float32)
        return Spoken(Wave(samples_S, self.codec.spec.sample_rate_hz), codes_KF, completion.ended)
