"""Signals that ask a program to stop, as far as the operating system has them."""

import signal

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
"""Ctrl-C, a request to end, and a closed terminal: SIGHUP, or on Windows SIGBREAK, which Ctrl-Break sends too."""


def ignore_stop_signals() -> None:
    """Ignore all stop signals in a process that its parent stops; a terminal's Ctrl-C reaches both."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
