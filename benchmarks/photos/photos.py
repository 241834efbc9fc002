"""`megavit train` against others on folders of photographs: the same split, the same minutes of this machine, in turn.

    python -m benchmarks.photos.photos FOLDER ... --minutes 1 3 10 --seeds 0 1 2
    python -m benchmarks.photos.photos FOLDER ... --backbone NAME --backbone-folder FOLDER

Each contender is a process of its own, and nothing else may run beside it. Contenders that depend on neither time
nor seed (boosting, the probe by hand) run once a folder. The figures go to results/learning/photos.json; what is there
already is not run again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.learning.results import RESULTS, add_run, is_measured
from megavit.runtime.cache import CACHE_SETTING
from megavit.weights.backbones.local import FOLDER_SETTING, fetched_folder

FILE = RESULTS / "photos.json"
FIXED = ("boosting", "probe by hand")


def run_megavit(folder: str, start: str, minutes: float, seed: int, options: Sequence[str] = ()) -> dict[str, Any]:
    """Return the test accuracy of `megavit train`, that of the simple methods that it reports, and the seconds."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "megavit", "train", folder, "--from", start, "--minutes", str(minutes)]
        command += ["--seed", str(seed), "--out", f"{out}/run", "--json", *options]
        # Without embeddings from an earlier run.
        env = os.environ | {FOLDER_SETTING: str(fetched_folder()), CACHE_SETTING: os.devnull}
        began = time.monotonic()
        answer = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
        seconds = time.monotonic() - began
        log = Path(out) / "run" / "log.jsonl"
        last = json.loads(log.read_text().splitlines()[-1]) if log.exists() else {}
        tuning = json.loads((Path(out) / "run" / "bundle" / "megavit.json").read_text())["tuning"]
        held_out = {result["method"]: round(result["value"], 4) for result in tuning.get("results", ())}
    trained = json.loads(answer.stdout)
    simple = trained["baselines"]["results"] if trained["baselines"] else []
    return {
        "test": trained["test"]["accuracy"]["value"],
        "selected": tuning.get("selected"),
        "held_out": held_out,
        "simple": {result["method"]: result["accuracy"] for result in simple},
        "steps": last.get("step"),
        "epochs": last.get("epoch"),
        "seconds": round(seconds, 1),
    }


def run_peer(name: str, folder: str, minutes: float, seed: int, backbone: str) -> dict[str, Any]:
    command = [name, folder, "--minutes", str(minutes), "--seed", str(seed), "--backbone", backbone]
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.photos.photo_peers", *command], check=True, capture_output=True, text=True
    )
    return json.loads(answer.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--minutes", type=float, nargs="+", default=[3.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backbone", help="name or folder for --from; without it only training from scratch")
    parser.add_argument("--backbone-folder", help="the same in the format of Hugging Face, for the probe by hand")
    parser.add_argument("--only", nargs="+", metavar="CONTENDER", help="default: all, e.g. 'resnet18'")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="default: %(default)s")
    arguments = parser.parse_args()
    contenders = ["megavit from scratch", "resnet18", "boosting"]
    contenders += [f"megavit from {arguments.backbone}"] * bool(arguments.backbone)
    contenders += ["probe by hand"] * bool(arguments.backbone_folder)
    contenders = [name for name in contenders if name in (arguments.only or contenders)]
    for seed in arguments.seeds:
        for folder in arguments.folders:
            for minutes in arguments.minutes:
                for name in contenders:
                    about: dict[str, Any] = {"data": Path(folder).name, "contender": name}
                    about |= {} if name in FIXED else {"seed": seed, "minutes": minutes}
                    if is_measured(arguments.out, about):
                        continue
                    if name.startswith("megavit from "):
                        found = run_megavit(folder, name.removeprefix("megavit from "), minutes, seed)
                    else:
                        found = run_peer(name, folder, minutes, seed, arguments.backbone_folder or "")
                    add_run(arguments.out, about | found)


if __name__ == "__main__":
    main()
