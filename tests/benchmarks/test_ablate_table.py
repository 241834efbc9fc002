import pytest

from benchmarks.learning.ablate_table import table

pytestmark = pytest.mark.benchmarks


def test_a_variant_has_one_row_with_every_budget_it_was_run_for() -> None:
    runs = [
        {"variant": "the recipe", "budget": 600, "val_accuracy": 0.90, "cost": 1.0},
        {"variant": "the recipe", "budget": 600, "val_accuracy": 0.88, "cost": 1.0},
        {"variant": "flip", "budget": 600, "val_accuracy": 0.87, "cost": 1.02},
        {"variant": "flip", "budget": 1500, "val_accuracy": 0.91, "cost": 1.04},
    ]
    assert table(runs) == [
        "| variant | cost of a step | time of 600 steps | time of 1,500 steps |",
        "|---|---|---|---|",
        "| the recipe | 1.00 | 89.0% (88.0%, 90.0%) | – |",
        "| flip | 1.03 | 87.0% | 91.0% |",
    ]
