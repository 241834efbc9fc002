"""A server under load while its worker is killed, its bundle is replaced, or it is asked to end: no request is lost."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import uvloop

from benchmarks.serving.endings import ENDINGS
from benchmarks.serving.intrusions import INTRUSIONS, run_with_bystanders
from benchmarks.serving.processes import start_megavit
from benchmarks.serving.upheavals import SERVER_FAULTS
from tests.helpers.bundles import make_bundle
from tests.helpers.shared_folder import BuildOnce

pytestmark = pytest.mark.drill

FAULTS = SERVER_FAULTS | ENDINGS


@pytest.fixture(scope="session")
def bundle(build_once: BuildOnce) -> Path:
    def fill(folder: Path) -> None:
        make_bundle(folder / "bundle")

    return build_once("serving faults", fill) / "bundle"


async def play(fault: str, bundle: Path, folder: Path) -> dict[str, Any]:
    return await FAULTS[fault](bundle, folder)


@pytest.mark.parametrize("fault", FAULTS)
def test_no_request_is_lost_and_no_process_is_left(bundle, tmp_path, fault):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        row = runner.run(play(fault, bundle, tmp_path))
    if "killed" not in fault or "worker" in fault:  # whoever asks a server that is killed gets no answer
        assert row.get("lost", 0) == 0, row
    assert row.get("healthy", True), row
    assert row["orphans"] == 0, row


@pytest.mark.parametrize("intrusion", INTRUSIONS)
def test_who_does_wrong_disturbs_nobody_else(bundle, tmp_path, intrusion):
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        start_megavit(bundle, tmp_path, "--read-timeout", "3") as server,
    ):
        row = runner.run(run_with_bystanders(server, INTRUSIONS[intrusion]))
        assert row["lost"] == 0 and row["healthy"], row
        code, orphans = server.stop()
    assert (code, orphans) == (0, 0)
