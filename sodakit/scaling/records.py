"""Tables of training runs, whatever their origin: our run folders, CSV, JSON lines, exports of W&B and others."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from sodakit.config import from_plain
from sodakit.errors import ConfigError, SodakitError
from sodakit.files import read_json, read_json_lines
from sodakit.model.accounting import (
    FRAME_SHARE,
    count_parameters,
    palm_flops_per_token,
    soda_training_flops,
    training_flops_per_token,
)
from sodakit.model.any_config import AnyConfig, codes_at_a_position, family_of
from sodakit.scaling.columns import SIZES, WORDS, meaning_of, named_row
from sodakit.scaling.filling import column_of, complete_row, notes_on
from sodakit.scaling.headers import check_units, hints
from sodakit.scaling.numbers import Style, read_cells, table_style
from sodakit.scaling.rows import read_rows
from sodakit.scaling.table import RunTable
from sodakit.scaling.wandb_runs import SUMMARY, wandb_rows


def table_from_rows(
    rows: Iterable[Mapping[str, Any]],
    origin: str = "",
    aliases: Mapping[str, str] | None = None,
    decimal: Style | None = None,
) -> RunTable:
    """A table of rows with any column names, nested or flat; sizes and FLOPs are counted where rows tell the shape.

    Columns that no name of ours fits are kept as they are (`RunTable.others`).

    Args:
        aliases: further column names: theirs → ours, with a unit if theirs has none: `{"my_loss": "loss/all", "size": "n/total (M)"}`.
        decimal: what stands before decimals; by default read off the cells.
    Raises:
        ConfigError: cells that could be two numbers, or of an unknown unit.
    """
    aliases = aliases or {}
    both = [named_row(row, aliases) for row in rows]
    found, others = [named for named, _ in both], [rest for _, rest in both]
    keys = [{n: key for n, (key, _) in row.items() if n.startswith("loss/")} for row in found]
    named, notes = _read_numbers(found, aliases, decimal)
    made = []
    for number, row in enumerate(named):
        row.setdefault("run", f"row {number + 1}")
        made.append(complete_row(row))
    names = list(dict.fromkeys(name for row in named for name in row))
    columns = {name: column_of(name, [row.get(name) for row in named]) for name in names}
    kept = {
        key: np.array([rest.get(key) for rest in others], dtype=object)
        for key in dict.fromkeys(k for rest in others for k in rest)
    }
    return RunTable(columns, origin, (*notes, *notes_on(made, keys, len(named))), kept)


def _read_numbers(
    found: Sequence[Mapping[str, tuple[str, Any]]], aliases: Mapping[str, str], decimal: Style | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows by our names with cells as numbers, column by column, and what could not be read."""
    cells: dict[tuple[str, str], list[tuple[int, Any]]] = {}
    for number, row in enumerate(found):
        for name, (key, value) in row.items():
            cells.setdefault((name, key), []).append((number, value))
    named: list[dict[str, Any]] = [{} for _ in found]
    notes: list[str] = []
    numbers = {at: [v for _, v in column] for at, column in cells.items() if at[0] not in WORDS}
    common = decimal or table_style({key: column for (_, key), column in numbers.items()})
    for (name, key), column in cells.items():
        values = [v for _, v in column]
        if name not in WORDS:
            read = read_cells(name, key, values, common, decimal, [_place(found, n) for n, _ in column])
            factor = meaning_of(key, aliases)[1]
            values = [v * factor if isinstance(v, float) else v for v in read.values]
            notes += [read.note] if read.note else []
        for (number, _), value in zip(column, values, strict=True):
            named[number][name] = value
    return named, notes


def _place(found: Sequence[Mapping[str, tuple[str, Any]]], number: int) -> str:
    """A row by its number, as people count, and its run."""
    run = found[number].get("run")
    return f"{number + 1} ({run[1]})" if run else str(number + 1)


def read_table(
    path: Path | str,
    aliases: Mapping[str, str] | None = None,
    decimal: Style | None = None,
    *,
    with_loss: bool = True,
) -> RunTable:
    """The runs in a CSV or JSON-lines file, JSON, a folder of our runs, or one of W&B's (`wandb/`).

    Args:
        with_loss: ask for a loss, which runs that might be done have not.
    Raises:
        ConfigError: no such file, or nothing in it that names sizes, tokens and losses.
    """
    path = Path(path)
    if path.is_dir() and not any(path.rglob(SUMMARY)):
        return read_runs(path)
    rows = list(wandb_rows(path)) if path.is_dir() else read_rows(path)
    return _complete_table(rows, path, aliases, decimal, with_loss)


def read_tables(
    paths: Sequence[Path | str], aliases: Mapping[str, str] | None = None, decimal: Style | None = None
) -> RunTable:
    """The runs of several tables or folders as one.

    Raises:
        ConfigError: one cannot be read, or one run stands in two of them.
    """
    tables = [read_table(path, aliases, decimal) for path in paths]
    if len(tables) == 1:
        return tables[0]
    names = [(name, float(d)) for t in tables for name, d in zip(t.runs, t.tokens(), strict=True)]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ConfigError(
            f"The run {twice[0]} ({twice[1]:.4g} tokens) stands in two of the tables. Give each run once."
        )
    whole = table_from_rows(
        (
            {**row, **rest}
            for table in tables
            for row, rest in zip(table.rows(), table.other_rows(), strict=True)
        ),
        ", ".join(t.origin for t in tables),
    )
    return replace(whole, notes=tuple(dict.fromkeys(note for t in (*tables, whole) for note in t.notes)))


