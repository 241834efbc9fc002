"""The committed figures of `megavit plan` keep what docs/benchmarks.md says of them."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmarks

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "plan"


@pytest.mark.parametrize("gpus", [256, 1024])
def test_22b_was_traced_within_bounds_of_difference_time_and_memory(gpus: int) -> None:
    found = json.loads((RESULTS / f"22b_{gpus}.json").read_text(encoding="utf-8"))
    assert found["gpus"] == gpus and found["fitting"] and found["traced"]
    for trace in found["traced"]:
        assert trace["agrees"] and trace["processor seconds"] < 180 and trace["GiB of this process"] < 1.5
        assert trace["memory"]["formula"] == pytest.approx(trace["memory"]["traced"], rel=0.05)
        for both in trace["traffic"].values():
            assert both["formula"] == pytest.approx(both["traced"], rel=0.02)


def test_b16_was_measured_within_five_per_cent() -> None:
    steps = json.loads((RESULTS / "step_b16.json").read_text(encoding="utf-8"))["steps"]
    assert {(one["precision"], one["checkpointing"]) for one in steps} >= {("float32", False), ("bfloat16", True)}
    for one in steps:
        assert one["formula"] == pytest.approx(one["measured"], rel=0.05)
