import time

import pytest
import torch

from megavit.bench.case import OURS, Case, Entry, run_case
from megavit.bench.run import warn_if_slower

CPU = torch.device("cpu")


def case(memory: dict[str, int] | None = None):
    contenders = {"slow": lambda: time.sleep(0.02), OURS: lambda: time.sleep(0.01)}
    options = {"images": 4, "flops": 10**6, "dtype": torch.float32, "device": CPU, "seconds": 0.0}
    return run_case("a case", contenders, **options, memory=memory)


def test_the_fastest_comes_first_with_what_it_does_a_second() -> None:
    found = case()
    assert [entry.name for entry in found.entries] == [OURS, "slow"]
    ours, slow = found.entries
    assert ours.megavit_speedup == 1.0 and slow.megavit_speedup > 1.2
    for entry in found.entries:
        assert entry.images_per_second == pytest.approx(4 / entry.seconds)
    assert ours.matmul_share is not None and slow.matmul_share is not None
    assert 0 < slow.matmul_share < ours.matmul_share < 1
    assert ours.matmul_share / slow.matmul_share == pytest.approx(slow.seconds / ours.seconds)


def test_what_was_not_measured_is_not_written() -> None:
    assert "memory" not in case().to_dict()["entries"][0]
    assert case({OURS: 1, "slow": 2}).to_dict()["entries"][1]["memory"] == 2


def test_without_a_dtype_nothing_is_set_beside_a_matrix_product() -> None:
    found = run_case("int8", {OURS: lambda: None}, images=1, flops=1, dtype=None, device=CPU, seconds=0.0)
    assert "matmul_share" not in found.to_dict()["entries"][0]


def test_a_precision_that_is_slower_than_one_with_more_digits_is_said_to_be() -> None:
    def measured(**seconds: float):
        return {name: Case("", (Entry(OURS, one, 0.0, 1.0, None, 1.0),)) for name, one in seconds.items()}

    assert warn_if_slower("float32", measured(float32=0.0195)) == ""
    assert warn_if_slower("int8", measured(float32=0.0195, bfloat16=0.01, int8=0.008)) == ""
    assert (
        warn_if_slower("int8", measured(float32=0.0195, int8=0.0222))
        == "slower than float32 on this machine, which took 19.5 ms: use float32 here"
    )
    assert "slower than bfloat16" in warn_if_slower("int8", measured(float32=0.0195, bfloat16=0.01, int8=0.012))
