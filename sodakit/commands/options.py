"""How every command reads its options."""

import inspect
from typing import TypeVar

import tyro

T = TypeVar("T")


def read_options(kind: type[T], verb: str, argv: list[str]) -> T:
    """The options dataclass filled from argv; `--help` shows its docstring, which ends with an example."""
    return tyro.cli(
        kind,
        prog=f"sodakit {verb}",
        args=argv,
        description=inspect.getdoc(kind),
        config=(tyro.conf.OmitArgPrefixes,),
    )
