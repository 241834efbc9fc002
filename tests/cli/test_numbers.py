"""Impossible numbers are refused with the flag's name, by every command."""

import inspect
import json
import typing
from collections.abc import Iterator

import pytest

from megavit.cli.app import app, run
from megavit.cli.numbers import MAY_BE_ZERO

WHOLE = ["-1", "-1000000", str(10**30)]
REAL = [*WHOLE, "nan", "inf", "-inf", "1e300", "-0.5"]


def commands() -> Iterator[tuple[str, list[inspect.Parameter]]]:
    for name in app:
        function = app[name].default_command
        if not name.startswith("-") and function is not None:
            yield name, list(inspect.signature(function, eval_str=True).parameters.values())


def kinds(parameter: inspect.Parameter) -> set[type]:
    """The types of a parameter that are numbers."""
    annotation = parameter.annotation
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return {int, float} & {annotation, *typing.get_args(annotation)}


FLAGS = [(command, one.name) for command, parameters in commands() for one in parameters if kinds(one)]


def command_line(command: str, *flags: str) -> list[str]:
    """A command line with all required arguments."""
    parameters = dict(commands())[command]
    words = []
    for one in parameters:
        if one.default is one.empty:
            choices = typing.get_args(one.annotation)
            value = choices[0] if choices and isinstance(choices[0], str) else "x"
            words += [value] if one.kind is one.POSITIONAL_ONLY else [f"--{one.name.replace('_', '-')}", value]
    return [command, *words, *flags]


def test_the_walk_finds_the_flags() -> None:
    assert len(FLAGS) > 40
    expected = {("plan", "total_images"), ("serve", "timeout"), ("train", "learning_rate"), ("predict", "top")}
    assert expected <= set(FLAGS)


@pytest.mark.parametrize(("command", "name"), FLAGS)
def test_a_number_beyond_its_limits_is_refused_by_name(
    command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (parameter,) = [one for one in dict(commands())[command] if one.name == name]
    flag = f"--{name.replace('_', '-')}"
    wrong = REAL if float in kinds(parameter) else WHOLE
    for value in wrong if name in MAY_BE_ZERO else [*wrong, "0"]:
        assert run(command_line(command, f"{flag}={value}")) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1), err
        assert err.startswith(f"megavit: {flag} must be a"), err
        assert err.rstrip().endswith(f", got {int(value) if float not in kinds(parameter) else float(value)}"), err


def test_all_errors_are_reported_at_once_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "pico", "--total-images=0", "--gpu-memory=nan", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "ConfigError"
    assert [line.split()[0] for line in error["message"].splitlines()] == ["--total-images", "--gpu-memory"]
