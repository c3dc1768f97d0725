"""Learning rates and batches reduced to their best; weights; waste; runs that act together."""

import csv
import json

import numpy as np
import pytest

from sodakit.commands.scale import main
from sodakit.errors import ConfigError
from sodakit.scaling.checks import joint_influence
from sodakit.scaling.fit import fit_law
from sodakit.scaling.intervals import bootstrap, quantities
from sodakit.scaling.laws import LAWS
from sodakit.scaling.plan import plan_budget, wasted_share
from sodakit.scaling.records import table_from_rows
from sodakit.scaling.residuals import named_misfit
from sodakit.scaling.response import best_law, responses
from sodakit.scaling.simulate import HOFFMANN


def tuned_runs(noise: float = 0.0) -> list[dict]:
    """Best lr = 30 N^-0.3 D^-0.1, best batch = 2e-3 D^0.5; losses rise with the square of the log on both sides."""
    random, rows = np.random.default_rng(0), []
    for n in (1e7, 4e7, 1.6e8):
        for d in (1e9, 4e9, 1.6e10):
            clean = float(LAWS["chinchilla"].loss(HOFFMANN, N=n, D=d)[0])
            best, batch = 30 * n**-0.3 * d**-0.1, 2e-3 * d**0.5
            for lr in best * np.geomspace(0.3, 4, 5):
                for rows_in_batch in batch * np.geomspace(0.4, 3, 3):
                    off = 0.02 * np.log(lr / best) ** 2 + 0.01 * np.log(rows_in_batch / batch) ** 2
                    rows.append({"N": n, "D": d, "lr": lr, "batch_rows": rows_in_batch, "loss": clean * np.exp(off + random.normal(0, noise))})  # fmt: skip
    return rows


def test_the_best_settings_and_their_law_are_found():
    found, left_out = responses(table_from_rows(tuned_runs()), ("lr", "batch_rows"))
    assert len(found) == 9 and not left_out and not any(r.edge for r in found)
    for r in found:
        assert r.best["lr"] == pytest.approx(30 * r.size**-0.3 * r.tokens**-0.1, rel=1e-6)
        assert r.loss == pytest.approx(
            float(LAWS["chinchilla"].loss(HOFFMANN, N=r.size, D=r.tokens)[0]), rel=1e-9
        )
    lr, batch = best_law(found, "lr"), best_law(found, "batch_rows")
    assert (lr.factor, lr.n, lr.d) == pytest.approx((30, -0.3, -0.1), rel=1e-5)
    assert (batch.n, batch.d) == pytest.approx((0, 0.5), abs=1e-6)


def test_a_best_at_the_edge_is_marked_and_takes_no_part_in_the_law():
    """At one token count only learning rates below the best were tried."""
    rows = [r for r in tuned_runs() if r["D"] < 1e10]
    for n in (1e7, 4e7, 1.6e8):
        best = 30 * n**-0.3 * 1.6e10**-0.1
        rows += [
            {"N": n, "D": 1.6e10, "lr": f * best, "loss": 3 * np.exp(0.02 * np.log(f) ** 2)}
            for f in (0.1, 0.2, 0.4, 0.8)
        ]
    rows.append({"N": 5e8, "D": 1e9, "lr": 1e-3, "batch_rows": 8, "loss": 3.0})
    found, left_out = responses(table_from_rows(rows), ("lr",))
    assert [r.tokens for r in found if r.edge] == [1.6e10] * 3
    assert "left out" in left_out[0]
    assert best_law(found, "lr").num_points == 6
    with pytest.raises(ConfigError, match="Needed: several runs of equal N and D"):
        responses(table_from_rows(rows[:1]), ("lr",))


def test_tune_by_command_gives_a_table_that_fit_reads(tmp_path, capsys):
    rows = tuned_runs(noise=0.001)
    with open(tmp_path / "runs.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    main(
        [
            "tune",
            str(tmp_path / "runs.csv"),
            "--over",
            "lr",
            "batch_rows",
            "--out",
            str(tmp_path / "best.csv"),
        ]
    )
    said = capsys.readouterr().out
    assert "lr: " in said and "N^-0.3" in said and "9 points" in said
    main(["fit", str(tmp_path / "best.csv"), "--draws", "20"])
    assert float(capsys.readouterr().out.split("\nalpha")[1].split()[0]) == pytest.approx(0.34, abs=0.05)


