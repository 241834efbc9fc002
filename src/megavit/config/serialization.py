"""Convert settings to and from TOML and JSON, with errors that name the path of a wrong key or value."""

import json
import math
import tomllib
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import tomli_w

from megavit.errors import ConfigError, MegavitError

if TYPE_CHECKING:  # importing pydantic takes as long as many commands
    from pydantic import TypeAdapter

T = TypeVar("T")


def from_dict(kind: type[T], settings: dict[str, Any], where: str) -> T:
    """Build a dataclass from nested plain values, or raise a ConfigError that names `where` and all invalid keys."""
    from pydantic import ValidationError

    try:
        return _type_adapter(kind).validate_json(json.dumps([settings], default=str))[0]
    except ValidationError as error:
        faults = [_fault(fault) for fault in error.errors(include_url=False)]
        raise ConfigError("\n".join([f"{where} cannot be used:", *faults])) from None


@cache
def _type_adapter(kind: type[T]) -> "TypeAdapter[list[T]]":
    from pydantic import ConfigDict, TypeAdapter

    # pydantic accepts a configuration for a list of dataclasses, but not for a dataclass.
    return TypeAdapter(list[kind], config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))


def _fault(fault: Any) -> str:
    # Members of a union have pydantic's names, which mean nothing to the user.
    path = ".".join(str(part) for part in fault["loc"][1:] if "[" not in str(part))
    match fault["type"]:
        case "unexpected_keyword_argument":
            return f"  {path}: there is no such setting"
        case "missing" | "missing_keyword_only_argument":
            return f"  {path}: is missing"
        case "value_error":
            return f"  {path + ': ' if path else ''}{fault['ctx']['error']}"
        case _:
            return f"  {path}: {fault['msg'][0].lower()}{fault['msg'][1:]}, got {fault['input']!r}"


def to_dict(settings: Any) -> dict[str, Any]:
    """Return the plain values of a dataclass without those that are None, which TOML cannot express."""
    return _without_none(asdict(settings))


def merge(base: T, changes: dict[str, Any], where: str) -> T:
    """Return `base` with the settings in `changes`, a dictionary nested alike, replaced."""
    return from_dict(type(base), _merged(to_dict(base), changes), where)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, or raise a ConfigError, which names the line of a syntax error."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from None


def dump_toml(settings: Any) -> str:
    return tomli_w.dumps(to_dict(settings))


def parse_json(text: str | bytes, where: str, kind: type[MegavitError] = ConfigError) -> dict[str, Any]:
    """Parse a JSON object without duplicate keys or NaN; errors are of class `kind` and name `where`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            raise ValueError("the same key appears twice in one object")
        return table

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a JSON number")

    def finite(number: str) -> float:
        return float(number) if math.isfinite(float(number)) else refuse(number)

    try:
        table = json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise kind(f"{where} is not valid JSON: {error}") from None
    if not isinstance(table, dict):
        raise kind(f"{where} must contain a JSON object, got {type(table).__name__}")
    return table


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in table.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return _without_none(value)
    return list(value) if isinstance(value, tuple) else value


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
