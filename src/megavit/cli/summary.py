"""What a training run came to, in a few lines."""

import shlex

from megavit.cli.metrics import headline
from megavit.cli.output import print_json, results
from megavit.cli.trust import show_calibration
from megavit.train.finish import Trained


def show_trained(trained: Trained, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "run": str(trained.folder),
                "bundle": str(trained.bundle),
                "report": str(trained.report),
                "test": trained.metrics.to_dict(),
                "trust": trained.trust.to_dict(),
            }
        )
        return
    results.print(headline(trained.metrics), style="bold")
    show_calibration(trained.trust)
    results.print(f"report: {trained.report}")
    results.print(f"bundle: {trained.bundle}")
    results.print(f"try it: megavit predict {shlex.quote(str(trained.folder))} IMAGE ...")
