import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def contracts_of(tree: Path) -> subprocess.CompletedProcess[str]:
    """import-linter's answer about the `src` and `pyproject.toml` of a folder."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_keep_every_contract() -> None:
    answer = contracts_of(ROOT)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "0 broken" in answer.stdout


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("config/upward.py", "import megavit.cli", "imports point downwards"),
        ("data/sideways.py", "import megavit.model", "imports point downwards"),
        ("model/sideways.py", "import megavit.data", "imports point downwards"),
        ("data/decode/upward.py", "import megavit.data.shards.write", "reading of data goes from sources to bytes"),
        ("serving/workers/upward.py", "import megavit.serving.http.app", "the rooms of a package have no circle"),
        ("config/heavy.py", "import torch", "the settings never reach torch"),
        ("stray.py", "", "imports point downwards"),
    ],
)
def test_an_import_against_the_floors_is_caught(tmp_path: Path, file: str, line: str, broken: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "src" / "megavit" / file).write_text(f"{line}\n")
    answer = contracts_of(tmp_path)
    assert answer.returncode == 1
    assert f"{broken} BROKEN" in answer.stdout


def test_the_package_and_its_settings_import_no_torch() -> None:
    modules = ["megavit", "megavit.errors"]
    modules += [f"megavit.config.{path.stem}" for path in (ROOT / "src/megavit/config").glob("[!_]*.py")]
    program = (
        f"import sys, {', '.join(modules)}; print(*sorted({{'torch', 'torchvision', 'numpy'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_files_are_short_and_named_for_their_idea() -> None:
    sources = sorted((ROOT / "src").rglob("*.py"))
    assert sources
    assert [path for path in sources if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []
    assert [path for path in sources if path.stem in ("utils", "helpers", "common", "misc")] == []
