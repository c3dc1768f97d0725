"""SODA's sweep row by row, and grids by its rule."""

from dataclasses import replace

import pytest

from sodakit.errors import ConfigError
from sodakit.scaling.design import (
    GridRule,
    design_hours,
    isoflop_grid,
    nearest_buildable,
    point_at,
    point_of_tokens,
    soda_design,
)
from sodakit.scaling.design_file import read_design, write_design

# Budget (training FLOPs), width, layers, heads, batch, steps, peak LR, beta2, N with two embeddings (M), N without (M),
# D (B), 6ND/C, D/N, source: the published rule applied to the authors' accountant (arXiv 2602.16687).
PUBLISHED = [
    "",
    "3.0e+18 256 3 2 32 82031 0.00729 0.99496 77 3 10.75 1.66 139.3 sweep",
    "3.0e+18 384 4 3 32 49135 0.00486 0.99496 121 9 6.44 1.55 53.4 sweep",
    "3.0e+18 512 6 4 16 61262 0.00258 0.99748 173 25 4.01 1.39 23.2 sweep",
    "3.0e+18 640 7 5 16 43506 0.00206 0.99748 231 46 2.85 1.32 12.3 sweep",
    "3.0e+18 768 8 6 8 64326 0.00122 0.99874 298 76 2.11 1.25 7.1 sweep",
    "3.0e+18 896 9 7 8 48961 0.00104 0.99874 375 116 1.60 1.20 4.3 sweep",
    "3.0e+18 1024 11 8 8 35863 0.00091 0.99874 481 185 1.18 1.13 2.4 sweep",
    "9.0e+18 256 3 2 32 246094 0.00729 0.99496 77 3 32.26 1.66 417.8 sweep",
    "9.0e+18 384 4 3 128 36851 0.00972 0.98000 121 9 19.32 1.55 160.3 sweep",
    "9.0e+18 512 6 4 64 45947 0.00516 0.98995 173 25 12.04 1.39 69.5 sweep",
    "9.0e+18 640 7 5 32 65260 0.00292 0.99496 231 46 8.55 1.32 37.0 sweep",
    "9.0e+18 768 8 6 32 48244 0.00243 0.99496 298 76 6.32 1.25 21.2 sweep",
    "9.0e+18 896 9 7 32 36721 0.00208 0.99496 375 116 4.81 1.20 12.8 sweep",
    "9.0e+18 1024 11 8 16 53794 0.00129 0.99748 481 185 3.53 1.13 7.3 sweep",
    "9.0e+18 1152 12 9 16 42754 0.00115 0.99748 588 255 2.80 1.10 4.8 sweep",
    "9.0e+18 1280 13 10 16 34520 0.00103 0.99748 711 341 2.26 1.07 3.2 sweep",
    "9.0e+18 1408 14 11 8 56503 0.00066 0.99874 851 444 1.85 1.05 2.2 sweep",
    "9.0e+18 1536 15 12 8 46794 0.00061 0.99874 1011 566 1.53 1.03 1.5 sweep",
    "9.0e+18 1664 17 13 8 37310 0.00056 0.99874 1235 753 1.22 1.01 1.0 sweep",
    "1.8e+19 384 4 3 128 73702 0.00972 0.98000 121 9 38.64 1.55 320.6 sweep",
    "1.8e+19 512 6 4 128 45947 0.00729 0.98000 173 25 24.09 1.39 139.0 sweep",
    "1.8e+19 640 7 5 64 65260 0.00413 0.98995 231 46 17.11 1.32 74.0 sweep",
    "1.8e+19 768 8 6 64 48244 0.00344 0.98995 298 76 12.65 1.25 42.5 sweep",
    "1.8e+19 896 9 7 64 36721 0.00295 0.98995 375 116 9.63 1.20 25.7 sweep",
    "1.8e+19 1024 11 8 32 53794 0.00182 0.99496 481 185 7.05 1.13 14.7 sweep",
    "1.8e+19 1152 12 9 32 42754 0.00162 0.99496 588 255 5.60 1.10 9.5 sweep",
    "1.8e+19 1280 13 10 32 34520 0.00146 0.99496 711 341 4.52 1.07 6.4 sweep",
    "1.8e+19 1408 14 11 16 56503 0.00094 0.99748 851 444 3.70 1.05 4.3 sweep",
    "1.8e+19 1536 15 12 16 46794 0.00086 0.99748 1011 566 3.07 1.03 3.0 sweep",
    "1.8e+19 1664 17 13 16 37310 0.00079 0.99748 1235 753 2.45 1.01 2.0 sweep",
    "1.8e+19 1792 18 14 8 63147 0.00052 0.99874 1443 925 2.07 1.00 1.4 sweep",
    "1.8e+19 1920 19 15 8 53887 0.00049 0.99874 1676 1121 1.77 0.99 1.1 sweep",
    "1.8e+19 2048 20 16 8 46334 0.00046 0.99874 1935 1342 1.52 0.98 0.8 sweep",
    "3.0e+19 384 4 3 128 122837 0.00972 0.98000 121 9 64.40 1.55 534.3 sweep",
    "3.0e+19 640 7 5 128 54383 0.00583 0.98000 231 46 28.51 1.32 123.4 sweep",
    "3.0e+19 896 9 7 64 61201 0.00295 0.98995 375 116 16.04 1.20 42.8 sweep",
    "3.0e+19 1152 12 9 64 35628 0.00229 0.98995 588 255 9.34 1.10 15.9 sweep",
    "3.0e+19 1408 14 11 32 47086 0.00133 0.99496 851 444 6.17 1.05 7.2 sweep",
    "3.0e+19 1664 17 13 16 62183 0.00079 0.99748 1235 753 4.08 1.01 3.3 sweep",
    "3.0e+19 1920 19 15 16 44906 0.00069 0.99748 1676 1121 2.94 0.99 1.8 sweep",
    "9.0e+19 384 4 3 128 368512 0.00972 0.98000 121 9 193.21 1.55 1603.0 sweep",
    "9.0e+19 640 7 5 256 81575 0.00825 0.96040 231 46 85.54 1.32 370.2 sweep",
    "9.0e+19 896 9 7 256 45901 0.00589 0.96040 375 116 48.13 1.20 128.4 sweep",
    "9.0e+19 1152 12 9 128 53443 0.00324 0.98000 588 255 28.02 1.10 47.6 sweep",
    "9.0e+19 1408 14 11 128 35314 0.00265 0.98000 851 444 18.51 1.05 21.7 sweep",
    "9.0e+19 1664 17 13 64 46637 0.00159 0.98995 1235 753 12.23 1.01 9.9 sweep",
    "9.0e+19 1920 19 15 64 33679 0.00138 0.98995 1676 1121 8.83 0.99 5.3 sweep",
    "9.0e+19 2048 20 16 32 57918 0.00091 0.99496 1935 1342 7.59 0.98 3.9 target",
    "1.8e+20 640 7 5 256 163149 0.00825 0.96040 231 46 171.07 1.32 740.5 sweep",
    "1.8e+20 896 9 7 512 45901 0.00833 0.92237 375 116 96.26 1.20 256.8 sweep",
    "1.8e+20 1152 12 9 256 53443 0.00458 0.96040 588 255 56.04 1.10 95.3 sweep",
    "1.8e+20 1408 14 11 256 35314 0.00375 0.96040 851 444 37.03 1.05 43.5 sweep",
    "1.8e+20 1664 17 13 128 46637 0.00224 0.98000 1235 753 24.45 1.01 19.8 sweep",
    "1.8e+20 1920 19 15 128 33679 0.00194 0.98000 1676 1121 17.66 0.99 10.5 sweep",
    "1.8e+20 2048 20 16 64 57918 0.00129 0.98995 1935 1342 15.18 0.98 7.8 target",
    "1.8e+20 2304 23 18 64 42021 0.00115 0.98995 2620 1954 11.02 0.96 4.2 target",
    "3.0e+20 640 7 5 256 271915 0.00825 0.96040 231 46 285.12 1.32 1234.1 sweep",
    "3.0e+20 896 9 7 512 76501 0.00833 0.92237 375 116 160.43 1.20 428.0 sweep",
    "3.0e+20 1152 12 9 512 44536 0.00648 0.92237 588 255 93.40 1.10 158.8 sweep",
    "3.0e+20 1408 14 11 256 58857 0.00375 0.96040 851 444 61.72 1.05 72.5 sweep",
    "3.0e+20 1664 17 13 256 38865 0.00317 0.96040 1235 753 40.75 1.01 33.0 sweep",
    "3.0e+20 1920 19 15 128 56132 0.00194 0.98000 1676 1121 29.43 0.99 17.6 sweep",
    "3.0e+20 2048 20 16 128 48265 0.00182 0.98000 1935 1342 25.30 0.98 13.1 target",
    "3.0e+20 2304 23 18 128 35018 0.00162 0.98000 2620 1954 18.36 0.96 7.0 target",
    "3.0e+20 2816 27 22 64 42770 0.00094 0.98995 4240 3426 11.21 0.95 2.6 target",
    "3.0e+20 3072 30 24 64 33266 0.00086 0.98995 5419 4530 8.72 0.95 1.6 target",
    "",
][1:-1]


