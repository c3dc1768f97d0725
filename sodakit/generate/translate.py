"""Speech in one language to text and speech in another, by a model fine-tuned on a task of pairs.

The answer is made span by span in the order of the task, so that the wanted language can be given where its text
begins, and so that text is chosen greedily and sound is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sodakit.audio.wave import Wave
from sodakit.checkpoint.load import load_checkpoint
from sodakit.codec.contract import Codec
from sodakit.errors import CheckpointError
from sodakit.generate.defaults import SPEECH, TRANSLATION_S
from sodakit.generate.engine import Completion, Request
from sodakit.generate.plans import Plan, run_together
from sodakit.generate.sampling import GREEDY, Sampling
from sodakit.generate.speech_model import SpeechModel, Spoken
from sodakit.tokens.tasks import PairSpan, Task, open_tag, task, untagged

Direction = tuple[str, str]
"""The languages (from, to) of a translation, as the model was taught to call them."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How a recording is to be translated."""

    to: str = "en"
    """Language of the translation. A task without target text speaks the one it was taught."""
    source: str = ""
    """Language of the recording; '' lets the model find out. A task without source text cannot be told."""
    text: Sampling = GREEDY
    """How text is chosen."""
    sampling: Sampling = SPEECH
    """How sound is drawn."""
    max_text_tokens: int = 200
    """Of each text."""
    max_s: float = TRANSLATION_S
    """Longest spoken translation, in seconds."""
    seed: int = 0
    """Same seed, same sound."""
    spoken: bool = True
    """Whether the translation is spoken, by a task that speaks."""
    decoded: bool = True
    """Whether its speech is decoded; whoever hears it as it comes has no use for that."""
    consent: str | None = None
    """A note of who agreed to the use of the voice that is translated."""


@dataclass(frozen=True)
class Translation:
    """What the model made of one recording. What its task does not write is '' or None."""

    source_language: str = ""
    """What the model took the language for."""
    source_text: str = ""
    """What it heard."""
    language: str = ""
    """Of the translation, as the model wrote it."""
    text: str = ""
    """The translation."""
    spoken: Spoken | None = None
    """The translation spoken."""
    ended: bool = True
    """Whether every span ended by itself rather than at its limit."""
    stopped: tuple[str, ...] = ()
    """What was cut off of a long recording, a line each."""


