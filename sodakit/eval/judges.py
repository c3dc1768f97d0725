"""Judges: recognisers that listen to what the model says, and are not the model.

`train_judge` makes one in a minute from the original recordings alone: log-mels, convolutions, CTC over
characters (Graves et al. 2006), and a search that writes only words it was taught. `HubJudge` is a Whisper or
Wav2Vec2 model by name and revision; `eval/whisper.py` has one for Whisper in CTranslate2 form.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from sodakit.audio.faster_whisper import is_faster_whisper
from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.errors import CheckpointError, ConfigError, first_line
from sodakit.eval.recogniser import (
    RATE_HZ,
    SUBSAMPLING,
    Lexicon,
    Recogniser,
    all_log_mels,
    greedy,
    pad_mels,
    vary,
)
from sodakit.eval.whisper import FasterWhisperJudge
from sodakit.eval.words import normalise
from sodakit.files import atomic_path, digest, refuse_odd
from sodakit.hardware import has_fast_bfloat16
from sodakit.pretrained import Pretrained, revision_of, shown_name
from sodakit.tensors import broken_weight
from sodakit.units import format_count

MAX_STEPS = 600
"""Training steps at most, unless told otherwise: about 80 seconds of two quiet cores. Never a time, which would make
scores depend on how busy the machine was."""

Decoding = Literal["lexicon", "greedy"]


class Judge(Protocol):
    """Whatever writes down what it hears."""

    @property
    def name(self) -> str:
        """What a table calls it."""

    @property
    def fingerprint(self) -> str:
        """Digest of everything its transcripts depend on. Scores by different judges are not comparable."""

    def transcribe(self, waves: Sequence[Wave]) -> list[str]:
        """What is said in each sound; '' where nothing was heard."""


@runtime_checkable
class WritingJudge(Judge, Protocol):
    """A judge that can also write with capitals and marks, which some normalisers keep."""

    @property
    def limit_s(self) -> float | None:
        """The longest sound it hears at once; None where there is no limit."""

    def write(self, waves: Sequence[Wave]) -> list[str]:
        """What is said in each sound, as it writes it."""


def within_limit(judge: Judge, waves: Sequence[Wave]) -> list[Wave]:
    """The sounds, each cut to what the judge hears at once: of a longer one Whisper's first 30 s count, as in
    seed-tts-eval."""
    limit_s = getattr(judge, "limit_s", None)
    return [wave if limit_s is None or wave.duration_s <= limit_s else wave.cut(0, limit_s) for wave in waves]


MIN_SOUND_S = 0.05
"""Shorter sounds are empty: no recogniser hears a word in them."""


def is_audible(wave: Wave | None) -> TypeGuard[Wave]:
    """Whether there is a sound to listen to."""
    return wave is not None and wave.duration_s >= MIN_SOUND_S and bool(np.isfinite(wave.samples_S).all())


def heard_texts(judge: Judge, waves: Sequence[Wave | None]) -> list[str | None]:
    """What the judge hears in each sound, whatever its length; None where there is none.

    A normaliser may keep what others delete, so judges that write marks are asked for them.
    """
    there = within_limit(judge, [wave for wave in waves if is_audible(wave)])
    listen = judge.write if isinstance(judge, WritingJudge) else judge.transcribe
    texts = iter(listen(there) if there else [])
    return [next(texts) if is_audible(wave) else None for wave in waves]


# --------------------------------------------------------------------------------------------------- judge


@dataclass(frozen=True, eq=False)
class CtcJudge:
    """A small recogniser that has heard original recordings only, never a codec and never the model."""

    recogniser: Recogniser
    alphabet: str
    """Characters it writes; entry i of it is output i + 1."""
    words: tuple[str, ...]
    """Words it was taught, sorted. With `lexicon` decoding it writes no others."""
    decoding: Decoding = "lexicon"
    """`lexicon`: the likeliest sequence of known words. `greedy`: letter by letter."""

    @property
    def name(self) -> str:
        """For example `CTC judge (no download, taught 72 words, 1.8M parameters, lexicon)`."""
        count = sum(parameter.numel() for parameter in self.recogniser.parameters())
        size = f"taught {len(self.words)} words, {format_count(count)} parameters"
        return f"CTC judge (no download, {size}, {self.decoding})"

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights, alphabet, words and decoding."""
        weights = [value.numpy().tobytes() for value in self.recogniser.state_dict().values()]
        return digest(json.dumps(self._settings(), sort_keys=True), *weights)

    def transcribe(self, waves: Sequence[Wave]) -> list[str]:
        """What is said in each sound, normalised; '' where nothing was heard."""
        decode = (
            self._lexicon.search if self.decoding == "lexicon" else lambda x_FV: greedy(x_FV, self.alphabet)
        )
        return [decode(log_probs_FV) for log_probs_FV in self.listen(waves)]

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Words of `texts` it was not taught, sorted: with `lexicon` decoding each is an error when said."""
        return sorted({word for text in texts for word in normalise(text).split()} - set(self.words))

    def save(self, path: Path | str) -> None:
        """One safetensors file with weights, alphabet and words."""
        metadata = {"sodakit_judge": json.dumps(self._settings())}
        with atomic_path(path) as temporary:
            save_file(self.recogniser.state_dict(), str(temporary), metadata)

    @classmethod
    def load(cls, path: Path | str) -> "CtcJudge":
        """The judge that `save` wrote.

        Raises:
            CheckpointError: missing, damaged, or not a judge.
        """
        try:
            refuse_odd(path)
            with safe_open(str(path), "pt") as file:
                settings = json.loads((file.metadata() or {})["sodakit_judge"])
                weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            recogniser = Recogniser(len(settings["alphabet"]))
            recogniser.load_state_dict(weights)
            if broken := broken_weight(weights):
                raise ValueError(broken)
        except (
            OSError,
            SafetensorError,
            KeyError,
            TypeError,
            ValueError,
            RuntimeError,
            RecursionError,
        ) as error:
            raise CheckpointError(
                f"{path} is not a readable judge ({first_line(error)}). "
                "Needed: a file that CtcJudge.save wrote. `sodakit demo` leaves one beside its model."
            ) from error
        return cls(recogniser.eval(), settings["alphabet"], tuple(settings["words"]), settings["decoding"])

    @cached_property
    def _lexicon(self) -> Lexicon:
        return Lexicon(self.words, self.alphabet)

    def _settings(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet, "words": list(self.words), "decoding": self.decoding}

    @torch.inference_mode()
    def listen(self, waves: Sequence[Wave]) -> Iterator[np.ndarray]:
        """log-probabilities_FV of each sound, in order."""
        for start in range(0, len(waves), 16):
            mel_BFM, lengths_B = pad_mels(all_log_mels(waves[start : start + 16]))
            rows_BFV = self.recogniser(mel_BFM, lengths_B).numpy()
            yield from (
                row_FV[: length // SUBSAMPLING] for row_FV, length in zip(rows_BFV, lengths_B, strict=True)
            )


# ------------------------------------------------------------------------------------------------ training


def train_judge(
    waves: Sequence[Wave],
    texts: Sequence[str],
    *,
    seed: int = 0,
    epochs: int = 14,
    max_steps: int | None = MAX_STEPS,
    progress: Callable[[float, float], None] | None = None,
) -> CtcJudge:
    """A recogniser trained on original recordings.

    The same seed gives the same judge, however busy the machine is.

    Args:
        waves: original recordings at any rate, never codec output.
        texts: what is said in them.
        seed: of weights, order and augmentation.
        epochs: passes over the recordings.
        max_steps: end by then; None for all the epochs.
        progress: called after each step with (fraction done, CTC loss per character).
    Raises:
        ConfigError: nothing to train on, or a recording without words.
    """
    normalised = [normalise(text) for text in texts]
    if len(waves) != len(texts) or not waves or not all(normalised):
        raise ConfigError(
            f"{len(waves)} recordings and {len(texts)} texts, {sum(not text for text in normalised)} of them "
            "without words; a judge needs at least one recording and the words of each."
        )
    alphabet = "".join(sorted({" ", *"".join(normalised)}))
    letter = {character: i for i, character in enumerate(alphabet, start=1)}
    targets = [torch.tensor([letter[character] for character in text]) for text in normalised]
    random = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        recogniser = Recogniser(len(alphabet))
    mels = all_log_mels(waves)
    optimiser = torch.optim.AdamW(recogniser.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01)
    batches = [batch for _ in range(epochs) for batch in _batches([len(mel) for mel in mels], random)]
    batches = batches[:max_steps]
    for step, batch in enumerate(batches):
        done = step / len(batches)
        loss = _train_step(
            recogniser, optimiser, _peak_lr_fraction(step, done) * 2e-3,
            [vary(mels[i], random) for i in batch], [targets[i] for i in batch],
        )  # fmt: skip
        if progress:
            progress(done, loss)
    return CtcJudge(
        recogniser.eval(), alphabet, tuple(sorted({word for text in normalised for word in text.split()}))
    )


def _peak_lr_fraction(step: int, done: float) -> float:
    return min(1.0, (step + 1) / 40) * min(1.0, (1 - done) / 0.6)


def _train_step(
    recogniser: Recogniser,
    optimiser: torch.optim.Optimizer,
    lr: float,
    mels: list[Tensor],
    targets: list[Tensor],
) -> float:
    mel_BFM, lengths_B = pad_mels(mels)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_fast_bfloat16()):
        log_probs_BFV = recogniser(mel_BFM, lengths_B)
    characters_B = torch.tensor([len(target) for target in targets])
    loss = functional.ctc_loss(
        log_probs_BFV.transpose(0, 1), torch.cat(targets), lengths_B // SUBSAMPLING, characters_B,
        reduction="sum", zero_infinity=True,
    ) / characters_B.sum()  # fmt: skip
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(recogniser.parameters(), 1.0)
    for group in optimiser.param_groups:
        group["lr"] = lr
    optimiser.step()
    return loss.item()


def _batches(lengths: Sequence[int], random: np.random.Generator, rows: int = 16) -> list[np.ndarray]:
    """Indices in batches of similar length, in random order; ties and near-ties shuffled anew each time."""
    order = np.argsort(np.array(lengths) * random.uniform(0.9, 1.1, len(lengths)))
    batches = [order[start : start + rows] for start in range(0, len(order), rows)]
    return [batches[i] for i in random.permutation(len(batches))]


# -------------------------------------------------------------------------------------------- from the hub


@dataclass(frozen=True, eq=False)
class HubJudge:
    """A Whisper- or Wav2Vec2-like model from the Hugging Face hub or a folder."""

    model_id: str
    """Hub id or folder."""
    revision: str
    """Commit on the hub, or a digest of the folder's weights."""
    language: str | None
    """Language it is told to expect, for models that listen in many; None lets it guess."""
    model: Any
    processor: Any
    writes: bool
    """Whether it writes token by token (Whisper) or labels frames (Wav2Vec2)."""

    @classmethod
    def load(
        cls, model_id: str, *, revision: str | None = None, language: str | None = None, device: str = "cpu"
    ) -> "HubJudge":
        """The model, ready to listen.

        Args:
            revision: branch, tag or commit on the hub; a score should name a commit.
            language: for multilingual Whisper, for example `en`.
        Raises:
            ConfigError: no such model, or not a speech recogniser.
        """
        # Half a second of import that nobody pays who brings no hub model.
        from transformers import AutoConfig, AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor

        found = Pretrained(
            model_id,
            "a speech recogniser",
            "the hub id or folder of a Whisper- or Wav2Vec2-like model with its processor; or, with the extra `asr`, "
            "of a Whisper in CTranslate2 form (model.bin), as Systran/faster-whisper-base",
            revision,
        )
        writes = bool(found.part(AutoConfig).is_encoder_decoder)
        model = found.model(AutoModelForSpeechSeq2Seq if writes else AutoModelForCTC, device)
        return cls(model_id, revision_of(model), language, model, found.part(AutoProcessor), writes)

    @property
    def name(self) -> str:
        """For example `openai/whisper-large-v3@06f233fe06e7`."""
        return shown_name(self.model_id, self.revision)

    @property
    def limit_s(self) -> float | None:
        """The longest sound it hears at once; None where there is no limit."""
        return getattr(self.processor.feature_extractor, "chunk_length", None)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the revision and the language it was told to expect."""
        return digest(self.revision, self.language or "")

    def transcribe(self, waves: Sequence[Wave]) -> list[str]:
        """What is said in each sound, normalised; decoded greedily, one by one, so neighbours do not matter.

        Raises:
            ConfigError: a sound longer than a Whisper-like model hears at once, usually 30 s.
        """
        return [normalise(text) for text in self.write(waves)]

    def write(self, waves: Sequence[Wave]) -> list[str]:
        """The same as it writes it, with capitals and marks: some normalisers keep apostrophes."""
        return [self._transcribe(resample(wave, RATE_HZ)) for wave in waves]

    @torch.inference_mode()
    def _transcribe(self, wave: Wave) -> str:
        if self.limit_s and wave.duration_s > self.limit_s:
            raise ConfigError(
                f"A sound of {wave.duration_s:.1f} s; {self.name} hears {self.limit_s} s at once. Cut it into pieces."
            )
        inputs = self.processor(wave.samples_S, sampling_rate=RATE_HZ, return_tensors="pt").to(
            self.model.device
        )
        if self.writes:
            told = {"language": self.language, "task": "transcribe"} if self.language else {}
            ids_BT = self.model.generate(**inputs, do_sample=False, num_beams=1, **told)
        else:
            ids_BT = self.model(**inputs).logits.argmax(-1)
        return self.processor.batch_decode(ids_BT, skip_special_tokens=True)[0]


def named_judge(
    name: str, *, revision: str | None = None, language: str | None = None, device: str = "cpu"
) -> Judge:
    """The judge in a file that `CtcJudge.save` wrote, or the hub model or folder of that name, in transformers' form
    or in CTranslate2's.

    Args:
        revision: branch, tag or commit on the hub.
        language: what a multilingual Whisper is told to expect, for example `en`.
    Raises:
        CheckpointError: the file holds no judge.
        ConfigError: no such model.
        MissingExtra: it needs faster-whisper.
    """
    if Path(name).is_file() or name.endswith(".safetensors"):
        return CtcJudge.load(name)
    kind = FasterWhisperJudge if is_faster_whisper(name) else HubJudge
    return kind.load(name, revision=revision, language=language, device=device)
