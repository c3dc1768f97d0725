"""The words of `sodakit scale`, from a table to what is printed and written."""

import numpy as np
import pytest

from sodakit.commands.scale import main
from sodakit.commands.scale_options import read_law
from sodakit.errors import ConfigError
from sodakit.files import read_json
from sodakit.scaling.laws import LAWS
from sodakit.scaling.repeats import effective_tokens
from sodakit.scaling.simulate import BESIROGLU, SODA_SURFACE, simulate
from sodakit.scaling.table import RunTable
from tests.scaling.sweeps import soda_runs


def test_streams_are_fitted_together_and_the_verdict_is_said(tmp_path, capsys):
    runs = soda_runs()
    n, d = runs.sizes("two_embeddings"), runs.tokens()
    columns = {
        f"loss/{name}": simulate({**SODA_SURFACE, "E": e}, n, d, seed=i)
        for i, (name, e) in enumerate((("text", 1.2), ("semantic", 2.5)))
    }
    RunTable({**runs.columns, **columns}).write(tmp_path / "runs.csv")
    words = [
        "--size",
        "two_embeddings",
        "--flops",
        "soda",
        "--draws",
        "20",
        "--out",
        str(tmp_path / "fit.json"),
    ]
    main(["fit", str(tmp_path / "runs.csv"), "--streams", "text", "semantic", *words])
    assert "sharing holds" in capsys.readouterr().out
    found = read_json(tmp_path / "fit.json")
    assert found["parameters"]["text"]["alpha"] == found["parameters"]["semantic"]["alpha"]
    assert found["parameters"]["text"]["E"] == pytest.approx(1.2, abs=0.1)


def test_a_law_of_repeats_is_fitted_and_planned_with(tmp_path, capsys):
    size, tokens = np.repeat(np.geomspace(5e7, 2e9, 5), 8), np.tile(np.geomspace(5e8, 4e10, 8), 5)
    losses = LAWS["chinchilla"].loss(BESIROGLU, N=size, D=effective_tokens(tokens, 1e9, 6.0))
    losses *= np.exp(0.0005 * np.random.default_rng(0).standard_normal(len(size)))
    lines = [f"{n},{d},1e9,{loss}\n" for n, d, loss in zip(size, tokens, losses, strict=True)]
    (tmp_path / "runs.csv").write_text("params,tokens,unique_tokens,loss\n" + "".join(lines))
    fit = str(tmp_path / "fit.json")
    main(["fit", str(tmp_path / "runs.csv"), "--law", "data_repeat", "--draws", "20", "--out", fit])
    assert read_json(fit)["settings"]["half_life"] == pytest.approx(6.0, rel=0.3)
    capsys.readouterr()
    main(["plan", "--flops", "1e20", "--fit", fit, "--unique", "1e9", "--no-exact-flops"])
    assert "passes over the data" in capsys.readouterr().out


def test_a_shared_trunk_is_cheaper_and_its_price_is_said(capsys):
    main(["design", "--flops-per-s", "1e15", "--hourly-cost", "2"])
    alone = capsys.readouterr()
    main(["design", "--flops-per-s", "1e15", "--hourly-cost", "2", "--share-trunks"])
    shared = capsys.readouterr()
    cost = [float((t.out + t.err).split(" runs, ")[1].split()[0]) for t in (alone, shared)]
    assert cost[1] < 0.75 * cost[0] and "$" in alone.out + alone.err


def test_a_proxy_table_is_printed(tmp_path, capsys):
    lines = [f"{4 - i / 10},{50 + i}\n" for i in range(6)]
    (tmp_path / "ladder.csv").write_text("nll_asr,sWUGGY\n" + "".join(lines))
    main(["proxy", str(tmp_path / "ladder.csv"), "--draws", "50", "--out", str(tmp_path / "proxy.json")])
    assert "+1.000" in capsys.readouterr().out
    assert read_json(tmp_path / "proxy.json")[0]["num_models"] == 6


@pytest.mark.parametrize("content", [b"flops,loss\n1,2\n", b"[1]", b"{}", b"\xff\xfe\x00"])
def test_a_file_that_is_no_fit_is_refused_with_how_to_make_one(tmp_path, content):
    (tmp_path / "runs.csv").write_bytes(content)
    with pytest.raises(ConfigError, match="is no fit"):
        read_law(str(tmp_path / "runs.csv"))


def test_a_plan_counts_sizes_as_its_law_does(tmp_path, capsys):
    """A law of N without embeddings, planned with embeddings counted, would ask for another model."""
    runs = soda_runs(noise=0.001)
    runs.write(tmp_path / "runs.csv")
    found = {}
    for size in ("two_embeddings", "non_embedding"):
        fit = str(tmp_path / f"{size}.json")
        main(
            [
                "fit",
                str(tmp_path / "runs.csv"),
                "--size",
                size,
                "--flops",
                "soda",
                "--draws",
                "10",
                "--out",
                fit,
            ]
        )
        capsys.readouterr()
        main(["plan", "--flops", "3e20", "--fit", fit])
        found[size] = int(capsys.readouterr().out.split("buildable: width ")[1].split(",")[0])
    assert abs(found["two_embeddings"] - found["non_embedding"]) <= 512
    with pytest.raises(ConfigError, match="neither a known surface"):
        main(["plan", "--flops", "1e20", "--fit", "nowhere.json"])
