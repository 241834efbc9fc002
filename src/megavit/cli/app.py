"""Run the `megavit` program, which turns every error into a message and an exit code.

Exit codes: 0 for success, 1 for a negative or incomplete result, 2 for wrong usage or bad input.
"""

import contextlib
import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TextIO

from cyclopts import App, CycloptsError, Parameter

from megavit.cli.command_list import COMMANDS
from megavit.cli.numbers import check_numbers
from megavit.config.names import printable
from megavit.errors import ConfigError, MegavitError, get_signal
from megavit.runtime.signals import STOP_SIGNALS

TAKE_IMAGES = ("predict", "embed", "search", "explain")
"""Commands whose arguments are a bundle and any number of images."""

app = App(
    name="megavit",
    help="Train, evaluate and deploy Vision Transformers on your own images. First steps: megavit demo",
    help_format="plaintext",
    version=lambda: _version(),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative="", show_default=lambda value: None if value is False else value),
)
for position, (name, summary) in enumerate(COMMANDS.items()):
    app.command(f"megavit.cli.commands.{name}:{name}", name=name, help=summary, sort_key=position)


def load_command(name: str) -> None:
    """Import a command, so that its help page is its whole docstring and not only the first sentence."""
    app[name].help = None


def main() -> None:
    """Run the `megavit` command and exit."""
    _open_closed_streams()
    for number in STOP_SIGNALS:  # Python itself handles SIGINT
        if signal.getsignal(number) == signal.SIG_DFL:  # not ignored, as by nohup
            signal.signal(number, _interrupt)
    code = run(sys.argv[1:])
    # Another Ctrl-C would cause a traceback while Python exits.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "triton" not in sys.modules:  # its bindings would report leaks
        gc.freeze()  # skip the last garbage collection, which takes 0.3 s with PyTorch loaded
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    try:
        check_arguments(arguments)
        if (name := next((word for word in arguments if not word.startswith("-")), "")) in COMMANDS:
            load_command(name)
        command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        check_numbers(bound.arguments)
        code = command(*bound.args, **bound.kwargs)
        sys.stdout.flush()
    except MegavitError as error:
        show_error(type(error).__name__, str(error), arguments)
        return error.exit_code
    except CycloptsError as error:
        show_error("UsageError", f"{error}\nmegavit --help lists all commands", arguments)
        return 2
    except KeyboardInterrupt as interrupt:
        show_error("Interrupted", "stopped", arguments)
        return 128 + get_signal(interrupt)
    except BrokenPipeError:
        _discard(sys.stdout)  # the reader, such as `head`, has closed the pipe
        return 1
    except OSError as error:
        # Everything else: a name that is too long, a folder without permission, a full device.
        path = f"{os.fspath(error.filename)!r}: " if error.filename is not None else ""
        show_error("OSError", f"operating system error: {path}{error.strerror or error}", arguments)
        _discard(sys.stdout)
        return 2
    except NotImplementedError as error:
        if "aten::" not in str(error):  # PyTorch's names of operations
            raise
        reason = str(error).partition(". ")[0].partition("\n")[0]
        message = f"PyTorch cannot compute this on the device: {reason}; try --device cpu"
        show_error("NotImplementedError", message, arguments)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        advice = "a smaller --batch-size, --image-size or --model needs less"
        show_error("MemoryError", f"out of memory; {advice}", arguments)
        return 2
    return code if isinstance(code, int) else 0


def check_arguments(arguments: Sequence[str]) -> None:
    """Raise a ConfigError for an empty argument, which is mostly an unset variable and not the current folder.

    The commands handle an empty name among several images themselves.
    """
    for index, argument in enumerate(arguments):
        if index > 1 and arguments[0] in TAKE_IMAGES and not argument and not arguments[index - 1].startswith("--"):
            continue
        name, equals, value = argument.partition("=")
        if not argument.strip() or (name.startswith("--") and equals and not value.strip()):
            before = name if equals else arguments[index - 1] if index else "megavit"
            raise ConfigError(
                f"the argument after {before} is empty, probably an unset variable: pass a name, or . for the current "
                "folder"
            )


def show_error(kind: str, message: str, arguments: Sequence[str]) -> None:
    """Print an error to standard error, or with --json as an object to standard output."""
    # File names may contain control characters, and bytes that are not text.
    stream, text = sys.stderr, f"megavit: {printable(message, keep=chr(10))}\n"
    if "--json" in arguments:
        stream, text = sys.stdout, json.dumps({"error": {"type": kind, "message": message}}) + "\n"
    try:
        stream.write(text)
        stream.flush()
    except OSError:  # full or closed: the exit code remains
        _discard(stream)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)


def _open_closed_streams() -> None:
    """Replace closed standard streams, which Python sets to None."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: PTH123, SIM115


def _discard(stream: TextIO) -> None:
    """Discard buffered output, which would raise an error when Python exits."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _out_of_memory(error: MemoryError | RuntimeError) -> bool:
    # By name and text: torch may not be imported, and has no such class for the CPU.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def _version() -> str:
    from megavit import __version__

    return __version__
