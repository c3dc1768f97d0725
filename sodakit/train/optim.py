"""Cautious AdamW with AdamC weight decay, as SODA trains; plain AdamW and Muon beside it.

    g ← g · min(1, clip / ‖g‖)
    m ← β₁m + (1-β₁)g,  v ← β₂v + (1-β₂)g²,  u = m̂ / (√v̂ + ε)
    mask = (u·g > 0),  u ← u · mask / (mean(mask) + ε)       mean over all layers of one kind of parameter
    p ← p - f·lr·(u + wd·(lr/peak_lr)·p)                      f its factor, 1 by default; no decay on norms and the input embedding

Source: arXiv 2602.16687 and the public Levanter optimizer it names.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from sodakit.errors import ConfigError
from sodakit.train.config import OptimConfig
from sodakit.train.muon import is_muon_matrix, muon_direction
from sodakit.train.parallel import is_shared, like
from sodakit.train.update import moments_pass, weights_pass

SumShards = Callable[[Tensor], Tensor]
"""Adds up a tensor of partial sums over the ranks that share the parameters."""


def parameter_kind(name: str) -> str:
    """The name without its layer number: `layers.3.attention.query.weight` → `layers.*.attention.query.weight`."""
    return re.sub(r"\.\d+\.", ".*.", name)


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies: linear weights and the output head, not norms and the input embedding."""
    return parameter.ndim >= 2 and "embedding" not in name


TEXT_ROWS = "@text"
"""Behind the name of such a parameter: its rows for text."""
ROWS_BY_ID = ("embedding.weight", "head.weight")
"""Parameters with a row for each id, those of text first."""


def lr_factors(names: Sequence[str], patterns: Mapping[str, float]) -> dict[str, float]:
    """By parameter, what its learning rate is times the schedule's: of the first pattern that its name fits, else 1.

    Raises:
        ConfigError: a pattern that no name fits.
    """
    idle = [p for p in patterns if not any(_fits(name, p) for name in names)]
    if idle:
        raise ConfigError(
            f"optim.lr_factors: no parameter is called {', '.join(idle)}. Needed: patterns of names such as {', '.join(names[:3])}."
        )
    return {name: next((factor for p, factor in patterns.items() if _fits(name, p)), 1.0) for name in names}


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.removesuffix(TEXT_ROWS), pattern)


@dataclass(frozen=True)
class _Rows:
    """A sparse gradient: the rows of the embedding that were read."""

    rows_R: Tensor
    gradient_RD: Tensor
    first_RD: Tensor
    second_RD: Tensor


