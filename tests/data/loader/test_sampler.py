"""The stream of batches: every image once an epoch, and any part of it from one integer."""

from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.data.loader.sampler import ResumableBatchSampler, compute_class_balanced_weights

counts = st.integers(1, 40)
batch_sizes = st.integers(1, 60)
seeds = st.integers(0, 2**40)


def stream(count: int, batch_size: int, seed: int, start: int, steps: int, weights: torch.Tensor | None = None):
    return list(ResumableBatchSampler(count, batch_size, seed, start=start, steps=steps, weights=weights))


@given(counts, batch_sizes, seeds)
def test_every_image_comes_once_an_epoch_and_no_batch_is_short(count, batch_size, seed):
    epochs = 3
    steps = -(-epochs * count // batch_size)
    batches = stream(count, batch_size, seed, 0, steps)
    assert [len(batch) for batch in batches] == [batch_size] * steps
    numbers = list(chain.from_iterable(batches))
    for epoch in range(epochs):
        assert sorted(numbers[epoch * count : (epoch + 1) * count]) == list(range(count))


@given(counts, batch_sizes, seeds, st.booleans())
def test_a_stream_from_any_step_is_the_tail_of_the_whole(count, batch_size, seed, weighted):
    weights = torch.arange(1.0, count + 1).double() if weighted else None
    steps = 8
    whole = stream(count, batch_size, seed, 0, steps, weights)
    for start in range(steps + 1):
        order = ResumableBatchSampler(count, batch_size, seed, start=start, steps=steps, weights=weights)
        assert list(order) == whole[start:]
        assert len(order) == steps - start


def test_going_through_it_twice_gives_the_same_batches():
    order = ResumableBatchSampler(10, 4, 0, start=1, steps=9)
    assert list(order) == list(order)


def test_the_order_of_a_seed_is_the_same_on_every_machine():
    assert stream(6, 4, 0, 0, 3) == [[1, 4, 2, 5], [0, 3, 0, 1], [5, 4, 2, 3]]


def test_epochs_and_seeds_differ():
    order = ResumableBatchSampler(50, 1, 7, start=0, steps=1)
    orders = [tuple(order.epoch(number)) for number in range(5)]
    orders += [tuple(ResumableBatchSampler(50, 1, seed, start=0, steps=1).epoch(0)) for seed in (6, 8)]
    assert len(set(orders)) == len(orders)


def test_the_global_random_state_has_no_part_in_it():
    before = torch.random.get_rng_state()
    batches = stream(10, 4, 0, 0, 9)
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(123)
        assert stream(10, 4, 0, 0, 9) == batches


@given(st.lists(st.integers(0, 6), min_size=1))
def test_the_weights_of_every_class_sum_to_the_same(labels):
    weights = compute_class_balanced_weights(labels)
    assert weights.shape == (len(labels),)
    for label in set(labels):
        assert weights[torch.tensor(labels) == label].sum().item() == pytest.approx(1.0)


def test_weights_make_classes_equally_frequent():
    labels = [0] * 900 + [1] * 90 + [2] * 10
    batches = stream(1000, 100, 0, 0, 90, compute_class_balanced_weights(labels))
    drawn = torch.tensor(labels)[torch.tensor(batches).flatten()]
    # 9,000 draws: the standard deviation of each share is 0.005.
    assert (torch.bincount(drawn) / len(drawn)).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)


def test_within_a_class_every_image_is_as_likely():
    labels = [0] * 5 + [1] * 20
    batches = stream(25, 100, 0, 0, 200, compute_class_balanced_weights(labels))
    share = torch.bincount(torch.tensor(batches).flatten(), minlength=25) / 20_000
    assert share[:5].tolist() == pytest.approx([0.1] * 5, abs=0.01)
    assert share[5:].tolist() == pytest.approx([0.025] * 20, abs=0.006)


def test_an_image_without_weight_never_comes():
    weights = torch.tensor([1.0, 0.0, 2.0])
    assert set(chain.from_iterable(stream(3, 8, 0, 0, 20, weights))) == {0, 2}


def test_there_may_be_more_images_than_single_precision_can_count():
    count = 2**24 + 5  # where torch.multinomial ends
    weights = torch.zeros(count, dtype=torch.float64)
    weights[-2:] = 1
    order = ResumableBatchSampler(count, 1, 0, start=0, steps=1, weights=weights)
    drawn = torch.tensor(order.epoch(0)[:1000])
    assert set(drawn.tolist()) == {count - 2, count - 1}


@pytest.mark.parametrize("places", [1, 2, 4])
def test_the_parts_of_a_batch_are_the_batch(places):
    whole = list(ResumableBatchSampler(30, 8, seed=3, start=2, steps=9))
    parts = [
        list(ResumableBatchSampler(30, 8, seed=3, start=2, steps=9, rank=i, world_size=places)) for i in range(places)
    ]
    assert [[place for part in step for place in part] for step in zip(*parts, strict=True)] == whole
