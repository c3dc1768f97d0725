"""Where tests take recordings and lists from.

The public sets lie beside the checkout, where its owner put them. Elsewhere small stand-ins take their place:
synthetic speech and sounds of `tests/fixtures`, laid out as the set they stand for. What has no stand-in is skipped.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.fixtures.stand_ins import STAND_INS

BESIDE = Path(__file__).parents[1] / "../shared/data"
NONE_HERE = "no recordings: "
"""How the reason of every such skip begins; the name of the set follows."""

stood_in: set[str] = set()
"""The sets whose stand-ins were used so far."""


def recordings(name: str) -> Path:
    """The folder of the set, or of its stand-in; without either the test is skipped."""
    if (BESIDE / name).is_dir():
        return BESIDE / name
    if name not in STAND_INS:
        pytest.skip(NONE_HERE + name)
    stood_in.add(name)
    return _made(name)


def real_recordings(name: str) -> Path:
    """The folder of the set; without it the test is skipped, because no stand-in has what it claims."""
    if not (BESIDE / name).is_dir():
        pytest.skip(NONE_HERE + name)
    return BESIDE / name


@cache
def _home() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="stand-ins-")


@cache
def _made(name: str) -> Path:
    folder = Path(_home().name) / name
    STAND_INS[name](folder)
    return folder
