"""The commands of README.md and docs/, and the Python of the page about it, work as they are written.

A line of a `sh` block whose comment begins with "not run" is only parsed: it needs a model hub, a GPU or a person.
`--minutes N` becomes `--epochs 2`, and `check` trains no models; nothing else is changed.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from megavit.cli.app import app, run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOW_TO = (
    "uneven-classes",
    "going-on",
    "cross-validation",
    "pretrained-weights",
    "few-labels",
    "export",
    "distributed",
    "shards",
    "plan",
)
CONCEPTS = ("calibration", "prediction-sets", "explanations", "inference")
RUN = ["tutorial.md", *(f"how-to/{name}.md" for name in HOW_TO), *(f"concepts/{name}.md" for name in CONCEPTS)]


def commands(page: Path) -> Iterator[tuple[str, bool]]:
    """Yield each command of the `sh` blocks of `page`, and whether it is run."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            command, _, comment = line.partition("  #")
            if command.strip():
                yield command.strip(), not comment.strip().startswith("not run")


def megavit_commands() -> Iterator[str]:
    for page in PAGES:
        for command, _ in commands(page):
            match = re.search(r"(?:^|-m )megavit (.*)", command)
            if match:
                yield match[1]


@pytest.mark.parametrize("command", sorted(set(megavit_commands())))
def test_every_command_is_understood(command: str) -> None:
    app.parse_args(shlex.split(command), print_error=False, exit_on_error=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos` and `more` of two classes."""
    folder = tmp_path_factory.mktemp("pages")
    images, digits = load_digits(return_X_y=True)
    for name, digit in (("cat", 0), ("dog", 1)):
        for number, pixels in enumerate(images[digits == digit], start=1):
            place = folder / ("photos" if number <= 120 else "more") / name
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels.reshape(8, 8) * 15).astype("uint8")).save(place / f"{number}.jpg")
    return folder


@pytest.mark.docs
def test_the_commands_of_the_pages_run_one_after_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name in RUN:
        for command, runs in commands(ROOT / "docs" / name):
            words = shlex.split(re.sub(r"--minutes \d+", "--epochs 2", command))
            if not runs or words[0] == "make":
                continue
            if words[:2] == ["megavit", "check"]:
                words.append("--skip-labels")
            if words[0] == "megavit" and "--nproc" not in words:
                code = run(words[1:])
            else:
                assert words[0] in ("python", "megavit"), f"{name}: {command}"
                arguments = words[1:] if words[0] == "python" else ["-m", *words]
                code = subprocess.run([sys.executable, *arguments], check=False).returncode
            assert code == 0, f"{name}: {command}"


@pytest.mark.docs
def test_the_python_of_the_pages_runs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("photos", "more"):  # not in the folder itself, where the commands have written files of the same names
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "how-to" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        text = re.sub(r"minutes=\d+", 'epochs=2, out="runs/python"', block)
        exec(compile(text, "how-to/python.md", "exec"), names)
