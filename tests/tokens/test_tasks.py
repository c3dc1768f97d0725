"""Documents of pairs, token for token."""

import numpy as np
import pytest

from sodakit.errors import ConfigError
from sodakit.tokens.documents import Template
from sodakit.tokens.tasks import TASKS, Side, open_tag, pair_spans, tagged, task, untagged
from sodakit.tokens.vocabulary import soda_vocabulary
from tests.pair_stores import pair_tokenizer


def test_a_pair_is_written_as_published():
    """recipe: BOS, source audio, tagged source text, tagged target text, target audio, EOS, in the released id map."""
    source = Side(np.full((8, 1), 5, np.uint16), np.array([11, 12], np.int32))
    target = Side(np.full((8, 1), 7, np.uint16), np.array([13], np.int32))
    ids_T = Template(soda_vocabulary(), 8).document(pair_spans(TASKS["s2st"].spans, source, target))
    source_audio = [128260 + 2048 * k + 5 for k in range(8)]
    target_audio = [128260 + 2048 * k + 7 for k in range(8)]
    assert ids_T.tolist() == [
        128000,
        128258, *source_audio, 128259,
        128256, 11, 12, 128257,
        128256, 13, 128257,
        128258, *target_audio, 128259,
        128001,
    ]  # fmt: skip


def test_the_tag_is_ordinary_text_before_the_transcript():
    assert tagged("es", "hola") == "<language>es</language>hola"
    assert untagged(tagged("sv-SE", "hej <b>")) == ("sv-SE", "hej <b>")
    assert untagged("no tag") == ("", "no tag")


@pytest.mark.parametrize("text", ["hola", "¿dónde?", "...", " 7"])
def test_an_opened_tag_is_a_prefix_of_the_ids_whatever_the_text_begins_with(text):
    """A prompt that ended with `>` would not be: a tokenizer joins `>¿`, and Llama's joins `>Hola`."""
    tokenizer = pair_tokenizer()
    begun, whole = tokenizer.encode(open_tag("es")), tokenizer.encode(tagged("es", text))
    assert whole[: len(begun)] == begun


def test_every_task_begins_with_what_is_given_and_answers_something():
    for kind in TASKS.values():
        assert kind.spans[0] == "source_speech" and kind.answer
        assert kind.speaks == (kind.answer[-1] == "target_speech")
    assert not TASKS["s2tt"].speaks and "source_text" not in TASKS["s2st_no_source_text"].spans


def test_an_unknown_task_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match="s2st_direct"):
        task("sing")
