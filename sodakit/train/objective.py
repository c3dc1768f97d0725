"""From a batch to a loss and a loss vector: what is predicted, with which weight, counted by kind of token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sodakit.data.loader import Batch
from sodakit.errors import CheckpointError, ConfigError
from sodakit.model.any_config import AnyConfig
from sodakit.model.attention import Packing
from sodakit.model.contract import Slot, Targets, Told, put
from sodakit.model.families import targets_of
from sodakit.model.transformer import Transformer
from sodakit.tokens.grammar import slots_of
from sodakit.tokens.vocabulary import FIRST_AUDIO_KIND, Vocabulary
from sodakit.train.config import LossConfig
from sodakit.train.loss import cross_entropy
from sodakit.train.scored import scored_tokens


@dataclass(frozen=True)
class MicroBatch:
    """Some rows of a batch on the device, and what they predict."""

    ids_BPW: Tensor
    packing: Packing
    targets: Targets
    """All but the first position of each row, and what `scored.py` leaves out."""
    weights_T: Tensor
    kinds_T: Tensor
    slots: list[Slot] | None
    """Softmaxes of the first ids; None for one over all that may stand there."""

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on a device, without waiting for it."""
        slots = self.slots and [Slot(_moved(slot.positions_T, device), slot.rows) for slot in self.slots]
        return MicroBatch(
            ids_BPW=put(self.ids_BPW, device),
            packing=self.packing.to(device),
            targets=self.targets.to(device),
            weights_T=put(self.weights_T, device),
            kinds_T=put(self.kinds_T, device),
            slots=slots,
        )


def _moved(positions_T: Tensor | slice, device: torch.device) -> Tensor | slice:
    return positions_T if isinstance(positions_T, slice) else put(positions_T, device)


class LossVector:
    """Sums of nats and counts by kind of token, kept on the device until somebody reads them."""

    def __init__(self, vocabulary: Vocabulary, frame_rate_hz: float, device: torch.device) -> None:
        self._names = vocabulary.kind_names
        self._frame_rate_hz = frame_rate_hz
        self._nats = torch.zeros(len(self._names), dtype=torch.float64, device=device)
        self._counts = torch.zeros(len(self._names), dtype=torch.float64, device=device)

    def add(self, nll_T: Tensor, kinds_T: Tensor, counted: Tensor | None = None) -> None:
        """Count these tokens.

        Args:
            counted: whether to, a bool on the device; None for yes. Tokens of a step that is left out would make every
                mean of the window not finite.
        """
        ones_T = torch.ones_like(nll_T, dtype=torch.float64)
        if counted is not None:
            nll_T, ones_T = torch.where(counted, nll_T, 0.0), ones_T * counted
        self._nats.index_add_(0, kinds_T, nll_T.double())
        self._counts.index_add_(0, kinds_T, ones_T)

    def state(self) -> dict[str, list[float]]:
        """The sums so far, JSON-ready and exact: a resumed run goes on counting where it stopped."""
        return {"nats": self._nats.tolist(), "counts": self._counts.tolist()}

    def load_state(self, state: dict[str, list[float]]) -> None:
        """Take up the sums of `state`.

        Raises:
            CheckpointError: they are of other kinds of tokens.
        """
        if len(state["nats"]) != len(self._names):
            raise CheckpointError(
                f"The checkpoint holds sums of {len(state['nats'])} kinds of tokens; this run has {len(self._names)}. Was it "
                "damaged? Delete its folder to go on from an earlier one."
            )
        self._nats.copy_(torch.tensor(state["nats"], dtype=torch.float64))
        self._counts.copy_(torch.tensor(state["counts"], dtype=torch.float64))

    def read(self, sum_ranks: Callable[[list[float]], list[float]] | None = None) -> dict[str, float]:
        """Mean nats by kind (`loss/all`, `loss/text`, …; absent kinds left out) and `bits_per_audio_s`; starts anew.

        Args:
            sum_ranks: adds up the sums of all ranks, which must all read at the same time.
        """
        sums = [*self._nats.tolist(), *self._counts.tolist()]
        nats, counts = np.split(np.array(sum_ranks(sums) if sum_ranks else sums), 2)
        self._nats.zero_()
        self._counts.zero_()
        values = {"loss/all": float(nats.sum() / counts.sum()) if counts.any() else float("nan")}
        means = np.divide(nats, counts, out=np.zeros_like(nats), where=counts > 0)
        values |= {f"loss/{n}": float(m) for n, m, c in zip(self._names, means, counts, strict=True) if c}
        if counts[FIRST_AUDIO_KIND:].any():
            # One token of each codebook a frame.
            values["bits_per_audio_s"] = float(
                means[FIRST_AUDIO_KIND:].sum() / np.log(2) * self._frame_rate_hz
            )
        return values