def test_the_paper_s_66_configurations_come_out_row_by_row():
    points = {(f"{p.budget_flops:.1e}", str(p.model.width)): p for p in soda_design()}
    assert len(points) == len(PUBLISHED) == 66
    for line in PUBLISHED:
        budget, width, *expected = line.split()
        p = points[budget, width]
        n = p.size.two_embeddings
        assert [
            str(p.model.layers),
            str(p.model.heads),
            str(p.batch_rows),
            str(p.steps),
            f"{p.peak_lr:.5f}",
            f"{p.beta2:.5f}",
            f"{n / 1e6:.0f}",
            f"{p.size.non_embedding / 1e6:.0f}",
            f"{p.tokens / 1e9:.2f}",
            f"{6 * n * p.tokens / p.training_flops:.2f}",
            f"{p.tokens / n:.1f}",
            p.source,
        ] == expected


def test_59_points_follow_the_rule_and_7_are_listed():
    points = soda_design()
    assert [p.source for p in points].count("sweep") == 59 and [p.source for p in points].count("target") == 7
    assert len(soda_design(targets=False)) == 59


def test_budgets_are_stated_as_forward_and_as_training_flops():
    """The script's budgets count the forward pass alone, a third of the paper's."""
    forward = sorted({f"{p.budget_flops / 3:.0e}" for p in soda_design()}, key=float)
    training = sorted({f"{p.budget_flops:.1e}" for p in soda_design()}, key=float)
    assert forward == ["1e+18", "3e+18", "6e+18", "1e+19", "3e+19", "6e+19", "1e+20"]
    assert training == ["3.0e+18", "9.0e+18", "1.8e+19", "3.0e+19", "9.0e+19", "1.8e+20", "3.0e+20"]
    for p in soda_design():
        assert p.training_flops == pytest.approx(p.budget_flops, rel=0.01)
        assert p.forward_flops * 3 == pytest.approx(p.training_flops)
        assert p.peak_lr <= 0.01 and p.batch_rows >= 8 and p.steps < 400_000


