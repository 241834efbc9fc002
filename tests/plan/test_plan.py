"""Which layouts a plan lists, and what it says of those that it does not."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megavit.config.presets import preset
from megavit.config.vit import Design
from megavit.errors import ConfigError
from megavit.model.statistics import training_flops
from megavit.plan.communication import DDP_BUCKET, Communication, compute_communication
from megavit.plan.hardware import GIB, GPUS, Gpu, count_ranks, estimate_seconds, get_gpu, override_gpu
from megavit.plan.memory import compute_peak_memory
from megavit.plan.parallel_layout import ParallelLayout, Training, get_divisors, list_layouts
from megavit.plan.plan import Plan, explain_misfit, make_plan
from megavit.plan.step_time import estimate_step_time
from tests.helpers.plan_layouts import PARALLEL, make_layout, make_training

H100 = get_gpu("h100")


def of(name: str, gpus: int, batch: int, **changes: Any) -> Plan:
    return make_plan(preset(name), replace(Training(batch=batch, optimizer="adamw"), **changes), H100, gpus)


@given(st.sampled_from(["B", "H", "22B"]), st.sampled_from([1, 8, 48, 64]), st.sampled_from([64, 192, 4096]))
def test_what_is_listed_fits_and_is_the_whole_batch(name: str, gpus: int, batch: int) -> None:
    try:
        plan = of(name, gpus, batch)
    except ConfigError:
        assert batch % gpus  # only then nothing divides
        return
    for one in plan.fitting:
        assert one.memory.total <= H100.usable
        assert (one.layout.gpus, one.layout.batch) == (gpus, batch)
    assert all(one.memory.total > H100.usable for one in plan.too_large)
    steps = [one.step_time.step for one in plan.fitting]
    assert steps == sorted(steps)
    grids = [(one.layout.replicate, one.layout.shard, one.layout.tensor) for one in (*plan.fitting, *plan.too_large)]
    assert len({*grids, *plan.indivisible}) == len(grids) + len(plan.indivisible)


def test_of_each_grid_the_fastest_that_fits_is_listed() -> None:
    plan = of("H", 8, 512)
    for one in plan.fitting:
        for other in list_layouts(plan.config, plan.training, 8, 8):
            same = (other.replicate, other.shard, other.tensor) == (
                one.layout.replicate,
                one.layout.shard,
                one.layout.tensor,
            )
            if same and compute_peak_memory(plan.config, plan.training, other)[1].total <= H100.usable:
                assert estimate_step_time(plan.config, plan.training, other, H100).step >= one.step_time.step


def test_22b_on_1024_gpus_is_planned_with_either_optimizer() -> None:
    plan = of("22B", 1024, 65536)
    assert plan.fitting and plan.parameters == pytest.approx(21.9e9, rel=0.02)
    assert 0.2 < plan.fitting[0].step_time.mfu < 0.55
    assert plan.flops == 65536 * training_flops(preset("22B"))
    assert "positions.table" in plan.find_padded_parameters(
        next(one for one in plan.fitting if one.layout.shard == 1024)
    )
    muon = of("22B", 1024, 65536, optimizer="muon").fitting[0].step_time
    assert muon.compute == plan.fitting[0].step_time.compute and muon.optimizer < muon.compute / 4


def test_without_a_fitting_layout_it_says_which_is_nearest_and_how_many_gpus_would_do() -> None:
    plan = of("22B", 1, 8)
    assert plan.fitting == ()
    said = explain_misfit(plan)
    assert "one GPU" in said and "71.1 GiB" in said and "it fits on" in said and "such GPUs" in said


def test_a_batch_that_does_not_divide_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"batch of 100 images .* 8 GPUs.* is 104|is 96"):
        make_plan(preset("Ti"), Training(batch=100), replace(H100, gpus_per_node=1), 8)


def test_grids_that_do_not_divide_are_told_apart() -> None:
    plan = of("B", 8, 4)
    assert {grid[2] for grid in plan.indivisible} == {1}  # eight data ranks have no four images
    assert {one.layout.tensor for one in plan.fitting} == {2, 4}


@pytest.mark.parametrize("design", [Design(norm="rms"), Design(positions="rope"), Design(mlp_out_norm=True)])
def test_a_part_without_a_formula_is_refused(design: Design) -> None:
    with pytest.raises(ConfigError, match="megavit plan does not support"):
        make_plan(replace(preset("nano"), design=design), Training(batch=8), H100, 1)


@given(st.sampled_from(["B", "22B"]), st.sampled_from([8, 64, 512]))
@settings(max_examples=10, deadline=None)
def test_a_faster_network_is_never_slower(name: str, gpus: int) -> None:
    fast, slow = (override_gpu(H100, network_bandwidth=speed, link_bandwidth=speed * 10) for speed in (100, 10))
    for one in list_layouts(preset(name), Training(batch=512), gpus, 8):
        if one.micro_batch_size == 1:
            many = [estimate_step_time(preset(name), Training(batch=512), one, gpu) for gpu in (fast, slow)]
            assert many[0].step <= many[1].step
            assert 0 < many[1].mfu <= many[0].mfu <= H100.achievable


def test_a_ring_moves_all_but_one_part_and_a_sum_twice() -> None:
    gpu = override_gpu(H100, link_bandwidth=1, network_bandwidth=1)
    gather = Communication(collective="all-gather", axis="shard", phase="forward", bytes=8 * 10**9, calls=0)
    assert estimate_seconds(gather, make_layout(shard=4), gpu) == pytest.approx(8 * 3 / 4 / 0.8)
    assert estimate_seconds(replace(gather, collective="all-reduce"), make_layout(shard=4), gpu) == pytest.approx(
        2 * 6 / 0.8
    )
    assert estimate_seconds(gather, make_layout(), gpu) == 0


def test_ddp_reduces_gradients_in_buckets_that_cost_next_to_nothing_beside_their_bytes() -> None:
    of_ddp = make_layout(replicate=8)
    (reduced,) = compute_communication(preset("B"), make_training(of_ddp), of_ddp)
    assert reduced.calls == reduced.bytes // DDP_BUCKET == 13
    assert estimate_seconds(reduced, of_ddp, H100) < 1.5 * estimate_seconds(replace(reduced, calls=0), of_ddp, H100)


@pytest.mark.parametrize(("axis", "ranks"), [("tensor", (4, 4)), ("shard", (8, 2)), ("replicate", (2, 1))])
def test_neighbors_share_a_node(axis, ranks: tuple[int, int]) -> None:
    assert count_ranks(axis, make_layout(replicate=2, shard=8, tensor=4), H100) == ranks


def test_tensor_parallelism_stays_within_a_node_and_divides_heads() -> None:
    found = {one.tensor for one in list_layouts(PARALLEL, Training(batch=64), 64, 8)}
    assert found == {1, 2, 4, 8}
    assert {one.tensor for one in list_layouts(preset("B"), Training(batch=64), 64, 8)} == {1, 2, 4}
    assert {one.tensor for one in list_layouts(PARALLEL, Training(batch=64), 64, 2)} == {1, 2}


@given(st.integers(1, 10_000))
def test_divisors_are_all_and_in_order(number: int) -> None:
    assert get_divisors(number) == [one for one in range(1, number + 1) if number % one == 0]


def test_an_unknown_gpu_is_answered_with_the_table() -> None:
    with pytest.raises(ConfigError, match="a100, h100, h200, b200, cpu"):
        get_gpu("h1000")


def test_given_figures_replace_those_of_the_table() -> None:
    gpu = override_gpu(
        H100, memory=40, tflops=100, memory_bandwidth=1000, gpus_per_node=4, link_bandwidth=None, network_bandwidth=None
    )
    assert (gpu.memory, gpu.flops["bfloat16"], gpu.memory_bandwidth, gpu.gpus_per_node) == (40 * GIB, 100e12, 1e12, 4)
    assert gpu.link_bandwidth == H100.link_bandwidth
    with pytest.raises(ConfigError, match="memory"):
        override_gpu(H100, memory=0)


def test_the_table_is_of_real_devices() -> None:
    for gpu in GPUS.values():
        assert isinstance(gpu, Gpu) and gpu.usable < gpu.memory
        assert gpu.flops["float32"] < gpu.flops["bfloat16"]


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch"):
        Training(batch=0)
    assert make_training(make_layout()).batch == 8
    assert ParallelLayout(micro_batch_size=2, gradient_accumulation=3, shard=4).batch == 24