class Translator:
    """A speech model, the task it was fine-tuned on, and its languages: () where nobody wrote them down."""

    def __init__(self, model: SpeechModel, kind: Task, directions: Sequence[Direction] = ()) -> None:
        self.model, self.task, self.directions = model, kind, tuple(directions)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        codec: str | Codec | None = None,
        device: str | None = None,
        watermark: str | None = None,
    ) -> "Translator":
        """The translator of a checkpoint, or of a run's best or newest one (`checkpoint.load.find_checkpoint`).

        Raises:
            CheckpointError: no checkpoint there, or one that was not fine-tuned on pairs.
        """
        path = load_checkpoint(path).folder
        name = task_of(path)
        if name is None:
            raise CheckpointError(
                f"{path} was not fine-tuned to translate: it learnt to write what it hears. Fine-tune it on pairs with "
                "`sodakit finetune`."
            )
        model = SpeechModel.load(path, codec=codec, device=device, watermark=watermark)
        return cls(model, task(name), directions_of(path))

    def origin(self, wanted: Wanted) -> str:
        """What a file says of a spoken translation: it is in the voice of the recording."""
        return self.model.origin(cloned=True, consent=wanted.consent)

    def translate(
        self,
        wave: Wave,
        *,
        to: str = "en",
        sampling: Sampling = SPEECH,
        max_s: float = TRANSLATION_S,
        seed: int = 0,
    ) -> Translation:
        """One recording of any length, piece by piece."""
        from sodakit.generate.interpreter import translate_long

        return translate_long(self, [wave], Wanted(to=to, sampling=sampling, max_s=max_s, seed=seed))

    def translate_codes(
        self,
        codes: Sequence[np.ndarray],
        *,
        to: str | Sequence[str] = "en",
        sampling: Sampling = SPEECH,
        max_text_tokens: int = 200,
        max_s: float = TRANSLATION_S,
        seed: int = 0,
    ) -> list[Translation]:
        """Each codes_KF.

        Args:
            codes: the recordings.
            to: language of the translations, or of each. A task without target text speaks the one it was taught.
            sampling: how sound is drawn; text is the likeliest.
            max_text_tokens: of each text.
            max_s: longest translation.
            seed: same seed, same sound.
        """
        languages = [to] * len(codes) if isinstance(to, str) else list(to)
        wanted = Wanted(sampling=sampling, max_text_tokens=max_text_tokens, max_s=max_s, seed=seed)
        plans = [
            self.plan(codes_KF, replace(wanted, to=language, seed=seed + number))
            for number, (codes_KF, language) in enumerate(zip(codes, languages, strict=True))
        ]
        return run_together(plans, self.model.engine)

    def plan(self, codes_KF: np.ndarray, wanted: Wanted | None = None) -> Plan[Translation]:
        """The requests that translate one recording, one for each of `spans`; each is sent its completion.

        Spans for which the context has no room are not asked for: they are empty, and the translation has not ended.
        Whoever has an engine of his own (a server that batches) drives it:

            plan = translator.plan(codes_KF)
            request = next(plan)
            while True: request = plan.send(await answer(request))    # until StopIteration, whose value is the Translation
        """
        wanted = wanted or Wanted()
        prompt_T, made = self.model.template.transcribe_prompt(codes_KF)[:-1], Translation()
        for span in self.spans(wanted):
            request = self._request(span, prompt_T, wanted)
            if self.model.fits(request.prompt_T):
                answer = yield request
            else:  # earlier spans have filled the context
                answer = Completion(np.zeros(0, np.int32), False)
            made = self._with(made, span, answer, wanted)
            prompt_T = np.concatenate([request.prompt_T, answer.ids_T, [request.closing]]).astype(np.int32)
        return made

    def spans(self, wanted: Wanted) -> tuple[PairSpan, ...]:
        """What is made, in order. Speech that nobody asked for is left out where it comes last, as it does in every
        task: what stands before it does not depend on it."""
        return tuple(span for span in self.task.answer if wanted.spoken or span != "target_speech")

    def read(self, span: PairSpan, ids_T: Sequence[int] | np.ndarray, wanted: Wanted) -> tuple[str, str]:
        """Language and words of a written span, or of its beginning; language '' while its tag is not whole."""
        given, written = _given_language(span, wanted), self.model.tokenizer.decode(ids_T)
        if not given:
            return untagged(written)
        language, text = untagged(open_tag(given) + written)
        return language, text if language else written

    def _request(self, span: PairSpan, prompt_T: np.ndarray, wanted: Wanted) -> Request:
        v = self.model.vocabulary
        if span.endswith("speech"):
            prompt_T = np.append(prompt_T, v.audio_start).astype(np.int32)
            return self.model.speech_request(
                prompt_T, max_s=wanted.max_s, sampling=wanted.sampling, seed=wanted.seed
            )
        given = _given_language(span, wanted)
        begun = self.model.tokenizer.encode(open_tag(given)) if given else []
        prompt_T = np.concatenate([prompt_T, [v.text_start], begun]).astype(np.int32)
        return self.model.text_request(
            prompt_T, max_tokens=wanted.max_text_tokens, sampling=wanted.text, seed=wanted.seed
        )

    def _with(self, made: Translation, span: PairSpan, answer: Completion, wanted: Wanted) -> Translation:
        ended = made.ended and answer.ended
        if span == "target_speech":
            return replace(made, spoken=self._spoken(answer, wanted), ended=ended)
        language, text = self.read(span, answer.ids_T, wanted)
        language = language or _given_language(span, wanted)
        if span == "source_text":
            return replace(made, source_language=language, source_text=text, ended=ended)
        return replace(made, language=language, text=text, ended=ended)

    def _spoken(self, answer: Completion, wanted: Wanted) -> Spoken:
        codes_KF = self.model.codes_of(answer)
        wave = self.model.sound_of(codes_KF if wanted.decoded else codes_KF[:, :0], self.origin(wanted))
        return Spoken(wave, codes_KF, answer.ended)


def _given_language(span: PairSpan, wanted: Wanted) -> str:
    """The language whose tag the prompt begins a text with; '' where the model writes the tag."""
    return {"source_text": wanted.source, "target_text": wanted.to}.get(span, "")


def task_of(path: Path | str) -> str | None:
    """The task of pairs that a checkpoint, or a run's, was fine-tuned on; None if it was not."""
    config = load_checkpoint(path).config
    tasks = [source.get("view", {}).get("task") for source in config.get("data", {}).get("sources", [])]
    return next((name for name in tasks if name), None)


def directions_of(path: Path | str) -> tuple[Direction, ...]:
    """The languages it was fine-tuned on, as `sodakit finetune` keeps them with the best epoch; () if it does not say."""
    state = load_checkpoint(path).state
    return tuple((source, target) for source, target in state.get("directions", ()))
