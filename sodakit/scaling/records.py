"""One table of training runs, whatever its origin: our run folders, CSV, JSON lines, exports of W&B and others.

Sizes and FLOPs are kept by every convention under its own name and never inferred from one another; a table without
shapes has those it came with.
"""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.config import from_plain
from sodakit.errors import ConfigError
from sodakit.files import digest, read_json, read_json_lines, write_json_lines, write_text
from sodakit.model.accounting import (
    count_parameters,
    palm_flops_per_token,
    soda_training_flops,
    training_flops_per_token,
)
from sodakit.model.config import ModelConfig

SIZES = ("total", "non_embedding", "one_embedding", "two_embeddings", "matmul")
"""Conventions for N. The paper's law counts two embeddings; `total` is what a table calls its parameters."""
FLOPS = ("given", "soda", "exact", "palm")
"""Conventions for C: as the table says; the paper's (3 × Levanter's forward count); causal attention; PaLM's."""

_ALIASES: dict[str, tuple[str, ...]] = {
    "run": ("run", "name", "run_name", "run_id", "id", "displayname"),
    "n/total": (
        "n", "params", "parameters", "parameter_count", "num_params", "n_params", "model_size", "n_total",
        "total_params", "total_parameters", "param_count", "num_parameters",
    ),
    "n/non_embedding": (
        "n_nonembed", "n_non_embedding", "non_embedding_params", "params_non_embedding", "n_noembed",
        "num_non_embedding_params", "nonembedding_params", "non_embedding_parameters",
    ),
    "n/one_embedding": ("n_one_embedding",),
    "n/two_embeddings": ("n_two_embeddings",),
    "n/matmul": ("n_matmul", "matmul_params"),
    "tokens": (
        "d", "tokens", "token_count", "num_tokens", "total_tokens", "train_tokens", "training_tokens",
        "throughput_total_tokens", "tokens_seen", "d_tokens",
    ),
    "c/given": (
        "c", "flops", "flop", "compute", "train_flops", "training_flops", "training_flop", "total_flops",
        "c_flops", "throughput_total_flops",
    ),
    "c/soda": ("c_soda",),
    "c/exact": ("c_exact",),
    "c/palm": ("c_palm",),
    "loss/all": ("loss", "loss_all", "final_loss", "eval_loss", "val_loss", "validation_loss", "test_loss", "nll"),
    "loss_se": ("loss_se", "loss_stderr", "loss_standard_error"),
    "lr": ("lr", "learning_rate", "peak_lr", "trainer_learning_rate", "optimizer_learning_rate"),
    "batch_tokens": ("batch_tokens", "tokens_per_batch", "tokens_per_step"),
    "batch_rows": ("batch", "batch_size", "train_batch_size", "trainer_train_batch_size", "batch_rows"),
    "steps": ("steps", "num_steps", "train_steps", "num_train_steps", "trainer_num_train_steps"),
    "seed": ("seed", "trainer_seed"),
    "unique_tokens": ("unique_tokens", "u", "d_unique"),
    "weight": ("weight", "weights"),
    "cluster": ("cluster", "group_id"),
    "budget": ("budget", "flop_budget", "budget_flops"),
    "status": ("status", "state"),
    "shape/width": ("width", "hidden", "hidden_size", "hidden_dim", "d_model", "n_embd", "model_hidden_dim"),
    "shape/layers": ("layers", "num_layers", "n_layer", "n_layers", "num_hidden_layers", "model_num_layers"),
    "shape/heads": ("heads", "num_heads", "n_head", "n_heads", "num_attention_heads", "model_num_heads"),
    "shape/kv_heads": ("kv_heads", "num_kv_heads", "num_key_value_heads", "model_num_kv_heads"),
    "shape/head_width": ("head_width", "head_dim", "model_head_dim"),
    "shape/ffn_width": ("ffn", "ffn_width", "intermediate_size", "intermediate_dim", "model_intermediate_dim"),
    "shape/vocab_size": ("vocab", "vocab_size", "model_vocab_size"),
    "shape/tied_embeddings": ("tied", "tied_embeddings", "tie_word_embeddings", "model_tie_word_embeddings"),
    "shape/context": ("context", "seq", "seq_len", "sequence_length", "max_seq_len", "train_seq_len"),
}  # fmt: skip
_KNOWN = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}
_WORDS = ("run", "status", "cluster")
"""Columns that hold words; every other one holds numbers."""
_STREAM = re.compile(
    r"^(?:validation|eval|val)?/?(?:loss[/_])?(text|markers|semantic|acoustic_\d+)(?:_loss)?$"
)
_FINISHED = ("", "finished", "done", "completed", "true")


