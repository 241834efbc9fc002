"""A folder of real images, and a run of the real command on it."""

from pathlib import Path

import pytest

from tests.helpers.command_line import run_megavit_process
from tests.helpers.digits import make_digits_folder
from tests.helpers.digits_bundle import digits_bundle  # noqa: F401
from tests.helpers.shared_folder import BuildOnce

PER_CLASS = 30
QUICK = ["--epochs", "3", "--batch-size", "32", "--precision", "float32", "--device", "cpu"]


@pytest.fixture(scope="session")
def digits(build_once: BuildOnce) -> Path:
    """scikit-learn's digits 0 to 2 as PNG files in class folders, with a few files that are none."""

    def fill(folder: Path) -> None:
        make_digits_folder(folder / "digits", range(3), slice(PER_CLASS), "digit ")
        (folder / "digits" / "digit 0" / "notes.txt").write_text("not an image")
        (folder / "digits" / "digit 1" / "empty.png").write_bytes(b"")
        (folder / "digits" / "digit 1" / ".DS_Store").write_bytes(b"hidden")

    return build_once("digits", fill) / "digits"


@pytest.fixture(scope="session")
def run(digits: Path, build_once: BuildOnce) -> Path:
    """A finished run on `digits`, trained in a process of its own as a user does; beside it, reported.txt."""

    def fill(folder: Path) -> None:
        done = run_megavit_process("train", digits, "--out", "run", *QUICK, cwd=folder)
        assert done.returncode == 0, done.stderr
        (folder / "reported.txt").write_text(done.stderr)

    return build_once("run", fill) / "run"
