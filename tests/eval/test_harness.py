"""lm-evaluation-harness on our model: a tiny task of its own, and ARC and HellaSwag where their questions are here."""

import gzip
import json
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from sodakit.checkpoint.hf import export_hf
from sodakit.commands.eval import main
from sodakit.errors import ConfigError
from sodakit.files import read_json, read_json_lines, write_json_lines
from sodakit.generate.speech_model import SpeechModel
from tests.eval.small_model import small_checkpoint, small_speech_model
from tests.recordings import recordings

TaskManager = pytest.importorskip("lm_eval.tasks").TaskManager

QUESTIONS = 12
ROWS = [
    {"question": "a dog", "choices": ["ran home", "sat on the mat", "cats"], "answer": 0},
    {"question": "the cat", "choices": ["dogs", "sat"], "answer": 1},
    {"question": "dogs and", "choices": ["cats", "the mat", "home"], "answer": 0},
    {"question": "the", "choices": ["well-known", "isn’t"], "answer": 0},
]
TASK = """
task: NAME
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/rows.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "QUESTION"
doc_to_choice: "CHOICES"
doc_to_target: "ANSWER"
metric_list: [{metric: acc}, {metric: acc_norm}]
"""


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    return small_speech_model(seed=4)


def write_task(
    folder: Path,
    rows: list[dict[str, Any]],
    name: str,
    question: str = "{{question}}",
    choices: str = "{{choices}}",
    answer: str = "{{answer}}",
) -> Path:
    """Questions and the harness's definition of a task over them, in a folder to include."""
    write_json_lines(folder / "rows.jsonl", rows)
    values = {"NAME": name, "FOLDER": str(folder), "QUESTION": question, "CHOICES": choices, "ANSWER": answer}
    text = TASK
    for slot, value in values.items():
        text = text.replace(slot, value)
    (folder / "task.yaml").write_text(text)
    return folder


def tiny_task(folder: Path) -> Path:
    return write_task(folder, ROWS, "tiny_choice")


def arc(folder: Path) -> list[dict[str, Any]]:
    """Real questions as a task, with the prompts that the harness's own task has; the same in plain rows."""
    rows = read_json_lines(recordings("arc") / "arc_easy_dev.jsonl")[:QUESTIONS]
    labels = "(choices | map(attribute='label') | list)"
    texts = "{{choices | map(attribute='text') | list}}"
    write_task(
        folder,
        rows,
        "local_arc",
        r"Question: {{question}}\nAnswer:",
        texts,
        f"{{{{{labels}.index(answer)}}}}",
    )
    return [
        {
            "question": f"Question: {row['question']}\nAnswer:",
            "choices": [choice["text"] for choice in row["choices"]],
            "answer": [choice["label"] for choice in row["choices"]].index(row["answer"]),
        }
        for row in rows
    ]


