"""A ladder of models is read from results of `sodakit eval` and from one table."""

import numpy as np
import pytest

from sodakit.commands.scale import main
from sodakit.errors import ConfigError
from sodakit.files import read_json, write_json
from sodakit.scaling.ladder import read_ladder


def write_rung(folder, step):
    """Results of one checkpoint, as `sodakit eval` leaves them: the loss falls and the accuracy rises with `step`."""

    def spread(value):
        return {"value": value, "low": value, "high": value, "num_items": 9, "num_clusters": 9}

    nll = {"asr": spread(4 - 0.1 * step), "text_only": spread(3 + (-1) ** step * 0.1)}
    pair = {"accuracy": spread(0.5 + 0.01 * step), "parts": {}, "num_ties": 0, "num_missing": 0}
    write_json(
        folder / "nll_validation.json", {"task": "nll", "split": "validation", "shards": ["s"], "nll": nll}
    )
    write_json(
        folder / "salmon.json",
        {"task": "salmon", "data_digest": "d", "scores": {"soda": pair}, "questions": []},
    )
    scores = {
        "wer_micro": spread(0.9 - 0.05 * step),
        "num_failed": 0,
        "originals": {"wer_micro": spread(0.1)},
    }
    write_json(folder / "asr.json", {"task": "asr", "data_digest": "d", "scores": scores, "items": []})


def test_results_of_checkpoints_are_ranked_as_they_lie(tmp_path, capsys):
    for step in range(8):
        write_rung(tmp_path / f"step{step}", step)
    folders = [str(tmp_path / f"step{step}") for step in range(8)]
    losses, scores = read_ladder(folders)
    assert set(losses) == {"asr", "text_only"} and set(scores) == {"salmon soda", "asr wer_micro"}
    main(["proxy", *folders, "--out", str(tmp_path / "proxy.json")])
    found = {(c["loss"], c["score"]): c["rho"] for c in read_json(tmp_path / "proxy.json")}
    assert found["asr", "salmon soda"] == pytest.approx(1)
    assert found["asr", "asr wer_micro"] == pytest.approx(-1)
    assert abs(found["text_only", "salmon soda"]) < 0.5
    assert "| salmon soda | 8 | +1.000" in capsys.readouterr().out


def test_a_ladder_of_other_data_or_without_a_loss_is_refused(tmp_path):
    for step in range(4):
        write_rung(tmp_path / f"step{step}", step)
    (tmp_path / "step2" / "nll_validation.json").unlink()
    losses, _ = read_ladder([tmp_path / f"step{n}" for n in range(4)])
    assert np.isnan(losses["asr"][2])
    other = read_json(tmp_path / "step3" / "salmon.json") | {"data_digest": "e"}
    write_json(tmp_path / "step3" / "salmon.json", other)
    with pytest.raises(ConfigError, match="salmon with different data_digest"):
        read_ladder([tmp_path / f"step{n}" for n in range(4)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no results"):
        read_ladder([tmp_path / "empty"])


def test_a_table_names_its_losses(tmp_path):
    (tmp_path / "ladder.csv").write_text("model,nll_asr,WER\na,4.0,30\nb,3.8,20\nc,3.6,\n")
    losses, scores = read_ladder([tmp_path / "ladder.csv"])
    assert list(losses) == ["asr"] and list(scores) == ["WER"] and np.isnan(scores["WER"][2])


def test_a_table_of_a_stranger_says_which_columns_are_losses(tmp_path, capsys):
    """Losses without nll_ were scores, sizes and budgets as well, and a score in per cent ended it."""
    lines = [
        f"m{i},{10**i}M,1e18,{4 - i / 9},{60 / (i + 1)},{50 + 3 * i}%,{2 - i / 9},{i % 2}" for i in range(6)
    ]
    path = tmp_path / "ladder.csv"
    path.write_text("\n".join(["model,params,flops,val_loss,ppl,PIQA (%),bits_per_word,arm", *lines]))
    losses, scores = read_ladder([path])
    assert list(losses) == ["val_loss", "ppl"] and list(scores) == ["PIQA (%)", "bits_per_word", "arm"]
    assert losses["ppl"][0] == pytest.approx(np.log(60)) and scores["PIQA (%)"][1] == 53
    losses, scores = read_ladder([path], ["bits_per_word"], ["arm=1"])
    assert list(losses) == ["bits_per_word"] and len(scores["PIQA (%)"]) == 3
    main(
        [
            "proxy",
            str(path),
            "--losses",
            "bits_per_word",
            "--scores",
            "PIQA (%)",
            "--plot",
            str(tmp_path / "p.svg"),
        ]
    )
    assert "<svg" in (tmp_path / "p.svg").read_text()
    assert "| PIQA (%) | 6 | +1.000 (+0.38 to +1.00) |" in capsys.readouterr().out
    for words, says in (
        (["--losses", "bit_per_word"], "Did you mean 'bits_per_word'"),
        (["--scores", "x"], "There is no score 'x'"),
        (["--where", "family=1"], "no column 'family'"),
    ):
        with pytest.raises(ConfigError, match=says):
            main(["proxy", str(path), *words])


def test_a_ladder_without_scores_says_what_to_do(tmp_path):
    (tmp_path / "ladder.csv").write_text("nll_asr\n4.0\n")
    with pytest.raises(ConfigError, match="1 losses and 0 scores"):
        read_ladder([tmp_path / "ladder.csv"])
    with pytest.raises(ConfigError, match="no results"):
        read_ladder([tmp_path / "a", tmp_path / "b"])
