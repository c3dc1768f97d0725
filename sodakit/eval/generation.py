"""Having a model write, speak and go on: prompts as the paper has them, outputs kept in a folder.

Every case has an output. A recording that cannot be read, or a prompt that does not fit the context, is an output with
a problem, and counts as an error.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sodakit.audio.files import read_wave
from sodakit.audio.origin import synthetic
from sodakit.bounds import Bounded, Count, Positive, PositiveShare
from sodakit.errors import AudioError, ConfigError
from sodakit.eval.cases import Recording, VoiceCase, cases_digest
from sodakit.eval.normalisers import normaliser
from sodakit.eval.outputs import PART_ITEMS, UNREADABLE, Output, generate_folder
from sodakit.eval.provenance import model_provenance
from sodakit.generate.defaults import CONTINUATION, SPEECH
from sodakit.generate.engine import Completion, Request
from sodakit.generate.sampling import Sampling
from sodakit.generate.speech_model import SpeechModel, VoiceSample
from sodakit.tokens.documents import Span, Speech, Text

Case = TypeVar("Case", Recording, VoiceCase)


@dataclass(frozen=True, kw_only=True)
class TranscribeConfig(Bounded):
    """How recordings are written down."""

    num_shots: int = 0
    """Solved examples before each recording: whole documents, the same for all, from the shots given."""
    shot_normaliser: str = "soda"
    """How transcripts of the examples are written; the paper writes them as they are compared."""
    temperature: float = 0.0
    """0 takes the likeliest token. The published script's default is 0.5 with top_p 0.8."""
    top_p: PositiveShare = 1.0
    """Sample from the likeliest tokens of this much probability."""
    max_new_tokens: Count = 200
    """Longest transcript, in tokens."""
    seed: int = 42
    """Of the choice of examples and of sampling."""

    @property
    def task(self) -> str:
        """What the score is called: with examples it is another than without."""
        return f"asr_{self.num_shots}shot" if self.num_shots else "asr"


@dataclass(frozen=True, kw_only=True)
class SpeakConfig(Bounded):
    """How sentences are spoken; the defaults are the paper's."""

    temperature: float = SPEECH.temperature
    top_p: PositiveShare = SPEECH.top_p
    max_s: Positive = 15.0
    """Longest speech, in seconds, to a whole frame: 188 of the published codec, 1,504 tokens."""
    seed: int = 42


@dataclass(frozen=True, kw_only=True)
class ContinueConfig(Bounded):
    """How openings are gone on with; the defaults are the paper's."""

    prompt_s: Positive = 3.0
    """How much of each recording is given."""
    temperature: float = CONTINUATION.temperature
    top_p: PositiveShare = CONTINUATION.top_p
    """Sample from the likeliest tokens of this much probability."""
    top_k: int = 0
    """Sample from this many of the likeliest tokens; 0 for all."""
    max_s: Positive = 12.0
    """Longest continuation, in seconds: 1,200 tokens of the published codec."""
    max_new_tokens: Count | None = None
    """Longest continuation in tokens, whole frames of them, instead of in seconds."""
    seed: int = 42


def transcribe_cases(
    model: SpeechModel,
    cases: Sequence[Recording],
    folder: Path | str,
    config: TranscribeConfig,
    shots: Sequence[Recording] = (),
    *,
    part_items: int = PART_ITEMS,
) -> tuple[list[Output], dict[str, Any]]:
    """What the model writes for each recording, and the settings of it.

    Args:
        shots: where examples are taken from; other recordings than the cases.
    Raises:
        ConfigError: fewer shots than asked for, or one that is a case too.
    """
    examples = _examples(model, cases, shots, config)

    def prompt(case: Recording) -> np.ndarray:
        own_T = model.template.transcribe_prompt(model.encode(case.read()))
        return np.concatenate([*examples, own_T]).astype(np.int32)

    def request(prompt_T: np.ndarray, number: int) -> Request:
        sampling = _sampling(config.temperature, config.top_p)
        return model.text_request(
            prompt_T, max_tokens=config.max_new_tokens, sampling=sampling, seed=config.seed + number
        )

    def output(case: Recording, completion: Completion) -> Output:
        return Output(
            id=case.id,
            text=model.tokenizer.decode(completion.ids_T),
            ended=completion.ended,
            num_tokens=len(completion.ids_T),
        )

    settings = _settings(model, config.task, cases, asdict(config)) | {"shots": cases_digest(shots)}
    make = partial(_answer, model, cases, prompt, request, output)
    return generate_folder(len(cases), make, folder, settings, part_items=part_items), settings


