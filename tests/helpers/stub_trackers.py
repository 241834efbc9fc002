"""Stand-ins for the libraries of trackers, which write what they are given to a file in the current folder."""

from pathlib import Path

RECORD = """
import json
from pathlib import Path

def record(*what):
    with Path("recorded.jsonl").open("a") as file:
        file.write(json.dumps(what) + "\\n")
"""

MLFLOW = """
from types import SimpleNamespace
from recorder import record

def set_experiment(name):
    record("experiment", name)

def start_run(run_id=None, run_name=None):
    record("start", run_id, run_name)
    return SimpleNamespace(info=SimpleNamespace(run_id="id-of-mlflow"))

def log_params(params):
    record("params", params)

def log_metrics(values, step):
    record("log", values, step)

def end_run():
    record("end")
"""

RUN = """
from recorder import record

class Run:
    id = "id-of-run"

    def log(self, values, step):
        record("log", values, step)

    def finish(self):
        record("end")

def init(**arguments):
    record("start", {key: value for key, value in arguments.items() if key not in ("config", "dir")})
    record("params", arguments["config"])
    return Run()
"""

FAILING = """
def init(**arguments):
    raise RuntimeError("the server said no")
"""

HANGING = """
import time

class Run:
    id = ""

    def log(self, values, step):
        time.sleep(600)

def init(**arguments):
    return Run()
"""


def install_stubs(folder: Path, **modules: str) -> str:
    """Write modules by name, and return the folder for PYTHONPATH."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recorder.py").write_text(RECORD)
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    return str(folder)
