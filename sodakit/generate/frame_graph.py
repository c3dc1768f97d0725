"""One codec frame per launch: K steps of fixed shapes, sampling included, that a GPU replays as one CUDA graph.

At batch 1 a small model on a GPU waits for its launches, not for its memory. So a frame is K unrolled steps on
buffers that never move: the cache, the next ids, the positions, the random numbers. In a frame every position knows
its codebook, so the slice of the head is a constant, and all rows share it. The host looks in once a frame.

On a CPU the same steps run without a graph, which is how tests hold them against `Engine`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sodakit.errors import CheckpointError, ConfigError
from sodakit.generate.engine import NO_NUMBERS, Completion, Engine, Request, Row
from sodakit.generate.sampling import Sampling, choose
from sodakit.model.attention import Attend
from sodakit.model.kv_cache import KVCache
from sodakit.model.transformer import Block
from sodakit.tokens.grammar import FIRST_SLOT

SPAN_TOKENS = 512
"""A graph looks at this many positions of the cache, or a multiple: fewer would mean more graphs to capture, more
would mean reading empty memory."""


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
        self.engine, self.model, self.batch = engine, engine.model, batch
        self.num_codebooks = engine.layout.num_codebooks
        self.sampling = [
            semantic if k in engine.layout.vocabulary.semantic_codebooks else acoustic
            for k in range(self.num_codebooks)
        ]
        config, device = self.model.config, engine.device
        self.cache = KVCache(config, batch, room or config.context, device, engine.dtype)
        self._x_BD = torch.zeros(batch, config.backbone.width, device=device, dtype=engine.dtype)
        self._positions_B = torch.zeros(batch, dtype=torch.int64, device=device)
        self._uniform_KB = torch.zeros(self.num_codebooks, batch, dtype=torch.float64, device=device)
        self._ids_KB = torch.zeros(self.num_codebooks, batch, dtype=torch.int64, device=device)
        self._legal = [
            torch.from_numpy(engine.layout.legal(FIRST_SLOT + k)).to(device)
            for k in range(self.num_codebooks)
        ]
        # One block of rows, copied once: inside the frame nothing is gathered.
        self._head = [self.model.head_VD[legal_R].contiguous() for legal_R in self._legal]
        self._fine = torch.ones((), dtype=torch.bool, device=device)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The completion of each request, as `Engine.generate` gives it: at most `batch` of them.

        Raises:
            ConfigError: too many, a prompt that does not fit, or one that does not end where a frame begins.
        """
        rows = [Row(r, self.engine.layout, self.model.config.context) for r in requests]
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
            self._uniform_KB.copy_(self._uniforms(rows))
            self.frame(max(len(row.request.prompt_T) + len(row.ids) for row in going) + self.num_codebooks)
            self._take(rows)

    def frame(self, longest: int) -> None:
        """The next K ids of every row, in the buffers. `longest` positions will be in use by its end."""
        span = min(self.cache.max_tokens, -(-longest // SPAN_TOKENS) * SPAN_TOKENS)
        if self.engine.device.type != "cuda":
            return self._steps(span)
        if span not in self._graphs:
            self._capture(span)
        self._graphs[span].replay()

    def rewind(self, position: int) -> None:
        """Let every row go on from this position of what it has said: to time the same frames again."""
        self._positions_B.fill_(position)

    def _capture(self, span: int) -> None:
        # The passes before capture choose kernels and workspaces. They also move the state on: it is put back.
        state = [buffer.clone() for buffer in (self._x_BD, self._positions_B)]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._steps(span)
                self._restore(state)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._steps(span)
        self._restore(state)
        self._graphs[span] = graph

    def _restore(self, state: list[Tensor]) -> None:
        self._x_BD.copy_(state[0])
        self._positions_B.copy_(state[1])

    def _steps(self, span: int) -> None:
        for k in range(self.num_codebooks):
            logits_BR = F.linear(self._x_BD, self._head[k])
            self._fine.logical_and_(logits_BR.amax().isfinite())
            ids_B = self._legal[k][choose(logits_BR, self._uniform_KB[k], self.sampling[k])]
            self._ids_KB[k].copy_(ids_B)
            self._x_BD.copy_(self._forward(ids_B, span))
            # A finished row goes round in its last place, where nobody reads.
            self._positions_B.add_(1).clamp_(max=self.cache.max_tokens - 1)

    def _forward(self, ids_B: Tensor, span: int) -> Tensor:
        model, positions_B = self.model, self._positions_B
        cos, sin = (table[positions_B][:, None] for table in model.rotary_tables())
        seen_B11S = (torch.arange(span, device=ids_B.device) <= positions_B[:, None])[:, None, None]
        x_B1D = model.embedding(ids_B)[:, None]
        for layer, block in enumerate(model.blocks):
            attend = self._attend(layer, span, seen_B11S)
            x_B1D = Block.forward(block, x_B1D, cos, sin, attend)  # type: ignore[arg-type]  # never compiled
        return model.final_norm(x_B1D)[:, 0]

    def _attend(self, layer: int, span: int, seen_B11S: Tensor) -> Attend:
        rows_B = torch.arange(self.batch, device=seen_B11S.device)

        def attend(q_B1NH: Tensor, k_B1GH: Tensor, v_B1GH: Tensor) -> Tensor:
            k_BGTH, v_BGTH = self.cache.k_LBGTH[layer], self.cache.v_LBGTH[layer]
            for stored_BGTH, new in ((k_BGTH, k_B1GH), (v_BGTH, v_B1GH)):
                stored_BGTH[rows_B, :, self._positions_B] = new[:, 0].to(stored_BGTH.dtype)
            q_BGRH = q_B1NH.reshape(self.batch, k_BGTH.shape[1], -1, q_B1NH.shape[-1])
            out_BGRH = F.scaled_dot_product_attention(
                q_BGRH, k_BGTH[:, :, :span], v_BGTH[:, :, :span], attn_mask=seen_B11S
            )
            return out_BGRH.reshape(q_B1NH.shape)

        return attend

    def _prefill(self, rows: list[Row]) -> None:
        lengths = [len(row.request.prompt_T) for row in rows]
        ids_BT = torch.zeros(self.batch, max(lengths), dtype=torch.int64)
        for number, row in enumerate(rows):
            ids_BT[number, : lengths[number]] = torch.from_numpy(row.request.prompt_T.astype("int64"))
        self.cache.reset()
        self._fine.fill_(True)
        x_BTD = self.model(ids_BT.to(self.engine.device), cache=self.cache)
        lengths += [1] * (self.batch - len(rows))
        self._positions_B.copy_(torch.tensor(lengths))
        self._x_BD.copy_(x_BTD[torch.arange(self.batch), torch.tensor(lengths) - 1])

    def _uniforms(self, rows: list[Row]) -> Tensor:
        drawn_KB = torch.zeros(self.num_codebooks, self.batch, dtype=torch.float64)
        for number, row in enumerate(rows):
            if not row.done:
                drawn_KB[:, number] = torch.tensor(row.uniforms(self.num_codebooks), dtype=torch.float64)
        return drawn_KB

    def _take(self, rows: list[Row]) -> None:
        ids_KB = self._ids_KB.tolist()
        if not bool(self._fine):
            raise CheckpointError(NO_NUMBERS)
        for number, row in enumerate(rows):
            for k in range(self.num_codebooks):
                if (
                    row.done
                ):  # closed at the first codebook, or at its limit: the rest of the frame is nobody's
                    break
                row.take([ids_KB[k][number]])
