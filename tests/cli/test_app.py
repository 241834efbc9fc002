"""How the command ends when the streams or the signals are not as usual: each in a process of its own."""

import os
import signal
import subprocess
import sys

import pytest

COMMAND = f"{sys.executable} -m megavit"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--version > /dev/full", 2),
        ("--help > /dev/full", 2),
        ("trian 2>&-", 2),
        ("trian --json >&-", 2),
        ("trian --json > /dev/full", 2),
        ("serve nowhere <&-", 2),
        ("trian 2> /dev/full", 2),
        ("train --help | head -1", 0),
    ],
)
def test_closed_and_full_streams_are_no_tracebacks(line, code):
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", f"{COMMAND} {line}"], capture_output=True, text=True, check=False, env=buffered
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_command_waits_ends_it_with_a_word(number):
    script = (
        "import os, sys\n"
        "from megavit.cli import app\n"
        f"app.app.command(lambda: os.kill(os.getpid(), {int(number)}), name='wait')\n"
        "sys.argv = ['megavit', 'wait']\n"
        "app.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + number, "megavit: stopped\n")


def test_memory_that_runs_out_is_advice(monkeypatch, capsys):
    from megavit.cli import app

    def too_much() -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    def broken() -> None:
        raise RuntimeError("a fault of ours")

    for verb, error in (("much", too_much), ("fault", broken)):
        monkeypatch.setattr(app, "check_numbers", lambda _, error=error: error())
        if verb == "much":
            assert app.run(["bench"]) == 2 and "--batch-size" in capsys.readouterr().err
        else:
            with pytest.raises(RuntimeError, match="ours"):
                app.run(["bench"])


def test_an_operation_that_a_device_lacks_is_advice(monkeypatch, capsys):
    from megavit.cli import app

    def lacking() -> None:
        raise NotImplementedError("The operator 'aten::frob' is not currently implemented for the MPS device. If you")

    def broken() -> None:
        raise NotImplementedError

    monkeypatch.setattr(app, "check_numbers", lambda _: lacking())
    assert app.run(["bench"]) == 2
    errors = capsys.readouterr().err
    assert "aten::frob" in errors and "--device cpu" in errors and "If you" not in errors
    monkeypatch.setattr(app, "check_numbers", lambda _: broken())
    with pytest.raises(NotImplementedError):
        app.run(["bench"])