def hellaswag(folder: Path) -> list[dict[str, Any]]:
    """The same of sentences to be ended."""
    with gzip.open(recordings("hellaswag") / "hellaswag_val_part.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in islice(lines, QUESTIONS)]
    write_task(folder, rows, "local_hellaswag", "{{context}}", "{{endings}}", "{{label}}")
    return [{"question": r["context"], "choices": r["endings"], "answer": r["label"]} for r in rows]


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


def only_own_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness reads thousands of task files each time, and asks pip what is installed: of no use to most tests."""
    manager = partial(TaskManager, include_defaults=False)
    monkeypatch.setattr("lm_eval.tasks.TaskManager", manager)
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda storage: None)


def test_the_harness_counts_what_a_plain_loop_over_transformers_counts(
    model: SpeechModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    only_own_tasks(monkeypatch)
    from sodakit.eval.harness import text_result

    theirs = transformers.Qwen3ForCausalLM.from_pretrained(export_hf(model.model, tmp_path / "hf")).eval()
    result = text_result(model, ["tiny_choice"], include=tiny_task(tmp_path / "task"))
    chosen = [plain_choice(theirs, model, row) for row in ROWS]
    for place, metric in enumerate(("acc", "acc_norm")):
        expected = sum(c[place] == row["answer"] for c, row in zip(chosen, ROWS, strict=True)) / len(ROWS)
        assert result["scores"]["tiny_choice"][metric] == pytest.approx(expected)
    assert result["num_questions"] == {"tiny_choice": 4}
    by_item = [item["scores"] for item in sorted(result["items"], key=lambda item: item["id"])]
    assert [s["tiny_choice acc"] for s in by_item] == [
        float(c[0] == row["answer"]) for c, row in zip(chosen, ROWS, strict=True)
    ]


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


def plain_logprobs(model: SpeechModel, ids: list[int]) -> list[float]:
    """Of every id but the first, given those before: one forward pass."""
    ids_T = torch.tensor(ids)
    with torch.no_grad():
        table = model.model.logits(model.model(ids_T[None, :-1])[0]).log_softmax(-1)
    return table.gather(1, ids_T[1:, None])[:, 0].tolist()


def test_of_what_is_longer_than_the_context_the_end_is_kept(model: SpeechModel) -> None:
    """The answer stands at the end: a window from the wrong side would score the question, and not fit the answer."""
    from sodakit.eval.harness import HarnessModel

    harness, context = HarnessModel(model), model.model.config.context
    words = model.tokenizer.encode("the cat sat on the mat and a dog ran home ")
    given, wanted = (words * context)[: 2 * context], model.tokenizer.encode("dogs and cats")
    (long, _), (fits, _) = harness._loglikelihood_tokens(
        [(None, given, wanted), (None, given[: context - len(wanted) - 1], wanted)]
    )
    kept = [*given, *wanted][-context:]
    assert long == pytest.approx(sum(plain_logprobs(model, kept)[-len(wanted) :]), abs=1e-3)
    # One that just fits keeps BOS and loses nothing.
    just = [model.vocabulary.bos, *given[: context - len(wanted) - 1], *wanted]
    assert len(just) == context
    assert fits == pytest.approx(sum(plain_logprobs(model, just)[-len(wanted) :]), abs=1e-3)


def test_an_answer_longer_than_the_context_is_scored_from_its_second_kept_token(model: SpeechModel) -> None:
    from sodakit.eval.harness import HarnessModel

    context = model.model.config.context
    words = model.tokenizer.encode("the cat sat on the mat and a dog ran home ")
    wanted = (words * context)[: context + 3]
    ((found, _),) = HarnessModel(model)._loglikelihood_tokens([(None, [], wanted)])
    assert found == pytest.approx(sum(plain_logprobs(model, wanted[-context:])), abs=1e-3)


def test_a_long_text_is_scored_in_windows_each_after_bos(model: SpeechModel) -> None:
    from lm_eval.api.instance import Instance

    from sodakit.eval.harness import HarnessModel

    span = model.model.config.context - 1
    text = "the cat sat on the mat and a dog ran home " * span
    ids = model.tokenizer.encode(text)[: 2 * span + 5]
    text = model.tokenizer.decode(ids)
    ids = model.tokenizer.encode(text)
    (found,) = HarnessModel(model).loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0)])
    windows = [[model.vocabulary.bos, *ids[at : at + span]] for at in range(0, len(ids), span)]
    assert len(windows) >= 3
    assert found == pytest.approx(sum(sum(plain_logprobs(model, w)) for w in windows), abs=1e-2)


def test_of_a_question_that_leaves_no_room_the_beginning_is_dropped(model: SpeechModel) -> None:
    from lm_eval.api.instance import Instance

    from sodakit.eval.harness import HarnessModel

    limit, context = 6, model.model.config.context
    room = context - limit - 1

    def said(text: str) -> str:
        options = {"until": [], "max_gen_toks": limit}
        return HarnessModel(model).generate_until([Instance("generate_until", {}, (text, options), 0)])[0]

    ids = model.tokenizer.encode("the cat sat on the mat " * context)[:room]
    ids += model.tokenizer.encode("a dog ran home and cats " * context)[:room]
    text = model.tokenizer.decode(ids)
    assert model.tokenizer.encode(text) == ids
    assert said(text) == said(model.tokenizer.decode(ids[room:]))
    assert said(text) != said(model.tokenizer.decode(ids[:room]))


def test_text_goes_on_up_to_a_stop_string(model: SpeechModel) -> None:
    from lm_eval.api.instance import Instance

    from sodakit.eval.harness import HarnessModel

    def said(until: list[str]) -> str:
        options = {"until": until, "max_gen_toks": 6}
        return HarnessModel(model).generate_until([Instance("generate_until", {}, ("a dog", options), 0)])[0]

    whole = said([])
    assert whole and said([whole[1]]) == whole.split(whole[1])[0]
    greedy = {"until": [], "max_gen_toks": model.context_positions}
    with pytest.raises(ConfigError, match="no room for the question"):
        HarnessModel(model).generate_until([Instance("generate_until", {}, ("a dog", greedy), 0)])


def test_the_command_writes_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    only_own_tasks(monkeypatch)
    words = ["--model", str(small_checkpoint(tmp_path / "model")), "--out", str(tmp_path / "out")]
    main(["text", "--tasks", "tiny_choice", "--include", str(tiny_task(tmp_path / "task")), *words])
    assert "tiny_choice acc:" in capsys.readouterr().out
    assert read_json(tmp_path / "out" / "text.json")["task"] == "text"
    words[3] = str(tmp_path / "other")
    words[1] = str(small_checkpoint(tmp_path / "second", seed=9))
    main(["text", "--tasks", "tiny_choice", "--include", str(tiny_task(tmp_path / "task")), *words])
    capsys.readouterr()
    main(["compare", str(tmp_path / "out" / "text.json"), str(tmp_path / "other" / "text.json")])
    printed = capsys.readouterr().out
    a, b = (read_json(tmp_path / name / "text.json")["scores"]["tiny_choice"] for name in ("out", "other"))
    for metric in ("acc", "acc_norm"):
        assert f"tiny_choice {metric}: {a[metric] - b[metric]:+.1%} (" in printed


@pytest.mark.slow
def test_the_command_takes_a_task_beside_the_thousands_that_the_harness_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    words = ["--model", str(small_checkpoint(tmp_path / "model")), "--out", str(tmp_path / "out")]
    main(["text", "--tasks", "tiny_choice", "--include", str(tiny_task(tmp_path / "task")), *words])
    assert "tiny_choice acc:" in capsys.readouterr().out


@pytest.mark.parametrize("questions", [arc, hellaswag])
def test_real_questions_are_answered_as_by_a_plain_loop_over_transformers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    questions: Callable[[Path], list[dict[str, Any]]],
) -> None:
    """A line break, an apostrophe or a bracket is a token like others."""
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    only_own_tasks(monkeypatch)
    from sodakit.eval.harness import text_result

    model, name = small_speech_model(seed=4, context=1024), questions.__name__
    plain = questions(tmp_path / "task")
    theirs = transformers.Qwen3ForCausalLM.from_pretrained(export_hf(model.model, tmp_path / "hf")).eval()
    result = text_result(model, [f"local_{name}"], include=tmp_path / "task")
    chosen = [plain_choice(theirs, model, row) for row in plain]
    for place, metric in enumerate(("acc", "acc_norm")):
        right = [c[place] == row["answer"] for c, row in zip(chosen, plain, strict=True)]
        assert result["scores"][f"local_{name}"][metric] == pytest.approx(sum(right) / QUESTIONS)


def test_a_group_of_tasks_is_printed_with_its_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness counts questions of tasks only, not of their groups."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    only_own_tasks(monkeypatch)
    folder = tiny_task(tmp_path / "task")
    (folder / "group.yaml").write_text(
        "group: tiny_group\ntask: [tiny_choice]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )
    words = ["--model", str(small_checkpoint(tmp_path / "model")), "--out", str(tmp_path / "out")]
    main(["text", "--tasks", "tiny_group", "--include", str(folder), *words])
    printed = capsys.readouterr().out
    assert "tiny_group acc:" in printed and "(4 questions)" in printed
