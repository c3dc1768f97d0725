"""Text benchmarks through lm-evaluation-harness: HellaSwag, ARC, MMLU and all its other tasks, on our model.

The harness makes the prompts and counts the answers; `HarnessModel` gives it log-likelihoods, from packed rows, and
greedy continuations. Text stands as the model reads plain documents: BOS, then the text, without markers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sodakit.errors import ConfigError, MissingExtra
from sodakit.eval.logprobs import score_targets
from sodakit.eval.provenance import weights_provenance
from sodakit.eval.results import provenance
from sodakit.files import digest
from sodakit.generate.speech_model import SpeechModel
from sodakit.model.kv_cache import KVCache
from sodakit.tokens.layouts.contract import lay

try:
    from lm_eval.api.model import TemplateLM
except ImportError as missing:
    raise MissingExtra("lm_eval", "eval", "Text benchmarks through lm-evaluation-harness") from missing


class HarnessModel(TemplateLM):
    """A speech model as the harness sees one: text in, log-likelihoods and text out."""

    def __init__(self, model: SpeechModel, *, row_tokens: int = 2048, max_new_tokens: int = 256) -> None:
        super().__init__()
        self._speech, self._row_tokens, self._max_new_tokens = model, row_tokens, max_new_tokens

    @property
    def eot_token_id(self) -> int:
        """EOS, which ends a document."""
        return self._speech.vocabulary.eos

    @property
    def prefix_token_id(self) -> int:
        """BOS: what an empty context is."""
        return self._speech.vocabulary.bos

    @property
    def tokenizer_name(self) -> str:
        """For the harness's cache."""
        return self._speech.vocabulary.tokenizer_fingerprint

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """The ids of a text, without BOS: every request gets exactly one, in front."""
        return self._speech.tokenizer.encode(string)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        context = self._speech.model.config.context
        sequences, lengths = [], []
        for _, given, wanted in requests:
            given = given[1:] if given[:1] == [self.prefix_token_id] else given
            # The harness's rule for what is too long: the beginning is dropped, the answer is kept.
            ids = ([self.prefix_token_id, *given, *wanted])[-context:]
            sequences.append(np.array(ids, np.int64))
            lengths.append(min(len(wanted), len(ids) - 1))
        found = score_targets(
            self._speech.model, self._speech.vocabulary, sequences, lengths, row_tokens=self._row_tokens
        )
        return [(float(logprob_P.sum()), bool(best_P.all())) for logprob_P, best_P in found]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of each whole text, windows of the context one after another, each after BOS."""
        span = self._speech.model.config.context - 1
        sums = []
        for request in requests:
            ids = self.tok_encode(request.args[0])
            windows = [ids[at : at + span] for at in range(0, len(ids), span)]
            answers = self._loglikelihood_tokens([(None, [], window) for window in windows])
            sums.append(sum(logprob for logprob, _ in answers))
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The likeliest text after each context, up to one of its stop strings or EOS."""
        return [self._continue(request.args[0], dict(request.args[1])) for request in requests]

    @torch.inference_mode()
    def _continue(self, text: str, options: dict[str, Any]) -> str:
        if options.get("do_sample") or float(options.get("temperature") or 0) > 0:
            raise ConfigError(f"The harness asks for sampling ({options}); here text is continued greedily.")
        model, v = self._speech.model, self._speech.vocabulary
        limit = int(options.get("max_gen_toks", self._max_new_tokens))
        stops = options.get("until") or []
        stops = [stops] if isinstance(stops, str) else list(stops)
        room = model.config.context - limit - 1
        if room < 1:
            raise ConfigError(
                f"The harness asks for up to {limit} tokens, and the model's context of {model.config.context} leaves no "
                "room for the question. Lower max_gen_toks, or use a model with a longer context."
            )
        given = [v.bos, *self.tok_encode(text)[-room:]]
        cache = KVCache(model.config, 1, len(given) + limit, model.device, next(model.parameters()).dtype)
        ids, fed = [], given
        for _ in range(limit):
            ids_PW = lay(self._speech.layout, np.array(fed))
            x_BTD = model(torch.from_numpy(ids_PW).long()[None].to(model.device), cache=cache)[:, -1]
            token = int(model.logits(x_BTD, rows=slice(0, v.text_size)).argmax())
            if token == v.eos:
                break
            ids.append(token)
            said = self._speech.tokenizer.decode(ids)
            if any(stop in said for stop in stops):
                return min((said.split(stop)[0] for stop in stops if stop in said), key=len)
            fed = [token]
        return self._speech.tokenizer.decode(ids)


def text_result(
    model: SpeechModel,
    tasks: Sequence[str],
    *,
    num_shots: int | None = None,
    limit: int | None = None,
    include: Path | str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The harness's scores of some of its tasks, with its own standard errors and our provenance.

    Args:
        tasks: by the harness's names, as `hellaswag`, `arc_easy`.
        num_shots: examples before each question; None for what each task says.
        limit: only so many questions of each task.
        include: a folder with further task definitions (YAML), for data that lies here.
    Raises:
        ConfigError: a task it does not know.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(include) if include else None)
    unknown = [name for name in tasks if not manager.match_tasks([name])]
    if unknown:
        raise ConfigError(
            f"lm-evaluation-harness has no task {', '.join(unknown)}. `lm-eval ls tasks` lists them; give the folder of "
            "your own with --include."
        )
    found = simple_evaluate(
        model=HarnessModel(model),
        tasks=list(tasks),
        num_fewshot=num_shots,
        limit=limit,
        task_manager=manager,
        bootstrap_iters=200,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    assert found is not None, "there is one process"
    items = [_item(name, sample) for name, samples in found["samples"].items() for sample in samples]
    return {
        "task": "text",
        "tasks": list(tasks),
        "settings": {"num_shots": num_shots, "limit": limit, "seed": seed},
        **weights_provenance(model.model),
        "vocabulary": model.vocabulary.fingerprint,
        "task_versions": found["versions"],
        "versions": provenance(),
        "num_questions": {name: count["effective"] for name, count in found["n-samples"].items()},
        "scores": {name: _numbers(values) for name, values in found["results"].items()},
        "data_digest": digest(*(f"{item['id']} {item['hash']}" for item in items)),
        "items": items,
    }


def _item(task: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    """What one question gave, by `TASK METRIC`, for paired tests."""
    metrics = {name: sample[name] for name in sample["metrics"] if isinstance(sample.get(name), int | float)}
    name = f"{task}/{sample['doc_id']}"
    return {
        "id": name,
        "cluster": name,
        "hash": sample["doc_hash"],
        "scores": {f"{task} {metric}": float(value) for metric, value in metrics.items()},
    }


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """`acc,none` and `acc_stderr,none` as `acc` and `acc_stderr`."""
    return {
        name.removesuffix(",none"): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and name != "sample_len"
    }
