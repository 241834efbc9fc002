"""The formula of memory against real steps, against traced ones, and against itself."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.distributed.plan_step import formula, measure
from megavit.config.presets import preset
from megavit.config.vit import ViTConfig
from megavit.plan.memory import compute_memory_by_phase, compute_optimizer_state, compute_peak_memory
from megavit.plan.parallel_layout import ParallelLayout, Training
from megavit.plan.parameters import shard_parameters
from megavit.plan.trace.validate import COMMUNICATION_TOLERANCE, MEMORY_TOLERANCE, compare_with_trace
from tests.helpers.plan_layouts import MODELS, PARALLEL, SERIAL, make_layout, make_training

TRACED = {
    "alone": make_layout(),
    "alone, in parts": make_layout(gradient_accumulation=2),
    "alone, checkpointed": make_layout(gradient_checkpointing=True),
    "DDP": make_layout(replicate=4),
    "DDP, in parts, checkpointed": make_layout(replicate=2, gradient_accumulation=2, gradient_checkpointing=True),
    "FSDP": make_layout(shard=4),
    "FSDP, checkpointed": make_layout(shard=4, gradient_checkpointing=True),
    "FSDP, in parts": make_layout(shard=8, gradient_accumulation=3),
    "FSDP, few images, many ranks": make_layout(shard=64, micro_batch_size=1, gradient_checkpointing=True),
    "HSDP": make_layout(replicate=2, shard=4),
    "tensor": make_layout(tensor=2),
    "FSDP, tensor": make_layout(shard=2, tensor=2),
    "FSDP, three, checkpointed": make_layout(shard=2, tensor=3, gradient_checkpointing=True),
    "FSDP, tensor, checkpointed": make_layout(shard=4, tensor=4, gradient_checkpointing=True),
    "HSDP, tensor": make_layout(replicate=2, shard=2, tensor=2),
    "data, tensor": make_layout(replicate=2, tensor=2, gradient_accumulation=2),
}
CASES = [
    *(("parallel", name, "bfloat16") for name in TRACED if "three" not in name),
    *(("parallel", name, "float32") for name in ("FSDP", "HSDP, tensor", "alone, in parts")),
    *(
        ("serial", name, precision)
        for name in ("alone, checkpointed", "DDP", "FSDP", "FSDP, three, checkpointed")
        for precision in ("float32", "bfloat16")
    ),
]
QUICK_CASES = {
    ("parallel", "alone, checkpointed", "bfloat16"),
    ("parallel", "DDP, in parts, checkpointed", "bfloat16"),
    ("parallel", "FSDP", "float32"),
    ("parallel", "FSDP, in parts", "bfloat16"),
    ("parallel", "HSDP, tensor", "bfloat16"),
    ("serial", "DDP", "float32"),
    ("serial", "FSDP, three, checkpointed", "bfloat16"),
}
"""Each kind of layout, block and precision once; all pairs of them are a drill."""


@pytest.mark.parametrize(
    ("model", "name", "precision"),
    [pytest.param(*case, marks=() if case in QUICK_CASES else pytest.mark.drill) for case in CASES],
)
def test_memory_and_traffic_are_those_of_a_traced_rank(model: str, name: str, precision: str) -> None:
    config, of = MODELS[model], TRACED[name]
    found = compare_with_trace(config, make_training(of, precision=precision), of)
    formula, traced = found.memory
    assert formula == pytest.approx(traced, rel=MEMORY_TOLERANCE)
    for collective, (by_formula, counted) in found.communication.items():
        assert by_formula == pytest.approx(counted, rel=COMMUNICATION_TOLERANCE), collective
    assert found.agrees
    assert bool(found.communication) == (of.gpus > 1)


@pytest.mark.parametrize(
    ("config", "precision", "optimizer", "parts", "gradient_checkpointing"),
    [
        pytest.param(SERIAL, "float32", "muon", 1, False, marks=pytest.mark.drill),
        (SERIAL, "bfloat16", "muon", 4, False),
        pytest.param(PARALLEL, "bfloat16", "adamw", 1, False, marks=pytest.mark.drill),
        (PARALLEL, "float32", "adamw", 1, True),
        pytest.param(PARALLEL, "bfloat16", "muon", 1, True, marks=pytest.mark.drill),
    ],
)
def test_it_is_what_a_real_step_takes(
    config: ViTConfig, precision: str, optimizer: str, parts: int, gradient_checkpointing: bool
) -> None:
    of = make_layout(
        micro_batch_size=8 // parts, gradient_accumulation=parts, gradient_checkpointing=gradient_checkpointing
    )
    real = make_training(of, precision=precision, optimizer=optimizer, averages=1, processor=True)
    assert formula(config, real, of) == pytest.approx(measure(config, real, of), rel=0.05)


def test_the_optimizers_state_is_what_the_real_one_keeps() -> None:
    weights = shard_parameters(preset("B"), 1, 1)
    adamw, mixed = (compute_optimizer_state(weights, Training(batch=1, optimizer=kind)) for kind in ("adamw", "muon"))
    assert adamw == 8 * weights.total
    assert mixed == 8 * weights.total - 4 * weights.matrices


FORMATS = st.builds(
    ParallelLayout,
    replicate=st.integers(1, 8),
    shard=st.integers(1, 256),
    tensor=st.sampled_from([1, 2, 4, 8]),
    micro_batch_size=st.integers(1, 64),
    gradient_accumulation=st.integers(1, 8),
    gradient_checkpointing=st.booleans(),
)
TRAININGS = st.builds(
    Training,
    batch=st.just(1),
    optimizer=st.sampled_from(["muon", "adamw"]),
    averages=st.integers(0, 2),
)
CONFIGS = st.sampled_from([preset("22B"), PARALLEL])


@given(CONFIGS, TRAININGS, FORMATS)
def test_the_parts_add_up_and_none_is_negative(config, of_training: Training, of: ParallelLayout) -> None:
    for held in compute_memory_by_phase(config, of_training, of).values():
        assert held.total == sum(held.to_dict().values())
        assert min(held.to_dict().values()) >= 0


@given(CONFIGS, TRAININGS, FORMATS, st.integers(2, 4))
def test_more_gpus_never_need_more_of_each(config, of_training: Training, of: ParallelLayout, factor: int) -> None:
    """Up to what sharding fills up: that of a parameter can grow by a row a rank."""
    if of.shard == 1:
        return  # from one holder to several is another engine, with buffers of its own
    more = replace(of, shard=of.shard * factor)
    before = compute_peak_memory(config, of_training, of)[1]
    after = compute_peak_memory(config, of_training, more)[1]
    padding = (
        shard_parameters(config, more.shard, of.tensor).block.padded
        - shard_parameters(config, of.shard, of.tensor).block.padded
    )
    rest = (
        shard_parameters(config, more.shard, of.tensor).rest.padded
        - shard_parameters(config, of.shard, of.tensor).rest.padded
    )
    assert after.total <= before.total + 12 * max(0, padding) + 8 * max(0, rest)
    assert after.weights <= before.weights and after.optimizer <= before.optimizer


@given(CONFIGS, TRAININGS, FORMATS)
def test_more_images_at_once_need_more(config, of_training: Training, of: ParallelLayout) -> None:
    more = replace(of, micro_batch_size=of.micro_batch_size + 1)
    assert (
        compute_peak_memory(config, of_training, more)[1].total > compute_peak_memory(config, of_training, of)[1].total
    )
