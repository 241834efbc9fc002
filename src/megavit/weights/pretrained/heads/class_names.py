"""Names of a model's classes: from a file of the user's, and each another one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megavit.errors import ConfigError


def read_class_names(path: Path, count: int) -> tuple[str, ...]:
    """Return the names of `count` classes from a file, in the order of the model's outputs.

    Args:
        path: one name a line, or JSON: a list, a table of number -> name, or one of name -> number.
        count: how many outputs the model has.

    Raises:
        ConfigError: when it cannot be read, is none of these, or does not name `count` classes.
    """
    if not count:
        raise ConfigError(f"--class-names {path}: the model has no classifier, so there are no classes to name")
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = _from_json(json.loads(text), path) if _is_json(path, text) else _from_lines(text)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"--class-names {path} cannot be read: {error}") from None
    if len(names) != count:
        raise ConfigError(f"--class-names {path} names {len(names)} classes, and the model has {count}")
    return unique(names)


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, with a number behind each that was there before: "a", "a (2)"; never one that another has."""
    taken, result = set(names), []
    seen: set[str] = set()
    for name in names:
        new, number = name, 1
        while new in seen or (number > 1 and new in taken):
            number += 1
            new = f"{name} ({number})"
        seen.add(new)
        result.append(new)
    return tuple(result)


def _is_json(path: Path, text: str) -> bool:
    return path.suffix.lower() == ".json" or text.lstrip()[:1] in ("[", "{")


def _from_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _from_json(content: Any, path: Path) -> list[str]:
    if isinstance(content, dict) and content and all(_is_number(value) for value in content.values()):
        content = {str(number): name for name, number in content.items()}
    if isinstance(content, dict) and all(_is_number(key) for key in content):
        numbers = sorted(content, key=int)
        if [int(number) for number in numbers] != list(range(len(numbers))):
            raise ConfigError(f"--class-names {path} must number the classes from 0 to {len(numbers) - 1}, each once")
        content = [content[number] for number in numbers]
    if not isinstance(content, list) or not all(isinstance(name, str) and name.strip() for name in content):
        raise ConfigError(
            f"--class-names {path} must have one name a line, or be JSON: a list of names, or number -> name"
        )
    return [name.strip() for name in content]


def _is_number(value: Any) -> bool:
    return str(value).isdecimal() and not isinstance(value, bool)
