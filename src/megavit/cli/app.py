"""`megavit VERB`: finds the verb, and turns every error into a message and an exit code.

0: fine. 1: the answer is no, or not everything could be done. 2: wrong use or bad input.
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

from megavit.cli.commands.bench import bench
from megavit.cli.commands.calibrate import calibrate
from megavit.cli.commands.check import check
from megavit.cli.commands.convert import convert
from megavit.cli.commands.demo import demo
from megavit.cli.commands.embed import embed
from megavit.cli.commands.evaluate import evaluate
from megavit.cli.commands.explain import explain
from megavit.cli.commands.export import export
from megavit.cli.commands.plan import plan
from megavit.cli.commands.predict import predict
from megavit.cli.commands.quantize import quantize
from megavit.cli.commands.serve import serve
from megavit.cli.commands.shard import shard
from megavit.cli.commands.train import train
from megavit.cli.numbers import check_numbers
from megavit.config.names import printable
from megavit.errors import ConfigError, MegavitError, get_signal

OF_IMAGES = ("predict", "embed", "explain")
"""The verbs that are given a bundle and then any number of images."""

app = App(
    name="megavit",
    help="Train, evaluate and deploy Vision Transformers on your own images. First steps: megavit demo",
    help_format="plaintext",
    version=lambda: _version(),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative="", show_default=lambda value: None if value is False else value),
)
# In the order of the work.
_COMMANDS = (
    *(demo, check, train, evaluate, predict, explain, embed, calibrate),
    *(quantize, export, convert, serve, shard, bench, plan),
)
for position, command in enumerate(_COMMANDS):
    app.command(command, sort_key=position)


def main() -> None:
    """The entry point of the `megavit` command."""
    _open_closed_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # whoever ignores one, as nohup does, means it
            signal.signal(number, _stop)
    code = run(sys.argv[1:])
    # All is done; another Ctrl-C would only bring a traceback from Python's own end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "triton" not in sys.modules:  # its bindings would report what is not freed as leaks
        gc.freeze()  # Python's last search for garbage takes 0.3 s with PyTorch there; the system frees all anyway
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run a command line; the answer is its exit code."""
    try:
        check_arguments(arguments)
        verb, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        check_numbers(bound.arguments)
        code = verb(*bound.args, **bound.kwargs)
        sys.stdout.flush()
    except MegavitError as error:
        show_error(type(error).__name__, str(error), arguments)
        return error.exit_code
    except CycloptsError as error:
        show_error("UsageError", f"{error}\nmegavit --help lists what there is", arguments)
        return 2
    except KeyboardInterrupt as interrupt:
        show_error("Interrupted", "stopped", arguments)
        return 128 + get_signal(interrupt)
    except BrokenPipeError:
        _drop(sys.stdout)  # whoever read it (such as `head`) has enough
        return 1
    except OSError as error:
        # What no part foresees: a name that is too long, a closed folder on the way, output to a full device.
        what = f"{os.fspath(error.filename)!r}: " if error.filename is not None else ""
        show_error("OSError", f"the system refuses: {what}{error.strerror or error}", arguments)
        _drop(sys.stdout)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        advice = "a smaller --batch-size, --image-size or --model takes less"
        show_error("MemoryError", f"there is not enough memory for this; {advice}", arguments)
        return 2
    return code if isinstance(code, int) else 0


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse an empty argument, which is mostly a variable that is not set; as a path it would be the current folder.

    An empty name among several images is left to the verb, which answers for the others.

    Raises:
        ConfigError: naming the option, or what stands before it.
    """
    for index, argument in enumerate(arguments):
        if index > 1 and arguments[0] in OF_IMAGES and not argument and not arguments[index - 1].startswith("--"):
            continue
        name, equals, value = argument.partition("=")
        if not argument.strip() or (name.startswith("--") and equals and not value.strip()):
            before = name if equals else arguments[index - 1] if index else "megavit"
            raise ConfigError(
                f"the argument behind {before} is empty, as a variable that is not set makes it; give a name, or . for "
                "the current folder"
            )


def show_error(kind: str, message: str, arguments: Sequence[str]) -> None:
    """To standard error for a person; with --json also an object on standard output."""
    # Names in it may hold what a terminal would act on, and bytes that are no text.
    stream, text = sys.stderr, f"megavit: {printable(message, keep=chr(10))}\n"
    if "--json" in arguments:
        stream, text = sys.stdout, json.dumps({"error": {"kind": kind, "message": message}}) + "\n"
    try:
        stream.write(text)
        stream.flush()
    except OSError:  # full or gone: the exit code still tells
        _drop(stream)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)


def _open_closed_streams() -> None:
    """A stream that was closed before we began is None in Python, which nothing that reads or prints expects."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: PTH123, SIM115


def _drop(stream: TextIO) -> None:
    """What still waits to be written has nowhere to go, and Python would complain of it at its end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _out_of_memory(error: MemoryError | RuntimeError) -> bool:
    # By name and text, because torch has no class for it on the CPU, and may not have been imported.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def _version() -> str:
    from megavit import __version__

    return __version__
