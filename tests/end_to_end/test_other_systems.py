"""The main job where Windows or macOS lack what Linux has: it is taken away, for the command and all its processes."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.conftest import QUICK

TAKEN_AWAY = '''
"""Python imports this first: it makes a Linux lack what other systems do not have."""

import multiprocessing
import os
import signal
import sys

import psutil  # which has other ways on other systems

GONE = ("fcntl", "resource", "uvloop")


class Gone:
    def find_spec(self, name, path=None, target=None):
        if name in GONE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def refuse_proc(event, arguments):
    """Hide /proc from megavit, but not from psutil."""
    if event not in ("open", "os.listdir", "os.scandir") or not str(arguments[0]).startswith("/proc"):
        return
    frame = sys._getframe().f_back
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in sys.stdlib_module_names:
        frame = frame.f_back
    if frame and frame.f_globals.get("__name__", "").startswith("megavit"):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


sys.meta_path.insert(0, Gone())
for name in GONE:
    sys.modules.pop(name, None)
sys.addaudithook(refuse_proc)
del signal.SIGHUP
for name in ("link", "sched_getaffinity", "posix_fadvise", "pread", "O_NOFOLLOW", "O_DIRECTORY"):
    delattr(os, name)
multiprocessing.set_start_method("spawn")
'''


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("taken away")
    (folder / "sitecustomize.py").write_text(TAKEN_AWAY)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "cp1252", "PYTHONWARNINGS": "error"}


def run(*arguments: str | Path, cwd: Path, env: dict[str, str]) -> str:
    command = [sys.executable, "-m", "megavit", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, check=False)
    errors = done.stderr.decode("cp1252")
    assert done.returncode == 0 and "Traceback" not in errors, errors
    return done.stdout.decode("cp1252")


def test_it_is_really_taken_away(environment, tmp_path):
    code = """
import os, signal, multiprocessing
from megavit.runtime import file_locks, open_files, signals
assert not hasattr(signal, "SIGHUP") and not hasattr(os, "link") and not hasattr(os, "O_NOFOLLOW")
assert len(signals.STOP_SIGNALS) == 2 and open_files.get_open_files_limit() is None
assert file_locks.lock_for_process(os.open("lock", os.O_WRONLY | os.O_CREAT)) is False
assert multiprocessing.get_start_method() == "spawn"
from megavit.runtime import cgroup, device, memory
assert cgroup.read_cgroup_limits() == cgroup.CgroupLimits()
assert memory.main_memory() > 0
import psutil
assert psutil.cpu_count()
try:
    import fcntl
except ImportError:
    print("gone", "\\N{BLACK SQUARE}".encode("cp1252", "replace"))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("gone"), done.stderr


READ = """
import sys
import torch
from megavit.config.preprocessing import Preprocessing
from megavit.data.image_dataset import ImageDataset, load_into_memory
from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.data.loader.loader import iter_batches

if __name__ == "__main__":
    data = load_data(sys.argv[1], DataRecipe())
    images = ImageDataset(data, data.samples[:8], Preprocessing(height=8, width=8, channels=1), 1.0)
    memory = load_into_memory(images, 1, lambda done, total: None)
    (batch,) = iter_batches(images, [list(range(8))], 1)
    assert torch.equal(memory, batch)
    print(len(batch))
"""


def test_images_are_read_by_processes_that_are_not_forked(digits, environment, tmp_path):
    (tmp_path / "read.py").write_text(READ)
    command = [sys.executable, "read.py", str(digits)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "8\n", done.stderr


def test_the_main_job(digits, environment, tmp_path):
    """Training, a prediction, an evaluation, and a server that is asked and stopped."""
    flags = [*QUICK, "--model", "pico"]
    trained = run("train", digits, "--out", "run", *flags, cwd=tmp_path, env=environment)
    assert "accuracy" in trained
    image = digits / "digit 1" / "000.png"
    run("predict", "run", image, "--out", "predictions.csv", cwd=tmp_path, env=environment)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        (predicted,) = csv.DictReader(file)
    assert predicted["path"] == image.as_posix()
    assert "accuracy" in run("evaluate", "run", digits, cwd=tmp_path, env=environment)
    command = [sys.executable, "-m", "megavit", "serve", "run", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            address = next(word for word in line.split() if word.startswith("http://"))
            answer = httpx.post(f"{address}/predict", content=image.read_bytes(), timeout=60)
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    assert answer.status_code == 200 and predicted["label"] in answer.text
