"""The words of `sodakit scale`, from a table to what is printed and written."""

import numpy as np
import pytest

from sodakit.commands.scale import main
from sodakit.commands.scale_options import read_law
from sodakit.config import to_plain
from sodakit.errors import ConfigError
from sodakit.files import read_json, write_json, write_json_lines
from sodakit.recipes.isoflop import isoflop
from sodakit.scaling.design import GridRule, isoflop_grid, soda_design
from sodakit.scaling.design_file import read_design, write_design
from sodakit.scaling.information import Surface, exponent_a, runs_of, standard_error
from sodakit.scaling.laws import LAWS
from sodakit.scaling.records import read_table
from sodakit.scaling.repeats import effective_tokens
from sodakit.scaling.run import claim_design
from sodakit.scaling.simulate import BESIROGLU, SODA_SURFACE, simulate
from sodakit.scaling.table import RunTable
from tests.scaling.sweeps import soda_runs, study_runs


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
    said = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("R*"))
    name, value, _, *_, low, _, high = said.split()
    assert (
        name == "R*"
        and float(low) < float(value) < float(high)
        and float(value) == pytest.approx(6.0, rel=0.3)
    )
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


def test_a_plan_is_made_as_the_runs_of_its_law_were_and_says_what_it_cannot_know(tmp_path, capsys):
    """The study's law: 8,708 ids, rows of 1,024, exact FLOPs. With the paper's 144,644 ids no such shape could be built."""
    study_runs().write(tmp_path / "runs.csv")
    fit = str(tmp_path / "fit.json")
    counted = ["--size", "two_embeddings", "--flops", "exact"]
    main(["fit", str(tmp_path / "runs.csv"), *counted, "--draws", "100", "--out", fit])
    law = read_law(fit)
    assert law.rule == {
        "flops": "exact", "vocab_size": 8708, "context": 1024, "tied_embeddings": False, "min_batch_rows": 1,
        "reference_steps": law.rule["reference_steps"],
    }  # fmt: skip
    stored = read_json(fit)
    assert stored["ranges"]["C"][1] == pytest.approx(3e14, rel=0.01) and stored["runs"] == 27
    capsys.readouterr()
    main(["plan", "--flops", "1e16", "--fit", fit])
    said = capsys.readouterr()
    assert said.out.splitlines()[0].count("(95 %: ") == 3
    size = float(said.out.split("buildable: width ")[1].split("layers, ")[1].split("M ")[0]) * 1e6
    assert 1e6 < size < 2e7
    assert "alpha is not identified" in said.err and "33 times the largest run" in said.err
    main(["plan", "--flops", "6e14", "--fit", fit, "--vocab", "144644"])
    said = capsys.readouterr()
    assert "times the largest run" not in said.err and "buildable: width 64," in said.out


def test_next_runs_are_new_and_a_queue_goes_on_with_them(tmp_path, capsys):
    rule = GridRule(context=1024, flops="exact", reference_steps=2400, min_batch_rows=1)
    points = isoflop_grid([1e15, 3e15], [128, 160, 192, 256, 384], rule=rule)
    queue = tmp_path / "scale"
    write_design(queue / "design.jsonl", points)
    sizes, tokens = (
        np.array([f(p) for p in points], float) for f in (lambda p: p.size.two_embeddings, lambda p: p.tokens)
    )
    for point, loss in zip(points, simulate(SODA_SURFACE, sizes, tokens, noise=0.004), strict=True):
        folder = queue / point.name
        write_json(folder / "config.json", {"train": to_plain(isoflop(point))})
        write_json(folder / "design.json", {"budget_flops": point.budget_flops})
        write_json_lines(
            folder / "metrics.jsonl", [{"step": point.steps, "validation/loss/all": float(loss)}]
        )
    words = f"next {queue} --flops exact --budgets 1e15 3e15 --widths 128 160 192 --runs 4 --out {tmp_path}/next.jsonl"
    main(words.split())
    again = read_design(tmp_path / "next.jsonl")
    assert again[: len(points)] == points and len(again) == len(points) + 4
    names = [p.name for p in again]
    assert len(set(names)) == len(names)
    # The batches are those of the rule that the queue was made by, which nobody repeated.
    same = {(p.budget_flops, p.model.width): p.hyper_parameters for p in points}
    assert all(p.hyper_parameters == same[p.budget_flops, p.model.width] for p in again[len(points) :])
    claim_design(queue, again)
    assert f"--out {queue}" in capsys.readouterr().err


