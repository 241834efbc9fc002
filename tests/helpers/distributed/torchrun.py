"""Real processes, started by torchrun, that run a module of the tests."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
TORCHRUN = ["-m", "torch.distributed.run", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]


def torchrun(procs: int, module: str, out: Path) -> Any:
    """What the module's leader wrote to `out`/answer.json."""
    done = ended(procs, module, out)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "answer.json").read_text())


def ended(procs: int, module: str, out: Path) -> subprocess.CompletedProcess[str]:
    """How so many processes ended that ran the module with `out` as their argument."""
    command = [sys.executable, *TORCHRUN, "--local-addr", "localhost", "--nproc-per-node", str(procs), "-m", module]
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, str(out)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
