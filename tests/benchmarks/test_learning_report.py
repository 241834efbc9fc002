import pytest

from benchmarks.learning.report import (
    accuracies_after,
    accuracy_table,
    collect_curves,
    plot,
    seconds_to_reach,
    time_table,
)
from megavit.training.report.figures import png

pytestmark = pytest.mark.benchmarks


def record(contender: str, minutes: float, seed: int, accuracies: list[float]) -> dict[str, object]:
    marks = len(accuracies)
    curve = [[minutes * 60 * (mark + 1) / marks, accuracy] for mark, accuracy in enumerate(accuracies)]
    return {"contender": contender, "minutes": minutes, "seed": seed, "curve": curve}


CURVES = collect_curves(
    [
        record("timm", 10, 0, [0.70, 0.80]),
        record("timm", 10, 1, [0.72, 0.82]),
        record("timm", 10, 2, [0.60, 0.81]),
        record("timm", 10, 3, [0.99]),
        record("megavit", 2, 0, [0.70, 0.81]),
        record("megavit", 10, 0, [0.85, 0.90]),
    ]
)


def test_an_unfinished_run_does_not_count() -> None:
    assert CURVES["timm"][0].accuracies == [[0.70, 0.72, 0.60], [0.80, 0.82, 0.81]]


def test_a_budget_is_read_at_its_own_end_and_other_times_from_the_next_longer_one() -> None:
    assert accuracies_after(CURVES["megavit"], 2) == [0.81]
    assert accuracies_after(CURVES["megavit"], 5) == [0.85]
    assert accuracies_after(CURVES["megavit"], 11) is None


def test_a_time_is_the_shortest_of_all_budgets() -> None:
    assert seconds_to_reach(CURVES["megavit"], 0.81) == 120
    assert seconds_to_reach(CURVES["megavit"], 0.82) == 300
    assert seconds_to_reach(CURVES["megavit"], 0.95) is None


def test_tables_give_median_range_and_factor() -> None:
    assert "| timm | 70.0% (60.0% to 72.0%) |" in "\n".join(accuracy_table(CURVES))
    assert time_table(CURVES)[-1] == "| timm | 81.0% | 600 s | 120 s | 5.0 |"


def test_a_peer_that_is_not_reached_has_no_factor() -> None:
    better = collect_curves([record("timm", 1, 0, [0.9]), record("megavit", 1, 0, [0.8])])
    assert time_table(better)[-1] == "| timm | 90.0% | 60 s | not reached | – |"


def test_the_plot_shows_every_contender() -> None:
    figure = plot(CURVES)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert {text.get_text() for text in legend.get_texts()} == {"timm", "megavit"}
    assert png(figure).startswith(b"\x89PNG")
