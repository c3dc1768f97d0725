"""lm-evaluation-harness on our model: a tiny task of its own, and ARC where the questions are here."""

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from sodakit.checkpoint.hf import export_hf
from sodakit.commands.eval import main
from sodakit.files import read_json, read_json_lines, write_json_lines
from sodakit.generate.speech_model import SpeechModel
from tests.eval.small_model import small_checkpoint, small_speech_model

pytest.importorskip("lm_eval")

DATA = Path(__file__).parents[2] / "../shared/data"
QUESTIONS = 12
ARC = """
task: local_arc_easy
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/rows.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: "{{choices | map(attribute='text') | list}}"
doc_to_target: "{{(choices | map(attribute='label') | list).index(answer)}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
HELLASWAG = """
task: local_hellaswag
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/rows.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_choice: "{{endings}}"
doc_to_target: label
metric_list: [{metric: acc}, {metric: acc_norm}]
"""

ROWS = [
    {"question": "a dog", "choices": ["ran home", "sat on the mat", "cats"], "answer": 0},
    {"question": "the cat", "choices": ["dogs", "sat"], "answer": 1},
    {"question": "dogs and", "choices": ["cats", "the mat", "home"], "answer": 0},
    {"question": "the", "choices": ["well-known", "isn’t"], "answer": 0},
]
TASK = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/rows.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}]
"""


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    return small_speech_model(seed=4)


def tiny_task(folder: Path) -> Path:
    write_json_lines(folder / "rows.jsonl", ROWS)
    (folder / "tiny.yaml").write_text(TASK.replace("FOLDER", str(folder)))
    return folder


def plain_choice(theirs: Any, model: SpeechModel, row: dict[str, Any]) -> tuple[int, int]:
    """The likeliest choice, by sum and by sum over characters: one transformers call for each."""
    sums = []
    for choice in row["choices"]:
        given = model.tokenizer.encode(row["question"])
        whole = model.tokenizer.encode(f"{row['question']} {choice}")
        ids = [model.vocabulary.bos, *whole]
        with torch.no_grad():
            table = theirs(torch.tensor([ids])).logits[0].log_softmax(-1)
        sums.append(sum(float(table[p - 1, ids[p]]) for p in range(1 + len(given), len(ids))))
    by_length = [s / len(c) for s, c in zip(sums, row["choices"], strict=True)]
    return sums.index(max(sums)), by_length.index(max(by_length))


def test_the_harness_counts_what_a_plain_loop_over_transformers_counts(
    model: SpeechModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    from sodakit.eval.harness import text_result

    theirs = transformers.Qwen3ForCausalLM.from_pretrained(export_hf(model.model, tmp_path / "hf")).eval()
    result = text_result(model, ["tiny_choice"], include=tiny_task(tmp_path / "task"))
    chosen = [plain_choice(theirs, model, row) for row in ROWS]
    for place, metric in enumerate(("acc", "acc_norm")):
        expected = sum(c[place] == row["answer"] for c, row in zip(chosen, ROWS, strict=True)) / len(ROWS)
        assert result["scores"]["tiny_choice"][metric] == pytest.approx(expected)
    assert result["num_questions"] == {"tiny_choice": 4}


def test_log_likelihoods_are_those_of_transformers(model: SpeechModel, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from lm_eval.api.instance import Instance

    from sodakit.eval.harness import HarnessModel

    theirs = transformers.Qwen3ForCausalLM.from_pretrained(export_hf(model.model, tmp_path / "hf")).eval()
    pairs = [("a dog", " ran home"), ("", "the cat sat"), ("cats and", " dogs and cats on the mat")]
    asked = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
    found = HarnessModel(model, row_tokens=16).loglikelihood(asked, disable_tqdm=True)
    for (given, wanted), (logprob, _) in zip(pairs, found, strict=True):
        start = len(model.tokenizer.encode(given))
        ids = [model.vocabulary.bos, *model.tokenizer.encode(given + wanted)]
        with torch.no_grad():
            table = theirs(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(float(table[p - 1, ids[p]]) for p in range(1 + start, len(ids)))
        assert logprob == pytest.approx(expected, abs=1e-4)
    rolled = HarnessModel(model).loglikelihood_rolling(
        [Instance("loglikelihood_rolling", {}, ("the cat sat",), 0)]
    )
    assert rolled[0] == pytest.approx(found[1][0], abs=1e-4)


def test_text_goes_on_up_to_a_stop_string(model: SpeechModel) -> None:
    from lm_eval.api.instance import Instance

    from sodakit.eval.harness import HarnessModel

    def said(until: list[str]) -> str:
        options = {"until": until, "max_gen_toks": 6}
        return HarnessModel(model).generate_until([Instance("generate_until", {}, ("a dog", options), 0)])[0]

    whole = said([])
    assert whole and said([whole[1]]) == whole.split(whole[1])[0]


def test_the_command_writes_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    words = ["--model", str(small_checkpoint(tmp_path / "model")), "--out", str(tmp_path / "out")]
    main(["text", "--tasks", "tiny_choice", "--include", str(tiny_task(tmp_path / "task")), *words])
    assert "tiny_choice acc:" in capsys.readouterr().out
    assert read_json(tmp_path / "out" / "text.json")["task"] == "text"


@pytest.mark.skipif(not DATA.exists(), reason="the questions are not here")
@pytest.mark.parametrize("name", ["local_arc_easy", "local_hellaswag"])
def test_real_questions_are_answered_as_by_a_plain_loop_over_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Prompts as the harness's own tasks have them: a line break, an apostrophe or a bracket is a token like others."""
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    from sodakit.eval.harness import text_result

    model = small_speech_model(seed=4, context=1024)
    if name == "local_arc_easy":
        rows = read_json_lines(DATA / "arc/arc_easy_dev.jsonl")[:QUESTIONS]
        plain = [
            {
                "question": f"Question: {row['question']}\nAnswer:",
                "choices": [choice["text"] for choice in row["choices"]],
                "answer": [choice["label"] for choice in row["choices"]].index(row["answer"]),
            }
            for row in rows
        ]
    else:
        with gzip.open(DATA / "hellaswag/hellaswag_val_part.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in islice(lines, QUESTIONS)]
        plain = [{"question": r["context"], "choices": r["endings"], "answer": r["label"]} for r in rows]
    write_json_lines(tmp_path / "rows.jsonl", rows)
    task = (ARC if name == "local_arc_easy" else HELLASWAG).replace("FOLDER", str(tmp_path))
    (tmp_path / "task.yaml").write_text(task)
    theirs = transformers.Qwen3ForCausalLM.from_pretrained(export_hf(model.model, tmp_path / "hf")).eval()
    result = text_result(model, [name], include=tmp_path)
    chosen = [plain_choice(theirs, model, row) for row in plain]
    for place, metric in enumerate(("acc", "acc_norm")):
        right = [c[place] == row["answer"] for c, row in zip(chosen, plain, strict=True)]
        assert result["scores"][name][metric] == pytest.approx(sum(right) / QUESTIONS)


def test_a_group_of_tasks_is_printed_with_its_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness counts questions of tasks only, not of their groups."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    folder = tiny_task(tmp_path / "task")
    (folder / "group.yaml").write_text(
        "group: tiny_group\ntask: [tiny_choice]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )
    words = ["--model", str(small_checkpoint(tmp_path / "model")), "--out", str(tmp_path / "out")]
    main(["text", "--tasks", "tiny_group", "--include", str(folder), *words])
    printed = capsys.readouterr().out
    assert "tiny_group acc:" in printed and "(4 questions)" in printed
