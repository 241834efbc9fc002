"""The order of images in many shards: every one once an epoch, a few shards at a time."""

from itertools import chain

import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.data.byte_range import ByteRange
from megavit.data.dataset import Sample
from megavit.data.loader.sampler import ResumableBatchSampler
from megavit.data.loader.shard_windows import WINDOW_SHARDS, ShardWindows, make_shard_windows
from megavit.runtime.seeds import generator


@st.composite
def shards(draw: st.DrawFn) -> ShardWindows:
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=9))
    places = torch.tensor([shard for shard, size in enumerate(sizes) for _ in range(size)])
    mixed = places[torch.randperm(len(places), generator=generator(draw(st.integers(0, 99))))]
    return ShardWindows(mixed, tuple(map(str, range(len(sizes)))), draw(st.integers(1, 4)))


def order_of(
    windows: ShardWindows, batch_size: int, start: int = 0, steps: int = 12, seed: int = 5
) -> ResumableBatchSampler:
    return ResumableBatchSampler(len(windows.shard), batch_size, seed, start=start, steps=steps, windows=windows)


@given(shards(), st.integers(1, 20))
def test_every_image_comes_once_an_epoch_and_no_batch_is_short(windows, batch_size):
    count = len(windows.shard)
    steps = -(-3 * count // batch_size)
    batches = list(order_of(windows, batch_size, steps=steps))
    assert {len(batch) for batch in batches} == {batch_size}
    stream = list(chain.from_iterable(batches))
    for epoch in range(3):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == list(range(count))


@given(shards(), st.integers(1, 5), st.data())
def test_any_cut_and_any_number_of_processes_give_the_same_stream(windows, parts, data):
    """A run that is stopped anywhere, and goes on with another number of processes, each with its part of a batch."""
    worlds = [world for world in (1, 2, 3, 4, 6) if not 12 % world]
    whole = list(chain.from_iterable(order_of(windows, 12)))
    cuts = sorted(data.draw(st.lists(st.integers(0, 12), min_size=parts, max_size=parts)))
    came: list[int] = []
    for start, end in zip([0, *cuts], [*cuts, 12], strict=True):
        world = data.draw(st.sampled_from(worlds))
        ranks = [list(order_of(windows, 12, start, end)) for _ in range(world)]
        share = 12 // world
        for step in range(end - start):
            came += chain.from_iterable(ranks[rank][step][rank * share : (rank + 1) * share] for rank in range(world))
    assert came == whole


@given(shards())
def test_a_window_keeps_to_its_shards_and_all_windows_have_all_of_them(windows):
    order, parts = windows.epoch(generator(0))
    assert sorted(shard for _, shards in parts for shard in shards) == list(range(len(windows.files)))
    ends = [start for start, _ in parts[1:]] + [len(order)]
    for (start, chosen), end in zip(parts, ends, strict=True):
        assert len(chosen) <= windows.size
        assert set(windows.shard[order[start:end]].tolist()) == set(chosen)


def test_epochs_and_seeds_differ():
    windows = ShardWindows(torch.arange(60) % 6, tuple("abcdef"), 2)
    orders = {tuple(windows.epoch(generator(seed, epoch))[0]) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_order_of_a_seed_is_the_same_on_every_machine():
    windows = ShardWindows(torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), tuple("abcd"), 2)
    assert list(order_of(windows, 8, steps=2)) == [[0, 6, 7, 1, 4, 5, 2, 3], [4, 7, 6, 5, 1, 2, 3, 0]]


@given(shards(), st.integers(1, 7), st.integers(0, 6))
def test_shards_are_read_ahead_of_their_window_from_any_step(windows, batch_size, start):
    read: list[int] = []

    class Told(ShardWindows):
        def read_ahead(self, shards):
            read.extend(shards)

    calls = Told(windows.shard, windows.files, windows.size)
    order = ResumableBatchSampler(
        len(calls.shard), batch_size, 5, start=start, steps=start + 6, windows=calls, read_ahead=True
    )
    for batch, expected in zip(order, order_of(windows, batch_size, start, start + 6), strict=True):
        assert batch == expected
        assert {int(windows.shard[place]) for place in batch} <= set(read)


def sample(number: int, shard: int | None) -> Sample:
    at = None if shard is None else ByteRange(f"s/{shard:03}.tar", 512, 10, "0" * 16)
    return Sample(str(number), 0, "train", 2, 2, 1, f"{number:016x}", at)


def test_few_shards_and_files_of_their_own_are_shuffled_as_a_whole():
    assert make_shard_windows([sample(number, number % WINDOW_SHARDS) for number in range(40)]) is None
    assert make_shard_windows([sample(number, None) for number in range(40)]) is None
    windows = make_shard_windows([sample(number, number % (WINDOW_SHARDS + 1)) for number in range(40)])
    assert windows is not None
    assert windows.shard.tolist() == [number % (WINDOW_SHARDS + 1) for number in range(40)]
    assert windows.files[16] == "s/016.tar"


def test_reading_ahead_of_what_is_not_there_says_nothing(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"a" * 5000)
    ShardWindows(
        torch.tensor([0, 1, 2]), (str(tmp_path / "a.tar"), str(tmp_path / "b.tar"), "s3://b/c.tar")
    ).read_ahead([0, 1, 2])
