import numpy as np
import pytest

from sodakit.commands.describe import main
from sodakit.data.config import DataConfig, SourceConfig, ViewConfig
from sodakit.data.describe import mixture_tree, source_lines
from sodakit.data.language import open_language
from sodakit.data.loader import Loader
from sodakit.errors import ConfigError
from tests.stores import small_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store") / "speech", recordings=40)


def loader_of(store, **view):
    sources = (SourceConfig(store=str(store), view=ViewConfig(**view)),)
    return Loader(DataConfig(sources=sources, context=32, batch_rows=4), open_language(store)[1])


@pytest.mark.parametrize(
    "view", [{}, {"composition": "semantic", "order": "audio_first"}, {"num_codebooks": 2}]
)
def test_tokens_by_kind_are_those_in_the_documents(store, view):
    loader = loader_of(store, **view)
    documents = loader.streams[0].view
    ids = np.concatenate([documents[n] for n in range(len(documents))])
    vocabulary = loader.vocabulary
    kinds = documents.tokens_by_kind()
    assert sum(kinds.values()) == len(ids) == documents.num_tokens
    audio = int(vocabulary.is_audio(ids).sum())
    assert kinds["semantic"] + kinds["acoustic"] == audio
    assert kinds["text"] == int((ids < vocabulary.text_size).sum()) - int(
        np.isin(ids, [vocabulary.bos, vocabulary.eos]).sum()
    )


def test_both_orders_count_every_token_twice(store):
    both, once = loader_of(store).streams[0], loader_of(store, order="audio_first").streams[0]
    assert both.num_tokens == 2 * once.num_tokens and both.view.hours == once.view.hours
    line = source_lines(both)[1]
    assert "unique tokens" in line and "both orders counted" in line


def test_the_budget_gives_the_epochs_that_the_loader_reads(store):
    loader = loader_of(store)
    tokens = 50 * loader.config.batch_positions
    printed = str([str(branch.label) for branch in mixture_tree(loader, tokens).children[0].children])
    assert f"epochs at the budget: {loader.epochs(50)[0]:.2f}" in printed


def test_the_command_prints_stores_and_mixture(store, capsys):
    main([str(store), "--budget-tokens", "1e5", "--context", "32"])
    printed = capsys.readouterr().out
    for words in ("packing waste", "epochs at the budget", "unique tokens", "100.00% of the tokens"):
        assert words in printed


def test_as_many_weights_as_stores_are_needed(store):
    with pytest.raises(ConfigError, match="2 weights for 1 stores"):
        main([str(store), "--weights", "1", "2"])
