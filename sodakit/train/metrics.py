"""Numbers of a run as they come: `metrics.jsonl` for programs, TensorBoard for curves, Weights & Biases if asked."""

import json
import math
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sodakit.ceilings import device_name, measured
from sodakit.disk import writing
from sodakit.errors import ConfigError, MissingExtra
from sodakit.files import read_json_lines, write_json_lines
from sodakit.hardware import gpu_named
from sodakit.model.accounting import palm_flops_per_token, training_flops_per_token
from sodakit.tokens.vocabulary import Vocabulary
from sodakit.train.config import TrainConfig


class Metrics:
    """Appends rows to `metrics.jsonl`, scalars to TensorBoard, and both to Weights & Biases if asked."""

    def __init__(self, run: Path, from_step: int, wandb_project: str | None = None) -> None:
        """Open the run's log; rows of steps that a resumed run will make again are dropped.

        Raises:
            MissingExtra: Weights & Biases is asked for and not installed.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._path = run / "metrics.jsonl"
        if self._path.exists():
            kept = [row for row in read_metrics(run) if row["step"] <= from_step]
            write_json_lines(self._path, kept)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=from_step + 1)
        self._wandb = _open_wandb(run, wandb_project) if wandb_project else None

    def write(self, step: int, values: dict[str, Any]) -> None:
        """One row; numbers also become scalars. What is not finite is null in the file: NaN is no JSON."""
        plain = {name: None if _is_no_number(value) else value for name, value in values.items()}
        with writing(self._path):
            self._file.write(json.dumps({"step": step, **plain}) + "\n")
            self._file.flush()
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log({"step": step, **values})

    def close(self) -> None:
        """Flush and close all; once."""
        if self._file.closed:
            return
        self._file.close()
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's `metrics.jsonl`, each with its step; none where there is no such file.

    Raises:
        ConfigError: a line is no such row; the message names it and what to do.
    """
    path = run / "metrics.jsonl"
    advice = "Delete that line, then run the same command again."
    try:
        rows = read_json_lines(path) if path.exists() else []
    except ConfigError as error:
        raise ConfigError(f"{error} {advice}") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise ConfigError(
                f"{path}, row {number}, is no row of a run's numbers: {str(row)[:80]}. {advice}"
            )
    return rows


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _open_wandb(run: Path, project: str) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise MissingExtra("wandb", "wandb", "Logging to Weights & Biases") from error
    # The folder's name as id: a resumed run goes on in the same curves.
    opened = wandb.init(project=project, id=run.resolve().name, name=run.resolve().name, resume="allow")
    opened.define_metric("*", step_metric="step")
    return opened


class Totals(NamedTuple):
    """What a run has trained on so far, over all ranks."""

    audio_frames: int
    """Codec frames."""
    tokens: int
    """Ids: text, markers, and every code of the frames."""
    attended_positions: float
    """Mean document length (T_eff) over the last step's positions, for the FLOPs of attention."""


class Meter:
    """Speed since the last reading; validation and listening do not count as training time."""

    def __init__(
        self,
        config: TrainConfig,
        frame_rate_hz: float,
        step: int,
        device: torch.device,
        num_ranks: int = 1,
    ) -> None:
        self._config, self._device = config, device
        self._frame_rate_hz = frame_rate_hz
        gpu = gpu_named(device_name(device)) if device.type == "cuda" else None
        self._peak_flops = gpu.peak_flops * num_ranks if gpu else None
        ceilings = measured(device_name(device))
        self._measured_flops = ceilings and ceilings.flops_per_s(config.precision) * num_ranks
        self._start_s, self._start_step = time.perf_counter(), step

    def read(self, step: int, totals: Totals) -> dict[str, float]:
        """Positions, tokens and hours of audio so far, and speed and memory since the last reading.

        `flops_per_s` and `mfu_causal` count attention as computed (half the square of each document), `…_palm` as most
        reports do (the full square of the row). MFU is left out where the processor's peak is not known; `mfu_measured` is the
        causal one against what `sodakit doctor --bench` measured here, where it did.

        Args:
            step: steps done.
            totals: what was trained on so far.
        """
        config, now_s = self._config, time.perf_counter()
        new = (step - self._start_step) * config.data.batch_positions
        positions_per_s = new / max(now_s - self._start_s, 1e-9)
        self._start_s, self._start_step = now_s, step
        positions = (step - config.first_step) * config.data.batch_positions
        frames = totals.audio_frames / max(positions, 1)
        causal = positions_per_s * training_flops_per_token(config.model, totals.attended_positions, frames)
        palm = positions_per_s * palm_flops_per_token(config.model, config.data.context, frames)
        values = {
            "positions": positions,
            "tokens": totals.tokens,
            "audio_hours": totals.audio_frames / self._frame_rate_hz / 3600,
            "positions_per_s": positions_per_s,
            "tokens_per_s": positions_per_s * totals.tokens / max(positions, 1),
            "audio_s_per_s": positions_per_s * frames / self._frame_rate_hz,
            "flops_per_s": causal,
            "flops_per_s_palm": palm,
            "peak_memory_bytes": peak_memory_bytes(self._device),
        }
        if self._peak_flops:
            values |= {"mfu_causal": causal / self._peak_flops, "mfu_palm": palm / self._peak_flops}
        if self._measured_flops:
            values["mfu_measured"] = causal / self._measured_flops
        return values

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside is not training."""
        begin_s = time.perf_counter()
        yield
        self._start_s += time.perf_counter() - begin_s


def count_frames(vocabulary: Vocabulary, ids: np.ndarray) -> int:
    """Codec frames among some ids: each has one id of the first codebook, whichever others a view writes."""
    first, after = vocabulary.codebook_range(0)
    return int(np.count_nonzero((ids >= first) & (ids < after)))


def peak_memory_bytes(device: torch.device) -> int:
    """The most this process has held: on its GPU, or in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