@dataclass(frozen=True)
class RunTable:
    """Columns by name, one entry for each run; numbers that are not known are nan.

    `n/…` parameters, `c/…` training FLOPs, `tokens`, `loss/…` in nats per token, `bits_per_audio_s`, `shape/…`.
    """

    columns: Mapping[str, np.ndarray]
    origin: str = ""
    """Where it was read."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    @property
    def runs(self) -> list[str]:
        """Names of the runs."""
        return [str(r) for r in self.columns["run"]]

    @property
    def losses(self) -> list[str]:
        """Losses that some run has: `all`, `text`, `semantic`, …, and `bits_per_audio_s`."""
        named = [
            c.removeprefix("loss/") for c in self.columns if c.startswith("loss/") or c == "bits_per_audio_s"
        ]
        return [n for n in named if np.isfinite(self.loss(n)).any()]

    @property
    def fingerprint(self) -> str:
        """A digest of every value."""
        return digest(json.dumps(self.rows(), sort_keys=True, default=str))

    def sizes(self, convention: str = "total") -> np.ndarray:
        """N of every run."""
        return self._numbers(f"n/{convention}", SIZES)

    def tokens(self) -> np.ndarray:
        """D of every run."""
        return self._numbers("tokens", ())

    def flops(self, convention: str = "given", size: str = "total") -> np.ndarray:
        """C of every run; the convention `6nd` multiplies, by the given convention for N."""
        if convention == "6nd":
            return 6 * self.sizes(size) * self.tokens()
        return self._numbers(f"c/{convention}", (*FLOPS, "6nd"))

    def loss(self, name: str = "all") -> np.ndarray:
        """A loss of every run, in nats per token (bits per second for `bits_per_audio_s`)."""
        return self._numbers(name if name == "bits_per_audio_s" else f"loss/{name}", ())

    def weights(self) -> np.ndarray:
        """Weight of every run in a fit: the column `weight`, else 1."""
        given = self.columns.get("weight", np.full(len(self), np.nan)).astype(float)
        return np.where(np.isfinite(given), given, 1.0)

    def conventions(self) -> tuple[list[str], list[str]]:
        """For N and for C, the conventions every run has."""
        return (
            [s for s in SIZES if self._has(f"n/{s}")],
            [c for c in FLOPS if self._has(f"c/{c}")] + ["6nd"],
        )

    def select(self, keep: np.ndarray | Sequence[int]) -> "RunTable":
        """The runs of a mask or of indices."""
        return RunTable({name: column[keep] for name, column in self.columns.items()}, self.origin)

    def usable(self, *, loss: str = "all", size: str = "total", flops: str = "given") -> "RunTable":
        """Runs that finished and have N, D, C and the loss.

        Raises:
            ConfigError: there is none.
        """
        keep = np.isfinite(self.sizes(size)) & np.isfinite(self.tokens()) & np.isfinite(self.loss(loss))
        keep &= np.isfinite(self.flops(flops, size))
        if "status" in self.columns:
            keep &= np.array([str(s).lower() in _FINISHED for s in self.columns["status"]])
        if not keep.any():
            raise ConfigError(
                f"No run of {self.origin or 'the table'} has N ({size}), tokens, C ({flops}) and the loss {loss!r} and has finished. "
                f"Columns: {', '.join(self.columns)}."
            )
        return self.select(keep)

    def budgets(self, flops: str = "given", size: str = "total", tolerance: float = 0.1) -> np.ndarray:
        """The budget each run belongs to: C's that follow one another within `tolerance` are one budget, their median."""
        flops_R = self.flops(flops, size)
        order = np.argsort(flops_R)
        new = np.concatenate([[True], np.diff(np.log(flops_R[order])) > np.log1p(tolerance)])
        group = np.cumsum(new) - 1
        result = np.empty(len(self))
        for g in range(group[-1] + 1):
            members = order[group == g]
            result[members] = np.median(flops_R[members])
        return result

    def consistency(self, flops: str = "given", size: str = "total") -> tuple[float, float]:
        """Lowest and highest 6ND/C. 1 in a small-vocabulary model; 0.98–1.66 in SODA's sweep.

        Raises:
            ConfigError: outside 0.1–10, where C, N and D cannot be of the same run, or one is in another unit.
        """
        ratio_R = 6 * self.sizes(size) * self.tokens() / self.flops(flops, size)
        low, high = float(np.nanmin(ratio_R)), float(np.nanmax(ratio_R))
        # Without embeddings N is a small part of a small model, and the ratio with it.
        if not (0.01 if size == "non_embedding" else 0.1) <= low <= high <= 10:
            worst = self.runs[int(np.nanargmax(np.abs(np.log(ratio_R))))]
            raise ConfigError(
                f"6ND/C lies between {low:.3g} and {high:.3g} (worst: run {worst!r}); needed: about 1. "
                "Check the units of N, D and C; forward-only FLOPs are a third of training FLOPs."
            )
        return low, high

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each run, unknown values left out."""
        return [
            {
                name: (str(column[i]) if name in _WORDS else float(column[i]))
                for name, column in self.columns.items()
                if name in _WORDS or np.isfinite(column[i])
            }
            for i in range(len(self))
        ]

    def write(self, path: Path | str) -> None:
        """Write CSV or JSON lines, by the ending of the name."""
        path = Path(path)
        if path.suffix == ".csv":
            lines = [list(self.columns)] + [
                [row.get(name, "") for name in self.columns] for row in self.rows()
            ]
            write_text(path, "".join(",".join(_csv_cell(c) for c in line) + "\n" for line in lines))
        else:
            write_json_lines(path, self.rows())

    def _numbers(self, name: str, known: Sequence[str]) -> np.ndarray:
        if name not in self.columns:
            if known and name.split("/")[-1] not in known:
                raise ConfigError(f"No convention {name.split('/')[-1]!r}. Conventions: {', '.join(known)}.")
            return np.full(len(self), np.nan)
        return self.columns[name].astype(float)

    def _has(self, name: str) -> bool:
        return name in self.columns and bool(np.isfinite(self.columns[name].astype(float)).all())


def table_from_rows(
    rows: Iterable[Mapping[str, Any]], origin: str = "", aliases: Mapping[str, str] | None = None
) -> RunTable:
    """A table of rows with any known column names, nested or flat; sizes and FLOPs are counted where rows tell the shape.

    Args:
        aliases: further column names: theirs → ours, for example `{"my_loss": "loss/all"}`.
    """
    named = [_named(row, dict(aliases or {})) for row in rows]
    for number, row in enumerate(named):
        row.setdefault("run", f"run{number:03d}")
        _complete(row)
    names = list(dict.fromkeys(name for row in named for name in row))
    return RunTable({name: _column(name, [row.get(name) for row in named]) for name in names}, origin)


def read_table(path: Path | str, aliases: Mapping[str, str] | None = None) -> RunTable:
    """The runs in a CSV or JSON-lines file, a folder of our runs, or a JSON list.

    Raises:
        ConfigError: no such file, or nothing in it that names sizes, tokens and losses.
    """
    path = Path(path)
    if path.is_dir():
        return read_runs(path)
    if not path.exists():
        raise ConfigError(f"{path} does not exist. Give a CSV or JSONL table, or a folder of runs.")
    if path.suffix == ".json":
        rows = read_json(path)
    elif path.suffix == ".jsonl":
        rows = read_json_lines(path)
    else:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            sample = handle.read(4096)
            handle.seek(0)
            rows = list(csv.DictReader(handle, delimiter="\t" if "\t" in sample.split("\n")[0] else ","))
    table = table_from_rows(rows, str(path), aliases)
    missing = [name for name in ("tokens",) if name not in table.columns]
    if not any(c.startswith("n/") for c in table.columns):
        missing.insert(0, "parameters (n, params, …)")
    if not any(c.startswith("loss/") or c == "bits_per_audio_s" for c in table.columns):
        missing.append("loss")
    if missing:
        found = ", ".join(str(c) for c in (rows[0] if rows else {}))
        raise ConfigError(
            f"{path} has no column for {', '.join(missing)}. Its columns: {found}. Name them, for example --alias my_loss=loss/all."
        )
    return table


def read_runs(folder: Path | str) -> RunTable:
    """The runs of ours under a folder: config.json and the last validation in metrics.jsonl of each.

    A run is `finished` where its last step is there, `diverged` where it left diverged.json, else `running`.

    Raises:
        ConfigError: no run folder there.
    """
    found = sorted(
        p.parent
        for p in Path(folder).rglob("config.json")
        if not {"checkpoints", "trunks"} & set(p.relative_to(folder).parts)
    )
    rows = [row for run in found if (row := _own_run(run)) is not None]
    if not rows:
        raise ConfigError(f"{folder} holds no run (a folder with config.json and metrics.jsonl).")
    return table_from_rows(rows, str(folder))


def _own_run(run: Path) -> dict[str, Any] | None:
    config = read_json(run / "config.json").get("train")
    if config is None:
        return None
    metrics = read_json_lines(run / "metrics.jsonl") if (run / "metrics.jsonl").exists() else []
    step = max((row["step"] for row in metrics), default=0)
    row: dict[str, Any] = {
        "run": run.name,
        "tokens": step * config["data"]["batch_rows"] * config["data"]["context"],
        "steps": step,
        "lr": config["schedule"]["peak_lr"],
        "batch_rows": config["data"]["batch_rows"],
        "batch_tokens": config["data"]["batch_rows"] * config["data"]["context"],
        "seed": config["seed"],
        "status": "finished" if step == config["steps"] else "running",
    }
    if (run / "diverged.json").exists():
        row["status"] = "diverged"
    row |= {f"shape/{k}": v for k, v in config["model"].items()} | {
        "shape/context": config["data"]["context"]
    }
    for values in metrics:
        for name, value in values.items():
            if name.startswith("validation/") and name != "validation/loss/all_weighted":
                row[name.removeprefix("validation/")] = value
    point = run / "design.json"
    return row | ({"budget": read_json(point)["budget_flops"]} if point.exists() else {})


def _named(row: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """Nested keys flattened, known names made ours, the rest dropped; of two names for one thing the first stands."""
    result: dict[str, Any] = {}
    for key, value in _flat(row):
        name = aliases.get(key) or _our_name(key)
        if name and value not in (None, "") and name not in result:
            result[name] = value
    return result


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _our_name(key: str) -> str | None:
    if key in _ALIASES or key.startswith(("n/", "c/", "loss/", "shape/")) or key == "bits_per_audio_s":
        return key
    # W&B prefixes what was set and what came out; both are told by the rest of the name.
    plain = re.sub(r"^(config|summary|summary_metrics)[./]", "", key.strip())
    plain = re.sub(r"\.value$", "", plain)
    stream = _STREAM.match(plain.lower())
    if stream:
        return f"loss/{stream.group(1)}"
    slug = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    return _KNOWN.get(slug)


def _complete(row: dict[str, Any]) -> None:
    """Every convention that the shape and the tokens of a run determine."""
    for name in row:
        if name not in _WORDS:
            row[name] = _number(row[name])
    if "tokens" not in row and "n/total" in row and "c/given" in row:
        row["tokens"] = row["c/given"] / (6 * row["n/total"])
    if "tokens" not in row and {"steps", "batch_tokens"} <= set(row):
        row["tokens"] = row["steps"] * row["batch_tokens"]
    shape = model_of(row)
    if shape is None:
        if "c/given" not in row and {"n/total", "tokens"} <= set(row):
            row["c/given"] = 6 * row["n/total"] * row["tokens"]
        return
    count, context = count_parameters(shape), int(row.get("shape/context", shape.context))
    for size in SIZES:
        row.setdefault(f"n/{size}", float(getattr(count, size)))
    tokens = row.get("tokens", float("nan"))
    row.setdefault("c/soda", soda_training_flops(shape, tokens, context))
    row.setdefault("c/exact", training_flops_per_token(shape, context) * tokens)
    row.setdefault("c/palm", palm_flops_per_token(shape, context) * tokens)
    row.setdefault("c/given", row["c/soda"])


def model_of(row: Mapping[str, Any]) -> ModelConfig | None:
    """The model a row's `shape/…` columns describe, or None where they do not suffice."""
    known = {f.name: f.type for f in fields(ModelConfig)}
    shape: dict[str, Any] = {}
    for name, value in row.items():
        field = name.removeprefix("shape/")
        if name.startswith("shape/") and field in known and value == value:
            shape[field] = value
    if not {"width", "layers", "heads", "ffn_width", "vocab_size"} <= set(shape):
        return None
    whole = ("width", "layers", "heads", "kv_heads", "head_width", "ffn_width", "vocab_size", "context")
    shape = {k: int(v) if k in whole else v for k, v in shape.items() if k != "rope_scaling"}
    shape.setdefault("kv_heads", shape["heads"])
    shape.setdefault("head_width", shape["width"] // shape["heads"])
    shape["tied_embeddings"] = bool(shape.get("tied_embeddings", False))
    return from_plain(ModelConfig, shape, "shape")


def _number(value: Any) -> Any:
    if isinstance(value, (bool, dict)):
        return value
    if isinstance(value, str):
        text = value.strip().replace(",", "").replace("_", "")
        suffix = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}.get(text[-1:].lower())
        try:
            return float(text[:-1]) * suffix if suffix else float(text)
        except ValueError:
            return {"true": True, "false": False}.get(text.lower(), float("nan"))
    return float(value) if isinstance(value, (int, float)) else value


def _column(name: str, values: list[Any]) -> np.ndarray:
    if name in _WORDS:
        return np.array(["" if v is None else str(v) for v in values], dtype=object)
    return np.array([v if isinstance(v, (int, float)) else np.nan for v in values], float)


def _csv_cell(value: Any) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if re.search(r'[",\n]', text) else text