class Optimizer:
    """Moments are float32 tensors by parameter name, laid out as the parameters are, so any layout can load them.

    A step whose gradient is not finite changes nothing and is counted. Rows of an embedding that were not read have no
    gradient, so the cautious update leaves them alone; with sparse gradients they cost nothing, and their moments are
    brought up to date when they are next read (`seen` says up to which update they are).
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        config: OptimConfig,
        peak_lr: float,
        sum_shards: SumShards | None = None,
        text_rows: int = 0,
    ) -> None:
        """
        Args:
            parameters: by name.
            config: how they learn.
            peak_lr: what a decay that follows the learning rate is measured by.
            sum_shards: of ranks that share the parameters.
            text_rows: how many rows of embedding and head are for text, those before all others.
        """
        self._text_rows = text_rows
        self.config, self.peak_lr, self._sum_shards = config, peak_lr, sum_shards
        kinds: dict[str, list[tuple[str, nn.Parameter]]] = {}
        self._muon: list[tuple[str, nn.Parameter]] = []
        for name, parameter in parameters:
            if not parameter.requires_grad:  # frozen beside adapters
                continue
            if config.kind == "muon" and is_muon_matrix(name, parameter):
                self._muon.append((name, parameter))
            else:
                kinds.setdefault(parameter_kind(name), []).append((name, parameter))
        self._groups = list(kinds.values())
        adam = [pair for group in self._groups for pair in group]
        self._all = adam + self._muon
        names = [n for n, _ in self._all]
        names += [n + TEXT_ROWS for n in names if n in ROWS_BY_ID]
        self._lr_factors = lr_factors(names, config.lr_factors)
        self._first = {n: _zeros(p) for n, p in self._all}
        self._second = {n: _zeros(p) for n, p in adam}
        device = self._all[0][1].device
        self._seen: dict[str, Tensor] = {}
        self._updates = torch.zeros((), dtype=torch.int64, device=device)
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._bad_run = torch.zeros((), dtype=torch.int64, device=device)
        self._factor = torch.ones((), device=device)
        self._ok = torch.ones((), dtype=torch.bool, device=device)

    @property
    def updates(self) -> int:
        """Updates made; reading it waits for the device."""
        return int(self._updates)

    @property
    def skipped(self) -> int:
        """Steps left out because their gradient was not finite; reading it waits for the device."""
        return int(self._skipped)

    @property
    def ok(self) -> Tensor:
        """Whether the gradient of the last `clip` was finite, a bool on the device."""
        return self._ok

    @property
    def skipped_in_a_row(self) -> int:
        """The same, since the last good step."""
        return int(self._bad_run)

    @torch.no_grad()
    def clip(self) -> Tensor:
        """The global gradient norm, a scalar tensor; the next `step` scales gradients to at most `clip_norm`."""
        norms = torch._foreach_norm([_dense(p.grad) for _, p in self._all if p.grad is not None])
        norm = torch.linalg.vector_norm(torch.stack(norms))
        if self._sum_shards is not None:
            norm = self._sum_shards(norm.square()).sqrt()
        self._factor = (self.config.clip_norm / (norm + 1e-12)).clamp(max=1.0)
        self._ok = torch.isfinite(norm)
        return norm

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update of every parameter that has a gradient, by the last `clip`; then forget the gradients."""
        self._skipped += ~self._ok
        self._bad_run = torch.where(self._ok, 0, self._bad_run + 1)
        self._updates += self._ok
        # Elsewhere the kernels themselves leave everything as it is, and nobody waits.
        if self._ok.device.type != "cpu" or bool(self._ok):
            self._adam(lr)
            for name, parameter in self._muon:
                self._muon_update(name, parameter, lr)
        for _, parameter in self._all:
            parameter.grad = None

    def _adam(self, lr: float) -> None:
        groups = [[(n, p) for n, p in group if p.grad is not None] for group in self._groups]
        groups = [group for group in groups if group]
        sparse = {n: self._rows(n, p) for group in groups for n, p in group if p.grad.is_sparse}  # type: ignore[union-attr]
        kept = torch.stack(
            [torch.stack([self._moments(n, p, sparse) for n, p in group]).sum() for group in groups]
        ).float()
        if self._sum_shards is not None:
            kept = self._sum_shards(kept)
        correction1 = 1 - self.config.beta1 ** self._updates.double()
        correction2 = (1 - self.config.beta2 ** self._updates.double()).sqrt()
        eps = self.config.eps * correction2
        for group, count in zip(groups, kept, strict=True):
            # p.numel() is that of the whole parameter, whatever share of it lies here.
            mean = count / sum(p.numel() for _, p in group) + self.config.eps
            step = lr * correction2 / correction1 / (mean if self._cautious else 1.0)
            for name, parameter in group:
                self._weights(name, parameter, step, eps, lr, sparse)

    @property
    def _cautious(self) -> bool:
        return self.config.kind != "adamw"

    def _moments(self, name: str, parameter: nn.Parameter, sparse: dict[str, _Rows]) -> Tensor:
        betas = self.config.beta1, self.config.beta2
        if name in sparse:
            r = sparse[name]
            return moments_pass(r.gradient_RD, r.first_RD, r.second_RD, self._factor, self._ok, *betas)
        self._settle(name)
        g, m, v = _local(parameter.grad), _local(self._first[name]), _local(self._second[name])
        return moments_pass(g, m, v, self._factor, self._ok, *betas)

    def _weights(
        self,
        name: str,
        parameter: nn.Parameter,
        step: Tensor,
        eps: Tensor,
        lr: float,
        sparse: dict[str, _Rows],
    ) -> None:
        if name not in sparse:
            g, m, v = _local(parameter.grad), _local(self._first[name]), _local(self._second[name])
            here = _here(parameter)
            p = here.contiguous()
            self._move(name, parameter, (p, g, m, v), step, eps, lr, self._text_rows)
            if p is not here:  # the update of a copy must not be lost
                here.copy_(p)
            return
        r = sparse[name]
        p_RD = parameter[r.rows_R]
        # The rows are in ascending order.
        text_rows = int((r.rows_R < self._text_rows).sum()) if self._has_text_rates(name) else 0
        self._move(name, parameter, (p_RD, r.gradient_RD, r.first_RD, r.second_RD), step, eps, lr, text_rows)
        parameter[r.rows_R] = p_RD
        self._first[name][r.rows_R], self._second[name][r.rows_R] = r.first_RD, r.second_RD
        self._seen[name][r.rows_R] = self._updates.to(self._seen[name].dtype)

    def _move(
        self,
        name: str,
        parameter: nn.Parameter,
        tensors: tuple[Tensor, Tensor, Tensor, Tensor],
        step: Tensor,
        eps: Tensor,
        lr: float,
        text_rows: int,
    ) -> None:
        """Change the weights, the rows for text at a rate of their own where they have one."""
        parts: list[tuple[slice, str]] = [(slice(None), name)]
        if self._has_text_rates(name):
            parts = [(slice(0, text_rows), name + TEXT_ROWS), (slice(text_rows, None), name)]
        for rows, called in parts:
            p, g, m, v = tensors if len(parts) == 1 else (x[rows] for x in tensors)
            factor = self._lr_factors[called]
            shrink = torch.full_like(step, self._shrink(name, parameter, lr, factor))
            if p.numel():
                own = step * factor if factor != 1.0 else step
                weights_pass(p, g, m, v, own, shrink, eps, self._ok, self._cautious)

    def _has_text_rates(self, name: str) -> bool:
        """Whether the rows for text learn at another rate than the others."""
        return name in ROWS_BY_ID and self._lr_factors[name + TEXT_ROWS] != self._lr_factors[name]

    def _rows(self, name: str, parameter: nn.Parameter) -> _Rows:
        """The rows that have a gradient, with their moments as they stood after the last update."""
        if name not in self._seen:
            # Until now every row was updated every time.
            self._seen[name] = torch.full(
                (len(parameter),), self.updates - 1, dtype=torch.int32, device=parameter.device
            )
        gradient = parameter.grad.coalesce()  # type: ignore[union-attr]
        rows_R = gradient.indices()[0]
        gap_R1 = (self._updates - 1 - self._seen[name][rows_R]).double()[:, None]
        first_RD = self._first[name][rows_R] * (self.config.beta1**gap_R1).float()
        second_RD = self._second[name][rows_R] * (self.config.beta2**gap_R1).float()
        return _Rows(rows_R, gradient.values().contiguous(), first_RD, second_RD)

    def _settle(self, name: str) -> None:
        """Bring all rows up to the last update: from now on every row is updated every time."""
        if name in self._seen:
            gap_R1 = (self._updates - 1 - self._seen.pop(name)).double()[:, None]
            self._first[name].mul_((self.config.beta1**gap_R1).float())
            self._second[name].mul_((self.config.beta2**gap_R1).float())

    def _shrink(self, name: str, parameter: Tensor, lr: float, factor: float) -> float:
        if not is_decayed(name, parameter):
            return 1.0
        ratio = lr / self.peak_lr if self.config.decay_follows_lr else 1.0
        return 1 - lr * factor * self.config.weight_decay * ratio

    def _muon_update(self, name: str, parameter: nn.Parameter, lr: float) -> None:
        if parameter.grad is None:
            return
        momentum = self._first[name]
        before = momentum.clone() if self._ok.device.type != "cpu" else momentum
        direction = muon_direction(momentum, parameter.grad * self._factor, self.config.muon_momentum)
        factor = self._lr_factors[name]
        new = parameter * self._shrink(name, parameter, lr, factor) - direction * (lr * factor)
        if self._ok.device.type != "cpu":
            momentum.copy_(torch.where(self._ok, momentum, before))
            new = torch.where(self._ok, new, parameter)
        parameter.copy_(new)

    def state_dict(self) -> dict[str, Tensor]:
        """`first.<name>`, `second.<name>` and `seen.<name>`; the numbers of updates are kept by the trainer."""
        return (
            {f"first.{n}": t for n, t in self._first.items()}
            | {f"second.{n}": t for n, t in self._second.items()}
            | {f"seen.{n}": t for n, t in self._seen.items()}
        )

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor], updates: int, skipped: int = 0) -> None:
        """Take up the moments after `updates` updates; tensors laid out as ours, or whole ones.

        Raises:
            KeyError: a parameter's moments are missing.
        """
        self._updates.fill_(updates)
        self._skipped.fill_(skipped)
        lazy = [n.removeprefix("seen.") for n in state if n.startswith("seen.")]
        # On the device of the moments: a run may begin on a CPU and be resumed on a GPU.
        self._seen = {
            n: state[f"seen.{n}"].to(self._first[n].device, copy=True)
            for n in lazy
            if not is_shared(self._first[n])
        }
        betas = {"first.": self.config.beta1, "second.": self.config.beta2}
        for moments, prefix in ((self._first, "first."), (self._second, "second.")):
            for name, tensor in moments.items():
                whole = state[prefix + name]
                if name in lazy and name not in self._seen:
                    gap_R1 = (updates - state[f"seen.{name}"]).double()[:, None]
                    whole = whole * (betas[prefix] ** gap_R1).float()
                tensor.copy_(like(tensor, whole))


def _zeros(parameter: Tensor) -> Tensor:
    """Moments are contiguous, however the parameter lies: they are changed in place, as memory."""
    return torch.zeros_like(parameter, dtype=torch.float32, memory_format=torch.contiguous_format)


def _here(tensor: Tensor | None) -> Tensor:
    """The part of a tensor that lies on this rank, as the memory itself."""
    assert tensor is not None
    return tensor.to_local() if is_shared(tensor) else tensor.data


def _local(tensor: Tensor | None) -> Tensor:
    """The same to be read, contiguous: the memory itself where that is so."""
    return _here(tensor).contiguous()


def _dense(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    if gradient.is_sparse:
        return gradient.coalesce().values()
    return _local(gradient)
