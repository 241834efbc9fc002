import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from megavit.model.vit import MegaVit

SRC = Path(__file__).parents[2] / "src"

DOCUMENTED_EXAMPLE = """\
import torch
from zeta.models import MegaVit

v = MegaVit(
    image_size=256,
    patch_size=32,
    num_classes=1000,
    dim=1024,
    depth=6,
    heads=16,
    mlp_dim=2048,
    dropout=0.1,
    emb_dropout=0.1,
)

img = torch.randn(1, 3, 256, 256)

preds = v(img)
print(preds)
"""

WHICH = "from zeta.models import MegaVit; print(MegaVit.__module__)"


def run(program: str, *search_path: Path) -> str:
    """What a fresh interpreter prints, which looks for packages in `search_path` first and fails on warnings."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, search_path))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def zetascale(tmp_path: Path) -> Path:
    """A folder of packages with a `zeta` like zetascale's: regular packages, and a MegaVit of its own."""
    models = tmp_path / "site-packages" / "zeta" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").write_text("from zeta.models import *\n")
    (models / "__init__.py").write_text("class MegaVit:\n    pass\n")
    return tmp_path / "site-packages"


def test_the_documented_example_runs_as_printed_and_prints_the_logits_of_1000_classes(capsys) -> None:
    names: dict[str, Any] = {}
    exec(DOCUMENTED_EXAMPLE, names)
    assert capsys.readouterr().out.startswith("tensor([[")
    assert names["preds"].shape == (1, 1000)


def test_without_zetascale_zeta_models_has_the_same_class_as_megavit() -> None:
    assert import_module("zeta.models").MegaVit is MegaVit


@pytest.mark.parametrize("ours_first", [True, False])
def test_an_installed_zetascale_keeps_its_own_in_either_order(zetascale: Path, ours_first: bool) -> None:
    search_path = (SRC, zetascale) if ours_first else (zetascale, SRC)
    assert run(WHICH, *search_path) == "zeta.models\n"


def test_in_one_folder_with_zetascale_no_file_is_shared_and_its_own_are_found(zetascale: Path) -> None:
    ours = SRC / "zeta" / "models.py"
    assert list(ours.parent.rglob("*.py")) == [ours]
    beside = zetascale / "zeta" / "models.py"
    assert not beside.exists()
    beside.write_bytes(ours.read_bytes())
    assert run(WHICH, zetascale, SRC) == "zeta.models\n"