def speak_cases(
    model: SpeechModel,
    cases: Sequence[VoiceCase],
    folder: Path | str,
    config: SpeakConfig,
    *,
    part_items: int = PART_ITEMS,
) -> tuple[list[Output], dict[str, Any]]:
    """Each sentence spoken in the voice of its prompt, and the settings of it."""

    def prompt(case: VoiceCase) -> np.ndarray:
        voice: tuple[Span, ...] = ()
        if case.prompt is not None:
            voice = model.voice_spans(VoiceSample(read_wave(case.prompt), case.prompt_text))
        return model.template.speak_prompt(model.text_ids(case.text), voice)

    settings = _settings(model, "tts", cases, asdict(config))
    make = partial(_answer, model, cases, prompt, _speech(model, config), partial(_spoken, model))
    return generate_folder(len(cases), make, folder, settings, part_items=part_items), settings


def continue_cases(
    model: SpeechModel,
    cases: Sequence[Recording],
    folder: Path | str,
    config: ContinueConfig,
    *,
    part_items: int = PART_ITEMS,
) -> tuple[list[Output], dict[str, Any]]:
    """What the model says after the opening of each recording, and the settings of it."""

    def prompt(case: Recording) -> np.ndarray:
        return model.template.continue_prompt(model.encode(case.read().cut(0, config.prompt_s)))

    settings = _settings(model, "continuation", cases, asdict(config))
    make = partial(_answer, model, cases, prompt, _speech(model, config), partial(_spoken, model))
    return generate_folder(len(cases), make, folder, settings, part_items=part_items), settings


def _answer(
    model: SpeechModel,
    cases: Sequence[Case],
    prompt: Callable[[Case], np.ndarray],
    request: Callable[[np.ndarray, int], Request],
    output: Callable[[Case, Completion], Output],
    part: range,
) -> list[Output]:
    """The outputs of a range of cases, generated together; those that cannot be asked have a problem instead."""
    problems: dict[int, str] = {}
    requests: dict[int, Request] = {}
    for number in part:
        try:
            prompt_T = prompt(cases[number])
        except AudioError:
            problems[number] = UNREADABLE  # not the error itself: it names a path of this machine
            continue
        if not model.fits(prompt_T):
            problems[number] = f"prompt of {len(prompt_T)} tokens, context {model.context_positions}"
        else:
            requests[number] = request(prompt_T, number)
    done = dict(zip(requests, model.engine.generate(list(requests.values())), strict=True))
    return [
        output(cases[n], done[n]) if n in done else Output(id=cases[n].id, ended=False, problem=problems[n])
        for n in part
    ]


def _examples(
    model: SpeechModel, cases: Sequence[Recording], shots: Sequence[Recording], config: TranscribeConfig
) -> list[np.ndarray]:
    """Whole documents, BOS to EOS, of the recordings that the seed picks."""
    if config.num_shots == 0:
        return []
    shared = {case.id for case in cases} & {shot.id for shot in shots}
    if len(shots) < config.num_shots or shared:
        raise ConfigError(
            f"{config.num_shots} examples of {len(shots)} recordings, {len(shared)} of them among the cases. "
            "Name a folder of other recordings with --shots-from."
        )
    order = np.random.default_rng(config.seed).permutation(len(shots))[: config.num_shots]
    written = normaliser(config.shot_normaliser)
    return [
        model.template.document(
            [Speech(model.encode(shots[int(n)].read())), Text(model.text_ids(written(shots[int(n)].text)))]
        )
        for n in order
    ]


def _speech(model: SpeechModel, config: SpeakConfig | ContinueConfig) -> Callable[[np.ndarray, int], Request]:
    spec = model.codec.spec
    frames = round(config.max_s * spec.frame_rate_hz)  # to the nearest frame, as published
    sampling = _sampling(config.temperature, config.top_p)
    if isinstance(config, ContinueConfig):
        sampling = replace(sampling, top_k=config.top_k)
        if config.max_new_tokens is not None:
            frames = config.max_new_tokens // spec.num_codebooks  # the published unit: codes, not positions

    def request(prompt_T: np.ndarray, number: int) -> Request:
        return model.speech_request(
            prompt_T, max_s=frames / spec.frame_rate_hz, sampling=sampling, seed=config.seed + number
        )

    return request


def _spoken(model: SpeechModel, case: Recording | VoiceCase, completion: Completion) -> Output:
    return Output(
        id=case.id,
        # Without the model's name: the same outputs are the same bytes, whatever its folder is called.
        wave=model.spoken(completion, synthetic()).wave,
        ended=completion.ended,
        num_tokens=len(completion.ids_T),
    )


def _sampling(temperature: float, top_p: float) -> Sampling:
    return Sampling(temperature=temperature, top_p=top_p)


def _settings(
    model: SpeechModel, task: str, cases: Sequence[Recording] | Sequence[VoiceCase], config: dict[str, Any]
) -> dict[str, Any]:
    return {
        "task": task,
        "data_digest": cases_digest(cases),
        "skipped": getattr(cases, "skipped", []),
        "settings": config,
        **model_provenance(model),
    }
