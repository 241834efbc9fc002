"""Print the results of a pretraining."""

from megavit.cli.console import results
from megavit.config.names import shell_quote
from megavit.training.pretraining.finish import PretrainingRun


def show_pretrained(run: PretrainingRun) -> None:
    """Print what was learned, a warning if the features have collapsed, and how to go on."""
    if run.warning:
        results.print(run.warning, style="bold yellow")
    accuracy = run.neighbor_accuracy
    judged = "" if accuracy is None else f"; nearest neighbors are of the same class for {accuracy:.1%}"
    results.print(
        f"features from {run.images:,} images in {run.epochs:g} epochs: effective rank {run.effective_rank:.1f} of "
        f"{run.dim}{judged}",
        style="bold",
    )
    results.print(f"bundle: {run.bundle}")
    results.print(f"try it: megavit train DATA --from {shell_quote(str(run.folder))}")
