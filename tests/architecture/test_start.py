"""What a prediction must not wait for."""

import subprocess
import sys
from pathlib import Path

from tests.helpers.bundles import make_bundle


def test_predicting_imports_neither_torchvision_nor_the_compiler() -> None:
    script = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "import megavit.predict.predictor\n"
        "heavy = {'torchvision', 'torch._dynamo', 'matplotlib', 'sklearn', 'openvino'} & (set(sys.modules) - before)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_loading_a_bundle_imports_no_compiler(tmp_path: Path) -> None:
    make_bundle(tmp_path / "b")
    script = (
        "import sys, megavit\n"
        f"megavit.load({str(tmp_path / 'b')!r})\n"
        "heavy = {'torch._dynamo', 'sympy', 'torchvision', 'openvino'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
