"""A download in another process ends when nothing arrives, and says why it failed."""

import os
import sys
from pathlib import Path

import pytest

from megavit.errors import BundleError
from megavit.weights.backbones.download import Patience, run_download

WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1], 'part').write_bytes(bytes(1000))"
HANG = "; sys.stdin.close(); import time; time.sleep(600)"


def download(code: str, folder: Path, **patience: float) -> list[int]:
    arrived: list[int] = []
    run_download([sys.executable, "-c", code, str(folder)], folder, {}, Patience(**patience), arrived.append)
    return arrived


def test_the_bytes_that_arrive_are_counted(tmp_path: Path) -> None:
    (tmp_path / "earlier").write_bytes(bytes(7))
    assert set(download(WRITE + "; import time; time.sleep(0.5)", tmp_path)) <= {1000}
    assert (tmp_path / "part").stat().st_size == 1000


@pytest.mark.parametrize(
    ("code", "patience", "message"),
    [
        ("import sys" + HANG, {"begin": 0.3}, "nothing arrived for 0.3 seconds"),
        (WRITE + HANG, {"stall": 0.3}, "nothing arrived for 0.3 seconds"),
        (WRITE + HANG, {"total": 2.0}, "it took more than 2 seconds"),
        ("import sys; print('first'); sys.exit('the reason')", {}, "^the reason$"),
        ("import sys; sys.exit(3)", {}, "without a message"),
    ],
)
def test_what_fails_or_hangs_is_ended_and_said(tmp_path: Path, code, patience, message) -> None:
    with pytest.raises(BundleError, match=message):
        download(code, tmp_path, **patience)


def test_the_command_gets_the_environment_with_additions(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("KEPT", "1")
    code = "import os, sys; sys.exit(os.environ.get('KEPT') + os.environ.get('ADDED'))"
    with pytest.raises(BundleError, match=r"^12$"):
        run_download([sys.executable, "-c", code], tmp_path, {"ADDED": "2"}, Patience(), lambda _: None)
    assert "ADDED" not in os.environ
