"""From nothing to the first answer, each in a new process: PyTorch's import alone, ours, and the peers.

    python -m benchmarks.speed.startup [--rounds 9] [--preset S] [--only NAME...] [--json FILE]

Ours loads a bundle, checks its files, and answers for a JPEG file, in Python, on the command line for the first time,
and again, by the graph that the second time has kept; the peers load as many weights from safetensors, prepare the file
with torchvision, and answer. They take turns; seconds, until the answer is read, until the process has ended, and of
processors, are medians, ratios those of each round.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

from benchmarks.speed.predict_folder import make_predictor
from megavit.bench.peers import get_installed_peers
from megavit.bench.run import describe_machine
from megavit.config.presets import preset

PEER = """
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision import transforms
{make}
model.load_state_dict(load_file({weights!r}))
model.eval()
prepare = transforms.Compose([transforms.Resize(224), transforms.CenterCrop(224), transforms.ToTensor()])
with torch.inference_mode():
    print(model(prepare(Image.open({image!r}).convert('RGB'))[None]).softmax(1).topk(5))
"""
MAKE = {
    "timm": "import timm\nmodel = timm.create_model('vit_small_patch16_224')",
    "vit-pytorch": "from vit_pytorch import ViT\nmodel = ViT(image_size=224, patch_size=16, num_classes=1000, dim=384, "
    "depth=12, heads=6, dim_head=64, mlp_dim=1536)",
}


KEPT = "megavit predict, again"


def commands(folder: Path, size: str) -> dict[str, list[str]]:
    """What each process runs."""
    image = folder / "photo.jpg"
    Image.fromarray(load_sample_images().images[0]).save(image)
    make_predictor(size, folder / "bundle")
    bundle = str(folder / "bundle")
    scripts = {
        "import torch": "import torch\nprint(torch.__version__)",
        "megavit": f"import megavit\nprint(megavit.load({bundle!r}).predict({str(image)!r}))",
    }
    for name, make in MAKE.items() if size == "S" else ():
        weights = folder / f"{name}.safetensors"
        save_file(get_installed_peers(preset("S"))[name](preset("S")).state_dict(), weights)
        scripts[name] = PEER.format(make=make, weights=str(weights), image=str(image))
    found = {name: [sys.executable, "-u", "-c", script] for name, script in scripts.items()}
    found["megavit predict"] = found[KEPT] = [sys.executable, "-m", "megavit", "predict", bundle, str(image)]
    return found


def time_process(command: list[str], cache: str) -> tuple[float, float, float]:
    """Until the first line of its output, until its end, and of processors."""
    used, started = processor_seconds(), time.perf_counter()
    environment = os.environ | {"MEGAVIT_CACHE": cache}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        answered = time.perf_counter() - started
        process.stdout.read()
    if not line or process.returncode:
        raise RuntimeError(f"{command} failed or printed nothing")
    return answered, time.perf_counter() - started, processor_seconds() - used


def processor_seconds() -> float:
    """Those of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--preset", default="S")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="compare these with importing PyTorch")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        runs = commands(Path(name), arguments.preset)
        if arguments.only:
            runs = {run_name: runs[run_name] for run_name in ("import torch", *arguments.only)}
        seconds: dict[str, list[tuple[float, float, float]]] = {run_name: [] for run_name in runs}
        for turn in range(-1, arguments.rounds):  # round -1 fills the page cache
            for run_name, command in runs.items():
                cache = f"{name}/cache" if run_name == KEPT else os.devnull
                if turn < 0 and run_name == KEPT:
                    time_process(command, cache)  # the second time keeps a graph
                found = time_process(command, cache)
                if turn >= 0:
                    seconds[run_name].append(found)
    figures = describe_machine(torch.device("cpu")) | {
        name: {
            run_name: {
                "seconds": round(median(pair[index] for pair in found), 3),
                "ratio to import torch": round(
                    median(a[index] / b[index] for a, b in zip(found, seconds["import torch"], strict=True)), 3
                ),
            }
            for run_name, found in seconds.items()
        }
        for index, name in enumerate(("first_answer", "end", "processors"))
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
