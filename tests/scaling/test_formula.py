"""FLOPs by a formula of the user's, or of a paper's appendix."""

import numpy as np
import pytest

from sodakit.commands.scale import main
from sodakit.errors import ConfigError
from sodakit.files import read_json
from sodakit.scaling.formula import HOFFMANN, evaluate, is_formula
from sodakit.scaling.records import table_from_rows
from tests.scaling.sweeps import soda_runs

VALUES = {"N": np.array([2.0, 3.0]), "D": np.array([5.0, 7.0]), "layers": np.array([4.0, 4.0])}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("6*N*D", 60.0),
        ("6 N D + N^2", 64.0),
        ("-(N - 3) · 2", 2.0),
        ("N D / (layers + 1)", 2.0),
        ("layers^0.5", 2.0),
    ],
)
def test_a_line_means_what_it_says(text, value):
    assert evaluate(text, VALUES.__getitem__)[0] == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "N if D else 1",
        "N.real",
        "[N]",
        "6*N*",
        "N @ D",
        "'N'",
        "N < D",
        "max(N, D)",
        "N % 2",
    ],
)
def test_what_is_no_arithmetic_is_refused(text):
    with pytest.raises(ConfigError, match="cannot be computed"):
        evaluate(text, VALUES.__getitem__)


def test_a_power_of_powers_ends():
    assert np.isinf(evaluate("9^9^9^9", VALUES.__getitem__))


def chinchilla_rows() -> list[dict]:
    """Two shapes with a feed-forward of two matrices, four times as wide as the model."""
    common = {"vocab": 32_000, "seq": 2048, "tokens": 1e9, "loss": 3.0}
    return [
        {"n": 73e6, "width": 640, "ffn": 2560, "head_dim": 64, "heads": 10, "layers": 10, **common},
        {"n": 1016e6, "width": 1792, "ffn": 7168, "head_dim": 128, "heads": 14, "layers": 26, **common},
    ]


def test_hoffmanns_count_is_what_his_appendix_adds_up_to():
    """By hand, product by product, for one row of 2,048 tokens, forward and twice backward."""
    table = table_from_rows(chinchilla_rows())
    for row, flops in zip(chinchilla_rows(), table.flops("hoffmann"), strict=True):
        s, w, k, h = 2048, row["width"], row["head_dim"], row["heads"]
        attention = (
            2 * 3 * s * w * k * h + 2 * s * s * k * h + 3 * h * s * s + 2 * s * s * k * h + 2 * s * k * h * w
        )
        dense = 2 * s * (w * row["ffn"] + w * row["ffn"])
        forward = 2 * s * 32_000 * w + row["layers"] * (attention + dense) + 2 * s * w * 32_000
        assert flops * s / row["tokens"] == pytest.approx(3 * forward)


def test_a_law_is_fitted_by_a_formula_and_plans_say_what_they_cannot_count(tmp_path, capsys):
    soda_runs().write(tmp_path / "runs.csv")
    words = ["fit", str(tmp_path / "runs.csv"), "--size", "two_embeddings", "--draws", "20"]
    main([*words, "--flops", "6nd", "--out", str(tmp_path / "a.json")])
    main([*words, "--flops", "6*N*D", "--out", str(tmp_path / "b.json")])
    one, other = (read_json(tmp_path / f"{name}.json") for name in "ab")
    assert one["ranges"] == other["ranges"] and other["settings"]["flops"] == "6*N*D"
    assert one["counted_exponents"] == other["counted_exponents"]
    capsys.readouterr()
    main(["plan", "--flops", "1e20", "--fit", str(tmp_path / "b.json")])
    assert "counted by a formula" in capsys.readouterr().err


def test_a_formula_over_what_is_not_there_names_the_columns():
    table = soda_runs()
    with pytest.raises(ConfigError, match="no column 'depth'"):
        table.flops("6*N*D + depth")
    with pytest.raises(ConfigError, match=r"No convention 'exakt'.*exact"):
        table.flops("exakt")
    assert is_formula("hoffmann") and is_formula(HOFFMANN) and not is_formula("exact")
    shape = {name: table.columns[f"shape/{name}"] for name in ("width", "layers", "context")}
    named = 6 * table.sizes() * table.tokens() + 12 * np.prod(list(shape.values()), axis=0) * table.tokens()
    np.testing.assert_allclose(table.flops("6*N*D + 12*layers*width*context*D"), named)
