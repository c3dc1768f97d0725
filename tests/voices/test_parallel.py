"""The same sentence in several languages, by the same voice."""

import numpy as np
import pytest

from sodakit.errors import ConfigError
from sodakit.eval.voiceprints import SpectralSpeaker
from sodakit.prepare.sources.spoken_pairs import Dialogue, speak_pairs
from sodakit.voices.catalogue import SEEN_VOICES
from sodakit.voices.parallel import LANGUAGES, parallel_sentences, read_parallel


def test_sentences_differ_in_every_language_and_come_back_for_the_same_seed():
    drawn = parallel_sentences(4000, 1)
    assert drawn == parallel_sentences(4000, 1)
    for language in LANGUAGES:
        assert len({t.texts[language] for t in drawn}) == 4000


def test_a_question_asks_in_every_language():
    for text in parallel_sentences(200, 2):
        asks = {t.endswith("?") for t in text.texts.values()}
        assert len(asks) == 1 and text.texts["es"].startswith("¿") == asks.pop()


def test_parallel_text_of_the_user_is_read_and_a_lonely_language_is_named(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text(
        '{"id": "1", "en": "show your own business .", "ja": "自分の事をしろ。"}\n{"id": "2", "en": "alone"}\n'
    )
    with pytest.raises(ConfigError, match="row 2: en"):
        read_parallel(path)
    path.write_text(path.read_text().splitlines()[0])
    assert read_parallel(path)[0].texts == {"en": "show your own business .", "ja": "自分の事をしろ。"}


def test_a_voice_stays_itself_in_another_language():
    """Else preserving the voice could not be learnt from these pairs."""
    texts, voices = parallel_sentences(4, 0), SEEN_VOICES[::3]
    items = list(
        speak_pairs([Dialogue(t, v, "es", "en", "train") for t, v in zip(texts, voices, strict=True)])
    )
    prints = SpectralSpeaker().embed([i.wave for i in items])
    alike = prints[0::2] @ prints[1::2].T
    assert (alike.argmax(axis=1) == np.arange(len(voices))).all()
