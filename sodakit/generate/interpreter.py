"""A recording of any length translated, piece by piece, and where in it each request stands."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count

from sodakit.audio.wave import Wave
from sodakit.generate.long_form import TEXT_TOKENS_PER_S, Piece, pieces_of
from sodakit.generate.plans import Plan, carry_out
from sodakit.generate.speech_model import Spoken
from sodakit.generate.stream import sound_of_pieces
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

    def __init__(self, translator: Translator, pieces: Iterable[Piece], wanted: Wanted) -> None:
        self.translator, self.pieces, self.wanted = translator, pieces, wanted
        self.asked: list[PairSpan] = []
        """The span of every request so far, noted before it is made."""
        self.untranslated_s: float | None = None
        """Where the rest begins, for whose speech no time was left; None if there is none."""

    def plan(self) -> Plan[list[Passage]]:
        """The requests, until the recording is translated or there has been enough speech."""
        passages: list[Passage] = []
        model, left_s = self.translator.model, self.wanted.max_s
        for piece, seed in zip(self.pieces, count(self.wanted.seed), strict=False):
            if model.frames(left_s) < 1:
                self.untranslated_s = piece.start_s
                break
            made = yield from self._noted(piece, replace(self.wanted, seed=seed, max_s=left_s))
            passages.append(Passage(piece.start_s, piece.end_s, made))
            left_s -= model.duration_s(made.spoken.codes_KF) if made.spoken else 0
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
    texts = sum(span.endswith("text") for span in spans)
    lengths = 1 + SPEECH_RATIO * ("target_speech" in spans)
    return (model.context_positions - 32) / (model.positions_per_s * lengths + TEXT_TOKENS_PER_S * texts)


def translate_long(translator: Translator, blocks: Iterable[Wave], wanted: Wanted) -> Translation:
    """A recording of any length translated, its pieces joined; memory holds one piece of it.

    Args:
        translator: who translates.
        blocks: consecutive parts of the recording.
        wanted: to what, and how.
    """
    model = translator.model
    pieces = pieces_of(model, blocks, longest_piece_s(translator, wanted))
    interpreter = Interpreter(translator, pieces, replace(wanted, decoded=False))
    passages = carry_out(interpreter.plan(), model.engine)
    made = [passage.made for passage in passages]
    stopped = [
        f"{p.start_s:.1f} to {p.end_s:.1f} s did not come to an end by itself: its translation is cut off"
        for p in passages
        if not p.made.ended
    ]
    if interpreter.untranslated_s is not None:
        stopped.append(
            f"from {interpreter.untranslated_s:.1f} s on nothing is translated: {wanted.max_s:g} s are spoken"
        )
    spoken = None
    if any(m.spoken for m in made):
        codes = [m.spoken.codes_KF for m in made if m.spoken]
        wave, codes_KF = sound_of_pieces(model, codes, origin=translator.origin(wanted))
        spoken = Spoken(wave, codes_KF, all(m.spoken.ended for m in made if m.spoken))
    return Translation(
        source_language=next((m.source_language for m in made if m.source_language), ""),
        source_text=" ".join(t for m in made if (t := m.source_text.strip())),
        language=next((m.language for m in made if m.language), ""),
        text=" ".join(t for m in made if (t := m.text.strip())),
        spoken=spoken,
        ended=not stopped,
        stopped=tuple(stopped),
    )
