import subprocess
import sys

import pytest


@pytest.mark.parametrize("line", ["--help", "--version", "train --help", "predict --help", "trian"])
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
