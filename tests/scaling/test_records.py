"""One table whatever the origin, and no convention inferred from another."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sodakit.errors import ConfigError
from sodakit.files import write_json
from sodakit.model.accounting import count_parameters, soda_training_flops
from sodakit.model.config import model_size
from sodakit.scaling.records import read_runs, read_table, table_from_rows
from sodakit.train.trainer import train
from tests.scaling.sweeps import chinchilla_runs, soda_runs
from tests.stores import small_store
from tests.train.test_trainer import config_for


def test_the_digitised_chinchilla_table_is_read_as_it_is():
    table = chinchilla_runs()
    assert len(table) == 240 and table.losses == ["all"]
    assert table.consistency() == pytest.approx((1.0, 1.0))
    assert table.fingerprint == chinchilla_runs().fingerprint


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_table_comes_back_from_its_file(tmp_path, ending):
    table = soda_runs()
    table.write(tmp_path / f"runs.{ending}")
    assert read_table(tmp_path / f"runs.{ending}").fingerprint == table.fingerprint


def test_a_weights_and_biases_export_is_understood(tmp_path):
    (tmp_path / "export.csv").write_text(
        '"Name","State","config.model.hidden_dim.value","config.model.num_layers.value","config.model.num_heads.value",'
        '"config.model.intermediate_dim.value","vocab_size","trainer.train_batch_size","throughput/total_tokens",'
        '"parameter_count","eval/loss","eval/semantic/loss","train_seq_len","learning_rate"\n'
        '"run, one","finished","768","8","6","3072","144644","8","2.11e9","298M","3.848","2.696","4096","0.00122"\n'
        '"run two","crashed","768","8","6","3072","144644","8","1.0e9","298M","4.1","2.9","4096","0.00122"\n'
    )
    table = read_table(tmp_path / "export.csv")
    assert table.runs == ["run, one", "run two"]
    assert table.loss()[0] == 3.848 and table.sizes()[0] == 298e6 and table.columns["batch_rows"][0] == 8
    assert table.sizes("non_embedding")[0] == pytest.approx(76e6, rel=0.01)
    assert table.flops("soda")[0] == pytest.approx(3e18, rel=0.01)
    assert table.usable().runs == ["run, one"]


def test_levanter_s_nested_json_is_understood(tmp_path):
    row = {
        "config": {"model": {"hidden_dim": 512}},
        "summary": {"parameter_count": 1e8, "eval/loss": 3.2, "throughput/total_tokens": 2e9},
    }
    (tmp_path / "tracker_metrics.jsonl").write_text(json.dumps(row) + "\n")
    table = read_table(tmp_path / "tracker_metrics.jsonl")
    assert (table.sizes()[0], table.tokens()[0], table.loss()[0]) == (1e8, 2e9, 3.2)


def test_a_shape_gives_every_convention_and_none_is_taken_for_another():
    shape = model_size("soda_135m")
    table = table_from_rows(
        [{"width": 512, "layers": 15, "heads": 8, "ffn": 1792, "vocab": 144_644, "tokens": 1e9, "loss": 4.0}]
    )
    count = count_parameters(shape)
    for name in ("total", "non_embedding", "one_embedding", "two_embeddings", "matmul"):
        assert table.sizes(name)[0] == getattr(count, name)
    assert table.flops("soda")[0] == soda_training_flops(shape, 1e9)
    assert table.flops("exact")[0] < table.flops("soda")[0]
    bare = table_from_rows([{"params": 1e8, "tokens": 1e9, "loss": 4.0}])
    assert np.isnan(bare.sizes("non_embedding")).all() and bare.conventions() == (["total"], ["given", "6nd"])
    with pytest.raises(ConfigError, match="No convention 'embedding'"):
        bare.sizes("embedding")


def test_numbers_that_cannot_be_of_one_run_are_refused():
    table = table_from_rows([{"params": 1e8, "tokens": 1e9, "flops": 1e16, "loss": 4.0}])
    with pytest.raises(ConfigError, match="forward-only FLOPs"):
        table.consistency()


def test_soda_s_sweep_has_the_known_range_of_6nd_over_c():
    low, high = soda_runs(targets=False).consistency("soda", "two_embeddings")
    assert (round(low, 2), round(high, 2)) == (0.98, 1.66)


def test_budgets_are_found_in_the_flops():
    runs = soda_runs()
    assert len(np.unique(runs.budgets("soda"))) == 7
    assert np.allclose(runs.budgets("soda"), runs.columns["budget"].astype(float), rtol=0.01)


def test_a_table_without_a_loss_says_which_columns_it_has(tmp_path):
    (tmp_path / "runs.csv").write_text("params,tokens,perplexity\n1e8,1e9,20\n")
    with pytest.raises(ConfigError, match=r"no column for loss.*perplexity"):
        read_table(tmp_path / "runs.csv")
    table = read_table(tmp_path / "runs.csv", {"perplexity": "loss/all"})
    assert table.loss()[0] == 20


def test_our_own_runs_are_read_with_their_loss_vector(tmp_path):
    store = small_store(tmp_path / "store", recordings=20)
    config = config_for(store, steps=6, save_every_steps=3)
    train(config, tmp_path / "runs" / "one")
    train(replace(config, steps=4, seed=1), tmp_path / "runs" / "two")
    write_json(tmp_path / "runs" / "two" / "diverged.json", {"why": "a test"})
    table = read_runs(tmp_path / "runs")
    assert table.runs == ["one", "two"] and list(table.columns["status"]) == ["finished", "diverged"]
    assert table.tokens()[0] == 6 * 4 * 64
    assert table.sizes()[0] == count_parameters(config.model).total
    assert {"all", "text", "semantic", "acoustic_1", "bits_per_audio_s"} <= set(table.losses)
    assert table.usable(flops="soda").runs == ["one"]
    with pytest.raises(ConfigError, match="holds no run"):
        read_runs(tmp_path / "store")
