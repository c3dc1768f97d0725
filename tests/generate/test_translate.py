"""Translations of several recordings, and of one that is longer than the context."""

import numpy as np
import pytest

from sodakit.generate.engine import Completion
from sodakit.generate.interpreter import longest_piece_s, translate_long
from sodakit.generate.sampling import Sampling
from sodakit.generate.translate import Translator, Wanted
from sodakit.tokens.tasks import task
from tests.eval.small_model import noise, small_speech_model


@pytest.fixture(scope="module")
def translator():
    return Translator(small_speech_model(context=1024), task("s2st"), [("es", "en")])


def test_each_recording_has_a_seed_of_its_own(translator, monkeypatch):
    """The same recording twice is not the same sound twice, and each is what it is alone with its own seed."""
    model, seeds = translator.model, []
    generate = model.engine.generate
    monkeypatch.setattr(
        model.engine,
        "generate",
        lambda requests: (seeds.append([r.seed for r in requests]), generate(requests))[1],
    )
    codes_KF = np.zeros((2, 6), np.uint16)
    free = Sampling(temperature=1.5)
    made = translator.translate_codes([codes_KF] * 3, sampling=free, max_text_tokens=8, max_s=1.0, seed=5)
    assert all(asked == [5, 6, 7] for asked in seeds) and len(seeds) == 3
    sounds = [m.spoken.codes_KF.tolist() for m in made]
    assert sounds[0] != sounds[1]
    alone = translator.translate_codes([codes_KF], sampling=free, max_text_tokens=8, max_s=1.0, seed=6)[0]
    assert alone.spoken.codes_KF.tolist() == sounds[1]


def test_a_recording_longer_than_the_context_is_translated_in_pieces_and_says_what_is_missing(translator):
    longest_s = longest_piece_s(translator, Wanted())
    wave = noise(1, 3 * longest_s)
    made = translate_long(translator, [wave], Wanted(max_text_tokens=6, max_s=1.0))
    again = translator.translate(wave, max_s=1.0)
    assert made.spoken is not None and 0 < made.spoken.wave.duration_s <= 1.0
    assert again.spoken is not None and again.spoken.wave.duration_s <= 1.0
    if made.spoken.codes_KF.shape[1] == 12:  # the time was used up
        assert not made.ended and any("nothing is translated" in line for line in made.stopped)
    assert made.ended == (not made.stopped)


def test_a_translation_whose_text_was_cut_has_not_ended_although_its_speech_has(translator):
    """Else half a sentence, spoken to its end, would pass for the whole."""
    v = translator.model.vocabulary
    for cut in range(3):
        plan = translator.plan(np.zeros((2, 6), np.uint16), Wanted(max_text_tokens=6, max_s=1.0))
        next(plan)
        with pytest.raises(StopIteration) as made:
            for number in range(3):
                ids_T = [v.codebook_range(0)[0], v.codebook_range(1)[0]] if number == 2 else [5]
                plan.send(Completion(np.array(ids_T, np.int32), number != cut))
        assert not made.value.value.ended