def _complete_table(
    rows: list[dict[str, Any]],
    path: Path,
    aliases: Mapping[str, str] | None,
    decimal: Style | None,
    with_loss: bool,
) -> RunTable:
    """The rows as a table that has what every law needs."""
    table = table_from_rows(rows, str(path), aliases, decimal)
    missing = [name for name in ("tokens",) if name not in table.columns]
    if not any(c.startswith("n/") for c in table.columns):
        missing.insert(0, "parameters")
    if with_loss and not any(c.startswith("loss/") or c == "bits_per_audio_s" for c in table.columns):
        missing.append("loss")
    if missing:
        raise ConfigError(f"{path} has no column for {', '.join(missing)}. {hints(rows, missing)}")
    check_units(table, rows, aliases or {})
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
    rows = [row for run in found if (row := _checked_run(run)) is not None]
    if not rows:
        raise ConfigError(f"{folder} holds no run (a folder with config.json and metrics.jsonl).")
    return table_from_rows(rows, str(folder))


def _checked_run(run: Path) -> dict[str, Any] | None:
    """As `_own_run`.

    Raises:
        ConfigError: something in it is damaged; the message names the run.
    """
    try:
        return _own_run(run)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, SodakitError) as error:
        what = str(error) if isinstance(error, SodakitError) else f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"{run} is damaged ({what}). Copy its config.json and metrics.jsonl again, or move it away."
        ) from error


def _own_run(run: Path) -> dict[str, Any] | None:
    config = read_json(run / "config.json").get("train")
    if config is None:
        return None
    metrics = read_json_lines(run / "metrics.jsonl") if (run / "metrics.jsonl").exists() else []
    if not all(isinstance(row.get("step"), int) and row["step"] >= 0 for row in metrics):
        raise ConfigError(f"{run / 'metrics.jsonl'} has a row without its step")
    step = max((row["step"] for row in metrics), default=0)
    positions = step * config["data"]["batch_rows"] * config["data"]["context"]
    # A position of a model of frames holds several tokens; runs of before counted one.
    last = next((m for m in reversed(metrics) if m.get("tokens") and m.get("positions")), None)
    density = last["tokens"] / last["positions"] if last else 1.0
    row: dict[str, Any] = {
        "run": run.name,
        "tokens": round(positions * density),
        "steps": step,
        "lr": config["schedule"]["peak_lr"],
        "batch_rows": config["data"]["batch_rows"],
        "batch_tokens": round(config["data"]["batch_rows"] * config["data"]["context"] * density),
        "seed": config["seed"],
        "status": "finished" if step == config["steps"] else "running",
    }
    if (run / "diverged.json").exists():
        row["status"] = "diverged"
    model, context = from_plain(AnyConfig, config["model"], f"{run}: model"), config["data"]["context"]
    row |= _of_model(model, context)
    heard = next((m for m in reversed(metrics) if m.get("audio_hours") and m.get("tokens")), None)
    if heard is not None:
        row["tokens_per_audio_s"] = heard["tokens"] / (heard["audio_hours"] * 3600)
        row["audio_hours"] = positions * density / row["tokens_per_audio_s"] / 3600
    if row["family"] != "flat":
        row["codebook_size"] = config["model"]["codebook_size"]
        # Every frame has K tokens, and stands at one position.
        frame_share = (density - 1) / (codes_at_a_position(model) - 1) if last else FRAME_SHARE
        row |= _flops_of_frames(model, context, positions, frame_share)
    for values in metrics:
        for name, value in values.items():
            if name.startswith("validation/") and name != "validation/loss/all_weighted":
                row[name.removeprefix("validation/")] = value
    point = run / "design.json"
    if not point.exists():
        return row
    told = read_json(point)
    # Designs of before had one rule of learning rates.
    rule = {name: told[name] for name in ("lr_rule", "lr_multiple") if name in told}
    return row | {"budget": told["budget_flops"]} | rule


def _of_model(model: AnyConfig, context: int) -> dict[str, Any]:
    """What a run's config says of its model. Of frames, sizes are counted here; of flat ones, where all tables' are."""
    shape = asdict(model.backbone) | {"context": context}
    books = codes_at_a_position(model)
    if books == 1:
        return {"family": family_of(model)} | {f"shape/{name}": value for name, value in shape.items()}
    count = count_parameters(model)
    return {
        "family": family_of(model),
        "num_codebooks": books,
        **{f"shape/{name}": shape[name] for name in ("vocab_size", "context", "tied_embeddings")},
        **{f"n/{size}": getattr(count, size) for size in SIZES},
    }


def _flops_of_frames(model: AnyConfig, context: int, positions: int, frame_share: float) -> dict[str, float]:
    """Training FLOPs of a run over frames, by every convention.

    Args:
        frame_share: of the positions that are frames.
    """
    soda = soda_training_flops(model, positions, context)
    return {
        "c/soda": soda,
        "c/exact": training_flops_per_token(model, context, frame_share) * positions,
        "c/palm": palm_flops_per_token(model, context, frame_share) * positions,
        "c/given": soda,
    }
