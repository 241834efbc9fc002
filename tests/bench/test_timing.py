import time

import pytest
import torch

from megavit.bench import timing as module
from megavit.bench.timing import MIN_ROUNDS, Timing, time_interleaved

CPU = torch.device("cpu")


def test_median_and_spread() -> None:
    timing = Timing((1.0, 2.0, 3.0, 4.0, 5.0))
    assert timing.median == 3.0
    assert timing.relative_iqr == pytest.approx((4.5 - 1.5) / 3)


def test_contenders_take_turns_in_another_order_each_round() -> None:
    order: list[str] = []
    contenders = {name: (lambda name=name: order.append(name)) for name in "abc"}
    timings = time_interleaved(contenders, seconds=0.0, device=CPU)
    assert {len(timing.seconds) for timing in timings.values()} == {MIN_ROUNDS}
    rounds = ["".join(order[start : start + 3]) for start in range(6, len(order), 3)]
    assert "".join(order[:6]) == "aabbcc" and all(sorted(round_) == ["a", "b", "c"] for round_ in rounds)
    assert len(set(rounds)) > 2


def test_rounds_go_on_until_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROUNDS", 12)
    timings = time_interleaved({"a": lambda: None}, seconds=60.0, device=CPU)
    assert len(timings["a"].seconds) == 12


def test_what_is_slower_takes_longer() -> None:
    timings = time_interleaved({"short": lambda: None, "long": lambda: time.sleep(0.01)}, seconds=0.0, device=CPU)
    assert timings["long"].median >= 0.01 and timings["long"].median > timings["short"].median
