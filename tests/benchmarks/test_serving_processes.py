"""Servers as processes: started, watched, held still, ended; and the model alone beside them."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image

from benchmarks.serving.accelerator import start_fixed
from benchmarks.serving.client import Client, closed_loop, request
from benchmarks.serving.processes import (
    RawModel,
    cpu_seconds,
    is_alive,
    kill_orphans,
    peak_memory_above,
    process_tree,
    pss,
    reset_peak_memory,
)
from tests.helpers.bundles import make_bundle

pytestmark = pytest.mark.benchmarks

CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
print(child.pid, flush=True)
time.sleep(99)
"""


@pytest.fixture
def parent() -> subprocess.Popen[str]:
    """A process with a child."""
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline()
    return process


def test_a_child_that_outlives_its_parent_is_found_and_ended(parent: subprocess.Popen[str]) -> None:
    before = process_tree(parent.pid)
    assert len(before) == 2 and pss(before) > 2**20
    parent.kill()
    parent.wait()
    assert [is_alive(process) for process in before] == [False, True]
    assert kill_orphans(before, seconds=0) == 1
    assert kill_orphans(before) == 0
    assert process_tree(parent.pid) == []
    assert pss(before) == cpu_seconds(before) == 0


def test_the_most_memory_that_was_held_is_told_after_it_is_given_back() -> None:
    code = "import sys\nfor line in sys.stdin:\n    a = b'x' * int(line); del a; print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        process = psutil.Process(child.pid)
        for size in (2**27, 2**20):
            before = reset_peak_memory(process)
            child.stdin.write(f"{size}\n")
            child.stdin.flush()
            child.stdout.readline()
            assert size / 2 < peak_memory_above(process, before) + 2**20 < 2 * size + 2**22
        child.stdin.close()


def test_a_batch_of_the_stand_in_for_an_accelerator_takes_no_longer_than_one_image(tmp_path: Path) -> None:
    async def most_together() -> int:
        with start_fixed(tmp_path, 32) as server:
            async with Client(server.port) as client:
                replies, _ = await closed_loop(client, [request("/predict", b"any")], 8, 60, max_requests=80)
            assert [reply.status for reply in replies] == [200] * 80
            lines = server.get("/metrics")[1].decode().splitlines()
            assert server.stop(signal.SIGTERM) == (0, 0)
            assert {"serving", "stopped"} <= {line["event"] for line in server.log()}
        below = {
            line.split('le="')[1].split('"')[0]: float(line.split()[-1])
            for line in lines
            if "batch_size_bucket" in line
        }
        return int(below["+Inf"] - below["2.0"])

    assert asyncio.run(most_together()) > 40  # of 80 images, so many were computed with at least two others


def test_the_model_alone_is_measured_with_and_without_decoding(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    picture = tmp_path / "one.png"
    Image.new("RGB", (9, 9), (1, 2, 3)).save(picture)
    with RawModel(tmp_path / "bundle", [picture]) as raw:
        for way in ("decoded", "computed"):
            found = raw.ask(way=way, batch=4, seconds=0.1)
            assert float(str(found["images_per_second"])) > 0 and found["engine"]
        taken = raw.ask(way="single", count=5, pause=0.0)["seconds"]
        assert isinstance(taken, list) and len(taken) == 5 and min(taken) > 0
    assert raw.process.returncode == 0
