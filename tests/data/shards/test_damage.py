"""Damage to shards: always noticed, told with its reason, and skipped or fatal as chosen."""

import random
from collections import Counter

import pytest
import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages
from megavit.data.image_dataset import ImageDataset, load_into_memory
from megavit.data.load import load_data
from megavit.data.loader.loader import iter_batches, sequential_batches
from megavit.data.shards.index import INDEX, ShardIndex
from megavit.data.shards.verify import verify
from megavit.errors import DataError
from tests.helpers.shards import flip_bit, make_class_folders, make_shards

ALL = DataRecipe(val=0, test=0)
SIZE = Preprocessing(height=2, width=2, channels=1)


@pytest.fixture
def index(tmp_path) -> ShardIndex:
    make_class_folders(tmp_path / "in", 90)
    return make_shards(tmp_path / "in", tmp_path / "out")


def damage(folder, index: ShardIndex, shard: int, place: int) -> str:
    """Flip a bit of a picture; its name."""
    member = index.shards[shard].members[place]
    flip_bit(folder / index.shards[shard].name, member.offset + member.size - 20)
    return member.name


def by_name(images: LabeledImages, **options) -> dict[str, torch.Tensor]:
    pictures = ImageDataset(images, images.samples, SIZE)
    return {sample.name: pictures[place] for place, sample in enumerate(images.samples)}


def test_a_damaged_image_is_left_out_where_all_are_verified(index, tmp_path):
    name = damage(tmp_path / "out", index, 1, 3)
    images = load_data(tmp_path / "out", ALL, verify="all")
    assert {skipped.name: skipped.reason for skipped in images.skipped} == {name: "its bytes do not match their digest"}
    assert name not in {sample.name for sample in images.samples}
    assert len(images.samples) == 89


def test_damage_is_fatal_where_it_is_so_chosen(index, tmp_path):
    damage(tmp_path / "out", index, 1, 3)
    fatal = DataRecipe(val=0, test=0, on_corrupt="fail")
    with pytest.raises(DataError, match=r"1 of the 3 shards .* data-000001.tar is damaged.* restore them"):
        load_data(tmp_path / "out", fatal, verify="all")
    images = load_data(tmp_path / "out", fatal, verify="none")
    with pytest.raises(DataError, match="can no longer be read: its bytes do not match their digest"):
        by_name(images)


def test_another_of_its_class_takes_its_place_and_all_others_stay(index, tmp_path):
    whole = by_name(load_data(tmp_path / "out", ALL, verify="none"))
    names = [damage(tmp_path / "out", index, shard, place) for shard, place in ((0, 2), (1, 3), (1, 4))]
    images = load_data(tmp_path / "out", ALL, verify="none")
    assert len(images.samples) == 90  # so that a run that goes on finds the order it began with
    found = by_name(images)
    assert {name for name in whole if not torch.equal(whole[name], found[name])} == set(names)
    shard_of = {member.name: shard.name for shard in index.shards for member in shard.members}
    for name in names:
        (other,) = (other for other in whole if other not in names and torch.equal(found[name], whole[other]))
        assert other.split("/")[0] == name.split("/")[0]
        assert shard_of[other] != shard_of[name]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_way_of_reading_finds_the_same_in_its_place_and_says_so(index, tmp_path, workers):
    names = [damage(tmp_path / "out", index, shard, place) for shard, place in ((0, 2), (2, 5))]
    images = load_data(tmp_path / "out", ALL, verify="none")
    expected = torch.stack(list(by_name(images).values()))
    damaged = dict.fromkeys(names, "its bytes do not match their digest")

    in_memory = ImageDataset(images, images.samples, SIZE)
    whole = load_into_memory(in_memory, workers)
    assert isinstance(whole, torch.Tensor) and torch.equal(whole, expected)
    assert in_memory.damaged == damaged

    streamed = ImageDataset(images, images.samples, SIZE)
    batches = list(iter_batches(streamed, sequential_batches(len(streamed), 16), workers))
    assert torch.equal(torch.cat([torch.as_tensor(batch) for batch in batches]), expected)
    assert streamed.damaged == damaged


