"""Learning rates by width: what each rule sets, and that by `mup` a step changes what layers say by as much at any width."""

import csv

import numpy as np
import pytest
import torch

from sodakit.commands.scale import main
from sodakit.errors import ConfigError
from sodakit.files import read_json
from sodakit.model.families import build_model, targets_of
from sodakit.recipes.isoflop import isoflop
from sodakit.scaling.design import GridRule, isoflop_grid, point_at
from sodakit.scaling.design_file import read_design, write_design
from sodakit.scaling.transfer import LrLaw, LrRule, lr_factors, read_lr_rule
from sodakit.train.config import OptimConfig
from sodakit.train.optim import Optimizer

V = 4 + 60 + 8 * 16
SMALL = {
    "vocab_size": V, "context": 64, "codebook_size": 16, "reference_steps": 500, "min_batch_rows": 1, "raise_to_min": True,
    "flops": "exact", "tolerance": 0.1,
}  # fmt: skip
MUP = LrRule(name="mup", base_width=128)
NARROW = LrRule(name="mup", base_width=64)
FAMILIES = ("flat", "depth", "delay")


def rule(family="flat", **more) -> GridRule:
    """A small grid's."""
    return GridRule(**SMALL | {"family": family} | more)


@pytest.mark.parametrize("family", FAMILIES)
def test_at_the_base_width_mup_is_soda(family):
    ours, theirs = (point_at(1e11, 128, rule(family, lr=lr)) for lr in (MUP, LrRule()))
    assert ours.peak_lr == theirs.peak_lr and set(dict(ours.lr_factors).values()) == {1.0}
    models = [build_model(point.model, seed=3).state_dict() for point in (ours, theirs)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_away_from_it_matrices_learn_by_what_they_read_and_embeddings_and_norms_as_ever(family):
    wide, base = rule(family, lr=MUP).shape(512), rule(family, lr=MUP).base
    model = build_model(wide)
    names = dict(model.named_parameters())
    narrow = dict(build_model(base).named_parameters())
    optimizer = Optimizer(names.items(), OptimConfig(lr_factors=lr_factors(wide, base)), 1e-3)
    for name, parameter in names.items():
        reads = parameter.ndim == 2 and "embedding" not in name
        # Blocks of a wider model are also more: their width is that of the first.
        own = narrow[
            name.replace(name.split("blocks.")[1].split(".")[0], "0", 1) if "blocks." in name else name
        ]
        expected = own.shape[1] / parameter.shape[1] if reads and "down" not in name else None
        if "down" in name:
            expected = (
                narrow[name.split("blocks.")[0] + "blocks.0.attention_norm.weight"].shape[0]
                / names[name.split("feed_forward")[0] + "attention_norm.weight"].shape[0]
            )
        assert optimizer._lr_factors[name] == pytest.approx(expected if reads else 1.0), name
        if reads:
            std = float(own.detach().std()) * (expected if "head" in name else expected**0.5)
            assert float(parameter.detach().std()) == pytest.approx(std, rel=0.05), name


def changes(lr: LrRule, family: str, width: int, steps: int = 6) -> float:
    """Root mean square of how far logits of a fixed row have moved after some steps at the rule's rate for a batch of one."""
    grid = rule(family, lr=lr)
    config = grid.shape(width)
    model, rng = build_model(config, seed=0), np.random.default_rng(0)
    factors = lr_factors(config, grid.base) if lr.name == "mup" else {}
    peak = lr.peak_lr(config, 1, 0)
    optimizer = Optimizer(
        model.named_parameters(), OptimConfig(kind="adamw", weight_decay=0.0, lr_factors=factors), peak
    )
    columns = 1 if family == "flat" else 8
    starts = 64 + 16 * np.arange(8) if columns == 8 else np.array([0])
    ids = torch.from_numpy(rng.integers(0, 16 if columns == 8 else V, (1, 64, columns)) + starts[:columns])
    targets = targets_of(config, ids.numpy().astype(np.int32), np.ones((1, 64), bool))

    def logits() -> list[torch.Tensor]:
        return [told.x_TD @ told.head_VD.T for told in model.told(model(ids), targets)]

    with torch.no_grad():
        before = [x.clone() for x in logits()]
    for _ in range(steps):
        told = model.told(model(ids), targets)
        loss = sum(torch.nn.functional.cross_entropy(t.x_TD @ t.head_VD.T, t.targets_T) for t in told)
        loss.backward()
        optimizer.clip()
        optimizer.step(peak)
    with torch.no_grad():
        return float(
            torch.stack([(a - b).square().mean() for a, b in zip(logits(), before, strict=True)])
            .mean()
            .sqrt()
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_by_mup_logits_move_as_far_at_any_width(family):
    """Yang et al.'s check: without it, at one rate for all widths, wide models move further. At soda's they lag behind, since embeddings
    learn at 1 / width too."""
    ours = [changes(NARROW, family, width) for width in (64, 256)]
    assert 0.6 < ours[1] / ours[0] < 1.6, ours
    constant = changes(LrRule(scale=0.33 * 4), family, 256)  # the rate of width 64
    assert constant / ours[0] > 1.6, (constant, ours)


def test_a_tied_head_is_refused():
    with pytest.raises(ConfigError, match="untied"):
        rule(lr=MUP, tied_embeddings=True).shape(256)


def test_a_measured_law_sets_the_rate_of_each_run():
    law = LrLaw(factor=3.0, n=-0.5, d=0.1, size="non_embedding")
    point = point_at(1e12, 256, rule(lr=LrRule(name="response", law=law)))
    assert point.peak_lr == pytest.approx(3.0 * point.size.non_embedding**-0.5 * point.tokens**0.1)
    with pytest.raises(ConfigError, match="lacks its"):
        LrRule(name="response")
    with pytest.raises(ConfigError, match="no rule of learning rates"):
        read_lr_rule("adam")


def test_multiples_and_rules_have_names_of_their_own_and_survive_a_file(tmp_path):
    points = [
        p
        for lr in (LrRule(), MUP)
        for family in ("flat", "depth")
        for p in isoflop_grid([1e12], [64, 256], rule=rule(family, lr=lr), lr_multiples=(0.5, 1.0))
    ]
    points += isoflop_grid([1e12], [64], rule=rule("depth", conditioning="shifted"))
    assert len({p.name for p in points}) == len(points) == 17
    write_design(tmp_path / "d.jsonl", points)
    assert read_design(tmp_path / "d.jsonl") == points
    assert points[0].peak_lr == points[1].peak_lr / 2 and points[-1].name.endswith("_depth_shifted")


def test_from_runs_at_several_rates_to_a_law_and_a_design(tmp_path, capsys):
    """What the rule costs is said, its curves are drawn, and the law that was measured designs the next sweep."""
    rows = []
    for n in (1e5, 4e5, 1.6e6):
        for d in (1e6, 4e6):
            best = 20 * n**-0.5 * d**0.05
            for multiple in (0.25, 0.5, 1.0, 2.0, 4.0):
                lr = multiple * 0.4 * n**-0.2
                loss = (2 + 30 / n**0.3 + 40 / d**0.3) * np.exp(0.02 * np.log(lr / best) ** 2)
                rows.append((f"{n}_{d}_{multiple}", n, d, lr, multiple, "soda", loss))
    with open(tmp_path / "runs.csv", "w", newline="") as file:
        csv.writer(file).writerows([("run", "N", "D", "lr", "lr_multiple", "lr_rule", "loss"), *rows])
    words = ["tune", str(tmp_path / "runs.csv"), "--by", "lr_rule", "--plot", str(tmp_path / "lr.png")]
    main([*words, "--law", str(tmp_path / "lr.json")])
    said = capsys.readouterr().out
    assert "N^-0.500 D^0.050" in said and "cost" in said and (tmp_path / "lr.png").stat().st_size > 5000
    few = [(*r[:5], "mup", r[6]) for r in rows[:2]]
    with open(tmp_path / "both.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [
                ("run", "N", "D", "lr", "lr_multiple", "lr_rule", "loss"),
                *rows,
                *((f"m{i}", *r[1:]) for i, r in enumerate(few)),
            ]
        )
    main(
        ["tune", str(tmp_path / "both.csv"), "--by", "lr_rule"]
    )  # a group with too few runs is said, not the end
    told = capsys.readouterr()
    assert "lr_rule=mup: No size" in told.err and "N^-0.500" in told.out
    assert read_json(tmp_path / "lr.json")["n"] == pytest.approx(-0.5, abs=1e-6)
    design = str(tmp_path / "design.jsonl")
    shape = [
        "--vocab",
        str(V),
        "--context",
        "64",
        "--reference-steps",
        "500",
        "--min-batch-rows",
        "1",
        "--count",
        "exact",
    ]
    main(["design", "--budgets", "3e12", "--widths", "128", "--lr-rule", str(tmp_path / "lr.json"), *shape, "--lr-multiples", "0.5", "1", "--out", design])  # fmt: skip
    half, whole = read_design(design)
    assert whole.lr_rule == "response" and half.peak_lr == whole.peak_lr / 2
    assert whole.peak_lr == pytest.approx(20 * whole.size.total**-0.5 * whole.tokens**0.05, rel=1e-6)
    with pytest.raises(ConfigError, match="of a grid"):
        main(["design", "--lr-multiples", "0.5", "1"])
    with pytest.raises(ConfigError, match="of the rule mup"):
        main(["design", "--lr-base-width", "64"])


def test_the_rule_of_a_design_reaches_the_run():
    published = {"vocab_size": 144_644, "codebook_size": 2048, "lr": MUP}
    point = point_at(1e14, 256, GridRule(**SMALL | published))
    config = isoflop(point)
    assert (
        config.optim.lr_factors == dict(point.lr_factors) and config.model.init_stds == point.model.init_stds
    )
