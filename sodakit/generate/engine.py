"""Prompts to completions: prefill, then one token at a time for all rows, never an id that the grammar forbids.

The head is applied to the legal rows of the vocabulary only, which gives exactly the distribution of the full softmax
with all other ids masked, at a fraction of its cost.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sodakit.errors import CheckpointError, ConfigError
from sodakit.generate.graphs import rows_for, span_of
from sodakit.generate.sampling import GREEDY, Sampling, choose
from sodakit.generate.step_graphs import BatchSteps, GraphDecoder
from sodakit.model.compiled import Precision
from sodakit.model.contract import Decoder, WholeFrames
from sodakit.model.families import can_compile, cpu_decoder, pattern_of
from sodakit.model.kv_cache import KVCache
from sodakit.model.transformer import Transformer
from sodakit.tokens.grammar import FIRST_SLOT
from sodakit.tokens.layouts.contract import ABSENT, Layout, lay
from sodakit.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from sodakit.generate.frame_graph import FrameEngine

NO_NUMBERS = (
    "The model's scores are NaN or infinite, so nothing can be drawn from them. Its weights are damaged, or it diverged "
    "while it was trained: use an earlier checkpoint."
)


KEPT_WITH_GRAPHS = 2
"""Each holds a cache and its graphs: one for speech, say, and one for text."""


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

    def __init__(self, request: Request, layout: Layout, context: int) -> None:
        self.prompt_PW = lay(layout, request.prompt_T)
        if len(self.prompt_PW) >= context:
            raise ConfigError(
                f"The prompt has {len(self.prompt_PW)} positions and the model's context {context}. "
                "Use shorter speech or text, or a shorter voice sample."
            )
        self.request, self.layout = request, layout
        self.cursor = layout.cursor(request.prompt_T)
        self._context = context
        self.room = context - len(self.prompt_PW)
        """Positions left."""
        self.budget = request.max_new_tokens
        self.ids: list[int] = []
        self.last_W: list[int] = []
        """The ids of the latest position."""
        self.ended = False
        self._full = self.budget == 0
        self._kinds: dict[int, list[int]] = {}
        self._random = torch.Generator().manual_seed(request.seed)

    @property
    def done(self) -> bool:
        """Whether the answer is complete: closed, or at its limit."""
        return self.ended or self._full or self.room == 0

    @property
    def most_positions(self) -> int:
        """Positions that the answer may still take."""
        return min(self.room, self.budget)

    @property
    def num_positions(self) -> int:
        """Positions so far, prompt included."""
        return self._context - self.room

    @property
    def at_boundary(self) -> bool:
        """Whether the ids so far are whole frames."""
        return self.cursor.at_boundary

    def uniforms(self, count: int) -> list[float]:
        """The row's next random numbers: the same however many are asked for at a time."""
        return torch.rand(count, generator=self._random, dtype=torch.float64).tolist()

    def sampling(self, kind: int) -> Sampling:
        """How an id of a kind is chosen: a state of the grammar, FIRST_SLOT + k for codebook k."""
        if kind < FIRST_SLOT:
            return self.request.text
        semantic = kind - FIRST_SLOT in self.layout.vocabulary.semantic_codebooks
        return self.request.semantic if semantic else self.request.acoustic

    def recent(self, kind: int, window: int) -> list[int]:
        """The last ids of the answer of a kind."""
        return self._kinds.get(kind, [])[-window:]

    def take(self, ids_W: list[int]) -> list[int]:
        """Go on by one position. Returns the ids of the document that are complete now, closing one included."""
        for column, token in enumerate(ids_W):
            if token != ABSENT:
                kind = FIRST_SLOT + column if column else self.cursor.state
                self._kinds.setdefault(kind, []).append(token)
        self.last_W, self.room = ids_W, self.room - 1
        done = self.cursor.take(ids_W)
        if done and done[-1] == self.request.closing:
            self.ended = True
            self.ids += done[:-1]
        elif len(self.ids) + len(done) > self.budget:
            self._full, done = True, []
        else:
            self.ids += done
            self._full = len(self.ids) >= self.budget
        return done

    def completion(self) -> Completion:
        ids = self.ids
        if not self.at_boundary and not self.ended:  # stopped inside a frame: drop the part frame
            ids = ids[: len(ids) - (self.cursor.state - FIRST_SLOT)]
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
        graphs: frames and steps as CUDA graphs (`graphs.py`); default: on a GPU. On a CPU the same steps run without
            one, for tests.
    Raises:
        ConfigError: a precision that cannot be had here.
    """

    def __init__(
        self,
        model: Transformer,
        vocabulary: Vocabulary,
        num_codebooks: int,
        precision: Precision | None = None,
        graphs: bool | None = None,
    ) -> None:
        self.model = model.eval()
        self.layout = pattern_of(model.config).layout(vocabulary, num_codebooks)
        self.device = model.device
        self.dtype = self.cache_dtype = next(model.parameters()).dtype
        self.decoder: Decoder = self.model
        compiled = self.device.type == "cpu" and self.dtype == torch.float32
        if precision is not None and not compiled:
            raise ConfigError(
                f"precision={precision!r} for a {self.dtype} model on {self.device}; needed: float32 on a CPU."
            )
        if precision is not None or (compiled and can_compile(model.config)):
            compiled_model = cpu_decoder(model, precision or "float32")
            self.decoder, self.cache_dtype = compiled_model, compiled_model.cache_dtype
        self._runs: dict[int, list[slice]] = {}
        self.has_graphs = self.device.type == "cuda" if graphs is None else graphs
        if self.has_graphs and self.layout.width > 1:
            firsts = [vocabulary.codebook_range(k)[0] for k in range(1, self.layout.width)]
            self.decoder = GraphDecoder(self.model, firsts)
        self._with_graphs: OrderedDict[Any, Any] = OrderedDict()

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], batch: int = 16) -> list[Completion]:
        """The completion of each request, in order, `batch` of them at a time.

        Raises:
            ConfigError: a prompt does not fit the context.
            ValueError: a prompt breaks the grammar.
        """
        rows = [Row(r, self.layout, self.model.config.context) for r in requests]
        # Rows of like length together: a batch lasts as long as its longest answer.
        order = sorted(range(len(rows)), key=lambda i: (rows[i].most_positions, len(rows[i].prompt_PW)))
        order = [i for i in order if not rows[i].done]  # nothing is wanted of the others
        spoken = [self._spoken_as(row) for row in rows]
        for how, members in _grouped(order, spoken).items():
            for first in range(0, len(members), batch):
                part = [rows[i] for i in members[first : first + batch]]
                if how is None:
                    self._answer(part)
                else:
                    self._frames_for(part, *how).answer(part)
        return [row.completion() for row in rows]

    def _spoken_as(self, row: Row) -> tuple[Sampling, Sampling] | None:
        """How the codes of a row are chosen that is speech to its end, and may come a frame at a launch; None elsewhere."""
        how = row.request.semantic, row.request.acoustic
        if not self._has_frame_graphs or row.done or any(h.repeat_penalty for h in how):
            return None
        begins = row.cursor.state == FIRST_SLOT and row.request.closing == self.layout.vocabulary.audio_end
        return how if begins else None

    @property
    def _has_frame_graphs(self) -> bool:
        # Where some codebooks are late and others not, what is due depends on whether the frame is the last.
        late = self.layout.delays[1 : self.layout.num_codebooks]
        return self.has_graphs and (all(late) or not any(late))

    def _frames_for(self, rows: list[Row], semantic: Sampling, acoustic: Sampling) -> "FrameEngine":
        """What writes frames for so many rows of such length: sizes are rounded up, so that graphs are used again."""
        from sodakit.generate.frame_graph import FrameEngine

        batch = rows_for(len(rows))
        longest = max(len(row.prompt_PW) + self._most_spoken(row) for row in rows)
        room = span_of(longest, self.model.config.context)
        return self._kept(
            (batch, room, semantic, acoustic),
            lambda: FrameEngine(self, batch, semantic=semantic, acoustic=acoustic, room=room),
        )

    def _kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """What has graphs of these shapes, made where it is not there; the one unused for longest makes room."""
        if key not in self._with_graphs:
            while len(self._with_graphs) >= KEPT_WITH_GRAPHS:
                self._with_graphs.popitem(last=False)
            self._with_graphs[key] = make()
        self._with_graphs.move_to_end(key)
        return self._with_graphs[key]

    def _most_spoken(self, row: Row) -> int:
        """Positions that an answer may take that is speech to its end, and those of a last frame that is not wanted."""
        frame = self.layout.frame_positions
        frames = -(-row.budget // self.layout.num_codebooks) + 1
        late = max(self.layout.delays, default=0)
        return min(frames * frame + late + 2, row.room)

    def _answer(self, rows: list[Row]) -> None:
        room = max(len(row.prompt_PW) + row.most_positions for row in rows)
        if self.has_graphs:
            return self._answer_by_steps(rows, span_of(room, self.model.config.context))
        cache = KVCache(self.model.config, len(rows), room, self.device, self.cache_dtype)
        x_BD = self._prefill(rows, cache)
        active = rows
        while True:
            for row, ids_W in zip(active, self.next_positions(active, x_BD), strict=True):
                row.take(ids_W)
            going = [n for n, row in enumerate(active) if not row.done]
            if not going:
                return
            if len(going) < len(active):
                active = [active[n] for n in going]
                cache = cache.select(going)
            x_BD = self.decoder(self.latest(active), cache=cache)[:, -1]

    def _answer_by_steps(self, rows: list[Row], room: int) -> None:
        """The same with a graph for each number of rows."""
        batch = rows_for(len(rows))
        cache, steps = self._kept((batch, room), lambda: self._new_steps(batch, room))
        cache.reset()
        view, active = cache.rows(0, len(rows)), list(rows)
        x_BD = self._prefill(rows, view)
        cache.lengths[: len(rows)] = view.lengths
        while True:
            for row, ids_W in zip(active, self.next_positions(active, x_BD), strict=True):
                row.take(ids_W)
            for place in reversed(range(len(active))):
                if active[place].done:  # the last one takes its place
                    last = active.pop()
                    if place < len(active):
                        cache.copy_row(len(active), place)
                        active[place] = last
            if not active:
                return
            x_BD = steps(self.latest(active))

    def _new_steps(self, batch: int, room: int) -> tuple[KVCache, BatchSteps]:
        cache = KVCache(self.model.config, batch, room, self.device, self.cache_dtype)
        return cache, BatchSteps(self.model, cache, batch, self.layout.width)

    def latest(self, rows: list[Row]) -> Tensor:
        """The ids of the last position of each row: ids_B1W."""
        return torch.tensor([[row.last_W] for row in rows], device=self.device)

    def _prefill(self, rows: list[Row], cache: KVCache) -> Tensor:
        # Padding comes after each prompt, so causal attention never sees it, and its cache entries are cut off again.
        lengths = [len(row.prompt_PW) for row in rows]
        ids_BPW = torch.zeros(len(rows), max(lengths), self.layout.width, dtype=torch.int64)
        for number, row in enumerate(rows):
            ids_BPW[number, : lengths[number]] = torch.from_numpy(row.prompt_PW.astype(np.int64))
        x_BPD = self.decoder(ids_BPW.to(self.device), cache=cache)
        cache.set_lengths(lengths)
        return x_BPD[torch.arange(len(rows)), torch.tensor(lengths) - 1]

    def next_positions(self, rows: list[Row], x_BD: Tensor) -> list[list[int]]:
        """The W ids of each row's next position, from its own random numbers and the ids legal for it.

        Raises:
            CheckpointError: the model's scores are NaN or infinite.
        """
        positions = [[ABSENT] * self.layout.width for _ in rows]
        legal = self.layout.legal
        asked = [n for n, row in enumerate(rows) if not row.cursor.is_tail]
        for state, members in _grouped(asked, [row.cursor.state for row in rows]).items():
            places = self._draw(rows, members, state, partial(self._logits_of, x_BD, state))
            for n, place in places.items():
                positions[n][0] = int(legal(state)[place])
        due = [row.cursor.due(ids_W[0]) for row, ids_W in zip(rows, positions, strict=True)]
        if any(due):
            self._fill_columns(rows, positions, due, x_BD)
        return positions

    def _fill_columns(
        self, rows: list[Row], positions: list[list[int]], due: list[dict[int, int | None]], x_BD: Tensor
    ) -> None:
        """The codes beside the first, column by column: what a prompt has fixed, and else drawn."""
        v = self.layout.vocabulary
        members = [n for n, columns in enumerate(due) if columns]
        inside = self.decoder.inside(x_BD if len(members) == len(rows) else x_BD[members])
        if isinstance(inside, WholeFrames) and self._all_free(rows, due, members):
            self._write_whole(inside, rows, positions, members)
            return
        for k in range(1, self.layout.num_codebooks):
            inside.put(torch.tensor([positions[n][k - 1] for n in members], device=self.device))
            logits_BR = inside.logits(k)
            drawn = [i for i, n in enumerate(members) if k in due[n] and due[n][k] is None]
            theirs = [rows[n] for n in members]
            first = v.codebook_range(k)[0]
            for i, place in self._draw(theirs, drawn, FIRST_SLOT + k, logits_BR.__getitem__).items():
                positions[members[i]][k] = first + place
            for n in members:
                if (fixed := due[n].get(k)) is not None:
                    positions[n][k] = fixed

    def _all_free(self, rows: list[Row], due: list[dict[int, int | None]], members: list[int]) -> bool:
        """Whether every code of every member's frame is to be drawn, all alike and without a penalty."""
        columns = list(range(1, self.layout.width))
        how = self._samplings(rows[members[0]])
        return not any(h.repeat_penalty for h in how) and all(
            list(due[n]) == columns
            and not any(fixed is not None for fixed in due[n].values())
            and self._samplings(rows[n]) == how
            for n in members
        )

    def _samplings(self, row: Row) -> list[Sampling]:
        """How the codes after the first of a frame are chosen."""
        return [row.sampling(FIRST_SLOT + k) for k in range(1, self.layout.width)]

    def _write_whole(
        self, inside: WholeFrames, rows: list[Row], positions: list[list[int]], members: list[int]
    ) -> None:
        """The codes beside the first, in one call for all columns."""
        how = self._samplings(rows[members[0]])
        first_B = torch.tensor([positions[n][0] for n in members], device=self.device)
        drawn = [rows[n].uniforms(len(how)) for n in members]
        uniform_BS = torch.tensor(drawn, dtype=torch.float64, device=self.device)
        codes_BS = inside.write(first_B, uniform_BS, [(h.temperature, h.top_p, h.top_k) for h in how])
        firsts = [self.layout.vocabulary.codebook_range(k)[0] for k in range(1, self.layout.width)]
        for n, codes_S in zip(members, codes_BS.tolist(), strict=True):
            if min(codes_S) < 0:
                raise CheckpointError(NO_NUMBERS)
            positions[n][1:] = [first + code for first, code in zip(firsts, codes_S, strict=True)]

    def _draw(
        self, rows: list[Row], members: list[int], kind: int, logits_of: Callable[[list[int]], Tensor]
    ) -> dict[int, int]:
        """For each member of the rows the place of its choice among the ids of a kind."""
        places: dict[int, int] = {}
        for sampling, of in _grouped(members, [row.sampling(kind) for row in rows]).items():
            logits_BR = logits_of(of)
            if sampling.repeat_penalty:
                self._penalise(logits_BR, [rows[n] for n in of], sampling, kind)
            drawn = [number for n in of for number in rows[n].uniforms(1)]
            uniform_B = torch.tensor(drawn, dtype=torch.float64, device=self.device)
            found = choose(logits_BR, uniform_B, sampling).tolist()
            if min(found) < 0:
                raise CheckpointError(NO_NUMBERS)
            places |= zip(of, found, strict=True)
        return places

    def _logits_of(self, x_BD: Tensor, state: int, members: list[int]) -> Tensor:
        return self._logits(x_BD if len(members) == len(x_BD) else x_BD[members], state)

    def _logits(self, x_BD: Tensor, state: int) -> Tensor:
        """Scores of the ids that are legal in `state`, in ascending order of the ids."""
        if state not in self._runs:
            legal = self.layout.legal(state)
            ends = [0, *(np.flatnonzero(np.diff(legal) > 1) + 1).tolist(), len(legal)]
            self._runs[state] = [slice(int(legal[a]), int(legal[b - 1]) + 1) for a, b in pairwise(ends)]
        # Slices of the head are views; picking its rows by number would copy it for every id.
        parts = [self.decoder.logits(x_BD, rows=run) for run in self._runs[state]]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _penalise(self, logits_BR: Tensor, rows: list[Row], sampling: Sampling, kind: int) -> None:
        # How often each came is counted on the host, in one go for all rows.
        recent = [row.recent(kind, sampling.repeat_window) for row in rows]
        numbers = np.repeat(np.arange(len(rows)), [len(ids) for ids in recent])
        legal = self.ids_of(kind)
        places = np.searchsorted(legal, np.concatenate(recent).astype(np.int64))
        counts_BR = np.zeros(logits_BR.shape, np.float32)
        np.add.at(counts_BR, (numbers, places), 1)
        logits_BR -= sampling.repeat_penalty * torch.from_numpy(counts_BR).to(logits_BR)

    def ids_of(self, kind: int) -> np.ndarray:
        """What a choice of a kind is among, ascending."""
        if kind > FIRST_SLOT and self.layout.frame_positions == 1:
            return np.arange(*self.layout.vocabulary.codebook_range(kind - FIRST_SLOT))
        return self.layout.legal(kind)


