"""One training run: its parts, its place in time, and what one step is. When steps happen is in `trainer.py`."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sodakit.checkpoint.load import latest_checkpoint
from sodakit.compiler import lacks_for_gpu
from sodakit.config import to_plain
from sodakit.data.language import open_language
from sodakit.data.loader import Batch, Loader, prefetch
from sodakit.errors import ConfigError, Diverged
from sodakit.log import say
from sodakit.model.any_config import check_vocabulary
from sodakit.model.attention import HALVES, take_route
from sodakit.model.attention_routes import Choice, candidates, fastest_route
from sodakit.model.families import build_model, pattern_of
from sodakit.model.init import first_values
from sodakit.model.lora import add_adapters, merge_adapters
from sodakit.model.transformer import Transformer
from sodakit.tokens.layouts.contract import ABSENT
from sodakit.train.config import TrainConfig
from sodakit.train.fp8 import check_fp8, use_fp8
from sodakit.train.identity import check_is_run_folder, claim_folder
from sodakit.train.memory import plan_memory
from sodakit.train.metrics import Totals, count_frames
from sodakit.train.objective import LossVector, Objective
from sodakit.train.optim import Optimizer
from sodakit.train.parallel import Ranks, copy_weights, last_of, lay_out, start_ranks, whole_weights
from sodakit.train.saving import Saver, Small, restore
from sodakit.train.schedule import learning_rate
from sodakit.train.start import kept_rows, starting_weights
from sodakit.train.validate import Validation

MAX_BAD_STEPS = 10
"""Steps in a row with a non-finite gradient before the run stops."""


class Run:
    """A run in its folder, started or taken up where it was left. Every rank has one."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        device: torch.device | None = None,
        *,
        other_code: bool = False,
    ) -> None:
        self.config, self.folder = config, folder
        check_is_run_folder(folder)
        self.ranks: Ranks = start_ranks(config.parallel, str(device) if device else None)
        self.device = self.ranks.device
        store, self.vocabulary = open_language(config.data.sources[0].store)
        check_vocabulary(config.model, self.vocabulary, str(store.folder))
        self.codec_spec = store.codec_spec
        self.tokenizer = store.tokenizer()
        self.loader = Loader(config.data, self.vocabulary, pattern_of(config.model))
        self.dtype = getattr(torch, config.precision)
        self.objective = Objective(self.vocabulary, config.loss, config.model, self.device, self.dtype)
        self.vector = LossVector(self.vocabulary, self.codec_spec.frame_rate_hz, self.device)
        self.validation = None
        if config.validation:
            self.validation = Validation(
                config.validation,
                config.data,
                config.validation_rows,
                self.vocabulary,
                pattern_of(config.model),
            )
        self.step = config.first_step
        self.audio_frames = 0
        """Trained on so far by this rank; the first rank counts those of an earlier start for all."""
        self.tokens = 0
        """Ids among them, likewise: a position holds one, or a frame's several."""
        self._lengths = (0, 1)
        if self.ranks.is_first:
            claim_folder(folder, config, other_code=other_code)
        self.ranks.wait()
        self.plan = plan_memory(config, self.ranks)
        self.micro_rows = self.plan.micro_rows
        self.attention = self._choose_attention()
        self._start_or_resume()

    def _choose_attention(self) -> Choice | None:
        """Time the routes on the run's first rows, and take the one that is the fastest on the first rank."""
        take_route(None)
        if self.device.type != "cuda" or self.dtype not in HALVES or self.config.attention == "by_shape":
            return None
        shape = self.config.model.backbone
        among = candidates(self.device, self.dtype, shape.head_width)
        lengths = [n for row in range(self.micro_rows) for n in self.loader.row(row)[1]]
        sizes = (shape.heads, shape.kv_heads, shape.head_width)
        choice = self.ranks.gather(fastest_route(among, self.device, self.dtype, sizes, lengths))[0]
        for candidate in among:
            if candidate.name == choice.name:
                candidate.activate()
        return choice

    def _start_or_resume(self) -> None:
        self.saver = Saver(
            self.folder / "checkpoints", self.config.keep_checkpoints, self.ranks, self.config.keep_steps
        )
        latest = self.saver.latest()
        begins = latest is None
        self.model, is_empty = self._empty_or_new_model(begins)
        self._prepare_model()
        if not self.ranks.is_sharded:  # DDP sends its weights round at once
            self._to_device(is_empty, begins)
        self.forward = lay_out(self.model, self.ranks, recompute=self.plan.recompute)
        if self.ranks.is_sharded:  # each block was cut first: never do all of them lie on one rank
            self._to_device(is_empty, begins)
        self.optimizer = Optimizer(
            self.model.named_parameters(),
            self.config.optim,
            self.config.schedule.peak_lr,
            self.ranks.sum_shards if self.ranks.is_sharded else None,
            kept_rows(self.vocabulary),
        )
        if latest is not None:
            self._take_up(restore(latest, self.model, self.optimizer, self.ranks).state)

    def _empty_or_new_model(self, begins: bool) -> tuple[Transformer, bool]:
        """The model, and whether it has no memory yet: eight ranks of a machine need not hold it eight times first."""
        config = self.config
        is_empty = config.lora is None and (self.ranks.is_sharded or self.device.type != "cpu")
        with torch.device("meta") if is_empty else nullcontext():
            model = build_model(config.model, seed=config.seed)
        if not is_empty and begins and config.init_from:
            model.load_state_dict(self._starting_weights(config.init_from))
        if config.lora is not None:
            add_adapters(model, config.lora.rank, config.lora.alpha, config.seed)
        return model, is_empty

    def _to_device(self, is_empty: bool, begins: bool) -> None:
        if not is_empty:
            if not self.ranks.is_sharded:  # else they are there
                self.model.to(self.device)
            return
        self.model.to_empty(device=self.device)
        if begins:  # else the checkpoint fills it
            copy_weights(self.model, self._first_weights())

    def _first_weights(self) -> Iterable[tuple[str, Tensor]]:
        if self.config.init_from:
            return self._starting_weights(self.config.init_from).items()
        shape = self.config.model.backbone
        return first_values(self.model, std=shape.init_std, seed=self.config.seed, stds=shape.init_stds)

    def _starting_weights(self, origin: str) -> dict[str, Tensor]:
        return starting_weights(origin, self.config, self.vocabulary, self.codec_spec)

    def _prepare_model(self) -> None:
        config, on_cpu = self.config, self.device.type == "cpu"
        # Few rows of a large embedding are read in a step; the optimizer then spares the others (`optim.py`).
        alone = on_cpu and self.ranks.size == 1 and not config.model.tied_embeddings
        self.model.embedding.sparse = alone and config.optim.kind != "adamw"
        if config.fp8_from_width is not None:
            check_fp8(config, self.device)
            use_fp8(self.model, config.fp8_from_width)
        lacking = None if on_cpu else lacks_for_gpu()
        if lacking and config.compile_blocks:
            raise ConfigError(
                f"compile_blocks=true on {self.device} without {lacking}. Install it, or set compile_blocks=null."
            )
        if lacking and self.ranks.is_first:
            say(f"Nothing is compiled: needed is {lacking}. Install it: training is far slower without.")
        if config.compile_blocks if config.compile_blocks is not None else not (on_cpu or lacking):
            self.model.compile_blocks()

    def _take_up(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        # Checkpoints of before counted tokens of the whole codec.
        frames = state.get("audio_frames", state.get("audio_tokens", 0) / self.codec_spec.num_codebooks)
        self.audio_frames = round(frames) if self.ranks.is_first else 0
        # Checkpoints of before had one id at a position.
        positions = (self.step - self.config.first_step) * self.config.data.batch_positions
        self.tokens = state.get("tokens", positions) if self.ranks.is_first else 0
        vectors = state["loss_vectors"]
        if len(vectors) == self.ranks.size:
            self.vector.load_state(vectors[self.ranks.rank])
        elif self.ranks.is_first:
            total = {k: [sum(x) for x in zip(*(v[k] for v in vectors), strict=True)] for k in vectors[0]}
            self.vector.load_state(total)
        if self.ranks.is_first:
            say(f"Resuming {self.folder} at step {self.step} of {self.config.steps}.")

    def batches(self) -> Iterator[Batch]:
        """This rank's share of the batches that are left."""
        return prefetch(self.loader, range(self.step, self.config.steps), self.ranks.rank, self.ranks.size)

    def update(self, batch: Batch) -> dict[str, Any]:
        """One optimizer step; learning rate and gradient norm (a tensor, so nothing waits for it on a GPU)."""
        counted = self._gradients(batch)
        lr = learning_rate(self.step, self.config.steps, self.config.schedule)
        norm = self.optimizer.clip()
        for nll_T, kinds_T in counted:
            self.vector.add(nll_T, kinds_T, self.optimizer.ok)
        self.optimizer.step(lr)
        self.step += 1
        lengths = [length for row in batch.lengths for length in row]
        self._lengths = (sum(n * n for n in lengths), sum(lengths))
        self.audio_frames += count_frames(self.vocabulary, batch.ids_BPW)
        self.tokens += int(np.count_nonzero(batch.ids_BPW != ABSENT))
        if self.device.type == "cpu":
            self.check_finite()
        return {"lr": lr, "grad_norm": norm}

    def _gradients(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Gradients of the mean loss over the whole batch, of all ranks, in every parameter; nats and kinds of targets."""
        while True:
            try:
                return self._accumulate(batch)
            except torch.OutOfMemoryError:
                # Ranks that wait for each other cannot try again on their own.
                if self.ranks.size > 1 or self.config.micro_rows != "auto" or self.micro_rows == 1:
                    raise
            rows = len(batch.ids_BPW)
            self.micro_rows = max(n for n in range(1, self.micro_rows) if rows % n == 0)
            self.model.zero_grad(set_to_none=True)
            say(f"Out of memory; going on with {self.micro_rows} rows at a time.")

    def _accumulate(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        # DDP and FSDP take the mean over ranks of what we add up over them.
        totals = self.ranks.sum(self.objective.total_weights(batch))
        denominators = [total / self.ranks.size for total in totals]
        counted = []
        for first in range(0, len(batch.ids_BPW), self.micro_rows):
            rows = slice(first, first + self.micro_rows)
            with last_of(self.forward, rows.stop >= len(batch.ids_BPW)):
                targets = self.objective.targets(batch, rows, denominators)
                loss, nll_T = self.objective(self.model, targets, self.forward)
                loss.backward()
            counted.append((nll_T, targets.kinds_T))
        return counted

    @property
    def skipped_steps(self) -> int:
        """Steps left out because their gradient was not finite; on a GPU, reading it waits."""
        return self.optimizer.skipped

    def check_finite(self) -> None:
        """Stop a run whose gradients are not finite any more; on a GPU, this waits for it.

        Raises:
            Diverged: `MAX_BAD_STEPS` such steps in a row; the message names the last good checkpoint.
        """
        if self.optimizer.skipped_in_a_row >= MAX_BAD_STEPS:
            good = latest_checkpoint(self.folder / "checkpoints")
            raise Diverged(
                f"The gradient was not finite for {MAX_BAD_STEPS} steps in a row, up to step {self.step}. "
                f"Last good checkpoint: {good or 'none'}. Lower schedule.peak_lr or look at the data of these steps."
            )

    def totals(self) -> Totals:
        """What all ranks have trained on so far."""
        frames, tokens, squares, positions = self.ranks.sum([self.audio_frames, self.tokens, *self._lengths])
        return Totals(round(frames), round(tokens), squares / positions)

    def losses(self) -> dict[str, float]:
        """The loss vector of all ranks since it was last read."""
        return self.vector.read(self.ranks.sum)

    def validate(self) -> dict[str, float]:
        """The loss vector on held-out rows; every rank takes a share of them."""
        if self.validation is None:
            return {}
        vector = LossVector(self.vocabulary, self.codec_spec.frame_rate_hz, self.device)
        return self.validation(self.model, self.objective, vector, self.ranks)

    def whole_model(self) -> Transformer | None:
        """A model on the first rank that can be used without the others; None elsewhere. Every rank must ask."""
        if not self.ranks.is_sharded:
            return self.model if self.ranks.is_first else None
        weights = merge_adapters(whole_weights(self.model))
        if not self.ranks.is_first:
            return None
        with torch.device("meta"):
            model = build_model(self.config.model)
        model.load_state_dict(weights, assign=True)
        return model

    def save(self) -> Path:
        """Write the checkpoint of this step, or begin to; every rank calls it."""
        self.check_finite()
        totals = self.totals()
        state = {
            "step": self.step,
            "updates": self.optimizer.updates,
            "audio_frames": totals.audio_frames,
            "tokens": totals.tokens,
            "skipped_steps": self.skipped_steps,
            "loss_vectors": self.ranks.gather(self.vector.state()),
        }
        codec = to_plain(self.codec_spec)
        small = Small(state, to_plain(self.config), self.folder / "vocabulary", codec)
        return self.saver.save(self.step, self.model, self.optimizer, small)
