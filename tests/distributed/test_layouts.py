"""However many processes train, and however they divide the work, it comes to what one alone would learn."""

import math

import pytest

from megavit.distributed.context import ParallelContext
from tests.helpers.distributed import dist_2proc, dist_4proc
from tests.helpers.distributed.training import DESIGNS, STEPS, load_state, make_task, train_steps

# Of a loss of about 1: sums in another order.
BOUND = 1e-6
# On AMD's processors PyTorch multiplies distributed tensors by MKL, and `megavit.model.kernels` others by oneDNN.
TENSOR_PARALLEL_BOUND = 2 * BOUND


def bound(layout: str) -> float:
    return TENSOR_PARALLEL_BOUND if "tp" in layout else BOUND


def apart(losses: list[float], others: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(losses, others, strict=True))


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("layout", dist_2proc.LAYOUTS)
def test_two_processes_learn_what_one_does(of_two, alone, layout, design):
    assert len(alone[design]) == STEPS
    assert apart(of_two[f"{layout} {design}"], alone[design]) < bound(layout)


@pytest.mark.parametrize("layout", dist_4proc.LAYOUTS)
def test_four_processes_learn_what_one_does(of_four, alone, layout):
    assert apart(of_four[layout], alone[dist_4proc.LAYOUTS[layout][1]]) < bound(layout)


@pytest.mark.parametrize("layout", dist_2proc.LAYOUTS)
def test_muon_turns_whole_matrices_however_they_are_divided(of_two, alone, layout):
    # Its iteration brings small singular values up, and their last bits with them.
    assert apart(of_two[f"{layout} muon"], alone["muon"]) < 1e-4


def test_muon_turns_matrices_that_are_divided_in_two_ways(of_four, alone):
    assert apart(of_four["fsdp+tp muon"], alone["muon"]) < 1e-4


def test_matrices_are_dealt_whole_and_collected_as_they_were(of_four):
    assert of_four["dealt"] and of_four["dealt unevenly"] == [True] * 3


@pytest.mark.parametrize("layout", dist_2proc.LAYOUTS)
def test_gradient_checkpointing_changes_nothing(of_two, alone, layout):
    assert apart(of_two[f"{layout} checkpointing"], alone["parallel"]) < bound(layout)


@pytest.mark.parametrize("layout", dist_2proc.LAYOUTS)
def test_in_bfloat16_they_learn_the_same_up_to_its_rounding(of_two, alone, layout):
    assert 0 < apart(of_two[f"{layout} bfloat16"], alone["parallel"]) < 0.03
    assert apart(of_two[f"{layout} bfloat16"], alone["bfloat16"]) < 0.03


@pytest.mark.parametrize("layout", [layout for layout in dist_2proc.LAYOUTS if layout != "ddp"])
def test_a_model_that_no_process_has_whole_begins_with_the_same_bits(of_two, layout):
    assert of_two[f"{layout} begun in parts"]


def test_compiled_layers_learn_the_same(of_two, alone):
    assert apart(of_two["compiled"], alone["parallel"]) < BOUND


def test_parallel_branches_are_summed_once_each_way_and_serial_ones_twice(of_two):
    # Of two layers; and of each, the gradients of the weights of the norms of queries and of keys.
    norms = 2 * 2
    assert of_two["sums"] == {"parallel": 2 * 2 + norms, "serial": 2 * 4 + norms}


@pytest.mark.parametrize("layout", dist_2proc.LAYOUTS)
def test_a_step_in_parts_is_learned_from_as_a_whole(of_two, alone, layout):
    assert apart(of_two[f"{layout} parts"], alone["parallel"]) < bound(layout)


@pytest.mark.parametrize("layout", dist_4proc.LAYOUTS)
def test_a_step_in_parts_is_learned_from_as_a_whole_by_four(of_four, alone, layout):
    assert apart(of_four[f"{layout} parts"], alone[dist_4proc.LAYOUTS[layout][1]]) < bound(layout)


def test_gradients_are_summed_over_the_copies_once_a_step_whatever_its_parts(of_two, of_four):
    for in_parts, whole in (of_two["ddp sums"], of_four["hsdp sums"]):
        assert in_parts == whole > 0


def test_by_the_clock_all_processes_do_the_same_steps_and_end_in_time(of_two):
    quick, slow = of_two["clock"]
    assert quick["step"] == slow["step"] and quick["validated"] == slow["validated"] and quick["validated"]
    assert quick["seconds"] == slow["seconds"] == slow["own"] > quick["own"]
    # The slow one takes 0.05 seconds for each step and validation.
    assert dist_2proc.SECONDS - 2 * 0.05 <= slow["own"] <= dist_2proc.SECONDS + 0.05
    assert quick["step"] + len(quick["validated"]) == round(slow["own"] / 0.05)


def test_the_slowest_process_says_how_long_a_step_takes(of_two):
    quick, slow = of_two["measured"]
    assert quick == slow and quick[1] >= dist_2proc.SLOW


def test_norms_of_queries_and_keys_whose_gradients_are_not_summed_show(of_two, alone):
    assert apart(of_two["mutant"], alone["parallel"]) > 3 * BOUND


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("layout", dist_2proc.LAYOUTS)
def test_a_checkpoint_goes_on_to_the_same_bits_in_as_many_processes(of_two, layout, design):
    assert of_two[f"{layout} {design} again"] == of_two[f"{layout} {design}"]
    assert of_two[f"{layout} {design} same"] and of_two[f"{layout} {design} finite"]


@pytest.mark.parametrize("layout", dist_4proc.GOING_ON)
@pytest.mark.parametrize("begun", dist_4proc.BEGUN)
def test_what_two_processes_began_four_go_on_with(of_four, alone, begun, layout):
    assert apart(of_four[f"{begun} to {layout}"], alone["serial"][dist_2proc.SAVED : dist_4proc.UNTIL]) < bound(layout)


@pytest.mark.parametrize(
    ("begun", "design"),
    [*((layout, design) for layout in dist_2proc.LAYOUTS for design in DESIGNS), ("four", "serial")],
)
def test_what_several_processes_began_one_goes_on_with(of_four, alone, folder, begun, design):
    state = load_state(make_task(), ParallelContext(), folder / f"{begun}-{design}", DESIGNS[design])
    assert state.step == dist_2proc.SAVED
    assert apart(train_steps(state, make_task()), alone[design][dist_2proc.SAVED :]) < BOUND


@pytest.mark.parametrize("layout", dist_2proc.LAYOUTS)
def test_what_one_process_began_two_go_on_with(of_two, alone, layout):
    assert apart(of_two[f"{layout} from one"], alone["parallel"][dist_2proc.SAVED :]) < bound(layout)


@pytest.mark.parametrize("layout", dist_2proc.LAYOUTS)
def test_a_loss_that_is_no_number_in_one_process_is_skipped_by_all(of_two, layout):
    losses = [float(loss) for loss in of_two[f"{layout} nan"]]
    assert [step for step, loss in enumerate(losses) if math.isnan(loss)] == [dist_2proc.POISONED]
    assert of_two[f"{layout} skipped"] == 1
    assert of_two[f"{layout} as without"]


def test_a_full_disk_of_one_process_is_told_to_all_and_leaves_the_last_checkpoint(of_two):
    found = of_two["full"]
    assert (
        len(set(found["reported"])) == 1
        and "process 1 could not write its part of a checkpoint" in found["reported"][0]
    )
    assert "The run can be resumed from step 1" in found["reported"][0]
    assert found["there"] == ["step-000000001"]
    assert found["after"] == ["step-000000001", "step-000000002"]