def weights_by_kind(config: LossConfig, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """float32 weight of each kind of id, and the number of the mean that it belongs to."""
    names = vocabulary.kind_names
    weights = [config.kind_weights.get(name, 1.0) for name in names]
    means = np.zeros(len(names), np.int64)
    if config.recipe != "uniform":
        acoustic = [k for k in range(vocabulary.num_codebooks) if k not in vocabulary.semantic_codebooks]
        weights = [100.0] * len(names)
        for number, k in enumerate(acoustic, start=1):
            decayed = 100.0 ** (1 - number / len(acoustic))
            weights[FIRST_AUDIO_KIND + k] = decayed if config.recipe == "decay" else 1.0
    if config.recipe == "moshi_means":
        means[FIRST_AUDIO_KIND:] = 1
    return np.array(weights, np.float32), means


class Objective:
    """The training loss of models of a config, under a `LossConfig`."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: LossConfig,
        model: AnyConfig,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        unknown = set(config.kind_weights) - set(vocabulary.kind_names)
        if unknown:
            raise ConfigError(
                f"loss.kind_weights names {sorted(unknown)}; kinds are {', '.join(vocabulary.kind_names)}."
            )
        self._vocabulary, self._config, self._device, self._dtype = vocabulary, config, device, dtype
        self._model = model
        self._weight_by_kind, self._mean_by_kind = weights_by_kind(config, vocabulary)
        self._head_rows = self._slot_rows()

    def _slot_rows(self) -> list[slice]:
        v = self._vocabulary
        if not self._config.slot_softmax:
            return []
        if v.audio_end != v.audio_base - 1:
            raise ConfigError(
                "loss.slot_softmax needs audio_end right before the audio block, as in Vocabulary.layout."
            )
        first = slice(v.audio_end, v.codebook_range(0)[1])
        return [
            slice(0, v.audio_base),
            first,
            *(slice(*v.codebook_range(k)) for k in range(1, v.num_codebooks)),
        ]

    def total_weights(self, batch: Batch) -> list[float]:
        """Sum of the weights of all targets of a batch in each of its means: their denominators."""
        ids_BPW = batch.ids_BPW[:, 1:]
        scored_BPW = self._scored(batch, slice(None))[:, 1:, None] & (ids_BPW >= 0)
        kinds = self._vocabulary.kinds_V[ids_BPW[scored_BPW]]
        weights, means = self._weight_by_kind[kinds], self._mean_by_kind[kinds]
        return [float(weights[means == n].sum()) for n in range(self._mean_by_kind.max() + 1)]

    def _scored(self, batch: Batch, rows: slice) -> np.ndarray:
        """bool (B, P): which positions count."""
        given = self._config.given_spans
        return scored_tokens(batch.ids_BPW[rows, :, 0], batch.lengths[rows], self._vocabulary, given)

    def targets(self, batch: Batch, rows: slice, denominators: Sequence[float] | None = None) -> MicroBatch:
        """The targets of some rows of a batch, on the device.

        Args:
            denominators: what the weights of each mean are over; default: 1, and the loss is a sum.
        """
        return self._host_targets(batch, rows, denominators).to(self._device)

    def _host_targets(
        self, batch: Batch, rows: slice, denominators: Sequence[float] | None = None
    ) -> MicroBatch:
        ids_BPW = batch.ids_BPW[rows]
        targets = targets_of(self._model, ids_BPW, self._scored(batch, rows))
        kinds = self._vocabulary.kinds_V[ids_BPW.reshape(-1)[targets.cells_T.numpy()]].astype(np.int64)
        # A mean without a single id in the batch adds nothing.
        given = denominators if denominators is not None else [1.0] * (self._mean_by_kind.max() + 1)
        over = np.array([total or 1.0 for total in given], np.float32)
        slots = None
        if self._head_rows:
            groups = slots_of(targets.first_ids_T.numpy(), self._vocabulary)
            slots = [
                Slot(torch.from_numpy(np.flatnonzero(groups == g)), r)
                for g, r in enumerate(self._head_rows)
                if (groups == g).any()
            ]
        lengths = [length for row in batch.lengths[rows] for length in row]
        return MicroBatch(
            ids_BPW=torch.from_numpy(ids_BPW.astype(np.int64)),
            packing=Packing.from_lengths(lengths),
            targets=targets,
            weights_T=torch.from_numpy(self._weight_by_kind[kinds] / over[self._mean_by_kind[kinds]]),
            kinds_T=torch.from_numpy(kinds),
            slots=slots,
        )

    def __call__(
        self, model: Transformer, batch: MicroBatch, forward: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        """The loss of a micro-batch (its share of the batch mean) and nll_T of its targets.

        Args:
            forward: what to call for the states instead of `model`: a wrapper that exchanges gradients between ranks.
        """
        low = self._dtype != torch.float32
        # Every weight is read once in a forward pass; autocast would keep its copy until the end.
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=low, cache_enabled=False):
            x_BPD = (forward or model)(batch.ids_BPW, packing=batch.packing)
            groups = model.told(x_BPD, batch.targets)
        weights = batch.weights_T.split([len(told.targets_T) for told in groups])
        found = [self._group(told, w_T, batch.slots) for told, w_T in zip(groups, weights, strict=True)]
        if len(found) == 1:
            return found[0]
        return torch.stack([loss for loss, _ in found]).sum(), torch.cat([nll_T for _, nll_T in found])

    def _group(self, told: Told, weights_T: Tensor, slots: list[Slot] | None) -> tuple[Tensor, Tensor]:
        return cross_entropy(
            told.x_TD,
            told.head_VD,
            told.targets_T,
            weights_T if told.scale == 1 else weights_T * told.scale,
            slots=(slots if told.is_first else None) or told.slots,
            # As published for models of frames: codes inside a frame have small softmaxes of their own.
            z_loss=self._config.z_loss if told.is_first else 0.0,
            dtype=self._dtype,
        )
