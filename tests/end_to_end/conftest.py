"""Folders of real images, and runs of the real command on them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sklearn.datasets import load_digits

PER_CLASS = 30
QUICK = ["--epochs", "3", "--batch-size", "32", "--precision", "float32", "--device", "cpu"]


def megavit(*arguments: str | Path, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run the command as a user does; it must never answer with a traceback."""
    command = [sys.executable, "-W", "error", "-m", "megavit", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, check=False, timeout=300)
    texts = [stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr)]
    assert "Traceback" not in texts[1], texts[1]
    return subprocess.CompletedProcess(command, done.returncode, *texts)


def megavit_json(*arguments: str | Path, cwd: Path) -> dict[str, Any]:
    done = megavit(*arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's digits 0 to 2 as PNG files in class folders, with a few files that are none."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    images, labels = load_digits(return_X_y=True)
    for label in range(3):
        (folder / f"digit {label}").mkdir(parents=True)
        for i, pixels in enumerate(images[labels == label][:PER_CLASS]):
            image = Image.fromarray((pixels.reshape(8, 8) * 255 / 16).round().astype("uint8"))
            image.save(folder / f"digit {label}" / f"{i:03}.png")
    (folder / "digit 0" / "notes.txt").write_text("not an image")
    (folder / "digit 1" / "empty.png").write_bytes(b"")
    (folder / "digit 1" / ".DS_Store").write_bytes(b"hidden")
    return folder


@pytest.fixture(scope="session")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on `digits`."""
    folder = tmp_path_factory.mktemp("runs")
    done = megavit("train", digits, "--out", "run", *QUICK, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"
