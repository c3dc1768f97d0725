"""Checkpoints of a run in any layout: whole files from one rank, or pieces from all while training goes on."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sodakit.checkpoint.background import WholeWriter
from sodakit.checkpoint.contents import STATE, Checkpoint
from sodakit.checkpoint.load import checkpoints_of, load_checkpoint
from sodakit.checkpoint.save import checkpoint_name, save_checkpoint, write_rest
from sodakit.errors import CheckpointError, DamagedCheckpoint, first_line
from sodakit.log import say
from sodakit.model.transformer import Transformer
from sodakit.train.optim import Optimizer
from sodakit.train.parallel import Ranks, copy_weights

MODEL, OPTIMIZER = "model.", "optimizer."
"""What names of tensors begin with."""


@dataclass(frozen=True)
class Small:
    """What lies beside the tensors of a checkpoint."""

    state: dict[str, Any]
    config: dict[str, Any]
    vocabulary_folder: Path
    codec: dict[str, Any]


class Saver:
    """Writes and finds the checkpoints of one run.

    Pieces of many ranks, and what lies on a GPU, are copied and then written while training goes on. On a CPU copies would
    take the memory of the model and its moments once more.
    """

    def __init__(self, folder: Path, keep: int, ranks: Ranks, keep_steps: Sequence[int] = ()) -> None:
        self.folder, self._keep, self._ranks = folder, keep, ranks
        self._kept = {checkpoint_name(step) for step in keep_steps}
        self._writer = None
        self._whole = WholeWriter() if ranks.device.type != "cpu" and ranks.is_first else None
        if ranks.is_first:
            for unfinished in folder.glob(".step_*"):  # of a save that was killed
                shutil.rmtree(unfinished, ignore_errors=True)
        if ranks.is_sharded:
            # Imported here: torch's distributed checkpoint costs a second, and one process never needs it.
            from sodakit.checkpoint.shards import ShardedWriter

            self._writer = ShardedWriter(ranks.new_group(), ranks.is_first)

    def save(self, step: int, model: Transformer, optimizer: Optimizer, small: Small) -> Path:
        """Write the checkpoint of `step`, or begin to; every rank calls it. The oldest beyond `keep` are removed."""
        path = self.folder / checkpoint_name(step)
        if self._writer is not None:
            self._writer.start(
                path,
                tensors_of(model, optimizer),
                lambda part: write_rest(part, model.config, **vars(small)),
            )
        elif self._whole is not None:
            write = partial(_write_whole, path, model, small)
            self._whole.start(tensors_of(model, optimizer), write)
        elif self._ranks.is_first:
            save_checkpoint(path, model=model, optimizer_state=optimizer.state_dict(), **vars(small))
        if self._ranks.is_first:
            self._prune()
        return path

    def finish(self) -> None:
        """Wait until what was begun is written; every rank calls it."""
        if self._writer is not None:
            self._writer.finish()
        if self._whole is not None:
            self._whole.finish()
        if self._ranks.is_first:
            self._prune()

    def poll(self) -> None:
        """Give a checkpoint its name once every rank has written its part, and say what went wrong in writing; every rank
        calls it, now and then."""
        if self._whole is not None and self._whole.done():
            self.finish()
        if self._writer is not None and self._ranks.sum([float(not self._writer.done())])[0] == 0:
            self.finish()

    def latest(self) -> Path | None:
        """The newest checkpoint that is whole, the same on every rank; damaged ones are named.

        Raises:
            CheckpointError: all there are are damaged.
        """
        found = self._newest_whole() if self._ranks.is_first else None
        return self._ranks.gather(found)[0]

    def _newest_whole(self) -> Path | None:
        problem: DamagedCheckpoint | None = None
        for path in checkpoints_of(self.folder):
            try:
                _check_state(load_checkpoint(path))
            except DamagedCheckpoint as error:
                problem = error
                say(f"Passed over: {error}")
            else:
                return path
        if problem is not None:
            raise problem
        return None

    def _prune(self) -> None:
        for old in sorted(self.folder.glob("step_*"))[: -max(self._keep, 1)]:
            if old.name not in self._kept:
                shutil.rmtree(old, ignore_errors=True)


def _check_state(checkpoint: Checkpoint) -> None:
    """Raise unless a run can go on from what the checkpoint says of it.

    Raises:
        DamagedCheckpoint: a number or a sum is missing, or is something else.
    """
    state = checkpoint.state
    if "updates" not in state:  # weights alone; `restore` says so
        return
    # Checkpoints of before counted tokens of the whole codec.
    heard = state.get("audio_frames", state.get("audio_tokens", 0))
    counts = [state.get(name) for name in ("step", "updates", "skipped_steps")]
    whole = all(isinstance(n, int) and 0 <= n < 2**53 for n in counts)
    heard_some = _is_number(heard) and 0 <= heard < 2**63
    if not whole or not heard_some or not _are_sums(state.get("loss_vectors")):
        raise DamagedCheckpoint(
            f"{checkpoint.folder / STATE} is damaged: it has no counts and sums to go on from. Copy the checkpoint again, "
            "or delete its folder to go on from an earlier one."
        )


def _are_sums(vectors: Any) -> bool:
    """Whether they are what `LossVector.state` said on each rank."""
    if not isinstance(vectors, list) or not vectors or not all(isinstance(v, dict) for v in vectors):
        return False
    sums = [vector.get(name) for vector in vectors for name in ("nats", "counts")]
    whole = all(isinstance(s, list) and all(map(_is_number, s)) for s in sums)
    return whole and len({len(s) for s in sums}) == 1


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _write_whole(path: Path, model: Transformer, small: Small, copies: dict[str, Tensor]) -> None:
    parts: dict[str, dict[str, Tensor]] = {MODEL: {}, OPTIMIZER: {}}
    for name, tensor in copies.items():
        part = MODEL if name.startswith(MODEL) else OPTIMIZER
        parts[part][name.removeprefix(part)] = tensor
    save_checkpoint(path, model=model, weights=parts[MODEL], optimizer_state=parts[OPTIMIZER], **vars(small))


def tensors_of(model: Transformer, optimizer: Optimizer) -> dict[str, Tensor]:
    """All tensors of a run by the names they have in a checkpoint in pieces."""
    weights = {MODEL + n: t for n, t in model.state_dict().items()}
    return weights | {OPTIMIZER + n: t for n, t in optimizer.state_dict().items()}


def restore(path: Path, model: Transformer, optimizer: Optimizer, ranks: Ranks) -> Checkpoint:
    """Weights and moments of a checkpoint into a run of any layout; the checkpoint, for its state.

    Raises:
        CheckpointError: it is damaged, or has no optimizer state.
    """
    checkpoint = load_checkpoint(path)
    state = checkpoint.state
    if "updates" not in state:
        raise CheckpointError(
            f"{path} has no optimizer state, so the run cannot go on. Start from it with init_from."
        )
    if checkpoint.is_sharded and ranks.is_sharded:
        from sodakit.checkpoint.shards import read_into

        read_into(path, tensors_of(model, optimizer))
        optimizer.load_state_dict(optimizer.state_dict(), state["updates"], state["skipped_steps"])
        return checkpoint
    moments = checkpoint.optimizer_state()
    if moments is None:
        raise CheckpointError(
            f"{path} has no optimizer state, so the run cannot go on. Start from it with init_from."
        )
    copy_weights(model, checkpoint.weights().items())
    _take_up(optimizer, moments, path, state)
    return checkpoint


def _take_up(optimizer: Optimizer, moments: dict[str, Tensor], path: Path, state: dict[str, Any]) -> None:
    again = f"Delete {path} to go on from an earlier one, or start from it with init_from."
    broken = next((name for name, tensor in moments.items() if not torch.isfinite(tensor).all()), None)
    if broken is not None:
        raise DamagedCheckpoint(f"{path}: the optimizer's {broken} is not finite. {again}")
    try:
        optimizer.load_state_dict(moments, state["updates"], state["skipped_steps"])
    except (KeyError, RuntimeError, TypeError) as error:  # another model's, by names or shapes
        raise DamagedCheckpoint(
            f"{path} has another model's optimizer state ({first_line(error)}). {again}"
        ) from error
