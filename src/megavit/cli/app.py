"""`megavit VERB`: finds the verb, and turns every error into a message and an exit code.

0: fine. 1: the answer is no, or not everything could be done. 2: wrong use or bad input.
"""

import json
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from megavit.cli.demo import demo
from megavit.cli.evaluate import evaluate
from megavit.cli.predict import predict
from megavit.cli.train import train
from megavit.errors import MegavitError

app = App(
    name="megavit",
    help="A Vision Transformer for your images: train it, measure it, use it. First steps: megavit demo",
    help_format="plaintext",
    version=lambda: _version(),
    result_action="return_value",
)
app.command(demo)
app.command(train)
app.command(evaluate)
app.command(predict)


def main() -> None:
    """The entry point of the `megavit` command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line; the answer is its exit code."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False)
    except MegavitError as error:
        show_error(type(error).__name__, str(error), arguments)
        return error.exit_code
    except CycloptsError as error:
        show_error("UsageError", f"{error}\nmegavit --help lists what there is", arguments)
        return 2
    except KeyboardInterrupt:
        show_error("Interrupted", "stopped", arguments)
        return 130
    except BrokenPipeError:
        # Whoever read our output (such as `head`) has enough; closing it keeps Python from complaining at exit.
        sys.stderr.close()
        return 1
    return code if isinstance(code, int) else 0


def show_error(kind: str, message: str, arguments: Sequence[str]) -> None:
    """To standard error for a person; with --json also an object on standard output."""
    if "--json" in arguments:
        sys.stdout.write(json.dumps({"error": {"kind": kind, "message": message}}) + "\n")
    else:
        sys.stderr.write(f"megavit: {message}\n".encode(errors="backslashreplace").decode())


def _version() -> str:
    from megavit import __version__

    return __version__
