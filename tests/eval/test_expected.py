import pytest

from sodakit.commands.eval import main
from sodakit.errors import ConfigError
from sodakit.eval.expected import PUBLISHED, SCORES, check, expected_lines
from sodakit.files import write_json


def salmon(value: float) -> dict[str, object]:
    score = {
        "value": value,
        "low": value - 0.02,
        "high": value + 0.02,
        "num_items": 1600,
        "num_clusters": 1600,
    }
    plain = {"accuracy": score, "parts": {}, "num_ties": 0, "num_missing": 0}
    return {"task": "salmon", "data_digest": "d", "scores": {"soda": plain}, "questions": []}


def test_a_score_agrees_if_the_published_one_is_within_its_interval_and_tolerance() -> None:
    (near,), (far,) = (check("SODA-135M", [salmon(v)]) for v in (0.72, 0.60))
    assert (near.column, near.published, near.agrees, far.agrees) == ("SALMon", 70.0, True, False)
    assert near.ours == pytest.approx(72.0)


def test_every_published_row_has_known_columns_and_tolerances() -> None:
    assert all(set(values) <= set(SCORES) for values in PUBLISHED.values())
    assert all(kind.tolerance > 0 for kind in SCORES.values())
    assert PUBLISHED["SODA-4B"]["ASR WER"] == 5.0 and PUBLISHED["SODA-600M"]["SALMon"] == 70.1
    assert len(list(expected_lines())) == 3 + len(PUBLISHED)


def test_the_command_sets_ours_beside_the_published(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    write_json(tmp_path / "salmon.json", salmon(0.70))
    main(["expected", str(tmp_path / "salmon.json"), "--model", "SODA-135M"])
    assert "| SALMon | 70 | 70 |" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="SODA-9B"):
        check("SODA-9B", [])
