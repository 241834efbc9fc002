"""From nothing to the first answer, each in a fresh process: PyTorch's import alone, ours, and the peers.

    python -m benchmarks.startup [--rounds 9] [--json FILE]

Ours loads a bundle and answers for a JPEG file; the peers load the same number of weights from safetensors, prepare
the file with torchvision, and answer. They take turns; seconds are medians, ratios those of each round.
"""

import argparse
import json
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

from benchmarks.predict_folder import predictor_of
from megavit.bench.peers import installed
from megavit.bench.run import about
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
    print(model(prepare(Image.open({picture!r}).convert('RGB'))[None]).softmax(1).topk(5))
"""
MAKE = {
    "timm": "import timm\nmodel = timm.create_model('vit_small_patch16_224')",
    "vit-pytorch": "from vit_pytorch import ViT\nmodel = ViT(image_size=224, patch_size=16, num_classes=1000, dim=384, "
    "depth=12, heads=6, dim_head=64, mlp_dim=1536)",
}


def scripts(folder: Path) -> dict[str, str]:
    """What each process runs."""
    picture = folder / "photo.jpg"
    Image.fromarray(load_sample_images().images[0]).save(picture)
    predictor_of("S", folder / "bundle")
    found = {
        "import torch": "import torch",
        "megavit": f"import megavit\nprint(megavit.load({str(folder / 'bundle')!r}).predict({str(picture)!r}))",
    }
    for name, make in MAKE.items():
        weights = folder / f"{name}.safetensors"
        save_file(installed(preset("S"))[name](preset("S")).state_dict(), weights)
        found[name] = PEER.format(make=make, weights=str(weights), picture=str(picture))
    return found


def seconds(script: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        runs = scripts(Path(name))
        taken: dict[str, list[float]] = {one: [] for one in runs}
        for turn in range(-1, arguments.rounds):  # the one before the first fills the system's cache of files
            for one, script in runs.items():
                found = seconds(script)
                if turn >= 0:
                    taken[one].append(found)
    ours = taken["megavit"]
    figures = about(torch.device("cpu")) | {
        "seconds": {one: round(median(found), 3) for one, found in taken.items()},
        "so many times megavit's": {
            one: round(median(theirs / mine for theirs, mine in zip(found, ours, strict=True)), 3)
            for one, found in taken.items()
        },
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
