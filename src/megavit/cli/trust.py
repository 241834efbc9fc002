"""How far answers may be trusted, on a terminal."""

from megavit.cli.output import print_table, results, share
from megavit.evaluate.trust import TrustMetrics


def show_trust(found: TrustMetrics) -> None:
    rows = []
    if found.before and found.after:
        rows.append(["probabilities are off by", share(found.after.error)])
        if found.before != found.after:
            rows.append(["before they were calibrated", share(found.before.error)])
    if found.false_alarms:
        rows.append(["marked as unlike training", share(found.false_alarms)])
    if rows:
        print_table("Trust", ["", ""], rows)
    if found.coverages:
        of_classes = found.coverages[0].least is not None
        columns = ["coverage asked", "got", "classes in a set" if of_classes else "width"]
        sizes = [[f"{one.asked:.0%}", share(one.got), f"{one.size:.4g}"] for one in found.coverages]
        print_table("", columns, sizes)


def show_calibration(found: TrustMetrics) -> None:
    """In a line."""
    if found.after:
        results.print(f"its probabilities are off by {found.after.error.value:.1%} on average")
