"""Log lines, and a reader of them that stalls."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from megavit.serving import logging as module
from megavit.serving.logging import JsonLinesHandler, log_event
from tests.helpers.servers import ROOT, STUB, Running, wait_until


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The server's logger, as it was, at the end."""
    logger = logging.getLogger("megavit.serving")
    before = logger.handlers[:], logger.propagate, logger.level
    logger.propagate = False
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers[:], logger.propagate, logger.level = before


def test_a_line_is_an_object_without_fields_that_are_none(logger: logging.Logger) -> None:
    reading, writing = os.pipe()
    handler = JsonLinesHandler(writing)
    logger.handlers[:] = [handler]
    log_event("request", status=200, model=None, what="é\n")
    handler.handle(logging.LogRecord("asyncio", logging.ERROR, "", 0, "slow %s", ("task",), None))
    handler.close()
    os.close(writing)
    with os.fdopen(reading) as lines:
        first, second = map(json.loads, lines)
    assert first.pop("time") and second.pop("time")
    assert first == {"event": "request", "status": 200, "what": "é\n"}
    assert second == {"event": "warning", "logger": "asyncio", "message": "slow task"}


def test_lines_that_do_not_fit_are_counted(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE_SIZE", 10)
    reading, writing = os.pipe()
    handler = JsonLinesHandler(writing)
    logger.handlers[:] = [handler]
    padding = "x" * 70_000  # more than a pipe takes, so that the first line waits to be read
    for i in range(30):
        log_event("request", number=i, padding=padding)
    with os.fdopen(reading) as lines, ThreadPoolExecutor() as pool:
        rest = pool.submit(lambda: [json.loads(line) for line in lines])
        wait_until(handler._lines.empty)
        log_event("last")
        handler.close()
        os.close(writing)
        last = rest.result()[-1]
    assert last["event"] == "last"
    assert 15 <= last["dropped"] <= 20


def test_what_is_to_be_said_of_a_model_is_logged_when_it_is_ready(stub: Running) -> None:
    assert [line["note"] for line in stub.events("model_ready")] == ["slow here"]


def test_a_server_whose_log_nobody_reads_runs_and_stops(folder: Path) -> None:
    command = [sys.executable, "-c", STUB, "{}", str(folder)]
    paths = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=paths) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["url"]
        with httpx.Client(base_url=address, verify=False) as client:
            for _ in range(450):
                assert client.get("/health/live").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
