"""Choose where progress is shown."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from megavit.config.checks import check_choice
from megavit.runtime.process_group import get_dist_context
from megavit.training.progress import NullReporter, Reporter

ReporterChoice = Reporter | Literal["auto", "terminal", "notebook"] | None
"""A reporter of one's own; "terminal" or "notebook"; None for silence; or "auto".

"auto" is a bar in a notebook, lines and a bar where Python is used interactively, and silence in a script.
"""


@contextmanager
def open_reporter(choice: ReporterChoice) -> Iterator[Reporter]:
    """Yield the reporter of a choice, and close it; of several processes, only the main one reports.

    Raises:
        ConfigError: if a name is unknown.
    """
    if not get_dist_context().is_main_process:
        yield NullReporter()
        return
    if isinstance(choice, str):
        check_choice("reporter", choice, ("auto", "terminal", "notebook"))
        choice = _detect() if choice == "auto" else choice
    if choice == "terminal":
        from megavit.api.reporters.terminal import TerminalReporter

        with TerminalReporter() as reporter:
            yield reporter
    elif choice == "notebook":
        from megavit.api.reporters.notebook import NotebookReporter

        with NotebookReporter() as reporter:
            yield reporter
    else:
        yield NullReporter() if choice is None or isinstance(choice, str) else choice


def _detect() -> Literal["terminal", "notebook"] | None:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    # A kernel is what distinguishes notebooks, Colab's too, from IPython on a terminal.
    if getattr(shell, "kernel", None) is not None:
        return "notebook"
    return "terminal" if hasattr(sys, "ps1") else None