def test_a_shard_that_is_cut_short_or_gone_is_told_and_its_images_stood_for(index, tmp_path):
    first, second = (tmp_path / "out" / index.shards[shard].name for shard in (0, 1))
    first.write_bytes(first.read_bytes()[:30_000])
    second.unlink()
    images = load_data(tmp_path / "out", ALL, verify="none")
    assert [skipped.name for skipped in images.skipped] == [first.name, second.name]
    assert images.skipped[0].reason.startswith("truncated: 30,000 bytes instead of")
    assert images.skipped[1].reason.startswith("missing")
    pictures = ImageDataset(images, images.samples, SIZE)
    load_into_memory(pictures, 0)
    reasons = Counter(pictures.damaged.values())
    assert set(reasons) == {"its shard is truncated", "its shard is missing"}
    assert reasons["its shard is missing"] == len(index.shards[1].members)
    verified = load_data(tmp_path / "out", ALL, verify="all")
    assert len(verified.samples) == 90 - len(pictures.damaged)


def test_where_nearly_all_is_gone_no_image_stands_for_it(index, tmp_path):
    for shard in index.shards[1:]:
        (tmp_path / "out" / shard.name).unlink()
    images = load_data(tmp_path / "out", ALL, verify="none")
    pictures = ImageDataset(images, images.samples, SIZE)
    for shard in index.shards[:1]:
        (tmp_path / "out" / shard.name).unlink()
    with pytest.raises(DataError, match="its shard is missing"):
        load_into_memory(pictures, 0)


def test_held_out_shards_are_verified_and_those_of_training_left(tmp_path):
    make_class_folders(tmp_path / "in", 60, ("train", "test"))
    index = make_shards(tmp_path / "in", tmp_path / "out")
    assert index.shards[0].split == "test" and index.shards[-1].split == "train"
    names = [damage(tmp_path / "out", index, shard, 1) for shard in (0, -1)]
    assert [skipped.name for skipped in load_data(tmp_path / "out", ALL).skipped] == names[:1]
    every = load_data(tmp_path / "out", ALL, verify="all")
    assert sorted(skipped.name for skipped in every.skipped) == sorted(names)


def test_damage_between_the_images_costs_none_of_them(index, tmp_path):
    flip_bit(tmp_path / "out" / index.shards[0].name, 300)
    images = load_data(tmp_path / "out", ALL, verify="all")
    assert len(images.samples) == 90
    assert [(skipped.name, skipped.reason) for skipped in images.skipped] == [
        (index.shards[0].name, "damaged: its SHA-256 differs from that in the index; all of its images are intact")
    ]


def test_a_shard_that_the_index_does_not_know_is_told(index, tmp_path):
    (tmp_path / "out" / "more.tar").touch()
    images = load_data(tmp_path / "out", ALL)
    assert [(skipped.name, skipped.reason) for skipped in images.skipped] == [
        ("more.tar", "a shard that is not in the index")
    ]


def test_no_flipped_bit_and_no_cut_is_silent(tmp_path):
    """1,000 of them; those of the index are in test_index.py."""
    make_class_folders(tmp_path / "in", 30)
    index = make_shards(tmp_path / "in", tmp_path / "out", size=2**20)
    (shard,) = index.shards
    path = tmp_path / "out" / shard.name
    whole = path.read_bytes()
    draw = random.Random(0)
    for turn in range(1000):
        if turn % 4:
            data = bytearray(whole)
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        else:
            data = whole[: draw.randrange(len(whole))]
        path.write_bytes(data)
        (faults,) = verify(str(tmp_path / "out"), [shard])
        for place, member in enumerate(shard.members):
            part = slice(member.offset, member.offset + member.size)
            assert (place in (faults.images or {})) == (data[part] != whole[part])
    path.write_bytes(whole)
    assert list(verify(str(tmp_path / "out"), [shard])) == []


def test_an_index_that_is_damaged_is_named(index, tmp_path):
    flip_bit(tmp_path / "out" / INDEX, 700)
    with pytest.raises(DataError, match=f"{INDEX} is (damaged|not valid JSON)"):
        load_data(tmp_path / "out", ALL)