def sweep_table(outliers: int = 0):
    random = np.random.default_rng(4)
    n, d = np.exp(random.uniform(15, 22, 50)), np.exp(random.uniform(19, 25, 50))
    loss = LAWS["chinchilla"].loss(HOFFMANN, N=n, D=d) * np.exp(random.normal(0, 0.004, 50))
    loss[np.argsort(n)[:outliers]] *= 1.06
    return n, d, loss


def test_weights_by_compute_and_by_seeds():
    n, d, loss = sweep_table()
    table = table_from_rows([{"N": a, "D": b, "loss": x} for a, b, x in zip(n, d, loss, strict=True)])
    assert np.corrcoef(np.log(table.weighted("compute").weights()), np.log(n * d))[0, 1] == pytest.approx(1)
    with pytest.raises(ConfigError, match="No two runs have equal N and D"):
        table.weighted("seeds")
    random = np.random.default_rng(0)
    rows = [{"N": 1e7, "D": c / 6e7, "loss": 3 * np.exp(random.normal(0, s))} for c, s in ((1e17, 0.02), (1e19, 0.002)) for _ in range(12)]  # fmt: skip
    weights = table_from_rows(rows).weighted("seeds").weights()
    assert 5 < weights[-1] / weights[0] < 400 and weights.mean() == pytest.approx(1)


def test_delta_is_an_option_of_every_cost_that_has_one():
    assert named_misfit("huber", 0.01).delta == 0.01
    with pytest.raises(ConfigError, match="has no delta"):
        named_misfit("mse", 0.01)


def test_outliers_of_one_kind_hide_each_other_and_are_found_together():
    n, d, loss = sweep_table(outliers=3)
    fit = fit_law(LAWS["chinchilla"], {"N": n, "D": d}, loss, misfit=named_misfit("mse-log"))
    names = [f"r{i}" for i in range(50)]
    found = joint_influence(fit, names, bootstrap(fit, draws=100).interval(quantities(fit)["a"]))
    clean = fit_law(LAWS["chinchilla"], *({"N": n, "D": d}, sweep_table()[2]), misfit=named_misfit("mse-log"))
    assert found is not None
    wrong = {f"r{i}" for i in np.argsort(n)[:3]}
    assert len(wrong & set(found.left_out.split(", "))) >= 2
    assert abs(found.a - clean.optimum_exponents["a"]) < abs(
        fit.optimum_exponents["a"] - clean.optimum_exponents["a"]
    )
    quiet = bootstrap(clean, draws=100).interval(quantities(clean)["a"])
    assert joint_influence(clean, names, (quiet[0] - 0.05, quiet[1] + 0.05)) is None


def test_what_a_plan_wastes_is_what_the_true_law_could_have_saved(tmp_path, capsys):
    flops = 1e21
    best = plan_budget(HOFFMANN, flops)
    assert wasted_share(HOFFMANN, flops, best.size, best.tokens) == pytest.approx(0, abs=1e-5)
    # Three quarters of the best size at the same compute: the true law reaches that loss with less.
    size = 0.5 * best.size
    share = wasted_share(HOFFMANN, flops, size, flops / 6 / size)
    reached = float(LAWS["chinchilla"].loss(HOFFMANN, N=size, D=flops / 6 / size)[0])
    assert (
        plan_budget(HOFFMANN, flops * (1 - share)).loss == pytest.approx(reached, rel=1e-7)
        and 0.05 < share < 0.4
    )
    n, d, loss = sweep_table()
    (tmp_path / "runs.json").write_text(
        json.dumps([{"N": a, "D": b, "loss": x} for a, b, x in zip(n, d, loss, strict=True)])
    )
    main(["fit", str(tmp_path / "runs.json"), "--draws", "30", "--out", str(tmp_path / "fit.json")])
    capsys.readouterr()
    main(["plan", "--fit", str(tmp_path / "fit.json"), "--flops", "1e20", "--otherwise", "besiroglu"])
    said = capsys.readouterr().out
    assert "wasted if the truth is another refit" in said and "wasted if besiroglu is true" in said
