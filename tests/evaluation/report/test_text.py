from megavit.evaluation.compare import Comparison, MetricDifference
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.report.text import describe_comparison, describe_subgroups, format_difference, format_interval
from megavit.evaluation.subgroups import Subgroup, Subgroups

SHARES = MetricDifference("accuracy", 0.9, 0.88, Interval(0.02, 0.011, 0.029))
SCORES = MetricDifference("mean absolute error", 1.5, 2.0, Interval(-0.5, -0.75, -0.25))


def test_differences_of_shares_are_points_and_of_scores_are_in_their_unit():
    assert format_difference(SHARES) == "+2.00 points (95%: +1.10 to +2.90)"
    assert format_difference(SCORES) == "-0.5 (95%: -0.75 to -0.25)"


def test_figures_without_images_to_measure_are_a_dash():
    assert format_interval("accuracy", None) == "–"
    assert format_interval("mean absolute error", Interval(1, 0.5, 2)) == "1 (95%: 0.5 to 2)"


def test_no_difference_by_more_than_chance_is_not_called_equal():
    none = Comparison(1000, (SHARES,), 20, 18, 900, 62, 0.87, "neither")
    assert "the difference in accuracy may be chance; McNemar's exact test: p = 0.87" in describe_comparison(none)
    assert "does not show that the models are equal" in describe_comparison(none)


def test_the_better_model_is_named_with_its_test():
    sure = Comparison(1000, (SHARES,), 40, 2, 900, 58, 1e-9, "A")
    assert describe_comparison(sure).startswith("A is significantly better in accuracy on these 1,000 images")
    assert describe_comparison(sure).endswith("p < 0.0001.")
    assert "McNemar" not in describe_comparison(Comparison(9, (SCORES,), None, None, None, None, None, "A"))


def test_groups_that_differ_name_the_worst_and_the_best():
    low, high = Subgroup("", 40, Interval(0.5, 0.4, 0.6)), Subgroup("north", 60, Interval(0.9, 0.8, 0.95))
    reported = describe_subgroups(Subgroups("camera", "accuracy", (low, high), 0.001, True))
    assert "differ significantly (p = 0.001): accuracy ranges from 50.0% in (empty) to 90.0% in north" in reported
    assert "does not show why" in reported
    alike = describe_subgroups(Subgroups("camera", "accuracy", (low, high), 0.3, False))
    assert "may be chance" in alike and "does not show that they are equal" in alike
    assert "Too few groups" in describe_subgroups(Subgroups("camera", "x", (low, Subgroup("b", 1, None)), 1.0, False))
