"""`sodakit eval asr|tts|continue|s2st`: what a model writes and says, generated once and scored by named judges."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from sodakit.bounds import Count, Positive, PositiveShare
from sodakit.checkpoint.shipped import STARTER
from sodakit.commands.options import LanguageOptions
from sodakit.log import say

if TYPE_CHECKING:
    from sodakit.generate.speech_model import SpeechModel


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model, and where its results go."""

    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])] = STARTER
    """Checkpoint, or run folder: its best checkpoint where it kept one, else its newest."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/eval")
    """Folder for outputs and results; the same command goes on where it stopped."""
    codec: str | None = None
    """Codec by name, hub id or folder; default: the one the model was trained with."""
    device: str | None = None
    """cpu, cuda, …"""

    def load(self) -> "SpeechModel":
        from sodakit.generate.speech_model import SpeechModel

        return SpeechModel.load(self.model, codec=self.codec, device=self.device)


@dataclass(frozen=True, kw_only=True)
class Asr(ModelOptions):
    """Word errors of a model's transcripts of recordings it has not been trained on.

    Example: sodakit eval asr --data LibriSpeech/test-clean --model runs/mine --normaliser soda
    """

    data: Path
    """Recordings with transcripts, in any layout that `sodakit prepare` reads."""
    shots: int = 0
    """Solved examples before each recording."""
    shots_from: Path | None = None
    """Where examples come from: other recordings, as LibriSpeech dev-clean."""
    language: str | None = None
    """ISO 639 code of what is said, as es: texts are compared as that language speaks them. Recordings that name another are
    left out. Default: as the recordings say."""
    normaliser: str | None = None
    """How texts are reduced to words: sodakit, soda, seed_tts_en, seed_tts_zh, whisper_en, none, or spoken_es with the code
    of any language; default: that of --language, else sodakit."""
    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: PositiveShare = 1.0
    """Sample from the likeliest tokens of this much probability."""
    max_new_tokens: Count = 200
    """Longest transcript."""
    limit: Count | None = None
    """Only this many recordings, spread over all."""
    seed: int = 42
    """Of the choice of examples and of sampling."""

    def run(self) -> None:
        from sodakit.eval.cases import language_of, read_recordings
        from sodakit.eval.generation import TranscribeConfig, transcribe_cases
        from sodakit.eval.normalisers import normaliser_for
        from sodakit.eval.spoken_scores import transcription_result

        cases = read_recordings(self.data, self.limit, self.language)
        shots = read_recordings(self.shots_from) if self.shots_from else []
        config = TranscribeConfig(
            num_shots=self.shots,
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
        )
        outputs, settings = transcribe_cases(self.load(), cases, self.out / config.task, config, shots)
        settings |= {"language": self.language or language_of(cases)}
        written = self.normaliser or normaliser_for(self.language)
        result = transcription_result(settings, cases, outputs, written)
        _finish(result, self.out / f"{config.task}.json")


@dataclass(frozen=True, kw_only=True)
class Tts(ModelOptions, LanguageOptions):
    """Word errors and likeness of the voice of what a model says, over a seed-tts-eval list.

    Example: sodakit eval tts --data seedtts_testset/en --model runs/mine --judge openai/whisper-large-v3 \\
        --judge-language en --normaliser seed_tts_en --speaker-judge microsoft/wavlm-base-plus-sv
    """

    data: Path
    """A list `utt|prompt text|prompt wav|target text[|original wav]`, or the folder with its meta.lst."""
    normaliser: str | None = None
    """How texts are reduced to words; the small judge writes no apostrophes and needs sodakit or soda.
    Default: that of --language, else sodakit."""
    temperature: float = 0.9
    """Of sampling."""
    top_p: PositiveShare = 0.8
    """Sample from the likeliest tokens of this much probability."""
    max_s: Positive = 15.0
    """Longest speech."""
    limit: Count | None = None
    """Only this many cases, spread over the list."""
    seed: int = 42
    """Of sampling."""

    def run(self) -> None:
        from sodakit.eval.cases import read_voice_cases
        from sodakit.eval.generation import SpeakConfig, speak_cases
        from sodakit.eval.normalisers import normaliser_for
        from sodakit.eval.spoken_scores import speech_result

        cases = read_voice_cases(self.data, self.limit)
        config = SpeakConfig(temperature=self.temperature, top_p=self.top_p, max_s=self.max_s, seed=self.seed)
        outputs, settings = speak_cases(self.load(), cases, self.out / "tts", config)
        texts, speakers = [case.text for case in cases], [case.speaker for case in cases]
        judge = self.recogniser(texts, self.out, self.model, speakers)
        settings |= {"language": self.language}
        written = self.normaliser or normaliser_for(self.language)
        result = speech_result(settings, cases, outputs, judge, self.speakers(), written, self.mos())
        _finish(result, self.out / "tts.json")


@dataclass(frozen=True, kw_only=True)
class Continue(ModelOptions, LanguageOptions):
    """What a model says after the opening of a recording: does the voice stay, are the words likely, do they repeat?

    Protocols: soda (3 s, temperature 1.0, top-p 0.9, 12 s; the words of the continuation given those of the opening)
    and slamkit (3 s, temperature 0.8, top-k 25, 150 tokens; the words of both as one). Options change one thing of it.

    Example: sodakit eval continue --data LibriSpeech/test-clean --model runs/mine --limit 100 \\
        --judge openai/whisper-large-v3-turbo --text-model meta-llama/Llama-3.2-1B --protocol slamkit
    """

    data: Path
    """Recordings, in any layout that `sodakit prepare` reads."""
    protocol: str = "soda"
    """Published settings: soda or slamkit."""
    text_model: str | None = None
    """Causal language model of text by hub id or folder, for GenPPL; default: none, and no GenPPL."""
    text_model_revision: str | None = None
    """Commit on the hub."""
    judged: Literal["continuation", "whole"] | None = None
    """Which text GenPPL and auto-BLEU are of; default: the protocol's."""
    prompt_s: Positive | None = None
    """How much of each recording is given; default: the protocol's."""
    max_s: Positive | None = None
    """Longest continuation; default: the protocol's, which may be in tokens."""
    temperature: float | None = None
    """Of sampling; default: the protocol's."""
    top_p: PositiveShare | None = None
    """Sample from the likeliest tokens of this much probability; default: the protocol's."""
    top_k: int | None = None
    """Sample from this many of the likeliest tokens, 0 for all; default: the protocol's."""
    limit: Count | None = None
    """Only this many recordings, spread over all."""
    seed: int = 42
    """Of sampling."""

    def run(self) -> None:
        from sodakit.eval.cases import language_of, read_recordings
        from sodakit.eval.continuations import continuation_result, protocol
        from sodakit.eval.generation import continue_cases
        from sodakit.eval.text_model import TextModel

        chosen = protocol(self.protocol)
        given = {n: getattr(self, n) for n in ("prompt_s", "max_s", "temperature", "top_p", "top_k")}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if self.max_s is not None:
            changes["max_new_tokens"] = None
        config = replace(chosen.config, seed=self.seed, **changes)
        cases = read_recordings(self.data, self.limit, self.language)
        outputs, settings = continue_cases(self.load(), cases, self.out / "continuation", config)
        texts, speakers = [case.text for case in cases], [case.speaker for case in cases]
        judge = self.recogniser(texts, self.out, self.model, speakers)
        text_model = None
        if self.text_model is not None:
            text_model = TextModel.load(
                self.text_model, revision=self.text_model_revision, device=self.judge_device
            )
        judged = self.judged or chosen.judged
        changed = changes or judged != chosen.judged
        settings |= {"language": self.language or language_of(cases)}
        settings |= {"protocol": f"{self.protocol}, changed" if changed else self.protocol}
        result = continuation_result(
            settings, cases, outputs, judge, self.speakers(), text_model, judged, self.mos()
        )
        _finish(result, self.out / "continuation.json")
        if text_model is None:
            say("No language model of text was named (--text-model), so GenPPL is not computed.")


