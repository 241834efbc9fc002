"""Turn Ctrl-C and other stop signals into a request that the training loop honors after its current step."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from megavit.runtime.signals import STOP_SIGNALS


class StopRequest:
    """A stop request; its `signal` is the number of the signal received, or 0."""

    def __init__(self) -> None:
        self.signal = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the stop signals unless they are ignored (nohup); a second signal has its normal effect."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may handle signals
            return
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        previous = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

        def request(number: int, _frame: FrameType | None) -> None:
            self.signal = number
            signal.signal(number, previous[signal.Signals(number)])

        try:
            for number in previous:
                signal.signal(number, request)
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
