"""One thread that owns the model: jobs join and leave its batch between steps, their ids go back to the event loop."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from sodakit.generate.engine import Batch, Completion, Engine, Row
from sodakit.generate.plans import Plan
from sodakit.serve.problems import Problem, busy

logger = logging.getLogger("sodakit.serve")
PROMPTS_SHARE = 0.2
"""Of the time while somebody listens, at most so much is for the further prompts of what nobody listens to: a recording
of minutes is many, and each of them holds up everybody's next step."""


@dataclass(frozen=True)
class Ids:
    """More of the answer: whole frames, or text."""

    piece: int
    ids: list[int]


@dataclass(frozen=True)
class PieceEnded:
    """One request of the plan is answered."""

    piece: int
    completion: Completion


@dataclass(frozen=True)
class Finished:
    """The plan is carried out."""

    result: Any


@dataclass(frozen=True)
class Failed:
    """The plan could not be carried out."""

    error: Exception


Event = Ids | PieceEnded | Finished | Failed


class Job:
    """A plan on its way through the worker. Made in the event loop that takes its events."""

    def __init__(self, plan: Plan[Any], on_end: Callable[[], None] | None = None) -> None:
        self.plan, self._on_end = plan, on_end
        self.piece = -1
        self.stopped = False
        self.rests_until_s = 0.0
        """Until then, by `time.monotonic`, nobody waits for what it makes: it yields to jobs whose is awaited. Set by who
        takes its events."""
        self.is_listened_to = False
        """Whether somebody hears what it makes while it is made."""
        self.skipped = -1
        self.row: Row | None = None
        self.last: Completion | None = None
        """The piece that has ended, until the next one begins."""
        self.unsent: list[int] = []
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def stop(self) -> None:
        """Give the job up: it leaves before the next step. Safe to call at any time."""
        self.stopped = True

    def skip(self, piece: int) -> None:
        """End one piece here and go on with the next."""
        self.skipped = max(self.skipped, piece)

    async def events(self, timeout_s: float) -> AsyncGenerator[Event]:
        """What happens to the job, up to `Finished`. The job stops when its events are no longer asked for.

        Raises:
            Problem: nothing happened for `timeout_s`.
            Exception: whatever failed.
        """
        try:
            while True:
                try:
                    event = await asyncio.wait_for(self._events.get(), timeout_s)
                except TimeoutError:
                    raise Problem(
                        503, f"No answer within {timeout_s:g} s; the server is too busy. Try again later."
                    ) from None
                if isinstance(event, Failed):
                    raise event.error
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            self.stop()

    def post(self, event: Event) -> None:
        """Hand an event to the loop; called by the worker."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
            if self._on_end and isinstance(event, Finished | Failed):
                self._loop.call_soon_threadsafe(self._on_end)
        except RuntimeError:  # the loop has closed: nobody is left to answer
            self.stop()


class Worker:
    """Jobs in, events out."""

    def __init__(self, engine: Engine, *, concurrent: int, queue: int) -> None:
        self.engine, self.queue = engine, queue
        self.num_tokens = 0
        """Ids made so far."""
        self.busy_s = 0.0
        """Time spent making them."""
        self._batch = Batch(engine, concurrent)
        self._waiting: deque[Job] = deque()
        self._active: list[Job] = []
        self._next_prompt_s = 0.0
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sodakit-model", daemon=True)
        self._thread.start()

    @property
    def num_active(self) -> int:
        """Jobs being answered."""
        return len(self._active)

    @property
    def num_waiting(self) -> int:
        """Jobs in line."""
        return sum(not job.stopped for job in list(self._waiting))

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, plan: Plan[Any], on_end: Callable[[], None] | None = None) -> Job:
        """The job of a plan; first come, first served. `on_end` is called in the event loop when it is over, whether
        or not its events have been taken.

        Raises:
            Problem: 429, too many are waiting already; 503, the server is closing.
        """
        job = Job(plan, on_end)
        with self._wake:
            if self._closing:
                raise Problem(503, "The server is closing.")
            # One that finds a free row is not waiting, whatever the length of the line.
            room = self.queue + self._batch.capacity - self.num_active
            if self.num_waiting >= room:
                raise busy(self.num_waiting)
            self._waiting.append(job)
            self._wake.notify()
        return job

    def close(self) -> None:
        """End the thread; jobs that are not finished fail."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while job_or_none := self._next():
            started_s = time.perf_counter()
            try:
                if isinstance(job_or_none, Job):
                    self._active.append(job_or_none)
                    self._advance(job_or_none, None)
                self._drop_stopped()
                self._begin_pieces()
                self._step()
            except Exception as error:
                # A step serves everybody: if it fails, nobody's state can be trusted.
                logger.exception("A step failed")
                self._fail_all(error)
            self.busy_s += time.perf_counter() - started_s
        self._fail_all(Problem(503, "The server is closing."))

    def _next(self) -> Job | bool:
        """A newcomer if there is room, True if only old ones go on, False at the end."""
        with self._wake:
            while not (self._closing or self._active or self._waiting):
                self._wake.wait()
            if self._closing:
                return False
            # One at a time: reading several prompts in a row would make the others' sound stutter.
            while self._waiting and len(self._active) < self._batch.capacity:
                job = self._waiting.popleft()
                if not job.stopped:
                    return job
                job.plan.close()
            return True

    def _advance(self, job: Job, completion: Completion | None) -> None:
        """Admit the job's next request, or finish it."""
        try:
            while job.row is None:
                request = next(job.plan) if completion is None else job.plan.send(completion)
                job.piece += 1
                row = self._batch.admit(request)
                if not row.done:
                    job.row = row
                    return
                completion = row.completion()
                job.post(PieceEnded(job.piece, completion))
        except StopIteration as end:
            self._leave(job, Finished(end.value))
        except Exception as error:
            self._leave(job, Failed(error))

    def _drop_stopped(self) -> None:
        for job in list(self._active):
            if job.stopped:
                self._leave(job, Finished(None))
            elif job.skipped >= job.piece and job.row is not None:
                self._batch.retire(job.row)
                self._end_piece(job)

    def _begin_pieces(self) -> None:
        """The next pieces of those whose last one has ended."""
        for job in [job for job in self._active if job.last is not None]:
            begun_s = time.monotonic()
            if begun_s < self._next_prompt_s and self._is_awaited_before(job, begun_s):
                continue
            completion, job.last = job.last, None
            self._advance(job, completion)
            ended_s = time.monotonic()
            self._next_prompt_s = ended_s + (ended_s - begun_s) * (1 / PROMPTS_SHARE - 1)

    def _is_awaited_before(self, job: Job, now_s: float) -> bool:
        """Whether somebody listens to another job, and nobody to this one."""
        return not job.is_listened_to and any(
            other.is_listened_to and other.row is not None and other.rests_until_s <= now_s
            for other in self._active
        )

    def _step(self) -> None:
        now_s = time.monotonic()
        awaited = [job for job in self._active if job.rests_until_s <= now_s]
        by_row = {job.row: job for job in awaited or self._active if job.row is not None}
        for row, tokens in self._batch.step(list(by_row)):
            job = by_row[row]
            self.num_tokens += len(tokens)
            job.unsent += tokens[:-1] if row.ended else tokens
            if row.at_boundary or row.done:
                self._send(job)
            if row.done:
                self._end_piece(job)

    def _send(self, job: Job) -> None:
        if job.unsent:
            job.post(Ids(job.piece, job.unsent))
            job.unsent = []

    def _end_piece(self, job: Job) -> None:
        assert job.row is not None
        completion = job.row.completion()
        job.row, job.unsent, job.last = None, [], completion
        job.post(PieceEnded(job.piece, completion))

    def _leave(self, job: Job, last: Event) -> None:
        self._active.remove(job)
        if job.row is not None:
            self._batch.retire(job.row)
            job.row = None
        job.plan.close()
        job.post(last)

    def _fail_all(self, error: Exception) -> None:
        with self._wake:
            jobs = [*self._active, *self._waiting]
            self._active.clear()
            self._waiting.clear()
        for job in jobs:
            job.plan.close()
            job.post(Failed(error))
        if not self._closing:
            self._batch = Batch(self.engine, self._batch.capacity)
