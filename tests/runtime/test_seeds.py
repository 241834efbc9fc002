"""Seeds that are the same on every machine, and different for every place in a run."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.runtime.seeds import generator, mix, seed_all

numbers = st.lists(st.integers(-(2**70), 2**70), max_size=4)


def test_mix_is_the_same_on_every_machine_and_version():
    assert mix() == 8238016292129134938
    assert mix(0) == 4761921975702974394
    assert mix(0, 1) == 1506311409109703068
    assert mix(1, 0) == 5474098308975844552
    assert mix(2**64, -1) == 5732358843085997214


@given(numbers, numbers)
def test_mix_tells_apart_numbers_and_their_order(first, second):
    assert (mix(*first) == mix(*second)) == (first == second)


@given(numbers)
def test_mix_is_a_seed_that_torch_takes(chosen):
    assert 0 <= mix(*chosen) < 2**63
    assert generator(*chosen).initial_seed() == mix(*chosen)


def test_seed_all_decides_what_torch_draws_next():
    with torch.random.fork_rng():
        seed_all(3, 4)
        first = torch.rand(5)
        seed_all(3, 5)
        other = torch.rand(5)
        seed_all(3, 4)
        assert torch.equal(torch.rand(5), first)
        assert not torch.equal(other, first)


def test_a_generator_leaves_the_global_state_alone():
    before = torch.random.get_rng_state()
    assert torch.equal(torch.rand(5, generator=generator(1)), torch.rand(5, generator=generator(1)))
    assert torch.equal(torch.random.get_rng_state(), before)
