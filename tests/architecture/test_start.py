"""What a prediction must not wait for."""

import subprocess
import sys
from pathlib import Path

from tests.helpers.bundles import make_bundle


def test_loading_a_bundle_imports_neither_the_compiler_nor_what_only_others_need(tmp_path: Path) -> None:
    make_bundle(tmp_path / "b")
    script = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "import megavit\n"
        f"megavit.load({str(tmp_path / 'b')!r})\n"
        "heavy = {'torchvision', 'torch._dynamo', 'sympy', 'matplotlib', 'sklearn', 'openvino'}\n"
        "sys.exit(f'imported: {found}' if (found := heavy & (set(sys.modules) - before)) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
