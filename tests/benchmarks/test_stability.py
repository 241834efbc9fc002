"""What the sweep of `benchmarks/rates/stability.py` is summed up by, and that what is written is what was measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rates.stability_plot import COLORS, STABLE, highest_stable, select_runs, table

pytestmark = pytest.mark.benchmarks

ROOT = Path(__file__).parents[2]
NORMED, WITHOUT = "MegaVit", "MegaVit without QK-norm"


def run(design: str, rate: float, loss: float | None, seed: int = 0) -> dict[str, Any]:
    trial = {"design": design, "rate": rate, "seed": seed, "width": 64, "depth": 4, "optimizer": "adamw"}
    return {"trial": trial, "loss": loss, "attention_logit": 1.0}


def test_the_highest_stable_rate_is_the_last_before_the_first_run_that_is_not():
    runs = [run(NORMED, 1, 0.5), run(NORMED, 2, 0.5 * STABLE), run(NORMED, 4, 0.8), run(NORMED, 8, 0.6)]
    assert highest_stable(runs, NORMED) == 2


def test_of_several_seeds_the_median_counts_each_by_the_best_loss_of_all_designs_with_it():
    runs = [run(NORMED, 1, 0.5), run(WITHOUT, 1, 0.7), run(NORMED, 2, 0.6), run(NORMED, 4, None)]
    assert highest_stable(runs, NORMED) == 2 and highest_stable(runs, WITHOUT) == 1
    runs += [run(NORMED, 1, 1.0, seed=1), run(NORMED, 2, 1.4, seed=1), run(WITHOUT, 1, 1.7, seed=1)]
    assert highest_stable(runs, NORMED) == 2 and highest_stable(runs, WITHOUT) is None
    runs += [run(NORMED, 1, 1.0, seed=2), run(NORMED, 2, 1.6, seed=2), run(WITHOUT, 1, 1.0, seed=2)]
    assert highest_stable(runs, NORMED) == 2 and highest_stable(runs, WITHOUT) == 1  # of three, the median


def test_a_sweep_that_is_not_finished_has_no_row():
    runs = [run(design, rate, 0.5) for design in COLORS for rate in (1, 2)]
    assert table(runs) == [("adamw", 4, 64, dict.fromkeys(COLORS, 2))]
    assert table(runs[:-1]) == []


@pytest.fixture(scope="module")
def runs() -> list[dict[str, Any]]:
    return json.loads((ROOT / "benchmarks/results/stability/fashion.json").read_text())["runs"]


def test_the_document_has_the_rates_that_were_measured(runs):
    reported = (ROOT / "docs/benchmarks.md").read_text()
    for optimizer, depth, width, rates in table(runs):
        row = [f"{optimizer}, {depth} layers", str(width), *(f"{rate:g}" for rate in rates.values() if rate)]
        assert f"| {' | '.join(row)} |" in reported


def test_with_the_norm_rates_several_times_as_high_are_stable_and_at_low_ones_it_is_no_better(runs):
    for optimizer, depth, width, rates in table(runs):
        normed, without = rates[NORMED], rates[WITHOUT]
        assert normed and without and normed >= 4 * without, (optimizer, depth, width)
        lowest = [
            select_runs(runs, optimizer=optimizer, depth=depth, width=width, design=one) for one in (NORMED, WITHOUT)
        ]
        best = [min(one["loss"] for one in some) for some in lowest]
        assert best[0] > 0.95 * best[1]