def test_a_small_grid_keeps_its_budgets_and_leaves_out_what_the_rule_forbids():
    rule = GridRule(vocab_size=1100, context=256, reference_steps=2000, min_batch_rows=2)
    points = isoflop_grid([1e13, 1e14], [64, 96, 128, 1024], rule=rule, seeds=(0, 1))
    assert {p.model.width for p in points} < {64, 96, 128, 1024} and len({p.name for p in points}) == len(
        points
    )
    for p in points:
        assert p.training_flops == pytest.approx(p.budget_flops, rel=0.01)
    assert design_hours(points, 1e10) == pytest.approx(sum(p.training_flops for p in points) / 3.6e13)
    with pytest.raises(ConfigError, match="No point is left"):
        isoflop_grid([1e10], [2048], rule=rule)


@pytest.mark.parametrize("flops", ["soda", "exact", "palm", "6nd"])
def test_a_budget_is_met_by_every_way_of_counting(flops):
    point = point_at(
        1e14, 128, GridRule(vocab_size=1100, context=256, reference_steps=2000, min_batch_rows=2, flops=flops)
    )
    assert point is not None and point.training_flops == pytest.approx(1e14, rel=0.01)


def test_a_run_can_be_asked_for_by_its_tokens():
    point = point_of_tokens(768, 6.32e9)
    assert point is not None and point.tokens == pytest.approx(6.32e9, rel=0.01)


def test_a_design_comes_back_from_its_file(tmp_path):
    points = soda_design()
    write_design(tmp_path / "design.jsonl", points)
    assert read_design(tmp_path / "design.jsonl") == points
    with pytest.raises(ConfigError, match="does not exist"):
        read_design(tmp_path / "other.jsonl")
    whole = (tmp_path / "design.jsonl").read_text()
    for text, said in (
        (whole[:-20], "is not JSON"),
        (whole.replace('"steps": ', '"stepz": ', 1), "run 1 has no field 'stepz'"),
        (whole.replace('"steps": ', '"steps": -', 1), "run 1.steps=-"),
    ):
        (tmp_path / "cut.jsonl").write_text(text)
        with pytest.raises(ConfigError, match=rf"cut\.jsonl.*{said}"):
            read_design(tmp_path / "cut.jsonl")


def test_the_nearest_shape_is_nearest_by_the_convention_asked_for():
    assert nearest_buildable(298e6).width == 768
    assert nearest_buildable(76e6, convention="non_embedding").width == 768


def test_batches_below_the_smallest_are_left_out_or_raised_to_it():
    rule = GridRule(vocab_size=8_708, context=1024, reference_steps=2400, min_batch_rows=1, flops="exact")
    assert point_at(1e13, 192, rule) is None
    raised = point_at(1e13, 192, replace(rule, raise_to_min=True))
    assert raised is not None and raised.batch_rows == 1 and raised.steps < 2400
    assert raised.training_flops == pytest.approx(1e13, rel=0.01)
