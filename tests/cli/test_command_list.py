"""The list of commands is right although it imports none of them."""

import subprocess
import sys
from importlib import import_module

import pytest
from docstring_parser import parse

import megavit.cli.commands
from megavit.cli.app import run
from megavit.cli.command_list import COMMANDS


def function(command: str):
    return getattr(import_module(f"{megavit.cli.commands.__name__}.{command}"), command)


def test_each_command_is_listed_with_the_first_sentence_of_its_docstring():
    found = {
        command: (parse(function(command).__doc__).short_description or "").replace("\n", " ") for command in COMMANDS
    }
    assert found == COMMANDS


def test_the_list_imports_no_command_and_a_command_no_other():
    for line, expected in (("--help", set()), ("predict --help", {"predict"})):
        script = (
            "import sys\n"
            "from megavit.cli.app import run\n"
            f"code = run({line.split()!r})\n"
            "package = 'megavit.cli.commands.'\n"
            "found = {name.removeprefix(package) for name in sys.modules if name.startswith(package)}\n"
            f"sys.exit(code or found != {expected!r})\n"
        )
        assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0, line


@pytest.mark.parametrize("line", ["predict --help", "--help predict"])
def test_the_help_of_a_command_is_its_whole_docstring(line, capsys):
    assert run(line.split()) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert COMMANDS["predict"] in shown and "does not stop the others" in shown and "--coverage" in shown
