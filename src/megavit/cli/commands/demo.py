"""The command `megavit demo`."""

import shutil
from pathlib import Path

from megavit.cli.options import Json
from megavit.errors import OutputError

SOURCE = "demo:digits"
# Files of a run (see megavit.training.run); the plan is removed last, so that a half-removed demo is still recognized.
PARTS = ("checkpoints", "bundle", "figures", "report.html", "log.jsonl", "skipped.csv", "samples.csv", "recipe.toml")
SHOWN_PREDICTIONS = 5


def demo(
    *,
    out: Path = Path("runs/demo"),
    json: Json = False,
) -> None:
    """Train, evaluate and predict on bundled images of digits: everything once, in under a minute.

    Args:
        out: Folder for the run; an earlier demo there is replaced.
    """
    from megavit.api.train import train
    from megavit.cli.console import print_table
    from megavit.cli.render.metrics import show_trained
    from megavit.config.recipes import demo as recipe
    from megavit.data.sources.demo import read_demo
    from megavit.predict.predictor import load

    remove_earlier(out)
    trained = train(SOURCE, out=out, recipe="demo", reporter="terminal")
    if not json:
        images = read_demo(SOURCE, recipe().data)
        samples = images.in_split("test")[:SHOWN_PREDICTIONS]
        predictions = load(trained, verify=True).predict([images.load_pixels(sample) for sample in samples])
        rows = [
            [sample.name, images.classes[sample.label], prediction.label, f"{prediction.probability:.1%}"]
            for sample, prediction in zip(samples, predictions, strict=True)
        ]
        print_table(
            "Predictions of the bundle for a few test images", ["image", "true", "predicted", "probability"], rows
        )
    show_trained(trained, as_json=json)


def remove_earlier(out: Path) -> None:
    """Remove an earlier demo in `out`.

    Raises:
        OutputError: if anything else is in `out`; nothing is removed then.
    """
    from megavit.runtime.storage import writing
    from megavit.training.run_dir import PLAN, read_plan

    with writing("the demo", out):
        if not (out / PLAN).exists():
            return
        if read_plan(out).source != SOURCE:
            raise OutputError(f"{out} contains a run that is not a demo: choose another --out")
        parts = (*PARTS, PLAN)
        for path in out.iterdir():
            if path.name not in parts and not path.name.startswith("."):
                raise OutputError(f"{out} contains more than an earlier demo: {path.name}; choose another --out")
        for path in (out / part for part in parts):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
