"""The second stage: a score by a loss, and intervals that know of both stages."""

import json

import numpy as np
import pytest

from sodakit.commands.scale import main
from sodakit.errors import ConfigError
from sodakit.scaling.laws import LAWS
from sodakit.scaling.score_law import chained, fit_score_law
from sodakit.scaling.simulate import HOFFMANN


def sigmoid(loss: np.ndarray) -> np.ndarray:
    return 0.5 + 0.45 / (1 + np.exp(4 * (loss - 3)))


def test_the_curve_is_found_whatever_is_given():
    loss = np.linspace(2, 4, 12)
    for held in ({}, {"floor": 0.5}, {"floor": 0.5, "ceiling": 0.95}):
        law = fit_score_law(loss, sigmoid(loss), **held)
        assert law.shape == pytest.approx((4, 3), rel=1e-3) and law.ends == pytest.approx(
            (0.5, 0.95), abs=1e-3
        )
    law = fit_score_law(loss, 0.9 - 0.02 * loss**2.5, form="power")
    np.testing.assert_allclose(law(loss), 0.9 - 0.02 * loss**2.5, atol=1e-6)
    with pytest.raises(ConfigError, match="5 models with a loss and a score; needed: 6"):
        fit_score_law(loss[:5], sigmoid(loss[:5]))


def test_what_is_not_known_of_the_loss_widens_the_score():
    random = np.random.default_rng(0)
    loss = np.linspace(2, 4, 16)
    law = fit_score_law(loss, sigmoid(loss) + random.normal(0, 0.01, 16), floor=0.5)
    sure = chained(law, 3.0, [3.0] * 50)
    unsure = chained(law, 3.0, random.normal(3.0, 0.1, 200))
    assert sure[0] == unsure[0] == pytest.approx(0.725, abs=0.02)
    assert np.ptp(unsure[1]) > 2 * np.ptp(sure[1]) and np.ptp(sure[2]) > np.ptp(sure[1])


def test_from_a_table_of_runs_to_a_score(tmp_path, capsys):
    random = np.random.default_rng(1)
    size, tokens = np.exp(random.uniform(14, 20, 40)), np.exp(random.uniform(19, 24, 40))
    losses = LAWS["chinchilla"].loss(HOFFMANN, N=size, D=tokens) * np.exp(random.normal(0, 0.004, 40))
    rows = [{"N": n, "D": d, "loss": x} for n, d, x in zip(size, tokens, losses, strict=True)]
    (tmp_path / "runs.json").write_text(json.dumps(rows))
    # With the decimals of a spreadsheet in Paris.
    lines = [
        f"m{i};{x:.3f};{sigmoid(x) + random.normal(0, 0.01):.3f}".replace(".", ",")
        for i, x in enumerate(losses)
    ]
    (tmp_path / "ladder.csv").write_text("\n".join(["model;nll_text;accuracy", *lines]))
    main(["fit", str(tmp_path / "runs.json"), "--draws", "60", "--out", str(tmp_path / "fit.json")])
    asked = [
        "score",
        str(tmp_path / "ladder.csv"),
        "--fit",
        str(tmp_path / "fit.json"),
        "--flops",
        "1e20",
        "--score",
        "accuracy",
    ]
    main(
        [*asked, "--loss", "nll_text", "--floor", "0.5", "--draws", "60", "--out", str(tmp_path / "out.json")]
    )
    said = json.loads((tmp_path / "out.json").read_text())["predictions"][0]
    assert said["interval_95"][0] < said["score"] < said["interval_95"][1]
    assert said["score"] == pytest.approx(float(sigmoid(said["loss"])), abs=0.03)
    with pytest.raises(ConfigError, match="no column 'nll_speech'"):
        main([*asked, "--loss", "nll_speech"])
