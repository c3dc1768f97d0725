import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings

from sodakit.data.config import ViewConfig
from sodakit.data.language import open_language
from sodakit.data.views import DocumentView
from tests.data.test_native import CONFIGS, SHARDS
from tests.stores import shaped_store


def documents_by_definition(view, has_text, most):
    """Utterances one by one: numbers of each document, and tokens of each utterance that has any."""
    documents, lengths, last = [], [], None
    for number, utterance in enumerate(view.utterances):
        frames = utterance.codes_KF.shape[1]
        ids = len(utterance.text_ids_T) if has_text else 0
        if frames or ids:
            if utterance.recording != last or len(documents[-1]) == most:
                documents.append([])
            documents[-1].append(number)
            lengths.append(sum(n + 2 for n in (frames * view.template.num_codebooks, ids) if n))
            last = utterance.recording
    return documents, lengths


@settings(max_examples=60, deadline=None)
@given(shards=SHARDS, config=CONFIGS)
def test_an_outline_made_shard_by_shard_is_that_of_one_utterance_after_the_other(shards, config):
    """Recordings go on across shards, also across empty ones and ones of which a view uses nothing."""
    # Recordings lie together, as the writer has it: sorted over all shards.
    sizes = np.cumsum([len(shard) for shard in shards])[:-1]
    together = sorted((u for shard in shards for u in shard), key=lambda u: u[0])
    cut = [part.tolist() for part in np.split(np.array(together, int).reshape(-1, 3), sizes)]
    with tempfile.TemporaryDirectory() as folder:
        shaped_store(Path(folder), cut)
        reader, vocabulary = open_language(folder)
        view = DocumentView(reader, "train", config, vocabulary)
        documents, lengths = documents_by_definition(view, config.has_text, config.utterances_per_document)
        assert [view.members(d).tolist() for d in range(view.num_groups)] == documents
        assert np.diff(view.outline.begin_M).tolist() == lengths
        assert view.lengths_U.tolist() == [len(view[u]) for u in range(len(view))]


def test_a_store_of_which_a_view_uses_nothing_has_no_documents(tmp_path):
    shaped_store(tmp_path, [[(0, 0, 0)], []])
    reader, vocabulary = open_language(tmp_path)
    view = DocumentView(reader, "train", ViewConfig(), vocabulary)
    assert len(view) == 0 and view.num_tokens == 0
