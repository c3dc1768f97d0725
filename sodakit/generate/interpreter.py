"""A recording of any length translated, piece by piece, and where in it each request stands."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from sodakit.generate.long_form import TEXT_TOKENS_PER_S, Piece, Plan
from sodakit.generate.translate import Translation, Translator, Wanted
from sodakit.tokens.tasks import PairSpan

SPEECH_RATIO = 1.5
"""Room for a spoken translation, in lengths of what it translates."""


@dataclass(frozen=True)
class Passage:
    """A stretch of a recording with its translation."""

    start_s: float
    end_s: float
    made: Translation


class Interpreter:
    """Translates the pieces of a recording, one after another, at most `wanted.max_s` seconds of speech in all.

    Each piece is a document of its own, as in training, with a seed of its own, as `Translator.translate_codes` gives.
    """

    def __init__(self, translator: Translator, pieces: Sequence[Piece], wanted: Wanted) -> None:
        self.translator, self.pieces, self.wanted = translator, pieces, wanted
        self.asked: list[PairSpan] = []
        """The span of every request so far, noted before it is made."""

    def plan(self) -> Plan[list[Passage]]:
        """The requests, until the recording is translated or there has been enough speech."""
        passages: list[Passage] = []
        left_s, rate_hz = self.wanted.max_s, self.translator.model.codec.spec.frame_rate_hz
        for piece, seed in zip(self.pieces, count(self.wanted.seed), strict=False):
            if left_s * rate_hz < 1:
                break
            made = yield from self._noted(piece, replace(self.wanted, seed=seed, max_s=left_s))
            passages.append(Passage(piece.start_s, piece.end_s, made))
            left_s -= made.spoken.codes_KF.shape[1] / rate_hz if made.spoken else 0
        return passages

    def _noted(self, piece: Piece, wanted: Wanted) -> Plan[Translation]:
        spans, plan = iter(self.translator.spans(wanted)), self.translator.plan(piece.codes_KF, wanted)
        try:
            request = next(plan)
            while True:
                self.asked.append(next(spans))
                request = plan.send((yield request))
        except StopIteration as end:
            return end.value


def longest_piece_s(translator: Translator, wanted: Wanted) -> float:
    """The longest recording that can be translated in one go: it, its texts and its translation fit the context."""
    model, spans = translator.model, translator.spans(wanted)
    speech_tokens_per_s = model.template.num_codebooks * model.codec.spec.frame_rate_hz
    texts = sum(span.endswith("text") for span in spans)
    lengths = 1 + SPEECH_RATIO * ("target_speech" in spans)
    return (model.model.config.context - 32) / (speech_tokens_per_s * lengths + TEXT_TOKENS_PER_S * texts)
