"""Checkpoints of a run in any layout: whole files from one rank, or pieces from all while training goes on."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sodakit.checkpoint.contents import Checkpoint
from sodakit.checkpoint.load import checkpoints_of, load_checkpoint
from sodakit.checkpoint.save import checkpoint_name, save_checkpoint, write_rest
from sodakit.errors import CheckpointError, DamagedCheckpoint
from sodakit.log import say
from sodakit.model.transformer import Transformer
from sodakit.train.optim import Optimizer
from sodakit.train.parallel import Ranks, copy_weights


@dataclass(frozen=True)
class Small:
    """What lies beside the tensors of a checkpoint."""

    state: dict[str, Any]
    config: dict[str, Any]
    vocabulary_folder: Path
    codec: dict[str, Any]


class Saver:
    """Writes and finds the checkpoints of one run."""

    def __init__(self, folder: Path, keep: int, ranks: Ranks, keep_steps: Sequence[int] = ()) -> None:
        self.folder, self._keep, self._ranks = folder, keep, ranks
        self._kept = {checkpoint_name(step) for step in keep_steps}
        self._writer = None
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
        elif self._ranks.is_first:
            save_checkpoint(path, model=model, optimizer_state=optimizer.state_dict(), **vars(small))
        if self._ranks.is_first:
            self._prune()
        return path

    def finish(self) -> None:
        """Wait until what was begun is written; every rank calls it."""
        if self._writer is not None:
            self._writer.finish()
            if self._ranks.is_first:
                self._prune()

    def poll(self) -> None:
        """Give a checkpoint its name once every rank has written its part; every rank calls it, now and then."""
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
                load_checkpoint(path)
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


def tensors_of(model: Transformer, optimizer: Optimizer) -> dict[str, Tensor]:
    """All tensors of a run by the names they have in a checkpoint in pieces."""
    weights = {f"model.{n}": t for n, t in model.state_dict().items()}
    return weights | {f"optimizer.{n}": t for n, t in optimizer.state_dict().items()}


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
    copy_weights(model, checkpoint.weights())
    optimizer.load_state_dict(moments, state["updates"], state["skipped_steps"])
    return checkpoint
