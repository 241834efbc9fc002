import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("line", ["--help", "--version", "train --help", "predict --help", "explain --help", "trian"])
def test_help_and_mistakes_do_not_wait_for_torch(line):
    script = (
        "import sys\n"
        "from megavit.cli.app import run\n"
        f"code = run({line.split()!r})\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'sklearn', 'matplotlib', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == (2 if line == "trian" else 0), done.stderr


def test_the_installed_command_and_the_module_are_the_same():
    module = subprocess.run([sys.executable, "-m", "megavit", "--version"], capture_output=True, text=True, check=True)
    from megavit import __version__

    assert module.stdout.strip() == __version__


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [({}, "20000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "None")],
)
def test_threads_wait_briefly_unless_the_user_says_otherwise(wanted, expected):
    script = (
        "import os, sys\n"
        "sys.argv = ['megavit', '--version']\n"
        "from megavit.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules  # which reads it once, when it is loaded\n"
        "print(os.environ.get('GOMP_SPINCOUNT'))\n"
    )
    own = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=own | wanted)
    assert done.stdout.splitlines()[-1] == expected
