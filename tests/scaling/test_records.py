"""One table whatever the origin, no convention taken for another, and nothing filled in without a word."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sodakit.config import to_plain
from sodakit.errors import ConfigError
from sodakit.files import write_json
from sodakit.model.accounting import (
    FRAME_SHARE,
    count_parameters,
    soda_training_flops,
    training_flops_per_token,
)
from sodakit.model.any_config import family_config
from sodakit.model.config import SODA_VOCAB_SIZE, model_size, soda_grid_shape
from sodakit.scaling.records import read_runs, read_table, read_tables, table_from_rows
from sodakit.scaling.table import RunTable
from sodakit.tokens.vocabulary import Vocabulary
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
    assert table.losses == ["all", "semantic"] and list(table.loss("semantic")) == [2.696, 2.9]
    assert table.sizes("non_embedding")[0] == pytest.approx(76e6, rel=0.01)
    assert table.flops("soda")[0] == pytest.approx(3e18, rel=0.01)
    assert table.usable().runs == ["run, one"]
    assert "1 of 2 runs left out: 1 not finished (crashed)." in table.usable().notes


@pytest.mark.parametrize("state", ["crashed", "failed", "killed", "running", "Preempted"])
def test_a_run_that_did_not_finish_is_left_out(tmp_path, state):
    (tmp_path / "export.csv").write_text(
        f"Name,State,params,tokens,eval/loss\na,{state},1e8,1e9,3.0\nb,finished,1e8,1e9,3.1\n"
    )
    assert read_table(tmp_path / "export.csv").usable().runs == ["b"]


@pytest.mark.parametrize(
    ("key", "loss"),
    [
        ("eval/loss", "all"),
        ("validation/loss/all", "all"),
        ("eval/text/loss", "text"),
        ("eval/semantic/loss", "semantic"),
        ("summary.eval/markers/loss", "markers"),
        ("validation/acoustic_3/loss", "acoustic_3"),
        ("validation/loss/acoustic_3", "acoustic_3"),
        ("eval.acoustic_1.loss", "acoustic_1"),
        ("semantic_loss", "semantic"),
        ("validation/bits_per_audio_s", "bits_per_audio_s"),
        ("train/loss", None),
        ("train/semantic/loss", None),
        ("eval/semantic/accuracy", None),
    ],
)
def test_losses_are_known_by_the_names_that_trackers_give_them(key, loss):
    table = table_from_rows([{"params": 1e8, "tokens": 1e9, key: 2.5}])
    assert table.losses == ([loss] if loss else [])


@pytest.mark.parametrize("order", [1, -1])
def test_a_loss_of_held_out_data_stands_before_others_and_an_alias_before_all(order):
    row = {"params": 1e8, "tokens": 1e9, "train/loss": 1.0, "loss": 2.0, "eval/loss": 3.0, "my_loss": 4.0}
    row = dict(list(row.items())[::order])
    assert table_from_rows([row]).loss()[0] == 3.0
    assert table_from_rows([row], aliases={"my_loss": "loss/all"}).loss()[0] == 4.0


def test_a_loss_of_two_names_is_said():
    """A run that was never evaluated would bring its training loss among the others' evaluations."""
    rows = [{"params": 1e8, "tokens": 1e9, "eval/loss": 3.0}] * 2 + [
        {"params": 1e8, "tokens": 1e9, "loss": 2}
    ]
    (note,) = [n for n in table_from_rows(rows).notes if "several names" in n]
    assert note == (
        "loss/all goes by several names, which may be several things: 'eval/loss' in 2, 'loss' in 1 runs."
    )


def test_tokens_are_those_that_were_trained_on_not_what_c_would_make_of_them():
    """C/6N misses by the embedding and attention; steps × batch is exact."""
    known = {"params": 1e8, "flops": 1e18, "loss": 4.0}
    table = table_from_rows(
        [
            known | {"steps": 1000, "batch_tokens": 2e6},
            known | {"steps": 1000, "batch": 256, "seq_len": 4096},
            known | {"steps": 1000, "batch": 256},
            known | {"tokens": "n/a", "steps": 1000, "batch_tokens": 2e6},
            known | {"tokens": 3e9, "steps": 1000, "batch_tokens": 2e6},
        ]
    )
    assert table.tokens() == pytest.approx([2e9, 1000 * 256 * 4096, 1e18 / 6e8, 2e9, 3e9])
    assert table.notes == (
        "tokens of 2 of 5 runs are steps × batch_tokens.",
        "tokens of 1 of 5 runs are steps × batch_rows × context.",
        "tokens of 1 of 5 runs are C / 6N.",
    )


def test_a_context_that_is_no_number_is_not_known():
    row = {"width": 512, "layers": 15, "heads": 8, "ffn": 1792, "vocab": 8720, "tokens": 1e9, "loss": 4.0}
    unknown, default = (table_from_rows([row | {"seq_len": s}]).flops("soda") for s in ("n/a", 4096))
    assert unknown == default


