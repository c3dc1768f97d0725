"""What a page of results lets be heard: pairs by how wrong the model was, recordings by how badly they were written down."""

import re
from pathlib import Path

import numpy as np
import pytest

from sodakit.audio.files import write_wave
from sodakit.commands.eval import main
from sodakit.errors import ConfigError
from sodakit.eval.heard import read_sources
from sodakit.eval.pairs import score_pairs, task
from sodakit.eval.policies import item_scores, policy
from sodakit.eval.result_page import HEARD, result_page
from sodakit.eval.token_table import read_tables
from sodakit.files import read_json, write_json_lines
from tests.eval.small_model import noise, small_checkpoint, small_speech_model
from tests.eval.test_pairs import sound_pairs


def headings(page: str) -> list[str]:
    return re.findall(r"<h3>([^<]*)", page)


def test_the_pairs_a_model_gets_most_wrong_come_first_and_are_heard(tmp_path: Path) -> None:
    pairs = sound_pairs(tmp_path / "pairs", 12)
    rule = policy("sodakit", "salmon")
    result = score_pairs(small_speech_model(size=64), task("salmon"), pairs, [rule], tmp_path / "out")
    scores = item_scores(read_tables(sorted((tmp_path / "out" / "whole").rglob("*.parquet"))), rule)
    margins = [scores[f"{n}#0"] - scores[f"{n}#1"] for n in range(len(pairs))]
    assert [q["margins"]["sodakit"] for q in result["questions"]] == pytest.approx(margins)
    assert len(set(margins)) == len(margins) and min(margins) < 0 < max(margins)
    assert [q["answers"]["sodakit"] for q in result["questions"]] == [float(m > 0) for m in margins]
    page = result_page([result], [None], "Pairs", sources=read_sources([tmp_path / "pairs"])).html()
    worst = [result["questions"][n]["id"] for n in np.argsort(margins)[:HEARD]]
    shown = [h for h in headings(page) if h.startswith("Most wrong")]
    assert [re.search(r": (\S+);", h)[1] for h in shown] == worst  # type: ignore[index]
    assert page.count("<audio") == 2 * 2 * HEARD and f"scores {min(margins):+.3f} over" in shown[0]
    assert "<audio" not in result_page([result], [None], "Pairs").html()


def test_pairs_that_are_not_there_any_more_are_left_silent(tmp_path: Path) -> None:
    pairs = sound_pairs(tmp_path / "pairs")
    rule = policy("sodakit", "salmon")
    result = score_pairs(small_speech_model(), task("salmon"), pairs, [rule], tmp_path / "out")
    sources = read_sources([tmp_path / "pairs"])
    (tmp_path / "pairs" / "sample_0_1.wav").unlink()
    assert sources.pair(result["questions"][0]) is None
    assert len(sources.pair(result["questions"][1]) or ()) == 2
    page = result_page([result], [None], "Pairs", sources=sources).html()
    assert page.count("<audio") == 2 * (len(pairs) - 1)


def test_transcribed_recordings_are_heard_with_what_was_written(tmp_path: Path) -> None:
    rows = []
    for n in range(3):
        write_wave(tmp_path / "data" / f"{n}.wav", noise(n, 0.4))
        rows.append({"id": f"clip-{n}", "audio": f"{n}.wav", "text": f"open door {n}", "speaker": "a"})
    write_json_lines(tmp_path / "data" / "manifest.jsonl", rows)
    model, out = small_checkpoint(tmp_path / "model"), tmp_path / "out"
    main(["asr", "--data", str(tmp_path / "data"), "--model", str(model), "--out", str(out),
          "--max-new-tokens", "4"])  # fmt: skip
    assert len(read_json(out / "asr.json")["items"]) == 3
    main(
        [
            "report",
            str(out / "asr.json"),
            "--data",
            str(tmp_path / "data"),
            "--out",
            str(tmp_path / "page.html"),
        ]
    )
    page = (tmp_path / "page.html").read_text()
    assert page.count("<audio") == 3 and {"open door 0", "open door 1"} <= {
        h.replace("zero", "0").replace("one", "1") for h in headings(page)
    }
    assert str(tmp_path) not in page


def test_a_folder_of_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError):
        read_sources([tmp_path / "empty"])
