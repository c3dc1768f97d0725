"""Prompts to completions: prefill, then one token at a time for all rows, never an id that the grammar forbids.

The head is applied to the legal rows of the vocabulary only, which gives exactly the distribution of the full softmax
with all other ids masked, at a fraction of its cost.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sodakit.errors import CheckpointError, ConfigError
from sodakit.generate.sampling import GREEDY, Sampling, choose
from sodakit.model.cpu_decoder import CpuDecoder, Precision, supports
from sodakit.model.kv_cache import KVCache
from sodakit.model.transformer import Transformer
from sodakit.tokens.grammar import FIRST_SLOT, Grammar
from sodakit.tokens.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt and how to answer it."""

    prompt_T: np.ndarray
    """Ids, beginning with BOS and valid under the grammar."""
    closing: int
    """The id that ends the answer: text_end, audio_end or EOS."""
    max_new_tokens: int
    """At most this many ids, 0 for none; cut down to what the context leaves."""
    text: Sampling = GREEDY
    """How text and markers are chosen."""
    semantic: Sampling = Sampling(temperature=0.8, top_p=0.95)
    """How codes of codebook 0 are chosen."""
    acoustic: Sampling = Sampling(temperature=0.8, top_p=0.95)
    """How the other codes are chosen."""
    seed: int = 0
    """Same seed, same answer, alone or among others."""
    shared_tokens: int = 0
    """The first ids of the prompt that other requests begin with too (a voice); a `Batch` computes them once."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 0 or not 0 <= self.seed < 2**63:
            raise ConfigError(
                f"max_new_tokens={self.max_new_tokens}, seed={self.seed}; needed: max_new_tokens ≥ 0, 0 ≤ seed < 2^63."
            )


@dataclass(frozen=True)
class Completion:
    """An answer."""

    ids_T: np.ndarray
    """Generated ids without the closing one."""
    ended: bool
    """Whether it closed by itself rather than at a limit."""


class Row:
    """A request while it is being answered."""

    def __init__(self, request: Request, grammar: Grammar, context: int) -> None:
        if len(request.prompt_T) >= context:
            raise ConfigError(
                f"The prompt has {len(request.prompt_T)} tokens and the model's context {context}. "
                "Use shorter speech or text, or a shorter voice sample."
            )
        self.request = request
        self.state = grammar.state_after(request.prompt_T)
        self.budget = min(request.max_new_tokens, context - len(request.prompt_T))
        self.ids: list[int] = []
        self.ended = False
        self._kinds: dict[int, list[int]] = {}
        self._random = torch.Generator().manual_seed(request.seed)

    @property
    def done(self) -> bool:
        """Whether the answer is complete: closed, or at its limit."""
        return self.ended or len(self.ids) >= self.budget

    @property
    def at_boundary(self) -> bool:
        """Whether the ids so far are whole frames."""
        return self.state <= FIRST_SLOT

    def uniform(self) -> float:
        return float(torch.rand((), generator=self._random, dtype=torch.float64))

    def sampling(self, grammar: Grammar) -> Sampling:
        if self.state < FIRST_SLOT:
            return self.request.text
        semantic = self.state - FIRST_SLOT in grammar.vocabulary.semantic_codebooks
        return self.request.semantic if semantic else self.request.acoustic

    def recent(self, window: int) -> list[int]:
        """The last ids of the answer of the kind that is due: text, or the codebook."""
        return self._kinds.get(self.state, [])[-window:]

    def take(self, token: int, grammar: Grammar) -> None:
        state = grammar.advance(self.state, token)
        assert state is not None, "the sliced head offers legal ids only"
        self._kinds.setdefault(self.state, []).append(token)
        self.state = state
        if token == self.request.closing:
            self.ended = True
        else:
            self.ids.append(token)

    def completion(self, num_codebooks: int) -> Completion:
        ids = self.ids
        if self.state > FIRST_SLOT and not self.ended:  # stopped inside a frame: drop the part frame
            ids = ids[: len(ids) - (self.state - FIRST_SLOT)]
        return Completion(np.array(ids, np.int32), self.ended)


class Engine:
    """A model ready to answer: all requests at once (`generate`), or as they come (`Batch`).

    On a CPU a float32 model decodes by a compiled step where it can (`CpuDecoder`): then an answer is the same to the
    last bit alone and among others. Elsewhere torch rounds by the shape of the batch, which can only matter where two
    ids score the same to six digits.

    Args:
        model: whose weights are used; a copy only where `precision` asks for fewer bits.
        vocabulary: what its ids mean.
        num_codebooks: of each frame.
        precision: of weights on a CPU; default: the model's own.
    Raises:
        ConfigError: a precision that cannot be had here.
    """

    def __init__(
        self,
        model: Transformer,
        vocabulary: Vocabulary,
        num_codebooks: int,
        precision: Precision | None = None,
    ) -> None:
        self.model = model.eval()
        self.grammar = Grammar(vocabulary, num_codebooks)
        self.device = model.device
        self.dtype = self.cache_dtype = next(model.parameters()).dtype
        self.decoder: Transformer | CpuDecoder = self.model
        compiled = self.device.type == "cpu" and self.dtype == torch.float32
        if precision is not None and not compiled:
            raise ConfigError(
                f"precision={precision!r} for a {self.dtype} model on {self.device}; needed: float32 on a CPU."
            )
        if precision is not None or (compiled and supports(model.config.backbone)):
            self.decoder = CpuDecoder(model, precision or "float32")
            self.cache_dtype = self.decoder.cache_dtype
        self._runs: dict[int, list[slice]] = {}

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], batch: int = 16) -> list[Completion]:
        """The completion of each request, in order, `batch` of them at a time.

        Raises:
            ConfigError: a prompt does not fit the context.
            ValueError: a prompt breaks the grammar.
        """
        rows = [Row(r, self.grammar, self.model.config.context) for r in requests]
        # Rows of like length together: a batch lasts as long as its longest answer.
        order = sorted(range(len(rows)), key=lambda i: (rows[i].budget, len(rows[i].request.prompt_T)))
        order = [i for i in order if not rows[i].done]  # nothing is wanted of the others
        for first in range(0, len(order), batch):
            self._answer([rows[i] for i in order[first : first + batch]])
        return [row.completion(self.grammar.num_codebooks) for row in rows]

    def _answer(self, rows: list[Row]) -> None:
        lengths = [len(r.request.prompt_T) for r in rows]
        room = max(n + r.budget for n, r in zip(lengths, rows, strict=True))
        cache = KVCache(self.model.config, len(rows), room, self.device, self.cache_dtype)
        x_BD = self._prefill(rows, lengths, cache)
        active = list(range(len(rows)))
        while True:
            tokens = self.next_ids([rows[i] for i in active], x_BD)
            for i, token in zip(active, tokens, strict=True):
                rows[i].take(token, self.grammar)
            going = [n for n, i in enumerate(active) if not rows[i].done]
            if not going:
                return
            if len(going) < len(active):
                active = [active[n] for n in going]
                cache = cache.select(going)
            ids_B1 = torch.tensor([[rows[i].ids[-1]] for i in active], device=self.device)
            x_BD = self.decoder(ids_B1, cache=cache)[:, -1]

    def _prefill(self, rows: list[Row], lengths: list[int], cache: KVCache) -> Tensor:
        # Padding comes after each prompt, so causal attention never sees it, and its cache entries are cut off again.
        ids_BT = torch.zeros(len(rows), max(lengths), dtype=torch.int64)
        for number, row in enumerate(rows):
            ids_BT[number, : lengths[number]] = torch.from_numpy(row.request.prompt_T.astype(np.int64))
        x_BTD = self.decoder(ids_BT.to(self.device), cache=cache)
        cache.set_lengths(lengths)
        return x_BTD[torch.arange(len(rows)), torch.tensor(lengths) - 1]

    def next_ids(self, rows: list[Row], x_BD: Tensor) -> list[int]:
        """The next id of each row, from its own random numbers and the ids legal for it.

        Raises:
            CheckpointError: the model's scores are NaN or infinite.
        """
        tokens = [0] * len(rows)
        groups: dict[tuple[int, Sampling], list[int]] = {}
        for n, row in enumerate(rows):
            groups.setdefault((row.state, row.sampling(self.grammar)), []).append(n)
        for (state, sampling), members in groups.items():
            logits_BR = self._logits(x_BD[members], state)
            if not bool(logits_BR.amax(dim=1).isfinite().all()):
                raise CheckpointError(
                    "The model's scores are NaN or infinite, so nothing can be drawn from them. Its weights are damaged, or "
                    "it diverged while it was trained: use an earlier checkpoint."
                )
            if sampling.repeat_penalty:
                self._penalise(logits_BR, [rows[n] for n in members], sampling)
            uniform_B = torch.tensor(
                [rows[n].uniform() for n in members], dtype=torch.float64, device=self.device
            )
            for n, place in zip(members, choose(logits_BR, uniform_B, sampling).tolist(), strict=True):
                tokens[n] = int(self.grammar.legal(state)[place])
        return tokens

    def _logits(self, x_BD: Tensor, state: int) -> Tensor:
        """Scores of the ids that are legal in `state`, in ascending order of the ids."""
        if state not in self._runs:
            legal = self.grammar.legal(state)
            ends = [0, *(np.flatnonzero(np.diff(legal) > 1) + 1).tolist(), len(legal)]
            self._runs[state] = [slice(int(legal[a]), int(legal[b - 1]) + 1) for a, b in pairwise(ends)]
        # Slices of the head are views; picking its rows by number would copy it for every id.
        return torch.cat([self.decoder.logits(x_BD, rows=run) for run in self._runs[state]], dim=1)

    def _penalise(self, logits_BR: Tensor, rows: list[Row], sampling: Sampling) -> None:
        # All rows stand in one state. How often each came is counted on the host, in one go for all of them.
        recent = [row.recent(sampling.repeat_window) for row in rows]
        numbers = np.repeat(np.arange(len(rows)), [len(ids) for ids in recent])
        places = np.searchsorted(self.grammar.legal(rows[0].state), np.concatenate(recent).astype(np.int64))
        counts_BR = np.zeros(logits_BR.shape, np.float32)
        np.add.at(counts_BR, (numbers, places), 1)
        logits_BR -= sampling.repeat_penalty * torch.from_numpy(counts_BR).to(logits_BR)


class Batch:
    """Requests answered together, each at its own place in its own document; they join and leave between steps.

    The rows at work lie first in one cache, so a step is one call on a view of them; when a row leaves, the last
    one takes its place. Behind them lie prompts that requests share, such as a voice: computed once and copied.
    Memory for all rows is reserved at the start; the system hands it out as it is used.
    """

    def __init__(self, engine: Engine, capacity: int = 8, prefixes: int = 4) -> None:
        config = engine.model.config
        self.engine, self.capacity = engine, capacity
        self.rows: list[Row] = []
        self._cache = KVCache(config, capacity + prefixes, config.context, engine.device, engine.cache_dtype)
        self._x_BD = torch.zeros(0, config.backbone.width, device=engine.device, dtype=engine.dtype)
        self._prefixes: OrderedDict[bytes, int] = OrderedDict()
        self._free_prefixes = list(range(capacity, capacity + prefixes))

    @property
    def free(self) -> int:
        """How many more requests may join."""
        return self.capacity - len(self.rows)

    @torch.inference_mode()
    def admit(self, request: Request) -> Row:
        """The request's row, its prompt read; its first id comes with the next `step`. A row of which no id is wanted is
        done at once, and takes no place.

        Raises:
            ConfigError: no row is free, or the prompt does not fit the context.
            ValueError: the prompt breaks the grammar.
        """
        if not self.free:
            raise ConfigError(f"All {self.capacity} rows are taken. Wait for one, or use a larger batch.")
        row = Row(request, self.engine.grammar, self.engine.model.config.context)
        if row.done:
            return row
        place = len(self.rows)
        self._cache.reset(place)
        known = self._copy_prefix(request, place)
        x_BD = self._read(place, request.prompt_T[known:])
        self._x_BD = torch.cat([self._x_BD, x_BD])
        self.rows.append(row)
        return row

    @torch.inference_mode()
    def step(self) -> list[tuple[Row, int]]:
        """Every row with its next id, closing ids included. Rows that are done have left."""
        if not self.rows:
            return []
        tokens = self.engine.next_ids(self.rows, self._x_BD)
        taken = list(zip(self.rows, tokens, strict=True))
        for row, token in taken:
            row.take(token, self.engine.grammar)
        for row, _ in taken:
            if row.done:
                self.retire(row)
        if self.rows:
            ids_B1 = torch.tensor([[row.ids[-1]] for row in self.rows], device=self.engine.device)
            self._x_BD = self._extend(0, len(self.rows), ids_B1)
        return taken

    @torch.inference_mode()
    def retire(self, row: Row) -> None:
        """Take a row out, wherever its answer stands."""
        place, last = self.rows.index(row), len(self.rows) - 1
        if place != last:
            self._cache.copy_row(last, place)
            self._x_BD[place] = self._x_BD[last]
            self.rows[place] = self.rows[last]
        self.rows.pop()
        self._x_BD = self._x_BD[:last]

    def _copy_prefix(self, request: Request, place: int) -> int:
        shared_T = request.prompt_T[: min(request.shared_tokens, len(request.prompt_T) - 1)].astype(np.int32)
        if not len(shared_T) or not (self._prefixes or self._free_prefixes):
            return 0
        key = shared_T.tobytes()
        if key not in self._prefixes:
            # The one unused for longest makes room.
            source = (
                self._free_prefixes.pop() if self._free_prefixes else self._prefixes.popitem(last=False)[1]
            )
            self._cache.reset(source)
            self._read(source, shared_T)
            self._prefixes[key] = source
        self._prefixes.move_to_end(key)
        self._cache.copy_row(self._prefixes[key], place, len(shared_T))
        return len(shared_T)

    def _read(self, place: int, ids_T: np.ndarray) -> Tensor:
        ids_BT = torch.from_numpy(ids_T.astype(np.int64))[None].to(self.engine.device)
        return self._extend(place, place + 1, ids_BT)

    def _extend(self, first: int, last: int, ids_BT: Tensor) -> Tensor:
        view = self._cache.rows(first, last)
        x_BD = self.engine.decoder(ids_BT, cache=view)[:, -1]
        self._cache.lengths[first:last] = view.lengths
        return x_BD
