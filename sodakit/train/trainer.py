"""When things happen in a run. What happens is in the files beside this one."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sodakit.checkpoint.load import latest_checkpoint
from sodakit.distributed import rank
from sodakit.errors import Stopped
from sodakit.hardware import device_named, freed_memory_is_kept, out_of_memory
from sodakit.holding import hold
from sodakit.log import progress_bar, say
from sodakit.model.transformer import Transformer
from sodakit.signals import StopSignals
from sodakit.train.config import TrainConfig
from sodakit.train.identity import check_is_run_folder, write_environment
from sodakit.train.metrics import Meter, Metrics
from sodakit.train.page import RunPage
from sodakit.train.run import Run
from sodakit.units import format_bytes, format_count, format_passes

Listen = Callable[[Transformer, int, Path], dict[str, Any]]
"""Given the model, the step and a folder: writes samples there and returns numbers for the metrics."""
Enough = Callable[[], bool]
"""Whether a run ends early, as finished."""


def train(
    config: TrainConfig,
    folder: Path | str,
    *,
    device: str | None = None,
    listen: Listen | None = None,
    enough: Enough | None = None,
    other_code: bool = False,
    wandb_project: str | None = None,
) -> Path:
    """Train, or resume, in `folder`; the path of the last checkpoint.

    A folder of the same config, data and code is resumed, exactly; any other is refused. Under torchrun every rank
    calls this; the first one writes and speaks for all. SIGINT, SIGTERM, SIGHUP and SIGUSR1 let the step end and a
    checkpoint be written.

    Args:
        config: everything about the run.
        folder: gets config.json, environment.json, vocabulary/, metrics.jsonl, run.html, tensorboard/, checkpoints/, samples/.
        device: `cpu`, `cuda`, …; by default the GPU where there is one.
        listen: called every `listen_every_steps` to make samples.
        enough: asked after each time of samples whether the run ends there, finished, as at its last step.
        other_code: resume a run that other code began.
        wandb_project: also log to this project on Weights & Biases.
    Raises:
        ConfigError: the folder belongs to another run or another process trains in it, or the config does not fit the
            data.
        Diverged: its gradients are no longer finite.
        Stopped: a signal came; the same call resumes.
    """
    folder = Path(folder)
    with _hold(folder) if rank() == 0 else nullcontext(), freed_memory_is_kept():
        where = None if device is None else torch.device(device_named(device))
        run = Run(config, folder, where, other_code=other_code)
        _write_identity(run)
        log = _Log(run, wandb_project)
        try:
            stopped = _steps(run, log, listen, enough)
            run.saver.finish()
        finally:
            log.close(finished=False)
        run.ranks.wait()  # the first one may still be writing
        if stopped:
            if run.ranks.is_first:
                say(f"Stopped at step {run.step} of {config.steps}; the same command resumes from there.")
            raise Stopped(run.step)
        log.close(finished=True)
        run.ranks.wait()
    path = latest_checkpoint(run.folder / "checkpoints")
    assert path is not None
    return path


def _hold(folder: Path) -> AbstractContextManager[None]:
    """The folder of the run, for this process alone.

    Raises:
        ConfigError: another process trains in it, or no run can be in this folder.
    """
    check_is_run_folder(folder)
    return hold(folder, "trained")


def _steps(run: Run, log: "_Log", listen: Listen | None, enough: Enough | None) -> bool:
    """The steps that are left; whether a signal ended them."""
    config = run.config
    with progress_bar() as bar, StopSignals() as stop:
        task = bar.add_task("step", total=config.steps, completed=run.step, note="", visible=log.speaks)
        for batch in run.batches():
            values = run.update(batch)
            last = run.step == config.steps
            bar.update(task, completed=run.step)
            if last or run.step % config.log_every_steps == 0:
                bar.update(task, note=log.step(values))
                if last or run.step % max(config.steps // 20, 1) == 0:
                    bar.speak()
            if last or _due(run.step, config.validate_every_steps):
                log.validate()
            done = False
            if listen and (last or _due(run.step, config.listen_every_steps)):
                log.listen(listen)
                done = run.ranks.any(enough is not None and run.ranks.is_first and enough())
            stopping = run.ranks.any(bool(stop))
            if last or done or stopping or _due(run.step, config.save_every_steps):
                run.save()
            if done:
                return False
            if stopping:
                return not last
    return False


class _Log:
    """What a run says of itself: to a terminal, to files, to a page. Every rank calls it; the first one writes."""

    def __init__(self, run: Run, wandb_project: str | None) -> None:
        self._run, self.speaks = run, run.ranks.is_first
        self._metrics = Metrics(run.folder, run.step, wandb_project) if self.speaks else None
        self._page = RunPage(run.folder, run.config) if self.speaks else None
        self._meter = Meter(run.config, run.codec_spec.frame_rate_hz, run.step, run.device, run.ranks.size)

    def step(self, values: dict[str, Any]) -> str:
        """Log a training step; the note for the progress bar."""
        run = self._run
        run.check_finite()
        run.saver.poll()
        row = run.losses() | {k: float(v) for k, v in values.items()}
        row |= self._meter.read(run.step, run.totals())
        self._write(row | {"skipped_steps": run.skipped_steps})
        return _note(row)

    def validate(self) -> None:
        """Measure and log the validation losses."""
        with self._meter.paused():
            values = self._run.validate()
        if values:
            self._write(values)

    def listen(self, listen: Listen) -> None:
        """Make samples on the first rank; the others wait for it at their next exchange."""
        run = self._run
        with self._meter.paused():
            model = run.whole_model()
            values = {}
            if model is not None:
                folder = run.folder / "samples" / f"step_{run.step:08d}"
                try:
                    values = _listen_into(folder, listen, model, run.step)
                except torch.OutOfMemoryError as error:  # of a GPU: training has most of its memory
                    say(f"No samples at step {run.step}, and training goes on: {out_of_memory(error)}")
            run.ranks.wait()
        if values:
            self._write(values)

    def _write(self, values: dict[str, Any]) -> None:
        if self._metrics is not None and self._page is not None:
            self._metrics.write(self._run.step, values)
            self._page.update()

    def close(self, *, finished: bool) -> None:
        """Flush what was written, and write the page for the last time, as one that is finished or will be resumed."""
        if self._metrics is not None and self._page is not None:
            self._metrics.close()
            self._page.write(finished=finished)


def _note(row: dict[str, Any]) -> str:
    mfu = f"  MFU {row['mfu_causal']:.0%} (causal FLOPs)" if "mfu_causal" in row else ""
    return (
        f"loss {row['loss/all']:.3f}  {format_count(row['tokens_per_s'])} tok/s, audio at {row['audio_s_per_s']:.3g} times real time{mfu}  "
        f"{format_bytes(row['peak_memory_bytes'])}  {row['audio_hours']:.1f} h heard"
    )


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _listen_into(folder: Path, listen: Listen, model: Transformer, step: int) -> dict[str, Any]:
    """Samples appear as a whole: a page written meanwhile shows those of the step before."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    training = model.training
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        model.eval()
        try:
            values = listen(model, step, made)
        finally:
            model.train(training)
        if not folder.exists():
            made.rename(folder)
    return values


def _write_identity(run: Run) -> None:
    if not run.ranks.is_first:
        return
    run.vocabulary.save(run.folder / "vocabulary")
    run.tokenizer.save(run.folder / "vocabulary")
    attention = None if run.attention is None else asdict(run.attention)
    write_environment(run.folder, run.device, run.ranks.size, attention)
    if run.attention is not None:
        say(
            f"Attention: {run.attention.name or 'by shape'}, of {len(run.attention.milliseconds)} that are right here."
        )
    parameters = sum(p.numel() for p in run.model.parameters())
    recompute = ", activations computed again" if run.plan.recompute else ""
    ranks = f" on {run.ranks.size} ranks ({run.ranks.kind})" if run.ranks.size > 1 else ""
    say(
        f"Training {format_count(parameters)} parameters on {format_count(run.config.positions)} positions "
        f"({format_passes(run.loader.epochs(run.config.steps - run.config.first_step))}){ranks}, "
        f"{run.micro_rows} rows at a time{recompute}."
    )
