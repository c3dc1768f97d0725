"""One codec frame per launch, sampling included, on buffers that a GPU replays as one CUDA graph (`graphs.py`).

A flat model takes K unrolled steps for it, each of which knows its codebook, so the slice of the head is a constant and all
rows share it. A model of frames takes one step, and inside it the codes column by column; where codebooks are late, the host
says before each frame which columns are due. The host looks in once a frame.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sodakit.errors import CheckpointError, ConfigError
from sodakit.generate.engine import NO_NUMBERS, Completion, Engine, Request, Row
from sodakit.generate.graphs import Graphs, span_of, static_step
from sodakit.generate.sampling import Sampling, choose
from sodakit.model.kv_cache import KVCache
from sodakit.tokens.grammar import FIRST_SLOT
from sodakit.tokens.layouts.contract import ABSENT

DRAWN = -2
"""In the buffer of what a frame's columns shall hold: the model chooses."""


class FrameEngine:
    """Speech for a batch of requests that stand at a frame boundary, a frame at a time.

    Args:
        engine: with the model, on a GPU or, for tests, a CPU.
        batch: rows; fixed, as are all shapes.
        semantic, acoustic: how codes are chosen; part of the graph, so the same for all requests. Without repetition
            penalty: that needs the host.
        room: positions of each row at most; default: the model's context.
    Raises:
        ConfigError: a repetition penalty.
    """

    def __init__(
        self, engine: Engine, batch: int, *, semantic: Sampling, acoustic: Sampling, room: int | None = None
    ) -> None:
        if semantic.repeat_penalty or acoustic.repeat_penalty:
            raise ConfigError(
                "repeat_penalty in a frame graph; needed: 0. Use `Batch` for requests with one."
            )
        # Not the engine itself, which keeps this one: a ring would hold a GPU's memory until Python looks for rings.
        self.model, self.batch = engine.model, batch
        self.layout, self.num_codebooks = engine.layout, engine.layout.num_codebooks
        vocabulary, config, device = engine.layout.vocabulary, self.model.config, engine.device
        self.sampling = [
            semantic if k in vocabulary.semantic_codebooks else acoustic for k in range(self.num_codebooks)
        ]
        self.cache = KVCache(config, batch, room or config.context, device, engine.dtype)
        self._x_BD = torch.zeros(batch, config.backbone.width, device=device, dtype=engine.dtype)
        self._positions_B = torch.zeros(batch, dtype=torch.int64, device=device)
        shape = (self.num_codebooks, batch)
        self._uniform_KB = torch.zeros(shape, dtype=torch.float64, device=device)
        self._ids_KB = torch.zeros(shape, dtype=torch.int64, device=device)
        self._wanted_KB = torch.zeros(shape, dtype=torch.int64, device=device)
        self._legal = [
            torch.from_numpy(engine.ids_of(FIRST_SLOT + k)).to(device) for k in range(self.num_codebooks)
        ]
        # One block of rows, copied once: inside the frame nothing is gathered.
        told = self._legal[: self.layout.frame_positions]
        with torch.no_grad():
            self._head = [self.model.head_VD[legal_R].contiguous() for legal_R in told]
        self._fine = torch.ones((), dtype=torch.bool, device=device)
        self._graphs = Graphs(device)

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The completion of each request, as `Engine.generate` gives it: at most `batch` of them.

        Raises:
            ConfigError: too many, a prompt that does not fit, or one that does not end where a frame begins.
        """
        rows = [Row(r, self.layout, self.model.config.context) for r in requests]
        self.answer(rows)
        return [row.completion() for row in rows]

    @torch.inference_mode()
    def answer(self, rows: list[Row]) -> None:
        """Answer these rows.

        Raises:
            ConfigError: too many, or one whose prompt does not end where a frame begins.
            CheckpointError: the model's scores are NaN or infinite.
        """
        if len(rows) > self.batch or any(row.cursor.state != FIRST_SLOT for row in rows):
            raise ConfigError(
                f"{len(rows)} requests; needed: at most {self.batch}, each with a prompt that ends where a frame of "
                "sound begins."
            )
        self._prefill(rows)
        while going := [row for row in rows if not row.done]:
            self._ask(rows)
            self.frame(max(row.num_positions for row in going) + self.layout.frame_positions)
            self._take(rows)

    def frame(self, longest: int) -> None:
        """The next K ids of every row, in the buffers. `longest` positions will be in use by its end."""
        span = span_of(longest, self.cache.max_tokens)
        steps = self._flat_frame if self.layout.width == 1 else self._wide_frame
        self._graphs.run(span, partial(steps, span), moved=[self._x_BD, self._positions_B])

    @property
    def is_captured(self) -> bool:
        """Whether frames come by a graph: on a GPU that takes them."""
        return self._graphs.captures

    def rewind(self, position: int) -> None:
        """Let every row go on from this position of what it has said: to time the same frames again."""
        self._positions_B.fill_(position)

    def _flat_frame(self, span: int) -> None:
        for k in range(self.num_codebooks):
            self._ids_KB[k].copy_(self._draw(F.linear(self._x_BD, self._head[k]), k))
            self._step(self._ids_KB[k][:, None, None], span)

    def _wide_frame(self, span: int) -> None:
        # A row whose speech ends here has its codes drawn too, unless they are late: nobody reads them.
        inside = self.model.inside(self._x_BD)
        for k in range(self.num_codebooks):
            logits_BR = inside.logits(k) if k else F.linear(self._x_BD, self._head[0])
            drawn_B, wanted_B = self._draw(logits_BR, k), self._wanted_KB[k]
            ids_B = torch.where(wanted_B == DRAWN, drawn_B, wanted_B)
            self._ids_KB[k].copy_(ids_B)
            if k + 1 < self.num_codebooks:
                inside.put(ids_B)
        beside = (0, self.layout.width - self.num_codebooks)
        self._step(F.pad(self._ids_KB.T, beside, value=ABSENT)[:, None], span)

    def _draw(self, logits_BR: Tensor, codebook: int) -> Tensor:
        self._fine.logical_and_(logits_BR.amax().isfinite())
        return self._legal[codebook][choose(logits_BR, self._uniform_KB[codebook], self.sampling[codebook])]

    def _step(self, ids_B1W: Tensor, span: int) -> None:
        self._x_BD.copy_(static_step(self.model, self.cache, ids_B1W, self._positions_B, span))
        # A finished row goes round in its last place, where nobody reads.
        self._positions_B.add_(1).clamp_(max=self.cache.max_tokens - 1)

    def _prefill(self, rows: list[Row]) -> None:
        lengths = [len(row.prompt_PW) for row in rows]
        ids_BPW = torch.zeros(self.batch, max(lengths), self.layout.width, dtype=torch.int64)
        for number, row in enumerate(rows):
            ids_BPW[number, : lengths[number]] = torch.from_numpy(row.prompt_PW.astype("int64"))
        self.cache.reset()
        self._fine.fill_(True)
        x_BPD = self.model(ids_BPW.to(self._x_BD.device), cache=self.cache)
        lengths += [1] * (self.batch - len(rows))
        self._positions_B.copy_(torch.tensor(lengths))
        self._x_BD.copy_(x_BPD[torch.arange(self.batch), torch.tensor(lengths) - 1])

    def _ask(self, rows: list[Row]) -> None:
        """What each column shall hold, and the random numbers for those that are drawn, in the order of `Engine`."""
        wanted_KB = torch.full(self._wanted_KB.shape, ABSENT)
        uniform_KB = torch.zeros(self._uniform_KB.shape, dtype=torch.float64)
        for number, row in enumerate(rows):
            if row.done:
                continue
            columns = self._columns(row)
            wanted_KB[list(columns), number] = torch.tensor(list(columns.values()))
            drawn = [k for k, wanted in columns.items() if wanted == DRAWN]
            uniform_KB[drawn, number] = torch.tensor(row.uniforms(len(drawn)), dtype=torch.float64)
        self._wanted_KB.copy_(wanted_KB)
        self._uniform_KB.copy_(uniform_KB)

    def _columns(self, row: Row) -> dict[int, int]:
        if self.layout.width == 1:
            return dict.fromkeys(range(self.num_codebooks), DRAWN)
        first = {} if row.cursor.is_tail else {0: DRAWN}
        due = row.cursor.due(
            self.layout.vocabulary.audio_base
        )  # as if the frame is none that ends the speech
        return first | {k: DRAWN if fixed is None else fixed for k, fixed in due.items()}

    def _take(self, rows: list[Row]) -> None:
        ids_BK = self._ids_KB.T.tolist()
        if not bool(self._fine):
            raise CheckpointError(NO_NUMBERS)
        beside = [ABSENT] * (self.layout.width - self.num_codebooks)
        for row, ids_K in zip(rows, ids_BK, strict=False):
            for ids_W in [[i] for i in ids_K] if self.layout.width == 1 else [ids_K + beside]:
                if (
                    row.done
                ):  # closed at the first codebook, or at its limit: the rest of the frame is nobody's
                    break
                row.take(ids_W)
