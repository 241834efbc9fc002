"""Groups of images, and corrupted pictures, on the terminal."""

from megavit.cli.output import notes, print_table, results
from megavit.evaluate.groups import Groups
from megavit.evaluate.robustness import Robustness
from megavit.evaluate.told import about_groups, figure, figure_with_interval, name


def show_groups(found: Groups) -> None:
    """A row a group, the worst first, and whether they differ by more than chance."""
    rows = [
        [name(group.value), f"{group.images:,}", figure_with_interval(found.metric, group.metric)]
        for group in found.groups
    ]
    print_table(f"By {found.column}", [found.column, "images", found.metric], rows)
    results.print(about_groups(found))


def show_robustness(found: Robustness) -> None:
    """A row a corruption, a column a strength."""
    if found.images < found.of:
        notes.print(f"corrupted: {found.images:,} of the {found.of:,} images, spread over them", style="yellow")
    rows = [
        [
            one.name,
            *(figure(found.metric, interval.value) for interval in one.strengths),
            figure_with_interval(found.metric, one.mean),
        ]
        for one in found.corruptions
    ]
    strengths = [str(place) for place, _ in enumerate(found.corruptions[0].strengths, start=1)]
    print_table(f"Corrupted pictures, by strength: {found.metric}", ["", *strengths, "mean"], rows)
    results.print(
        f"as they are {figure_with_interval(found.metric, found.clean)}, "
        f"corrupted on average {figure_with_interval(found.metric, found.mean)}"
    )
