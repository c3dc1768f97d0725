"""Who a judge is: its name and fingerprint."""

from typing import Protocol


class Named(Protocol):
    """Every judge: of words, of voices, of texts."""

    @property
    def name(self) -> str:
        """What a table calls it."""

    @property
    def fingerprint(self) -> str:
        """Digest of everything its scores depend on."""


def named(judge: Named) -> dict[str, str]:
    """How a result names a judge."""
    return {"name": judge.name, "fingerprint": judge.fingerprint}
