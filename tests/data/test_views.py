import numpy as np
import pytest

from sodakit.data.config import ViewConfig
from sodakit.data.language import open_language
from sodakit.data.views import DocumentView
from sodakit.errors import ConfigError
from sodakit.tokens.grammar import Grammar
from tests.stores import shaped_store, small_store


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


def test_going_through_the_documents_ends_with_the_last(language):
    """A sequence without an end to its numbers would be gone through for ever."""
    store, vocabulary = language
    view = DocumentView(store, "train", ViewConfig(), vocabulary)
    assert len([ids_T for ids_T, _ in zip(view, range(len(view) + 1), strict=False)]) == len(view)


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


def test_further_bos_stand_before_the_first_and_are_counted(tmp_path):
    """Of speech and of plain text; none by default."""
    store, vocabulary = open_language(shaped_store(tmp_path, [[(0, 3, 4), (0, 2, 0), (1, 0, 5), (2, 1, 1)]]))
    one, three = (DocumentView(store, "train", ViewConfig(num_bos=n), vocabulary) for n in (1, 3))
    assert len(one) == len(three) == 6
    for number in range(len(one)):
        assert three[number].tolist() == [vocabulary.bos, vocabulary.bos, *one[number].tolist()]
        assert one[number][1] != vocabulary.bos
    assert three.num_tokens == three.num_positions == sum(len(three[n]) for n in range(6))
    assert three.tokens_by_kind()["markers"] == one.tokens_by_kind()["markers"] + 12
    with pytest.raises(ConfigError, match="num_bos=0"):
        ViewConfig(num_bos=0)
