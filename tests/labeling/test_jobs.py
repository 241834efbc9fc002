"""The button trains as the command does, and its report opens under a policy of its own."""

from pathlib import Path

import httpx
import pytest

from megavit.errors import ConfigError
from megavit.labeling.jobs import TrainingJob
from megavit.labeling.store import LabelStore, Mark
from tests.helpers.label_server import label_server, write_images, write_stripes
from tests.helpers.waiting import wait_until


def test_a_training_that_cannot_be_says_why(tmp_path: Path) -> None:
    heap = write_images(tmp_path / "heap", ["0.png"])
    job = TrainingJob(heap, lambda: tmp_path / "run")
    assert job.describe() == {"state": "none", "out": "", "line": ""}
    job.start(0.5)
    with pytest.raises(ConfigError, match="already"):
        job.start(0.5)
    wait_until(lambda: job.describe()["state"] != "running")
    described = job.describe()
    assert described["state"] == "failed" and "class folders" in described["line"]
    with pytest.raises(ConfigError, match="train a model first"):
        job.read_report()


@pytest.mark.drill
def test_the_page_trains_and_opens_the_report(tmp_path: Path) -> None:
    heap = write_stripes(tmp_path / "heap")
    store = LabelStore(heap)
    for number in range(80):
        store.add(f"{number}", [Mark(f"{number:03}.png", "labeled", (("along", "across")[number % 2],))], "ada")
    with label_server(heap) as server, httpx.Client(base_url=server.address, timeout=60) as client:
        assert client.get("report").status_code == 422
        assert client.post("api/training", json={"minutes": 0}).status_code == 422
        client.post("api/training", json={"minutes": 0.5}).raise_for_status()
        wait_until(lambda: client.get("api/training").json()["state"] != "running")
        assert client.get("api/training").json()["state"] == "done"
        report = client.get("report")
        assert "Training report" in report.text
        assert report.headers["content-security-policy"].endswith("sandbox")