def _grouped(members: list[int], keys: Sequence[Any]) -> dict[Any, list[int]]:
    """The members by what is the key of each."""
    groups: dict[Any, list[int]] = {}
    for n in members:
        groups.setdefault(keys[n], []).append(n)
    return groups


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
        # One row more, for two to change places.
        self._spare = capacity + prefixes
        self._cache = KVCache(config, self._spare + 1, config.context, engine.device, engine.cache_dtype)
        self._x_BD = torch.zeros(0, config.backbone.width, device=engine.device, dtype=engine.dtype)
        self._steps = None
        if engine.has_graphs:
            self._steps = BatchSteps(engine.model, self._cache, capacity, engine.layout.width)
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
        row = Row(request, self.engine.layout, self.engine.model.config.context)
        if row.done:
            return row
        place = len(self.rows)
        self._cache.reset(place)
        known = self._copy_prefix(row, place)
        x_BD = self._read(place, row.prompt_PW[known:])
        self._x_BD = torch.cat([self._x_BD, x_BD])
        self.rows.append(row)
        return row

    @torch.inference_mode()
    def step(self, rows: Sequence[Row] | None = None) -> list[tuple[Row, list[int]]]:
        """Every row with the ids of its document that are new, closing ones included: one where each has a position of
        its own, those of a frame or none elsewhere. Rows that are done have left.

        Args:
            rows: only these go on; the others stay as they are. Default: all.
        """
        at_work = self.rows[: self._to_front(self.rows if rows is None else rows)]
        if not at_work:
            return []
        positions = self.engine.next_positions(at_work, self._x_BD[: len(at_work)])
        taken = [(row, row.take(ids_W)) for row, ids_W in zip(at_work, positions, strict=True)]
        for row, _ in taken:
            if row.done:
                self.retire(row)
        left = self._to_front([row for row, _ in taken if not row.done])
        if left:
            latest = self.engine.latest(self.rows[:left])
            self._x_BD[:left] = self._steps(latest) if self._steps else self._extend(0, left, latest)
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

    def _to_front(self, rows: Sequence[Row]) -> int:
        """Let these rows lie first; how many they are."""
        if len(rows) == len(self.rows):
            return len(rows)
        wanted, count = set(map(id, rows)), 0
        for place, row in enumerate(self.rows):
            if id(row) in wanted:
                if place != count:
                    self._exchange(place, count)
                count += 1
        return count

    def _exchange(self, one: int, other: int) -> None:
        for source, target in ((one, self._spare), (other, one), (self._spare, other)):
            self._cache.copy_row(source, target)
        self._x_BD[[one, other]] = self._x_BD[[other, one]]
        self.rows[one], self.rows[other] = self.rows[other], self.rows[one]

    def _copy_prefix(self, row: Row, place: int) -> int:
        shared_PW = lay(row.layout, row.request.prompt_T[: row.request.shared_tokens])[
            : len(row.prompt_PW) - 1
        ]
        # Late codes of speech that the shared part ends within stand where other prompts have none yet.
        while len(shared_PW) and (shared_PW[-1] != row.prompt_PW[len(shared_PW) - 1]).any():
            shared_PW = shared_PW[:-1]
        if not len(shared_PW) or not (self._prefixes or self._free_prefixes):
            return 0
        key = shared_PW.tobytes()
        if key not in self._prefixes:
            # The one unused for longest makes room.
            source = (
                self._free_prefixes.pop() if self._free_prefixes else self._prefixes.popitem(last=False)[1]
            )
            self._cache.reset(source)
            self._read(source, shared_PW)
            self._prefixes[key] = source
        self._prefixes.move_to_end(key)
        self._cache.copy_row(self._prefixes[key], place, len(shared_PW))
        return len(shared_PW)

    def _read(self, place: int, ids_PW: np.ndarray) -> Tensor:
        ids_BPW = torch.from_numpy(ids_PW.astype(np.int64))[None].to(self.engine.device)
        return self._extend(place, place + 1, ids_BPW)

    def _extend(self, first: int, last: int, ids_BPW: Tensor) -> Tensor:
        view = self._cache.rows(first, last)
        x_BD = self.engine.decoder(ids_BPW, cache=view)[:, -1]
        self._cache.lengths[first:last] = view.lengths
        return x_BD
