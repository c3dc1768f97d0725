"""An aligner by Whisper in CTranslate2 form: which sound its attention looks at when it writes each word."""

from collections.abc import Sequence
from dataclasses import dataclass

from sodakit.audio.files import resample
from sodakit.audio.wave import Wave
from sodakit.eval.recogniser import RATE_HZ
from sodakit.eval.whisper import FasterWhisperJudge
from sodakit.files import digest
from sodakit.voices.contract import WordSpan

HEARD_S = 30.0
"""What Whisper hears at once. A text that is longer is not given to it: what it writes itself is compared with the text."""


@dataclass(frozen=True, eq=False)
class WhisperAligner:
    """The times of words that faster-whisper makes of Whisper's attention."""

    judge: FasterWhisperJudge

    @property
    def name(self) -> str:
        """The model's."""
        return self.judge.name

    @property
    def fingerprint(self) -> str:
        """Digest of the model and the language it was told."""
        return digest(self.judge.fingerprint, "words")

    def align(
        self, waves: Sequence[Wave], texts: Sequence[str], languages: Sequence[str]
    ) -> list[tuple[WordSpan, ...]]:
        """See `contract.Aligner`: the given words up to 30 s; of longer sounds those that Whisper hears."""
        rows = zip(waves, texts, languages, strict=True)
        return [self._align(resample(wave, RATE_HZ), text, language) for wave, text, language in rows]

    def _align(self, wave: Wave, text: str, language: str) -> tuple[WordSpan, ...]:
        if wave.duration_s > HEARD_S:
            return self._heard(wave, self.judge.language or language or None)
        return self._given(wave, text, self.judge.language or language)

    def _given(self, wave: Wave, text: str, language: str) -> tuple[WordSpan, ...]:
        from faster_whisper.audio import pad_or_trim
        from faster_whisper.tokenizer import Tokenizer

        whisper = self.judge.model
        features_MF = whisper.feature_extractor(wave.samples_S)
        heard = whisper.encode(pad_or_trim(features_MF))
        known = language.split("-")[0]
        if known not in whisper.supported_languages:
            known = (
                whisper.model.detect_language(heard)[0][0][0][2:-2] if whisper.model.is_multilingual else "en"
            )
        tokenizer = Tokenizer(
            whisper.hf_tokenizer, whisper.model.is_multilingual, task="transcribe", language=known
        )
        ids = tokenizer.encode(f" {' '.join(text.split())}")
        frames = min(features_MF.shape[-1], whisper.feature_extractor.nb_max_frames)
        (words,) = whisper.find_alignment(tokenizer, [ids], heard, frames)
        return tuple(
            WordSpan(w["word"].strip(), float(w["start"]), float(w["end"]), float(w["probability"]))
            for w in words
            if w["word"].strip()
        )

    def _heard(self, wave: Wave, language: str | None) -> tuple[WordSpan, ...]:
        segments, _ = self.judge.model.transcribe(
            wave.samples_S,
            language=language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            word_timestamps=True,
        )
        return tuple(
            WordSpan(word.word.strip(), float(word.start), float(word.end), float(word.probability))
            for segment in segments
            for word in segment.words or ()
        )
