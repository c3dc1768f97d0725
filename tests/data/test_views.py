import numpy as np
import pytest

from sodakit.data.config import ViewConfig
from sodakit.data.language import open_language
from sodakit.data.views import DocumentView
from sodakit.errors import ConfigError
from sodakit.tokens.grammar import Grammar
from tests.stores import small_store


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return open_language(small_store(tmp_path_factory.mktemp("store")))


VIEWS = [
    ViewConfig(),
    ViewConfig(order="audio_first"),
    ViewConfig(order="text_first", num_codebooks=2),
    ViewConfig(composition="semantic", order="audio_first"),
    ViewConfig(composition="semantic_acoustic", order="audio_first"),
    ViewConfig(num_codebooks=1, utterances_per_document=1),
]


@pytest.mark.parametrize("config", VIEWS, ids=str)
def test_every_document_has_the_promised_length_and_obeys_the_grammar(language, config):
    store, vocabulary = language
    view = DocumentView(store, "train", config, vocabulary)
    grammar = Grammar(vocabulary, view.template.num_codebooks)
    assert len(view) > 0
    for number in range(len(view)):
        ids_T = view[number]
        assert len(ids_T) == view.lengths_U[number]
        assert grammar.first_error(ids_T) is None


def test_both_orders_hold_the_same_tokens(language):
    store, vocabulary = language
    view = DocumentView(store, "train", ViewConfig(), vocabulary)
    half = len(view) // 2
    for number in range(half):
        assert sorted(view[number]) == sorted(view[number + half])
    assert view[0].tolist()[1] == vocabulary.audio_start
    assert view[half].tolist()[1] == vocabulary.text_start


def test_a_recording_s_utterances_stay_together_in_time_order(language):
    """The recording may cross a shard border; the document must not be torn there."""
    store, vocabulary = language
    view = DocumentView(store, "train", ViewConfig(order="audio_first"), vocabulary)
    recordings = []
    for document in range(len(view)):
        group = [view.utterances[int(i)] for i in view.members(document)]
        recordings.append(group[0].recording)
        assert len({u.recording for u in group}) == 1
        assert [u.start_s for u in group] == sorted(u.start_s for u in group)
    assert len(set(recordings)) == len(recordings)


def test_semantic_only_drops_text_and_acoustics(language):
    store, vocabulary = language
    view = DocumentView(store, "train", ViewConfig(composition="semantic", order="audio_first"), vocabulary)
    ids = np.concatenate([view[n] for n in range(len(view))])
    assert set(np.unique(vocabulary.kinds_V[ids])) == {1, 2}


def test_more_codebooks_than_stored_are_refused(language):
    store, vocabulary = language
    with pytest.raises(ConfigError, match="num_codebooks=9"):
        DocumentView(store, "train", ViewConfig(num_codebooks=9), vocabulary)
