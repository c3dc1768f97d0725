"""Whose turn it is: places at the model and at the decoder, given out so that nobody's crowd keeps others waiting."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from sodakit.serve.problems import Problem, busy

CALLER: ContextVar[str] = ContextVar("CALLER", default="")
"""Who asks for what: the line that this request stands in. Set by `Guard`."""
_TICKET: ContextVar[object] = ContextVar("TICKET", default=None)
"""What a request was expected by, until it stands in its line."""


class Turns:
    """Places that are taken in turn. Each caller has a line of its own, and the lines are served one after another.

    One line never holds the last place, so that a caller without one is served at once. Where too many wait, the
    longest line loses its last. All of it happens in the event loop.
    """

    def __init__(self, places: int, most_waiting: int, timeout_s: float) -> None:
        self.places, self.most_waiting, self.timeout_s = places, most_waiting, timeout_s
        self._held: Counter[str] = Counter()
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._expected: dict[object, str] = {}

    @property
    def num_held(self) -> int:
        """Places taken."""
        return self._held.total()

    @property
    def num_waiting(self) -> int:
        """Requests in all lines."""
        return sum(map(len, self._lines.values()))

    @asynccontextmanager
    async def taken(self) -> AsyncGenerator[Callable[[], None]]:
        """A place until the block ends, or the function that it gives is called.

        Raises:
            Problem: 429, too many wait already; 503, no place became free in time.
        """
        line = CALLER.get()
        await self._wait(line)
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                self._leave(line)

        try:
            yield leave
        finally:
            leave()

    @contextmanager
    def expected(self) -> Iterator[None]:
        """A request whose body is still to come: it counts as one that waits, until it does.

        Raises:
            Problem: 429, the caller could not even wait: a body would be read for nothing.
        """
        line, ticket = CALLER.get(), object()
        if not self._has_room(line):
            raise busy(self.num_waiting + len(self._expected))
        self._expected[ticket] = line
        _TICKET.set(ticket)
        try:
            yield
        finally:
            self._expected.pop(ticket, None)

    def _has_room(self, line: str) -> bool:
        """Whether one more in this line could wait, were all here that are expected."""
        expected, free = Counter(self._expected.values()), self._num_free(line)
        if expected[line] < free:
            return True
        waiting = Counter({name: len(places) for name, places in self._lines.items()}) + expected
        return (
            waiting.total() - free < self.most_waiting or max(waiting.values(), default=0) > waiting[line] + 1
        )

    async def _wait(self, line: str) -> None:
        self._expected.pop(_TICKET.get(), None)
        if line not in self._lines and self._num_free(line):
            self._held[line] += 1
            return
        self._make_room(line)
        place = asyncio.get_running_loop().create_future()
        self._lines.setdefault(line, deque()).append(place)
        try:
            await asyncio.wait_for(asyncio.shield(place), self.timeout_s)
        except BaseException as error:
            self._forget(line, place)
            if isinstance(error, TimeoutError):
                raise Problem(
                    503, f"No place within {self.timeout_s:g} s; the server is too busy. Try again later."
                ) from None
            raise

    def _num_free(self, line: str) -> int:
        """Places that this line could take now."""
        return max(0, min(self.places - self.num_held, max(1, self.places - 1) - self._held[line]))

    def _make_room(self, line: str) -> None:
        crowded = self._crowded_line(line)
        if crowded is None:
            raise busy(self.num_waiting)
        if crowded:
            self._lines[crowded].pop().set_exception(busy(self.num_waiting))

    def _crowded_line(self, line: str) -> str | None:
        """The line that must lose its last for one more in `line`; "" if none must, None if none can."""
        if self.num_waiting < self.most_waiting:
            return ""
        longest = max(self._lines, key=lambda name: len(self._lines[name]), default=line)
        longer = len(self._lines.get(longest, ())) > len(self._lines.get(line, ())) + 1
        return longest if longer else None

    def _forget(self, line: str, place: "asyncio.Future[None]") -> None:
        """Give up waiting: leave the line, or the place that came at the same moment."""
        if place.done():
            if not place.cancelled() and place.exception() is None:
                self._leave(line)
            return
        place.cancel()
        self._lines[line].remove(place)
        if not self._lines[line]:
            del self._lines[line]

    def _leave(self, line: str) -> None:
        self._held[line] -= 1
        if not self._held[line]:
            del self._held[line]
        while ready := next((name for name in self._lines if self._num_free(name)), None):
            self._held[ready] += 1
            self._lines[ready].popleft().set_result(None)
            if self._lines[ready]:
                self._lines.move_to_end(ready)
            else:
                del self._lines[ready]