@dataclass(frozen=True, kw_only=True)
class S2st(LanguageOptions):
    """ASR-BLEU, chrF, likeness of the voice and length of translated speech, from a list of outputs.

    Example: sodakit eval s2st --data outputs.jsonl --judge openai/whisper-large-v3 --judge-language en
    """

    data: Path
    """JSON lines with id, reference, output, and where known source and spoken_reference (paths beside the file)."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/eval")
    """Folder for s2st.json."""
    texts: tuple[str, ...] = field(default=())
    """Further sentences whose words the judge without download should know."""

    def run(self) -> None:
        from sodakit.eval.normalisers import normaliser_for
        from sodakit.eval.translation import read_translation_cases, translation_result

        cases = read_translation_cases(self.data)
        judge = self.recogniser([*(case.reference for case in cases), *self.texts], self.out, None)
        written = normaliser_for(self.language)
        result = translation_result(cases, judge, self.speakers(), normaliser_name=written, mos=self.mos())
        _finish({"language": self.language} | result, self.out / "s2st.json")


def _finish(result: dict[str, Any], path: Path) -> None:
    """Write the result, and print every score with its interval."""
    from sodakit.eval.results import estimates, save_result

    save_result(path, result)
    for name, value in estimates(result).items():
        print(f"{name:<32} {value['value']:.4f} ({value['low']:.4f} to {value['high']:.4f})")
    own = result["scores"].get("originals", {}).get("equal_error_rate")
    if own is not None:
        print(f"{'speaker judge, equal error rate':<32} {own:.4f} on the originals")
    for role in ("judge", "speaker_judge", "mos_judge", "text_model"):
        if result.get(role):
            print(f"{role.replace('_', ' ')}: {result[role]['name']}")
    if skipped := result.get("skipped"):
        print(f"{len(skipped)} entries of the list are no cases and were skipped:")
        for entry in skipped[:20]:
            print(f"  {entry['id']}: {entry['reason']}")
    if result["failures"]:
        print(f"{len(result['failures'])} of {result['num_cases']} outputs failed and count as errors:")
        for failure in result["failures"][:20]:
            print(f"  {failure['id']}: {failure['problem']}")
    say(f"Written to {path}.")