def test_runs_are_chosen_of_a_pool_by_a_share_of_its_cost(tmp_path, capsys):
    """What is done is no choice; the pool need have no losses; what is written is read again."""
    runs = soda_runs()
    cheap = np.argsort(runs.flops())[:16]
    runs.select(np.sort(cheap)).write(tmp_path / "pilot.csv")
    bare = RunTable({name: column for name, column in runs.columns.items() if name != "loss/all"})
    bare.write(tmp_path / "pool.csv")
    words = ["next", str(tmp_path / "pilot.csv"), "--pool", str(tmp_path / "pool.csv"), "--share", "0.1"]
    for question in ("losses", "law", "a"):
        out = tmp_path / f"{question}.csv"
        main([*words, "--question", question, "--out", str(out)])
        assert "% of its cost" in capsys.readouterr().err
        chosen = read_table(out, with_loss=False)
        assert chosen.flops().sum() <= 0.1 * runs.flops().sum()
        assert len(set(chosen.runs)) == len(chosen) and not {runs.runs[i] for i in cheap} & set(chosen.runs)
    for wrong, says in (
        (words[:2], "--pool"),
        ([*words, "--budgets", "1e19", "--widths", "512"], "or --pool"),
        ([*words[:2], "--budgets", "1e19", "--widths", "512", "--share", "0.1"], "of a pool's"),
        ([*words[:2], "--pool", words[1]], "are done"),
    ):
        with pytest.raises(ConfigError, match=says):
            main(wrong)


def test_every_design_says_what_it_promises_and_how_far_it_is_from_the_best(tmp_path, capsys):
    main(["design"])
    error, bound = promised(capsys, "a")
    runs = runs_of(soda_design())
    known = standard_error(Surface(parameters=SODA_SURFACE), runs, exponent_a)
    assert error == pytest.approx(known, rel=0.01) and 0.2 < (bound / error) ** 2 < 0.4
    main(["design", "--question", "a", "--total", "5.7e21", "--runs", "66"])
    assert promised(capsys, "a")[0] < 0.8 * error
    main(["design", "--budgets", "3e18", "1e19", "--widths", "512", "640"])
    assert "a: these runs cannot tell it" in capsys.readouterr().err
    main(["design", "--noise", "0.01", "--plot", str(tmp_path / "design.png")])
    assert promised(capsys, "a")[0] == pytest.approx(2 * error, rel=0.01)
    assert (tmp_path / "design.png").read_bytes()[:4] == b"\x89PNG"


def test_a_design_for_another_family_than_its_law_s_says_that_it_guesses(tmp_path, capsys):
    """Whether the law has a name or is fitted, and whichever of the two families is the unusual one."""
    main(["design", "--family", "depth"])
    assert "of family flat; what it expects of family depth is a guess" in capsys.readouterr().err
    soda_runs().write(tmp_path / "runs.csv")
    main(["fit", str(tmp_path / "runs.csv"), "--draws", "20", "--out", str(tmp_path / "fit.json")])
    fitted = read_json(tmp_path / "fit.json")
    frames = {"family": "depth", "num_codebooks": 8, "codebook_size": 2048}
    write_json(tmp_path / "fit.json", fitted | {"rule": fitted["rule"] | frames})
    capsys.readouterr()
    main(["design", "--prior", str(tmp_path / "fit.json")])
    assert "guess" not in capsys.readouterr().err
    main(["design", "--prior", str(tmp_path / "fit.json"), "--family", "flat"])
    assert "of family depth; what it expects of family flat is a guess" in capsys.readouterr().err


def test_a_design_counts_sizes_as_its_prior_does(tmp_path, capsys):
    """The same runs, one law fitted with embeddings and one without: designs by either belong to their own sizes."""
    soda_runs(noise=0.001).write(tmp_path / "runs.csv")
    errors = {}
    for size in ("two_embeddings", "non_embedding"):
        fit = str(tmp_path / f"{size}.json")
        main(
            ["fit", str(tmp_path / "runs.csv"), *f"--size {size} --flops soda --draws 5 --out {fit}".split()]
        )
        capsys.readouterr()
        main(["design", "--prior", fit])
        errors[size] = promised(capsys, "a")[0]
        law = read_law(fit)
        known = standard_error(
            Surface(parameters=law.parameters), runs_of(soda_design(), size), exponent_a, noise=0.005
        )
        assert errors[size] == pytest.approx(known, rel=0.01)
    with_embeddings = standard_error(Surface(parameters=law.parameters), runs_of(soda_design()), exponent_a)
    assert errors["non_embedding"] != pytest.approx(with_embeddings, rel=0.05)


def promised(capsys, name: str) -> tuple[float, float]:
    """The standard error and its bound that the last design printed."""
    line = next(x for x in capsys.readouterr().err.splitlines() if x.startswith(f"{name}: standard error"))
    return float(line.split("error ")[1].split(",")[0]), float(line.split("bound ")[1].rstrip("."))
