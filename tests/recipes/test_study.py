"""The study: its design keeps what it promises, and its stages run in order with the prediction before its run."""

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sodakit.audio.files import write_wave
from sodakit.audio.wave import Wave
from sodakit.codec.load import load_codec
from sodakit.config import to_plain
from sodakit.files import read_json, read_json_lines, write_json, write_json_lines
from sodakit.model.accounting import count_parameters
from sodakit.recipes import study, study_walk
from sodakit.recipes.isoflop import isoflop
from sodakit.recipes.study_ablations import ablations
from sodakit.scaling.design import GridRule, isoflop_grid, point_at
from sodakit.scaling.run import Train
from sodakit.train.config import TrainConfig
from tests.train.killed import Killed

VOCAB = 8_708


def test_the_sweep_spans_30_fold_with_24_runs_and_is_predicted_at_three_times_its_top():
    points = study.study_design(VOCAB)
    budgets = sorted({p.budget_flops for p in points})
    assert len(budgets) >= 4 and budgets[-1] / budgets[0] >= 30 - 1e-9 and len(points) >= 24
    assert study.predicted_point(VOCAB).training_flops >= 3 * max(p.training_flops for p in points)
    assert min(p.steps for p in points) >= 250 and len({p.name for p in points}) == len(points)
    assert {p.seed for p in points if p.budget_flops == budgets[0]} == {0, 1, 2}


