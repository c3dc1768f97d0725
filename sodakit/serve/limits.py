"""What a server allows: bytes, seconds, characters, and how many at once."""

import math
from dataclasses import dataclass, fields

from sodakit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may ask for, and how many requests there may be."""

    upload_bytes: int = 25 * 2**20
    """Largest body of a request."""
    recording_s: float = 600.0
    """Longest recording, once decoded."""
    voice_s: float = 12.0
    """Longest voice sample."""
    text_characters: int = 4096
    """Longest text to speak."""
    speech_s: float = 300.0
    """Longest speech made for one request."""
    concurrent: int = 8
    """Requests of one caller answered at once; further ones wait in line. One more place is kept for the next caller."""
    queue: int = 32
    """Requests that may wait; further ones are turned away with status 429."""
    voices: int = 64
    """Voices kept."""
    request_s: float = 300.0
    """A request that has had no answer for so long is given up."""
    write_s: float = 30.0
    """A client that takes nothing for so long is given up."""
    header_s: float = 15.0
    """Time for a request's header; a connection that has not sent it is closed."""
    body_s: float = 30.0
    """Time for a request's body, and more for a large one: `connections.SLOWEST_BYTES_PER_S`."""
    idle_s: float = 5.0
    """A connection on which nothing is asked for so long is closed."""
    live_idle_s: float = 60.0
    """A WebSocket on which nothing comes for so long is closed."""
    live_s: float = 900.0
    """Longest time in which a WebSocket may send its text."""
    connections: int = 256
    """Connections open at once; beyond, those that send no whole request make room."""
    client_connections: int = 128
    """Connections open at once to one address."""
    client_live: int = 16
    """WebSockets open at once to one address."""
    in_flight_bytes: int = 2**30
    """Uploads on disk at once, all together; further ones are turned away with status 429."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_s"):
                possible, needed = value > 0, "more than 0 s"
            else:
                least = 0 if field.name in ("queue", "voices") else 1
                possible, needed = value >= least, f"at least {least}"
            if not (possible and math.isfinite(value)):
                raise ConfigError(f"{field.name}={value}; needed: {needed}.")
