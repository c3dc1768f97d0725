"""A WebSocket's bytes: read a little at a time, so that a flood of tiny frames holds up nobody else.

uvicorn reads all that has come in one go, answers every ping at once whether or not the answers are taken, keeps any
number of fragments, and logs a traceback for text that is none.
"""

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

SLICE_BYTES = 1 << 12
"""So much is read between two looks at everything else: at most 2,000 frames."""
MOST_FRAGMENTS = 256
"""A message in more pieces is refused."""


class LiveWire(WebSocketsSansIOProtocol):
    """One WebSocket."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._unread = bytearray()
        self._next: asyncio.Handle | None = None
        self._is_stalled = False

    def data_received(self, data: bytes) -> None:
        """More of it: some now, the rest in turns."""
        self._unread += data
        if self._next is None:
            self._read()

    def pause_writing(self) -> None:
        """The client takes less than is sent; what it sends would be answered."""
        super().pause_writing()
        self._is_stalled = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It takes more again."""
        super().resume_writing()
        self._is_stalled = False
        if not self.read_paused and self._next is None:
            self.transport.resume_reading()

    def handle_cont(self, event: Frame) -> None:
        """A further piece of a message."""
        if len(self.frames) >= MOST_FRAGMENTS:
            self._refuse(CloseCode.POLICY_VIOLATION, "a message in crumbs")
            return
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """A whole message."""
        if self.curr_msg_data_type == "text":
            self.frames = [b"".join(self.frames)]
            try:
                self.frames[0].decode()
            except UnicodeDecodeError:
                self._refuse(CloseCode.INVALID_DATA, "no UTF-8")
                return
        super().send_receive_event_to_app()

    def _read(self) -> None:
        self._next = None
        if self.transport.is_closing():
            self._unread.clear()
            return
        data = bytes(self._unread[:SLICE_BYTES])
        del self._unread[:SLICE_BYTES]
        super().data_received(data)
        if self._unread:
            self.transport.pause_reading()
            self._next = self.loop.call_soon(self._read)
        elif not self.read_paused and not self._is_stalled and not self.transport.is_closing():
            self.transport.resume_reading()

    def _refuse(self, code: CloseCode, why: str) -> None:
        self.frames = []
        self._unread.clear()
        self.conn.fail(code, why)
        self.handle_parser_exception()