def test_ablations_differ_in_one_thing_and_equal_audio_is_an_eighth_of_the_tokens():
    runs = ablations(VOCAB)
    base = runs["tokens_sat_s0"].point
    assert {runs[f"tokens_{c}_s0"].point.tokens for c in ("s", "sa", "sat")} == {base.tokens}
    assert runs["audio_s_s0"].point.tokens == pytest.approx(base.tokens / 8, rel=0.01)
    assert [runs[f"text_{t}pc_s1"].text_share for t in (0, 5, 50)] == [0.0, 0.05, 0.5]
    assert all(runs[f"{name}_s0"].point.seed == 0 for name in ("source_made", "source_real"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder laid out as the study expects, with few sentences and recordings of noise."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for name in study.SENTENCES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(root / name, "wt") as file:
            file.writelines(
                json.dumps({"text": f"{name[14]} says the number {n}."}) + "\n" for n in range(12)
            )
    for name in (*study.REAL_TRAIN, study.REAL_HELD_OUT):
        (root / name).mkdir()
        rows = []
        for n in range(3):
            samples = (0.1 * rng.standard_normal(24_000)).astype(np.float32)
            write_wave(root / name / f"{n}.wav", Wave(samples, 16_000))
            rows.append({"audio": f"{n}.wav", "text": f"word {n}", "speaker": f"{name}-{n}"})
        (root / name / "manifest.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (root / "books_en" / "text").mkdir(parents=True)
    with gzip.open(root / "books_en" / "text" / "a.txt.gz", "wt") as file:
        file.write("\n\n".join("it was the best of times it was the worst of times " * 3 for _ in range(40)))
    return root


def lawful_training(config: TrainConfig, folder: Path) -> Path:
    """A trainer whose losses lie on a law, with a little noise: what a run folder holds, and nothing learnt."""
    write_json(folder / "config.json", {"train": to_plain(config)})
    size = count_parameters(config.model).two_embeddings
    noise = 1 + 0.001 * np.sin(size + config.positions)
    losses = {
        f"validation/loss/{name}": float(noise * (e + 60 / size**0.4 + 20 / config.positions**0.35))
        for name, e in (("all", 2.0), ("text", 1.0))
    }
    write_json_lines(folder / "metrics.jsonl", [{"step": config.steps, **losses}])
    return folder


def test_a_study_killed_in_its_sweep_and_in_the_predicted_run_ends_as_one_left_alone(tmp_path, monkeypatch):
    """The prediction stands as it was made, and no finished run is trained again."""
    monkeypatch.setattr(study_walk, "study_run", lambda point, stores: isoflop(point))
    monkeypatch.setattr(study_walk, "summarise", lambda folder: {})
    rule = GridRule(context=64, reference_steps=8, min_batch_rows=1, tolerance=0.3, flops="exact")
    points = isoflop_grid([3e12, 1e13], [64, 96, 128], rule=rule)
    beyond = point_at(3e13, 96, rule)
    assert len(points) >= 5 and beyond is not None
    trained: list[Path] = []

    def dies(after: int) -> Train:
        begun = len(trained)

        def teach(config: TrainConfig, folder: Path) -> Path:
            if len(trained) - begun == after:
                write_json_lines(folder / "metrics.jsonl", [{"step": 1, "loss/all": 9.0}])
                raise Killed
            trained.append(folder)
            return lawful_training(config, folder)

        return teach

    def walk(folder: Path, teach: Train) -> None:
        stores = study.StudyStores((), tmp_path, tmp_path)
        study_walk.walk(folder, stores, points, beyond, teach, with_ablations=False)

    walk(tmp_path / "whole", lawful_training)
    killed = tmp_path / "killed"
    with pytest.raises(Killed):
        walk(killed, dies(2))
    assert not (killed / "prediction.json").exists()
    with pytest.raises(Killed):
        walk(killed, dies(len(points) - 2))
    said = (killed / "prediction.json").read_bytes()
    walk(killed, dies(len(points)))
    assert (killed / "prediction.json").read_bytes() == said
    assert len(trained) == len({*trained}) == len(points) + 1
    ends = [read_json(root / "prediction.json") | {"made": ""} for root in (tmp_path / "whole", killed)]
    assert ends[0] == ends[1]
    for name in (*(f"sweep/{p.name}" for p in points), f"beyond/{beyond.name}"):
        rows = [read_json_lines(root / name / "metrics.jsonl") for root in (tmp_path / "whole", killed)]
        assert rows[0] == rows[1]


def test_a_study_walks_from_recordings_to_a_prediction_and_what_came_of_it(data, tmp_path, monkeypatch):
    monkeypatch.setattr(study_walk, "DRAWS", 60)
    monkeypatch.setattr(study, "HELD_OUT_SENTENCES", 4)
    monkeypatch.setattr(study, "TEXT_IDS", 300)
    stores = study.study_stores(tmp_path / "stores", data, load_codec("toy"))
    assert study.study_stores(tmp_path / "stores", data, load_codec("toy")) == stores
    rule = GridRule(
        vocab_size=study.vocabulary_size(stores),
        context=64,
        reference_steps=8,
        min_batch_rows=1,
        tolerance=0.3,
        flops="exact",
    )
    points = isoflop_grid([1e9, 4e9, 1.6e10], [64, 80, 96, 112], rule=rule)
    beyond = point_at(6e10, 96, rule)
    assert len(points) >= 10 and beyond is not None
    order = []

    def remember(config, folder):
        order.append((folder.parent.name, (tmp_path / "out" / "prediction.json").exists()))
        return lawful_training(config, folder)

    def again():
        return study_walk.walk(tmp_path / "out", stores, points, beyond, remember, with_ablations=False)

    found = again()
    assert [said for where, said in order if where == "beyond"] == [True]
    assert not any(said for where, said in order if where == "sweep")
    before = read_json(tmp_path / "out" / "prediction.json")
    assert before["runs"] == len(points) and set(found["prediction"]) == {"all", "text"}
    for row in found["prediction"].values():
        assert row["inside"] and abs(row["error"]) < 0.02
    assert all((tmp_path / "out" / n).exists() for n in ("report.html", "isoflop.png", "losses.png"))
    assert len(found["exponents"]["all"]["rows"]) >= 3
    # Runs that are proposed later: one of the sweep is passed over, a repeat is trained beside it, nothing else changes.
    repeat = replace(points[0], seed=1)
    added = study_walk.walk(
        tmp_path / "out", stores, points, beyond, remember, with_ablations=False, more=[points[1], repeat]
    )
    assert order[-1][0] == "more" and [where for where, _ in order].count("more") == 1
    assert added["exponents"] == found["exponents"] and set(added["exponents_with_more"]) == {"all", "text"}
    with open(tmp_path / "out" / "sweep_and_more.csv", newline="") as table:
        assert len(list(csv.DictReader(table))) == len(points) + 1
    assert read_json(tmp_path / "out" / "prediction.json") == before
    calls = len(order)
    monkeypatch.setattr(study_walk, "summarise", lambda folder: {})
    again()
    assert len(order) == calls and read_json(tmp_path / "out" / "prediction.json") == before
    held_out = {s.store for s in study.study_run(points[0], stores).validation}
    assert held_out == {str(stores.made[0]), str(stores.real)}
