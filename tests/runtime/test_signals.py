"""The signals that stop a program, as far as there are any."""

import importlib
import signal

import pytest

from megavit.runtime import signals


@pytest.fixture
def reloaded(monkeypatch):
    """The module as another system would import it."""
    yield lambda: importlib.reload(signals).STOP_SIGNALS
    monkeypatch.undo()
    importlib.reload(signals)


def test_a_closed_terminal_stops_like_ctrl_c():
    assert signals.STOP_SIGNALS == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def test_windows_has_another_for_a_closed_terminal(monkeypatch, reloaded):
    monkeypatch.delattr(signal, "SIGHUP")
    assert reloaded() == (signal.SIGINT, signal.SIGTERM)
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    assert reloaded() == (signal.SIGINT, signal.SIGTERM, 21)


def test_all_of_them_can_be_ignored():
    before = {number: signal.getsignal(number) for number in signals.STOP_SIGNALS}
    try:
        signals.ignore_stop_signals()
        assert {signal.getsignal(number) for number in signals.STOP_SIGNALS} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
