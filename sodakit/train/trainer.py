"""When things happen in a run. What happens is in the files beside this one."""

import platform
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sodakit import __version__
from sodakit.checkpoint.load import latest_checkpoint, load_checkpoint
from sodakit.checkpoint.save import save_checkpoint
from sodakit.config import config_digest, to_plain
from sodakit.data.language import open_language
from sodakit.data.loader import Batch, Loader, prefetch
from sodakit.distributed import world_size
from sodakit.errors import CheckpointError, ConfigError
from sodakit.files import digest, read_json, write_json
from sodakit.log import console, progress_bar, say
from sodakit.model.lora import add_adapters
from sodakit.model.transformer import Transformer
from sodakit.tokens.text import TextTokenizer
from sodakit.train.config import TrainConfig
from sodakit.train.metrics import Meter, Metrics
from sodakit.train.objective import LossVector, Objective
from sodakit.train.optim import CautiousAdamW
from sodakit.train.schedule import learning_rate
from sodakit.train.validate import Validation
from sodakit.units import format_count

MAX_BAD_STEPS = 10
"""Steps in a row with a non-finite gradient before the run stops."""

Listen = Callable[[Transformer, int, Path], dict[str, Any]]
"""Given the model, the step and a folder: writes samples there and returns numbers for the metrics."""


class Run:
    """One training run: its parts, and its place in time."""

    def __init__(self, config: TrainConfig, folder: Path, device: torch.device) -> None:
        if world_size() > 1:
            raise ConfigError(
                f"WORLD_SIZE={world_size()}; this version trains in one process. Start it without torchrun."
            )
        self.config, self.folder, self.device = config, folder, device
        store, self.vocabulary = open_language(config.data.sources[0].store)
        if config.model.vocab_size != self.vocabulary.size:
            raise ConfigError(
                f"model.vocab_size={config.model.vocab_size}; the vocabulary of {store.folder} has {self.vocabulary.size} ids."
            )
        self.codec_spec = store.codec_spec
        self.tokenizer = TextTokenizer.load(store.tokenizer_folder)
        self.loader = Loader(config.data, self.vocabulary)
        self.dtype = getattr(torch, config.precision)
        self.objective = Objective(self.vocabulary, config.loss, device, self.dtype)
        self.vector = LossVector(self.vocabulary, self.codec_spec.frame_rate_hz, device)
        self.validation = None
        if config.validation:
            self.validation = Validation(
                config.validation, config.data, config.validation_rows, self.vocabulary
            )
        self.step = 0
        self.audio_tokens = 0
        self.attended_tokens = 0.0
        """Mean length of the documents that the last step's positions attend within (T_eff)."""
        self.skipped_steps = 0
        self._bad_steps = 0
        self._start_or_resume()

    def _start_or_resume(self) -> None:
        _claim_folder(self.folder, self.config)
        self.model = Transformer(self.config.model, seed=self.config.seed).to(self.device)
        latest = latest_checkpoint(self.folder / "checkpoints")
        if latest is None and self.config.init_from:
            self.model.load_state_dict(load_checkpoint(Path(self.config.init_from)).merged_weights())
        if self.config.lora is not None:
            add_adapters(self.model, self.config.lora.rank, self.config.lora.alpha, self.config.seed)
        self.optimizer = CautiousAdamW(
            self.model.named_parameters(), self.config.optim, self.config.schedule.peak_lr
        )
        if latest is not None:
            checkpoint = load_checkpoint(latest)
            self.model.load_state_dict(checkpoint.weights())
            state = checkpoint.state
            self.step, self.audio_tokens = state["step"], state["audio_tokens"]
            self.skipped_steps = state["skipped_steps"]
            self.vector.load_state(state["loss_vector"])
            moments = checkpoint.optimizer_state()
            if moments is None:
                raise CheckpointError(
                    f"{latest} has no optimizer state, so the run cannot go on. Start from it with init_from."
                )
            self.optimizer.load_state_dict(moments, state["updates"])
            say(f"Resuming {self.folder} at step {self.step} of {self.config.steps}.")

    def batches(self) -> Iterator[Batch]:
        """The batches that are left."""
        return prefetch(self.loader, range(self.step, self.config.steps))

    def update(self, batch: Batch) -> dict[str, Any]:
        """One optimizer step; learning rate and gradient norm (a tensor, so nothing waits for it on a GPU)."""
        denominator = self.objective.total_weight(batch)
        micro = self.config.micro_rows or len(batch.ids_BT)
        for first in range(0, len(batch.ids_BT), micro):
            targets = self.objective.targets(batch, slice(first, first + micro), denominator)
            loss, nll_T = self.objective(self.model, targets)
            loss.backward()
            self.vector.add(nll_T, targets.kinds_T)
        lr = learning_rate(self.step, self.config.steps, self.config.schedule)
        norm = self.optimizer.clip()
        if self._finite(norm):
            self.optimizer.step(lr)
        else:
            self.model.zero_grad(set_to_none=True)
        self.step += 1
        lengths = [length for row in batch.lengths for length in row]
        self.attended_tokens = sum(n * n for n in lengths) / sum(lengths)
        self.audio_tokens += int(self.vocabulary.is_audio(batch.ids_BT).sum())
        return {"lr": lr, "grad_norm": norm}

    def _finite(self, norm: torch.Tensor) -> bool:
        if torch.isfinite(norm):
            self._bad_steps = 0
            return True
        self._bad_steps += 1
        self.skipped_steps += 1
        if self._bad_steps >= MAX_BAD_STEPS:
            good = latest_checkpoint(self.folder / "checkpoints")
            raise CheckpointError(
                f"The gradient was not finite for {MAX_BAD_STEPS} steps in a row, up to step {self.step}. "
                f"Last good checkpoint: {good or 'none'}. Lower schedule.peak_lr or look at the data of these steps."
            )
        return False

    def save(self) -> Path:
        """Write the checkpoint of this step, and remove the oldest beyond `keep_checkpoints`."""
        path = self.folder / "checkpoints" / f"step_{self.step:08d}"
        save_checkpoint(
            path,
            model=self.model,
            optimizer_state=self.optimizer.state_dict(),
            state={
                "step": self.step,
                "updates": self.optimizer.updates,
                "audio_tokens": self.audio_tokens,
                "skipped_steps": self.skipped_steps,
                "loss_vector": self.vector.state(),
            },
            config=to_plain(self.config),
            vocabulary_folder=self.folder / "vocabulary",
            codec=to_plain(self.codec_spec),
        )
        _prune(self.folder / "checkpoints", self.config.keep_checkpoints)
        return path


