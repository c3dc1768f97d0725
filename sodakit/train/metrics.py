"""Numbers of a run as they come: `metrics.jsonl` for programs, TensorBoard for curves."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sodakit.files import read_json_lines, write_json_lines
from sodakit.model.accounting import training_flops_per_token
from sodakit.train.config import TrainConfig


class Metrics:
    """Appends rows to `metrics.jsonl` and scalars to TensorBoard."""

    def __init__(self, run: Path, from_step: int) -> None:
        """Open the run's log; rows of steps that a resumed run will make again are dropped."""
        from torch.utils.tensorboard import SummaryWriter

        self._path = run / "metrics.jsonl"
        if self._path.exists():
            kept = [row for row in read_json_lines(self._path) if row["step"] <= from_step]
            write_json_lines(self._path, kept)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=from_step + 1)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """One row; numbers also become TensorBoard scalars."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._board.close()


class Meter:
    """Speed since the last reading; validation and listening do not count as training time."""

    def __init__(self, config: TrainConfig, tokens_per_audio_s: float, step: int) -> None:
        self._config = config
        self._tokens_per_audio_s = tokens_per_audio_s
        self._start_s, self._start_step = time.perf_counter(), step

    def read(self, step: int, audio_tokens: int, attended_tokens: float) -> dict[str, float]:
        """Tokens and hours of audio so far, and the speed since the last reading.

        Args:
            step: steps done.
            audio_tokens: audio tokens trained on so far.
            attended_tokens: mean document length (T_eff), for the FLOPs of attention.
        """
        now_s = time.perf_counter()
        tokens = (step - self._start_step) * self._config.data.batch_tokens
        tokens_per_s = tokens / max(now_s - self._start_s, 1e-9)
        self._start_s, self._start_step = now_s, step
        return {
            "tokens": step * self._config.data.batch_tokens,
            "audio_hours": audio_tokens / self._tokens_per_audio_s / 3600,
            "tokens_per_s": tokens_per_s,
            "flops_per_s": tokens_per_s * training_flops_per_token(self._config.model, attended_tokens),
        }

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside is not training."""
        begin_s = time.perf_counter()
        yield
        self._start_s += time.perf_counter() - begin_s
