"""The comparison of families: nothing held out is trained on, arms differ in one thing, stages are resumed, claims come first."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from sodakit.codec.load import load_codec
from sodakit.commands.scale import main
from sodakit.config import to_plain
from sodakit.data.config import ViewConfig
from sodakit.data.language import open_language
from sodakit.errors import ConfigError
from sodakit.files import read_json, write_json, write_json_lines
from sodakit.model.families import pattern_of, targets_of
from sodakit.recipes import families, families_data, families_walk
from sodakit.recipes.families import ARMS, BUDGETS, WIDTHS, Arm, family_run, find_arms, sweep, tuning
from sodakit.recipes.families_data import FamilyData, FamilyStores, divided, family_stores
from sodakit.recipes.isoflop import isoflop
from sodakit.scaling.design import isoflop_grid
from sodakit.scaling.transfer import LrRule
from sodakit.store.reader import StoreReader
from sodakit.train.config import TrainConfig
from sodakit.train.validate import Validation
from tests.recipes.test_study import data  # noqa: F401
from tests.train.killed import Killed

IDS = 8_708, 1_024
MUP = LrRule(name="mup")


def test_a_design_spans_30_fold_with_five_widths_at_each_budget_and_its_arms_differ_in_one_thing():
    assert max(BUDGETS) / min(BUDGETS) >= 30 - 1e-9
    designs = {name: sweep(arm, *IDS, MUP) for name, arm in ARMS.items()}
    assert len(ARMS) == 8 and all(len(points) == 15 for points in designs.values())
    assert all(len(set(widths)) == 5 for by_budget in WIDTHS.values() for widths in by_budget.values())
    exact, shifted = designs["depth_exact_uniform"], designs["depth_shifted_uniform"]
    for one, other in zip(exact, shifted, strict=True):
        assert one.hyper_parameters == other.hyper_parameters and one.name != other.name
        changed = replace(one.model, depth=replace(one.model.depth, conditioning="shifted"))
        assert changed == other.model
    assert designs["flat_decay"] == designs["flat_uniform"]  # the loss is no part of a design
    assert all(abs(p.training_flops / p.budget_flops - 1) < 0.02 for p in chain(*designs.values()))
    again = sweep(ARMS["flat_uniform"], *IDS, MUP, second_seeds={1.5e13: 96})
    assert [(p.width, p.seed) for p in again[15:]] == [(96, 1)]
    with pytest.raises(ConfigError, match="No widths"):
        sweep(ARMS["flat_uniform"], *IDS, MUP, budgets=(1e12,))
    with pytest.raises(ConfigError, match="No arm"):
        find_arms(["flat"])


def test_tuning_tries_five_rates_at_three_widths_and_two_budgets_and_no_run_twice():
    points = tuning(*IDS)
    assert len({p.name for p in points}) == len(points) == 100
    soda = [p for p in points if p.lr_rule == "soda" and p.family == "flat"]
    assert len({p.width for p in soda}) == 3 and len({p.budget_flops for p in soda}) == 2 and len(soda) == 30
    assert {p.width for p in points if p.lr_rule == "mup"} == {64, 256}
    assert {p.batch_rows for p in soda if p.name.startswith("8e12_d256")} == {1}


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> FamilyData:
    """A comparison of a few sentences."""
    return FamilyData(
        natural=("espeak:en+f2",), synthetic=("anna",), natural_parts=1, synthetic_parts=1, part_sentences=4
    )


@pytest.fixture
def small_counts(monkeypatch):
    """Held-out sets that fit a dozen sentences."""
    monkeypatch.setattr(families_data, "VALIDATION_SENTENCES", 2)
    monkeypatch.setattr(families_data, "TEST_SENTENCES", 2)


def test_no_sentence_is_read_twice_or_held_out_and_trained_on(data, small_counts):  # noqa: F811
    held_out, trained = divided(data, {"natural": 2, "synthetic": 1}, 4)
    told = [*chain.from_iterable(held_out.values()), *chain(*chain.from_iterable(trained.values()))]
    assert len(told) == len(set(told)) == 8 + 12
    assert [len(s) for s in held_out.values()] == [4, 4]
    with pytest.raises(ConfigError, match="Ask for fewer parts"):
        divided(data, {"natural": 20}, 4)


def test_the_stores_hold_each_kind_apart_and_every_family_is_measured_on_the_same_ids(
    data,  # noqa: F811
    few,
    small_counts,
    tmp_path,
):
    stores = family_stores(tmp_path, data, load_codec("toy"), few)
    assert set(StoreReader(stores.natural[0]).splits) == {"train"}
    assert {"validation", "test"} == set(StoreReader(stores.held_out).splits)
    shares = {s.title: s.weight for s in stores.sources(ViewConfig())}
    assert shares == {"natural_0": 0.4, "synthetic_0": 0.55, "recordings": 0.05}
    again = family_stores(tmp_path, data, load_codec("toy"), few)
    assert again == stores and stores.hours()["natural"] > 0
    counted = {}
    _, language = open_language(stores.held_out)
    for name in ("flat_uniform", "depth_exact_uniform", "delay_uniform"):
        arm = ARMS[name]
        rule = replace(
            arm.rule(language.size, language.codebook_size, MUP), num_codebooks=language.num_codebooks
        )
        point = isoflop_grid([1e12], [64], rule=replace(rule, tolerance=0.3))[0]
        config = family_run(point, stores)
        rows = Validation(
            config.validation, config.data, config.validation_rows, language, pattern_of(config.model)
        )
        counted[name] = sum(
            len(targets_of(config.model, b.ids_BPW, np.ones(b.ids_BPW.shape[:2], bool)).cells_T)
            for b in rows._batches
        )
        assert config.optim.lr_factors and config.loss.recipe == "uniform"
    # Of each row the first position is not predicted, and what fills no row at the end is not read.
    assert max(counted.values()) / min(counted.values()) < 1.5, counted


def lawful(config: TrainConfig, folder: Path) -> Path:
    """A trainer whose losses lie on a law with a plateau for one of them."""
    write_json(folder / "config.json", {"train": to_plain(config)})
    width = config.model.backbone.width
    fall = 4e2 / width**1.2 + 2e5 / config.positions**0.8
    noise = 1 + 0.002 * np.sin(width + config.positions)
    parts = {"text": 1.0 + 0.2 * fall, "acoustic_7": 4.0 + 3 * fall / (3 + fall)}
    losses = {f"validation/loss/{k}": float(noise * v) for k, v in parts.items()}
    losses["validation/loss/all"] = float(noise * (0.2 * parts["text"] + 0.8 * parts["acoustic_7"]))
    write_json_lines(folder / "metrics.jsonl", [{"step": config.steps, **losses}])
    return folder


def test_a_comparison_killed_anywhere_ends_as_one_left_alone_with_claims_and_prediction_made_once(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(families_walk, "family_run", lambda point, **_: isoflop(point))
    small = {"flat": {1e13: (64, 80, 96), 3e13: (64, 80, 96), 1e14: (64, 80, 96, 128)}}
    monkeypatch.setattr(families, "WIDTHS", small)
    monkeypatch.setattr(families, "CONTEXTS", {"flat": 256})
    monkeypatch.setattr(families_walk, "DRAWS", 5)
    budgets, arms, lr = (1e13, 3e13, 1e14), [Arm("flat")], MUP
    language, stores = families_walk.Language(144_644, 2_048), FamilyStores((), (), tmp_path, tmp_path)
    trained: list[Path] = []

    def dies(after: int):
        begun = len(trained)

        def teach(config: TrainConfig, folder: Path) -> Path:
            if len(trained) - begun == after:
                raise Killed
            trained.append(folder)
            return lawful(config, folder)

        return teach

    def go(folder: Path, teach) -> list[dict]:
        families_walk.train_sweep(folder, arms, language, lr, budgets, stores, teach)
        return families_walk.train_beyond(folder, arms[0], language, lr, 128, stores, teach)

    whole = go(tmp_path / "whole", lawful)
    killed = tmp_path / "killed"
    for after in (3, 8):
        with pytest.raises(Killed):
            go(killed, dies(after))
    assert (killed / "claims.json").exists() and not (killed / "prediction.json").exists()
    with pytest.raises(Killed):
        go(killed, dies(2))
    said = (killed / "prediction.json").read_bytes()
    rows = go(killed, dies(99))
    assert (killed / "prediction.json").read_bytes() == said and len(trained) == len({*trained}) == 14
    assert [r | {"loss": ""} for r in rows] == [r | {"loss": ""} for r in whole]
    found = {r["loss"]: r for r in rows}
    assert set(found) == {"all", "text", "acoustic_7", "mean of the streams"}
    assert abs(found["mean of the streams"]["error"]) < 0.05 and found["text"]["inside"] == "yes"
    assert read_json(killed / "prediction.json")["losses"]["acoustic_7"]["way"]
    table = families_walk.collect(killed)
    assert sorted(table.columns["seed"].tolist()) == [0.0] * 10 + [1.0] * 3
    # Elsewhere, with what was known of half of them: only the others are made.
    begun = len(trained)
    half = table.select([i for i in range(len(table)) if "1e13" in table.runs[i] or "3e13" in table.runs[i]])
    args = (arms, language, lr, budgets, stores, dies(99))
    whole_table = families_walk.train_sweep(tmp_path / "elsewhere", *args, known=half)
    assert sorted(whole_table.runs) == sorted(table.runs) and len(trained) - begun == 5
    with pytest.raises(ConfigError, match="A prediction is made once"):
        families_walk.train_beyond(killed, arms[0], language, lr, 96, stores, lawful)


def test_a_tuning_is_taken_up_from_its_table_on_another_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(families_walk, "family_run", lambda point, **_: isoflop(point))
    monkeypatch.setattr(families, "TUNING_FAMILIES", ("flat",))
    monkeypatch.setattr(families, "TUNING_BUDGETS", (1e13,))
    monkeypatch.setattr(families, "CONTEXTS", {"flat": 256})
    language, stores = families_walk.Language(144_644, 2_048), FamilyStores((), (), tmp_path, tmp_path)
    made: list[str] = []

    def teach(config: TrainConfig, folder: Path) -> Path:
        if len(made) == 7:
            made.append("")
            raise Killed
        made.append(folder.name)
        return lawful(config, folder)

    with pytest.raises(Killed):
        families_walk.train_tuning(tmp_path / "one", language, stores, teach)
    with pytest.raises(ConfigError, match="no finished run"):
        families_walk._finished(tmp_path / "none", [], tmp_path / "none.csv")
    known = families_walk._finished(tmp_path / "one" / "tuning", [], tmp_path / "known.csv")
    whole = families_walk.train_tuning(tmp_path / "two", language, stores, teach, known)
    assert len(known) == 7 and len(whole) == len({*whole.runs}) == len([m for m in made if m])
    assert set(whole.others["lr_rule"]) == {"soda", "mup"} and set(whole.others["lr_multiple"]) == {
        0.125,
        0.25,
        0.5,
        1,
        2,
    }


def test_what_it_takes_is_said_without_data(tmp_path, capsys):
    main(["families", "sweep", "--data", str(tmp_path), "--out", str(tmp_path), "--dry-run"])
    said = capsys.readouterr().out
    assert "depth_shifted_decay" in said and "core_hours" in said
    with pytest.raises(ConfigError, match="no effect in the stage tuning"):
        main(["families", "tuning", "--data", str(tmp_path), "--out", str(tmp_path), "--width", "64"])
