"""A ladder of models is read from results of `sodakit eval` and from one table."""

import numpy as np
import pytest

from sodakit.errors import ConfigError
from sodakit.files import write_json
from sodakit.scaling.ladder import read_ladder
from sodakit.scaling.proxy import rank_correlations


def one_model(folder, loss, accuracy):
    write_json(folder / "nll_test.json", {"nll": {"asr": {"value": loss}, "text_only": {"value": loss / 2}}})
    scores = {
        "mean": {"accuracy": {"value": accuracy}},
        "sum": {"accuracy": {"value": accuracy - 0.1}},
    }
    write_json(folder / "swuggy.json", {"task": "sWUGGY", "scores": scores, "questions": []})
    write_json(folder / "logprobs.json", {"fingerprint": "x"})
    return folder


def test_folders_of_results_become_losses_and_scores(tmp_path):
    folders = [one_model(tmp_path / str(i), 4 - i / 10, 0.5 + i / 50) for i in range(5)]
    losses, scores = read_ladder(folders)
    assert losses["asr"] == pytest.approx([4.0, 3.9, 3.8, 3.7, 3.6]) and set(losses) == {"asr", "text_only"}
    assert scores["sWUGGY"] == pytest.approx([0.5, 0.52, 0.54, 0.56, 0.58])
    assert read_ladder(folders, policy="sum")[1]["sWUGGY"][0] == pytest.approx(0.4)
    assert all(c.rho == 1.0 for c in rank_correlations(losses, scores, draws=20))
    with pytest.raises(ConfigError, match="it has mean, sum"):
        read_ladder(folders, policy="max")


def test_a_table_names_its_losses(tmp_path):
    (tmp_path / "ladder.csv").write_text("model,nll_asr,WER\na,4.0,30\nb,3.8,20\nc,3.6,\n")
    losses, scores = read_ladder([tmp_path / "ladder.csv"])
    assert list(losses) == ["asr"] and list(scores) == ["WER"] and np.isnan(scores["WER"][2])


def test_a_ladder_without_scores_says_what_to_do(tmp_path):
    (tmp_path / "ladder.csv").write_text("nll_asr\n4.0\n")
    with pytest.raises(ConfigError, match="1 losses and 0 scores"):
        read_ladder([tmp_path / "ladder.csv"])
    with pytest.raises(ConfigError, match="is no folder of results"):
        read_ladder([tmp_path / "a", tmp_path / "b"])
