"""What a server allows: bytes, seconds, characters, and how many at once."""

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
    speech_s: float = 120.0
    """Longest speech made for one request."""
    concurrent: int = 8
    """Requests answered at once; further ones wait in line."""
    queue: int = 32
    """Requests that may wait; further ones are turned away with status 429."""
    voices: int = 64
    """Voices kept."""
    request_s: float = 300.0
    """A request that has had no answer for so long is given up."""
    write_s: float = 30.0
    """A client that takes nothing for so long is given up."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < (0 if field.name in ("queue", "voices") else 1):
                raise ConfigError(f"{field.name}={value}; needed: at least 1 (queue and voices: at least 0).")
