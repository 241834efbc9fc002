"""What a training run came to, in a few lines."""

import shlex
from typing import Any

from megavit.cli.output import print_json, results, share
from megavit.evaluate.metrics import Metrics
from megavit.train.finish import Trained


def show_trained(trained: Trained, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "run": str(trained.folder),
                "bundle": str(trained.bundle),
                "report": str(trained.report),
                "test": trained.metrics.to_dict(),
            }
        )
        return
    metrics = trained.metrics.to_dict()
    results.print(headline(metrics), style="bold")
    results.print(f"report: {trained.report}")
    results.print(f"bundle: {trained.bundle}")
    results.print(f"try it: megavit predict {shlex.quote(str(trained.folder))} IMAGE ...")


def headline(metrics: dict[str, Any]) -> str:
    return f"accuracy {share(metrics['accuracy'])} on {metrics['images']:,} test images"


def metric_rows(metrics: Metrics) -> list[list[str]]:
    """(name, value with interval) of the headline figures."""
    plain = metrics.to_dict()
    names = {"accuracy": "accuracy", "top5": "top-5 accuracy"}
    names |= {"balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
    return [[name, share(plain[key])] for key, name in names.items() if plain[key] is not None]
