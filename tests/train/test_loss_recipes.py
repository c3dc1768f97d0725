"""Losses by name, by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sodakit.data.config import DataConfig, SourceConfig, ViewConfig
from sodakit.data.language import open_language
from sodakit.data.loader import Loader
from sodakit.errors import ConfigError
from sodakit.model.config import model_size
from sodakit.model.families import build_model, pattern_of
from sodakit.tokens.vocabulary import soda_vocabulary
from sodakit.train.config import LossConfig
from sodakit.train.objective import LossVector, Objective, weights_by_kind
from tests.pair_stores import pair_store
from tests.stores import small_store
from tests.train.test_families import config_of


@pytest.mark.parametrize(
    ("recipe", "acoustic"),
    [("moshi", [1.0] * 7), ("decay", [51.8, 26.8, 13.9, 7.2, 3.7, 1.9, 1.0]), ("moshi_means", [1.0] * 7)],
)
def test_weights_are_the_published_ones(recipe, acoustic) -> None:
    weights, means = weights_by_kind(LossConfig(recipe=recipe), soda_vocabulary())
    assert weights[:3].tolist() == [100, 100, 100]
    assert weights[3:].round(1).tolist() == pytest.approx(acoustic)
    assert means.tolist() == ([0, 0] + [1] * 8 if recipe == "moshi_means" else [0] * 10)
    assert (weights_by_kind(LossConfig(), soda_vocabulary())[0] == 1).all()


@pytest.mark.parametrize("family", ["flat", "depth", "delay"])
@pytest.mark.parametrize("recipe", ["uniform", "moshi", "moshi_means", "decay"])
def test_a_loss_is_the_mean_that_its_name_says(tmp_path, recipe, family) -> None:
    """From the losses of the single ids, in float64; micro-batches add up to the same."""
    store = small_store(tmp_path, recordings=40)
    _, vocabulary = open_language(store)
    config = config_of(store, family, loss=LossConfig(recipe=recipe, z_loss=0.0))
    batch = Loader(config.data, vocabulary, pattern_of(config.model)).batch(0)
    model = build_model(config.model, seed=1)
    objective = Objective(vocabulary, config.loss, config.model, torch.device("cpu"), torch.float32)
    totals = objective.total_weights(batch)
    with torch.no_grad():
        whole = objective.targets(batch, slice(None), totals)
        loss, nll_T = objective(model, whole)
        parts = [objective(model, objective.targets(batch, slice(n, n + 1), totals))[0] for n in range(4)]
    nll, kinds = nll_T.double().numpy(), whole.kinds_T.numpy()
    last = vocabulary.num_codebooks - 1
    by_kind = {
        "uniform": [1.0] * 5,
        "moshi": [100, 100, 100, 1, 1],
        "moshi_means": [100, 100, 100, 1, 1],
        "decay": [100, 100, 100, 100 ** (1 - 1 / last), 1],
    }[recipe]
    weights = np.array(by_kind, np.float64)[kinds]
    if recipe == "moshi_means":
        expected = sum((weights * nll)[m].sum() / weights[m].sum() for m in (kinds < 2, kinds >= 2))
    else:
        expected = (weights * nll).sum() / weights.sum()
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert sum(map(float, parts)) == pytest.approx(expected, rel=1e-5)


def test_weights_are_given_once() -> None:
    with pytest.raises(ConfigError, match="one of the two"):
        LossConfig(recipe="decay", kind_weights={"text": 2.0})


def test_weights_are_over_the_targets_that_count(tmp_path) -> None:
    """Of packed pairs: questions and padding are no targets. The longest fills its row, so an answer ends where a row does."""
    store = pair_store(tmp_path)
    _, vocabulary = open_language(store)
    view = ViewConfig(task="s2st")
    data = DataConfig(sources=(SourceConfig(store=str(store), view=view),), context=160, batch_rows=1)
    longest = int(Loader(data, vocabulary).streams[0].view.lengths_U.max())
    loader = Loader(replace(data, context=longest), vocabulary)
    batch = Loader(
        replace(data, context=longest, batch_rows=loader.streams[0].num_windows), vocabulary
    ).batch(0)
    assert (longest,) in batch.lengths
    model = model_size("nano", vocabulary.size, context=longest)
    config = LossConfig(given_spans=1, kind_weights={"text": 3.0, "semantic": 5.0})
    objective = Objective(vocabulary, config, model, torch.device("cpu"), torch.float32)
    targets = objective.targets(batch, slice(None))
    assert 0 < len(targets.weights_T) < 0.8 * batch.ids_BPW.size
    assert objective.total_weights(batch) == [pytest.approx(float(targets.weights_T.sum()))]


def test_bits_of_audio_are_those_of_a_frame_times_frames_a_second() -> None:
    vocabulary = soda_vocabulary()
    losses = LossVector(vocabulary, 12.5, torch.device("cpu"))
    kinds_T = torch.tensor([0, 1, *range(2, 10)])
    losses.add(torch.full((10,), float(np.log(2))), kinds_T)
    assert losses.read()["bits_per_audio_s"] == pytest.approx(8 * 12.5)
