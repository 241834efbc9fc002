import time

import pytest
import torch

from megavit.bench.case import OURS, measure

CPU = torch.device("cpu")


def case(memory: dict[str, int] | None = None):
    contenders = {"slow": lambda: time.sleep(0.02), OURS: lambda: time.sleep(0.01)}
    options = {"images": 4, "flops": 10**6, "dtype": torch.float32, "device": CPU, "seconds": 0.0}
    return measure("a case", contenders, **options, memory=memory)


def test_the_fastest_comes_first_with_what_it_does_a_second() -> None:
    found = case()
    assert [entry.name for entry in found.entries] == [OURS, "slow"]
    ours, slow = found.entries
    assert ours.megavit_is == 1.0 and slow.megavit_is > 1.2
    for entry in found.entries:
        assert entry.images_per_second == pytest.approx(4 / entry.seconds)
        assert 0 < entry.of_limit < 1
    assert ours.of_limit / slow.of_limit == pytest.approx(slow.seconds / ours.seconds)


def test_what_was_not_measured_is_not_written() -> None:
    assert "memory" not in case().to_dict()["entries"][0]
    assert case({OURS: 1, "slow": 2}).to_dict()["entries"][1]["memory"] == 2
