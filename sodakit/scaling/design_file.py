"""A design on disk: JSON lines, to be read by programs and people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sodakit.bounds import Bounded, Count, Positive, ShareBelowOne
from sodakit.config import from_plain
from sodakit.errors import ConfigError
from sodakit.files import read_json_lines, write_json_lines
from sodakit.model.any_config import AnyConfig
from sodakit.scaling.point import DesignPoint, FlopsConvention


def write_design(path: Path | str, points: Sequence[DesignPoint]) -> None:
    """The design as JSON lines, to be read by `read_design` and by people."""
    write_json_lines(path, (_plain(p) for p in points))


def read_design(path: Path | str) -> list[DesignPoint]:
    """The points of a design file.

    Raises:
        ConfigError: no such file, or a line that is no point.
    """
    if not Path(path).exists():
        raise ConfigError(f"{path} does not exist. Make a design with `sodakit scale design --out {path}`.")
    if Path(path).suffix in (".csv", ".tsv"):
        raise ConfigError(
            f"{path} is a table, no design. Make one with `sodakit scale design` or `scale next`, --out NAME.jsonl."
        )
    return [
        from_plain(_Stored, {k: v for k, v in row.items() if k != "_"}, f"{path}, run {number}").point()
        for number, row in enumerate(read_json_lines(path, ours=False), start=1)
    ]


def differences(there: DesignPoint, here: DesignPoint) -> list[str]:
    """The settings in which two points differ: `peak_lr: 0.003 there, 0.001 here`."""
    one, other = _leaves(_settings(there)), _leaves(_settings(here))
    return [
        f"{name}: {one.get(name)} there, {other.get(name)} here"
        for name in one | other
        if one.get(name) != other.get(name)
    ]


def _leaves(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in plain.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def _plain(point: DesignPoint) -> dict[str, Any]:
    return _settings(point) | {"_": point.row()}


def _settings(point: DesignPoint) -> dict[str, Any]:
    # What is counted from the shape is counted again when the point is read.
    return {name: value for name, value in asdict(point).items() if name != "size"}


@dataclass(frozen=True, kw_only=True)
class _Stored(Bounded):
    """A point as it stands in a file; what can be counted is counted again."""

    budget_flops: Positive
    model: AnyConfig
    batch_rows: Count
    steps: Count
    peak_lr: Positive
    beta2: ShareBelowOne
    context: Count
    flops: FlopsConvention
    source: str
    seed: int
    lr_rule: str = "soda"
    lr_multiple: Positive = 1.0
    lr_factors: tuple[tuple[str, float], ...] = ()
    trunk_warmup_steps: int | None = None

    def point(self) -> DesignPoint:
        return DesignPoint(**{name: getattr(self, name) for name in self.__dataclass_fields__})
