"""`megavit label` serves its page until it is stopped, and makes class folders without a page."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from megavit.labeling.store import LabelStore, Mark
from tests.helpers.command_line import run_megavit, run_megavit_json
from tests.helpers.label_server import write_images
from tests.helpers.servers import ROOT


@pytest.fixture
def heap(tmp_path: Path) -> Path:
    heap = write_images(tmp_path / "heap", ["a.png", "b.png", "sub/c.png"])
    LabelStore(heap).add("1", [Mark("a.png", "labeled", ("cat",)), Mark("sub/c.png", "labeled", ("dog",))], "ada")
    return heap


def test_the_page_is_served_until_a_signal(heap: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "megavit", "label", str(heap), "--from", "scratch", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        url = json.loads(process.stdout.readline())["url"]
        assert url.startswith("http://127.0.0.1:")
        changes = httpx.get(f"{url}api/changes").raise_for_status().json()
        assert [one["labels"] for one in changes["decisions"]] == [["cat"], ["dog"]]
        assert httpx.get(url).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_class_folders_are_made_without_a_page(heap: Path, tmp_path: Path) -> None:
    made = run_megavit_json("label", heap, "--apply", "classes", cwd=tmp_path)
    assert made == {"folder": "classes", "images": {"cat": 1, "dog": 1}, "missing": []}
    assert (tmp_path / "classes" / "dog" / "sub__c.png").is_file()
    (heap / "a.png").unlink()
    again = run_megavit("label", heap, "--apply", "again", "--copy", cwd=tmp_path)
    assert again.returncode == 1
    assert "1 labeled images are gone: a.png" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("missing",), "does not exist"),
        (("heap", "--copy"), "--apply"),
        (("heap", "--classes", "cat,Cat"), "looks like 'cat'"),
        (("heap", "--multilabel"), "without --multilabel"),
        (("heap", "--multilabel", "--correct"), "leave out --multilabel"),
        (("heap", "--from", "nothing"), "nothing"),
        (("heap", "--apply", "heap/classes"), "inside the data folder"),
        (("heap", "--device", "abacus"), "abacus"),
        (("heap", "--port", "70000"), "port"),
    ],
)
def test_what_cannot_be_is_said_before_a_page_opens(heap: Path, arguments: tuple[str, ...], part: str) -> None:
    done = run_megavit("label", *arguments, cwd=heap.parent)
    assert done.returncode == 2
    assert part in done.stderr
