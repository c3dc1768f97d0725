"""What a server allows: bytes, seconds, characters, and how many at once."""

from dataclasses import dataclass

from sodakit.bounds import Bounded, Count, Positive


@dataclass(frozen=True, kw_only=True)
class Limits(Bounded):
    """What one request may ask for, and how many requests there may be."""

    upload_bytes: Count = 25 * 2**20
    """Largest body of a request."""
    recording_s: Positive = 600.0
    """Longest recording, once decoded."""
    voice_s: Positive = 12.0
    """Longest voice sample."""
    text_characters: Count = 4096
    """Longest text to speak."""
    speech_s: Positive = 300.0
    """Longest speech made for one request."""
    concurrent: Count = 8
    """Requests of one caller answered at once; further ones wait in line. One more place is kept for the next caller."""
    queue: int = 32
    """Requests that may wait; further ones are turned away with status 429."""
    voices: int = 64
    """Voices kept."""
    request_s: Positive = 300.0
    """A request that has had no answer for so long is given up."""
    write_s: Positive = 30.0
    """A client that takes nothing for so long is given up."""
    header_s: Positive = 15.0
    """Time for a request's header; a connection that has not sent it is closed."""
    body_s: Positive = 30.0
    """Time for a request's body, and more for a large one: `connections.SLOWEST_BYTES_PER_S`."""
    idle_s: Positive = 5.0
    """A connection on which nothing is asked for so long is closed."""
    live_idle_s: Positive = 60.0
    """A WebSocket on which nothing comes for so long is closed."""
    live_s: Positive = 900.0
    """Longest time in which a WebSocket may send its text."""
    connections: Count = 256
    """Connections open at once; beyond, those that send no whole request make room."""
    client_connections: Count = 128
    """Connections open at once to one address."""
    client_live: Count = 16
    """WebSockets open at once to one address."""
    in_flight_bytes: Count = 2**30
    """Uploads on disk at once, all together; further ones are turned away with status 429."""
