"""Configs are frozen dataclasses: resolve once, print, hash, store, never edit.

`override(config, {"schedule.peak_lr": "3e-5"})` answers an unknown name with the nearest known one.
"""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from sodakit.bounds import Bounded, check_bounds
from sodakit.errors import ConfigError, nearest
from sodakit.files import digest, parse_json

T = TypeVar("T")

_LATER = "left out where it has its default"


def later(default: T) -> T:
    """A field that came after configs were written: they and their fingerprints stay what they were until it is used.

    acoustic_strides: tuple[int, ...] = later(())
    """
    made: T = dataclasses.field(default=default, metadata={_LATER: True})
    return made


def to_plain(value: Any, *, whole: bool = False) -> Any:
    """The config as JSON-ready dicts, lists and scalars.

    Args:
        whole: with the fields of `later` that have their defaults, too.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [
            f
            for f in dataclasses.fields(value)
            if whole or _LATER not in f.metadata or getattr(value, f.name) != f.default
        ]
        return {f.name: to_plain(getattr(value, f.name), whole=whole) for f in fields}
    if isinstance(value, dict):
        return {str(k): to_plain(v, whole=whole) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v, whole=whole) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value


def from_plain(kind: Any, value: Any, name: str = "config") -> Any:
    """The inverse of `to_plain` for the type `kind`.

    Raises:
        ConfigError: a field is unknown, missing or of the wrong type; the message names it.
    """
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ConfigError(f"{name} is {value!r}; needed: an object with the fields of {kind.__name__}.")  # type: ignore[union-attr]
        hints = typing.get_type_hints(kind)
        fields = {f.name: f for f in dataclasses.fields(kind)}
        for key in value:
            if key not in fields:
                raise ConfigError(f"{name} has no field {key!r}.{nearest(key, sorted(fields), cutoff=0.5)}")
        missing = [key for key, f in fields.items() if key not in value and _is_needed(f)]
        if missing:
            raise ConfigError(f"{name} lacks {', '.join(missing)}.")
        made = {k: from_plain(hints[k], v, f"{name}.{k}") for k, v in value.items()}
        if issubclass(kind, Bounded):  # type: ignore[arg-type]
            check_bounds(kind, made, lambda field: f"{name}.{field}=")  # type: ignore[arg-type]
        return kind(**made)  # type: ignore[operator]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        problems = []
        options = [a for a in arguments if a is not type(None)]
        for option in sorted(options, key=lambda kind: _strange_fields(kind, value)):
            try:
                return from_plain(option, value, name)
            except ConfigError as error:
                problems.append(str(error))
        raise ConfigError(problems[0])
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{name}={value!r} is not one of {', '.join(map(repr, arguments))}.")
        return value
    if origin in (list, tuple):
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name}={value!r} needs a list.")
        if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
            if len(value) != len(arguments):
                raise ConfigError(f"{name}={value!r} needs {len(arguments)} values.")
            return tuple(from_plain(a, v, name) for a, v in zip(arguments, value, strict=True))
        return origin(from_plain(arguments[0], v, f"{name}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{name}={value!r} needs an object.")
        return {
            from_plain(arguments[0], k, name): from_plain(arguments[1], v, f"{name}.{k}")
            for k, v in value.items()
        }
    return _scalar(kind, value, name)


def _is_needed(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _strange_fields(kind: Any, value: Any) -> int:
    """How many fields of an object a dataclass does not know: it is probably of the kind that knows most."""
    if not dataclasses.is_dataclass(kind) or not isinstance(value, dict):
        return 0
    return len(set(value) - {f.name for f in dataclasses.fields(kind)})


def _scalar(kind: Any, value: Any, name: str) -> Any:
    if kind is Any:
        return value
    if kind is Path:
        return Path(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(f"{name} is a number of {len(str(value))} digits; that is too large.") from None
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{name}={value!r} is a {type(value).__name__}; needed: {kind.__name__}.")


def override(config: T, settings: dict[str, str]) -> T:
    """The config with dotted names replaced: `{"model.layers": "4", "data.seed": "7"}`.

    Values are read as JSON where they are JSON (numbers, true, null, lists), else as text.

    Raises:
        ConfigError: an unknown name (with the nearest known one) or a value of the wrong type.
    """
    plain = to_plain(config, whole=True)
    for dotted, text in settings.items():
        node = plain
        *parents, leaf = dotted.split(".")
        for parent in parents:
            if not isinstance(node, dict) or parent not in node:
                raise ConfigError(
                    f"No setting {dotted!r}.{nearest(dotted, sorted(_leaves(plain)), cutoff=0.5)}"
                )
            node = node[parent]
        if not isinstance(node, dict) or leaf not in node:
            raise ConfigError(f"No setting {dotted!r}.{nearest(dotted, sorted(_leaves(plain)), cutoff=0.5)}")
        try:
            node[leaf] = parse_json(text)
        except ValueError:
            node[leaf] = text
    return from_plain(type(config), plain, type(config).__name__)


def parse_overrides(words: list[str]) -> dict[str, str]:
    """`["schedule.peak_lr=3e-5"]` as a dict.

    Raises:
        ConfigError: a word without `=`.
    """
    settings: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise ConfigError(
                f"{word!r} is not a setting. Write it as name=value, for example schedule.peak_lr=3e-5."
            )
        name = name.lstrip("-")
        if name in settings:
            raise ConfigError(f"{name} is given twice: {settings[name]} and {value}. Leave one out.")
        settings[name] = value
    return settings


def config_digest(config: Any) -> str:
    """A fingerprint of every setting: equal configs, equal digest."""
    return digest(json.dumps(to_plain(config), sort_keys=True))


def _leaves(plain: Any, prefix: str = "") -> list[str]:
    if not isinstance(plain, dict):
        return [prefix]
    return [
        leaf for key, value in plain.items() for leaf in _leaves(value, f"{prefix}.{key}" if prefix else key)
    ]