def test_what_was_filled_in_and_what_was_left_out_is_noted_and_stays_noted():
    shape = {"width": 512, "layers": 15, "heads": 8, "ffn": 1792, "vocab": 144_644}
    table = table_from_rows(
        [
            {"tokens": 1e9, "loss": 4.0} | shape,
            {"tokens": 2e9, "loss": 3.9, "c": 2e18, "budget": 2e18} | shape,
            {"params": 1e8, "tokens": 1e9, "loss": 4.1},
            {"params": 1e8, "tokens": 1e9, "state": "failed"},
            {"params": 1e8, "tokens": 1e9},
            {"params": 1e8, "loss": 4.1},
        ]
    )
    sizes = "n/total, n/non_embedding, n/one_embedding, n/two_embeddings, n/matmul"
    assert table.notes == (
        f"{sizes} of 2 of 6 runs are counted from the shape.",
        "c/soda, c/exact, c/palm of 2 of 6 runs are counted from shape and tokens.",
        "c/given of 1 of 6 runs are c/soda.",
        "c/given of 3 of 6 runs are 6ND.",
    )
    kept = table.usable()
    assert len(kept) == 3 and kept.notes == (
        *table.notes,
        "3 of 6 runs left out: 1 not finished (failed), 1 no tokens, 1 no loss 'all'.",
        "budget: 1 of 3 runs tell theirs; those of all are found from C instead.",
    )
    assert kept.select([0]).notes == kept.usable().notes == kept.notes
    assert table.select([3]).columns["status"] == "failed"
    with pytest.raises(ConfigError, match=r"None of the 1 runs .*: 1 not finished \(failed\)\. Columns"):
        table.select([3]).usable()


def test_a_loss_that_is_not_there_is_told_with_those_that_are():
    table = table_from_rows([{"params": 1e8, "tokens": 1e9, "loss": 4.0, "semantic": 3.0}], "runs.csv")
    for look in (table.loss, lambda name: table.usable(loss=name)):
        with pytest.raises(ConfigError, match=r"runs\.csv has no loss 'sound'\. Its losses: all, semantic\."):
            look("sound")
        with pytest.raises(ConfigError, match=r"no loss 'semantik'\. Did you mean 'semantic'"):
            look("semantik")


def test_the_narrowest_model_of_a_large_vocabulary_is_believed_and_a_wrong_unit_is_not():
    shape = soda_grid_shape(64)
    row = {
        "tokens": 1e9,
        "loss": 4.0,
        "width": 64,
        "layers": shape.layers,
        "heads": 1,
        "ffn": shape.ffn_width,
    }
    table = table_from_rows([row | {"vocab": SODA_VOCAB_SIZE}])
    low, _ = table.consistency("soda", "non_embedding")
    assert low == pytest.approx(0.0067, abs=1e-4)
    wrong = RunTable({**table.columns, "tokens": table.tokens() / 1e3})
    with pytest.raises(ConfigError, match="Check the units"):
        wrong.consistency("soda", "non_embedding")


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
    told = runs.columns["budget"].astype(float)
    found = runs.budgets_of_flops("soda")
    assert len(np.unique(found)) == 7 and np.allclose(found, told, rtol=0.01)
    assert (runs.budgets("soda") == told).all()
    partly = RunTable({**runs.columns, "budget": np.where(np.arange(len(runs)) < 3, np.nan, told)})
    assert (partly.budgets("soda") == found).all()


def test_a_table_without_a_loss_says_which_columns_it_has(tmp_path):
    (tmp_path / "runs.csv").write_text("params,tokens,surprisal\n1e8,1e9,20\n")
    with pytest.raises(ConfigError, match=r"no column for loss.*surprisal"):
        read_table(tmp_path / "runs.csv")
    table = read_table(tmp_path / "runs.csv", {"surprisal": "loss"})
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


@pytest.mark.parametrize("counts", [{"positions": 640, "tokens": 1280}, {"tokens": 640}])
def test_flops_of_frames_go_by_the_frames_that_were_read(tmp_path, counts):
    """Where no step tells how many ids stood at a position, as in older runs, speech as published is taken."""
    vocabulary = Vocabulary.layout(text_size=20, bos=18, eos=19, num_codebooks=4, codebook_size=11)
    model = family_config("depth", model_size("nano", vocabulary.size, context=64), vocabulary)
    data = {"batch_rows": 1, "context": 64}
    run = {"model": to_plain(model), "data": data, "schedule": {"peak_lr": 0.01}, "seed": 0, "steps": 10}
    write_json(tmp_path / "one" / "config.json", {"train": run})
    row = {"step": 10, "audio_hours": 0.01, "validation/loss/all": 2.0, **counts}
    (tmp_path / "one" / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    share = 1 / 3 if "positions" in counts else FRAME_SHARE
    assert read_runs(tmp_path).flops("exact")[0] == pytest.approx(
        640 * training_flops_per_token(model, 64, share)
    )


def test_several_tables_are_one_and_no_run_counts_twice(tmp_path):
    whole = soda_runs()
    early = np.arange(len(whole)) < 40
    whole.select(early).write(tmp_path / "a.csv")
    whole.select(~early).write(tmp_path / "b.jsonl")
    joined = read_tables([tmp_path / "a.csv", tmp_path / "b.jsonl"])
    assert joined.runs == whole.runs and (joined.loss() == whole.loss()).all()
    assert (joined.sizes("two_embeddings") == whole.sizes("two_embeddings")).all()
    assert joined.rule() == read_table(tmp_path / "a.csv").rule()
    with pytest.raises(ConfigError, match="stands in two of the tables"):
        read_tables([tmp_path / "a.csv", tmp_path / "a.csv"])