def train(
    config: TrainConfig,
    folder: Path | str,
    *,
    device: str | None = None,
    listen: Listen | None = None,
) -> Path:
    """Train, or go on training, in `folder`; the path of the last checkpoint.

    A folder of the same config is resumed, exactly; one of another config is refused.

    Args:
        config: everything about the run.
        folder: gets config.json, environment.json, vocabulary/, metrics.jsonl, tensorboard/, checkpoints/, samples/.
        device: `cpu`, `cuda`, …; by default the GPU where there is one.
        listen: called every `listen_every_steps` to make samples.
    Raises:
        ConfigError: the folder belongs to another config, or the config does not fit the data.
    """
    run = Run(config, Path(folder), torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    _write_identity(run)
    metrics = Metrics(run.folder, run.step)
    meter = Meter(config, run.codec_spec.frame_rate_hz * run.codec_spec.num_codebooks, run.step)
    with progress_bar() as bar, _FinishStepOnSigterm() as stop:
        task = bar.add_task("train", total=config.steps, completed=run.step, note="")
        for batch in run.batches():
            values = run.update(batch)
            last = run.step == config.steps
            if last or run.step % config.log_every_steps == 0:
                row = meter.read(run.step, run.audio_tokens, run.attended_tokens)
                row = run.vector.read() | {k: float(v) for k, v in values.items()} | row
                metrics.write(run.step, row | {"skipped_steps": run.skipped_steps})
                bar.update(task, completed=run.step, note=_note(row))
                if not console.is_terminal and (last or run.step % max(config.steps // 20, 1) == 0):
                    say(f"step {run.step} of {config.steps}  {_note(row)}")
            if last or _due(run.step, config.validate_every_steps):
                _validate(run, metrics, meter)
            if listen and (last or _due(run.step, config.listen_every_steps)):
                _listen(run, listen, metrics, meter)
            if last or stop or _due(run.step, config.save_every_steps):
                run.save()
            if stop:
                raise SystemExit(f"Stopped at step {run.step}; the same command goes on from there.")
    metrics.close()
    path = latest_checkpoint(run.folder / "checkpoints")
    assert path is not None
    return path


def _note(row: dict[str, Any]) -> str:
    return f"loss {row['loss/all']:.3f}  {format_count(row['tokens_per_s'])} tok/s  {row['audio_hours']:.1f} h heard"


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _validate(run: Run, metrics: Metrics, meter: Meter) -> None:
    if run.validation is None:
        return
    with meter.paused():
        vector = LossVector(run.vocabulary, run.codec_spec.frame_rate_hz, run.device)
        values = run.validation(run.model, run.objective, vector)
    metrics.write(run.step, values)


def _listen(run: Run, listen: Listen, metrics: Metrics, meter: Meter) -> None:
    with meter.paused():
        folder = run.folder / "samples" / f"step_{run.step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        run.model.eval()
        values = listen(run.model, run.step, folder)
        run.model.train()
    if values:
        metrics.write(run.step, values)


class _FinishStepOnSigterm:
    """A cluster's SIGTERM lets the step end and a checkpoint be written; truthy once it has come."""

    def __enter__(self) -> "_FinishStepOnSigterm":
        self._came = False
        try:
            self._previous = signal.signal(signal.SIGTERM, self._note)
        except ValueError:  # not the main thread
            self._previous = None
        return self

    def _note(self, *_: object) -> None:
        self._came = True

    def __bool__(self) -> bool:
        return self._came

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)


def _claim_folder(folder: Path, config: TrainConfig) -> None:
    """Make the run folder ours, or check that it is.

    Raises:
        ConfigError: it holds a run of another config or other data; the message names what differs.
    """
    path = folder / "config.json"
    # store.json holds the digest of every shard, so its own digest stands for the data.
    stores = {s.store: digest((Path(s.store) / "store.json").read_bytes()) for s in config.data.sources}
    ours = {"digest": config_digest(config), "train": to_plain(config), "stores": stores}
    if not path.exists():
        write_json(path, ours)
        return
    changed = _differences(read_json(path), ours)
    if changed:
        raise ConfigError(
            f"{folder} holds a run with other settings or data ({'; '.join(changed[:5])}). "
            "Resume with its own, or choose another folder."
        )


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            d
            for key in sorted({*old, *new})
            for d in _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        ]
    # The digest differs whenever anything does, and tells a reader nothing.
    return [] if old == new or name == "digest" else [f"{name}: {old} there, {new} now"]


def _write_identity(run: Run) -> None:
    run.vocabulary.save(run.folder / "vocabulary")
    run.tokenizer.save(run.folder / "vocabulary")
    write_json(
        run.folder / "environment.json",
        {
            "sodakit": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "device": torch.cuda.get_device_name(run.device)
            if run.device.type == "cuda"
            else platform.machine(),
            "threads": torch.get_num_threads(),
        },
    )
    tokens = run.config.tokens
    say(
        f"Training {format_count(sum(p.numel() for p in run.model.parameters()))} parameters on {format_count(tokens)} tokens "
        f"({', '.join(f'{e:.1f}' for e in run.loader.epochs(run.config.steps))} passes over its sources)."
    )


def _prune(folder: Path, keep: int) -> None:
    for old in sorted(folder.glob("step_*"))[: -max(keep, 1)]:
        shutil.rmtree(old, ignore_errors=True)
