"""Lines are written as they come, and a reader who stops reading stops nobody."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from megavit.serve import logging as module
from megavit.serve.logging import Log
from tests.helpers.servers import ROOT, STUB, until


def test_a_line_is_an_object_and_what_is_none_is_left_out() -> None:
    reading, writing = os.pipe()
    log = Log(writing)
    log("request", status=200, model=None, what="é\n")
    log.close()
    os.close(writing)
    with os.fdopen(reading) as lines:
        (line,) = map(json.loads, lines)
    assert line.pop("time")
    assert line == {"event": "request", "status": 200, "what": "é\n"}


def test_what_there_is_no_room_for_is_counted(monkeypatch) -> None:
    monkeypatch.setattr(module, "_WAITING", 10)
    reading, writing = os.pipe()
    log = Log(writing)
    padding = "x" * 70_000  # more than a pipe takes, so that the first line waits to be read
    for i in range(30):
        log("request", number=i, padding=padding)
    with os.fdopen(reading) as lines, ThreadPoolExecutor() as pool:
        rest = pool.submit(lambda: [json.loads(line) for line in lines])
        until(log._lines.empty)
        log("last")
        log.close()
        os.close(writing)
        told = rest.result()
    assert told[-1]["event"] == "last"
    assert 15 <= told[-1]["dropped"] <= 20


def test_a_server_whose_log_nobody_reads_goes_on_and_ends(folder: Path) -> None:
    command = [sys.executable, "-c", STUB, "{}", str(folder)]
    paths = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=paths) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        with httpx.Client(base_url=address, verify=False) as client:
            for _ in range(700):
                assert client.get("/health/live").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
