"""Tables of training runs, whatever their origin: our run folders, CSV, JSON lines, exports of W&B and others."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sodakit.errors import ConfigError
from sodakit.files import read_json, read_json_lines
from sodakit.scaling.columns import column_of, complete_row, named_row, notes_on
from sodakit.scaling.table import RunTable
from sodakit.scaling.wandb_runs import SUMMARY, wandb_rows


def table_from_rows(
    rows: Iterable[Mapping[str, Any]], origin: str = "", aliases: Mapping[str, str] | None = None
) -> RunTable:
    """A table of rows with any known column names, nested or flat; sizes and FLOPs are counted where rows tell the shape.

    Args:
        aliases: further column names: theirs → ours, for example `{"my_loss": "loss/all"}`.
    """
    found = [named_row(row, aliases or {}) for row in rows]
    keys = [{n: key for n, (key, _) in row.items() if n.startswith("loss/")} for row in found]
    named = [{name: value for name, (_, value) in row.items()} for row in found]
    made = []
    for number, row in enumerate(named):
        row.setdefault("run", f"run{number:03d}")
        made.append(complete_row(row))
    names = list(dict.fromkeys(name for row in named for name in row))
    columns = {name: column_of(name, [row.get(name) for row in named]) for name in names}
    return RunTable(columns, origin, notes_on(made, keys, len(named)))


def read_table(path: Path | str, aliases: Mapping[str, str] | None = None) -> RunTable:
    """The runs in a CSV or JSON-lines file, a JSON list, a folder of our runs, or one of W&B's (`wandb/`).

    Raises:
        ConfigError: no such file, or nothing in it that names sizes, tokens and losses.
    """
    path = Path(path)
    if path.is_dir() and any(path.rglob(SUMMARY)):
        return _complete_table(list(wandb_rows(path)), path, aliases)
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
    return _complete_table(rows, path, aliases)


def read_tables(paths: Sequence[Path | str], aliases: Mapping[str, str] | None = None) -> RunTable:
    """The runs of several tables or folders as one.

    Raises:
        ConfigError: one cannot be read, or one run stands in two of them.
    """
    tables = [read_table(path, aliases) for path in paths]
    if len(tables) == 1:
        return tables[0]
    names = [(name, float(d)) for t in tables for name, d in zip(t.runs, t.tokens(), strict=True)]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ConfigError(
            f"The run {twice[0]} ({twice[1]:.4g} tokens) stands in two of the tables. Give each run once."
        )
    whole = table_from_rows(
        (row for table in tables for row in table.rows()), ", ".join(t.origin for t in tables)
    )
    return replace(whole, notes=tuple(dict.fromkeys(note for t in (*tables, whole) for note in t.notes)))


def _complete_table(rows: list[dict[str, Any]], path: Path, aliases: Mapping[str, str] | None) -> RunTable:
    """The rows as a table that has what every law needs."""
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
