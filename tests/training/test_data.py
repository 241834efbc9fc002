import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import preset
from megavit.data.byte_range import content_digest
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.loader.loader import pack, stack, unpack
from megavit.data.loader.sampler import ResumableBatchSampler
from megavit.distributed.context import ParallelContext
from megavit.errors import DataError
from megavit.model.activation_memory import inference_memory
from megavit.training import data as module
from megavit.training.data import TrainLoader, validation_batch_size
from megavit.training.progress import NullReporter

COUNT, SIZE = 6, (1, 4, 4)


def sample(root: Path, i: int, height: int, width: int) -> Sample:
    return Sample(f"{i}.png", i % 2, "train", height, width, 1, content_digest((root / f"{i}.png").read_bytes()))


def images(root: Path) -> LabeledImages:
    """Picture i is all of gray 10 i, so that a mix-up shows."""
    for i in range(COUNT):
        Image.new("L", (4, 4), 10 * i).save(root / f"{i}.png")
    samples = tuple(sample(root, i, 4, 4) for i in range(COUNT))
    return LabeledImages("data", root, ("a", "b"), samples, (), "all of it")


def make_feed(root: Path, monkeypatch: pytest.MonkeyPatch, *, memory: bool, workers: int = 0) -> TrainLoader:
    monkeypatch.setattr(module, "free_memory", lambda: 2**30 if memory else 0)
    labeled = images(root)
    size = Preprocessing(height=4, width=4, channels=1)
    return TrainLoader(labeled, labeled.samples, size, workers=workers, reporter=NullReporter())


@pytest.mark.parametrize(("memory", "workers"), [(True, 0), (False, 0), (False, 1)])
def test_images_keep_their_labels_wherever_they_come_from(tmp_path, monkeypatch, memory, workers):
    feed = make_feed(tmp_path, monkeypatch, memory=memory, workers=workers)
    assert (feed.memory is not None) == memory
    order = ResumableBatchSampler(COUNT, 4, 0, start=1, steps=4)
    found = list(feed.batches(order))
    for (pictures, labels), chosen in zip(found, order, strict=True):
        assert isinstance(pictures, torch.Tensor)
        assert pictures.shape == (4, *SIZE) and pictures.dtype == torch.uint8
        assert (pictures[:, 0, 0, 0] // 10).tolist() == chosen
        assert labels.tolist() == [place % 2 for place in chosen]


@pytest.mark.parametrize(("memory", "workers"), [(True, 0), (False, 0), (False, 2)])
def test_the_order_is_gone_through_once(tmp_path, monkeypatch, memory, workers):
    feed = make_feed(tmp_path, monkeypatch, memory=memory, workers=workers)
    order = ResumableBatchSampler(COUNT, 4, 0, start=0, steps=6)
    expected, epochs = list(order), []
    drawn = ResumableBatchSampler.epoch
    monkeypatch.setattr(
        ResumableBatchSampler, "epoch", lambda self, number: epochs.append(number) or drawn(self, number)
    )
    assert [labels.tolist() for _, labels in feed.batches(order)] == [[i % 2 for i in one] for one in expected]
    assert epochs == [0, 1, 2, 3]


@pytest.mark.parametrize("memory", [True, False])
def test_in_turn_gives_every_image_once_in_order_with_a_short_last_batch(tmp_path, monkeypatch, memory):
    batches = list(make_feed(tmp_path, monkeypatch, memory=memory).sequential_batches(4))
    assert [len(batch) for batch in batches] == [4, 2]
    assert (torch.cat([torch.as_tensor(batch) for batch in batches])[:, 0, 0, 0] // 10).tolist() == list(range(COUNT))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_vanishes_is_named(tmp_path, monkeypatch, workers):
    feed = make_feed(tmp_path, monkeypatch, memory=False, workers=workers)
    (tmp_path / "3.png").unlink()
    with pytest.raises(DataError, match=r"3\.png.*can no longer be read"):
        list(feed.sequential_batches(2))


def test_what_is_in_memory_does_not_need_its_files_any_more(tmp_path, monkeypatch):
    feed = make_feed(tmp_path, monkeypatch, memory=True)
    (tmp_path / "3.png").unlink()
    assert sum(map(len, feed.sequential_batches(2))) == COUNT


def test_a_process_that_dies_is_told_of(tmp_path, monkeypatch):
    feed = make_feed(tmp_path, monkeypatch, memory=False, workers=1)
    parent = os.getpid()

    def die(_index: int) -> torch.Tensor:
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)
        return torch.empty(0)

    monkeypatch.setattr(type(feed.images), "read", lambda self, index: die(index))
    with pytest.raises(DataError, match="process that reads images has died"):
        list(feed.sequential_batches(2))


def test_one_message_stands_for_a_batch_with_an_unreadable_image():
    assert stack([torch.zeros(1), "first", "second"]) == "first"
    whole = stack([torch.zeros(1), torch.ones(1)])
    assert isinstance(whole, torch.Tensor) and whole.tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize(("memory", "workers"), [(True, 0), (False, 0), (False, 1)])
def test_images_that_keep_their_shape_come_as_a_list(tmp_path, monkeypatch, memory, workers):
    monkeypatch.setattr(module, "free_memory", lambda: 2**30 if memory else 0)
    shapes = [(4, 8), (8, 4), (4, 4), (4, 16), (16, 4), (8, 8)]
    for i, (height, width) in enumerate(shapes):
        Image.new("L", (width, height), 10 * i).save(tmp_path / f"{i}.png")
    samples = tuple(sample(tmp_path, i, *sides) for i, sides in enumerate(shapes))
    labeled = LabeledImages("data", tmp_path, ("a", "b"), samples, (), "all of it")
    size = Preprocessing(height=8, width=8, channels=1, keep_aspect=True, patch_size=2)
    feed = TrainLoader(labeled, samples, size, workers=workers, reporter=NullReporter())
    order = ResumableBatchSampler(len(shapes), 4, 0, start=0, steps=3)
    for (pictures, labels), chosen in zip(feed.batches(order), order, strict=True):
        assert isinstance(pictures, list)
        assert [int(picture[0, 0, 0]) // 10 for picture in pictures] == chosen
        assert [picture.shape for picture in pictures] == [(1, *size.size_for(*shapes[place])) for place in chosen]
        assert labels.tolist() == [place % 2 for place in chosen]
    if not memory:
        (tmp_path / "3.png").unlink()
        with pytest.raises(DataError, match=r"3\.png.*can no longer be read"):
            list(feed.sequential_batches(2))


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=5))
def test_what_is_strung_together_is_cut_apart_again(shapes):
    pictures = [torch.full(shape, i, dtype=torch.uint8) for i, shape in enumerate(shapes)]
    strung = pack([*pictures])
    assert isinstance(strung, tuple)
    again = unpack(*strung)
    assert all(torch.equal(a, b) for a, b in zip(again, pictures, strict=True))
    assert pack([*pictures, "first", "second"]) == "first"


@pytest.mark.parametrize("memory", [True, False])
def test_a_part_has_its_own_images_with_their_labels(tmp_path, monkeypatch, memory):
    feed = make_feed(tmp_path, monkeypatch, memory=memory)
    part = feed.subset(torch.tensor([1, 4, 5]))
    ((pictures, labels),) = part.batches([[0, 1, 2]])
    assert (torch.as_tensor(pictures)[:, 0, 0, 0] // 10).tolist() == [1, 4, 5] and labels.tolist() == [1, 0, 1]
    assert len(part) == 3 and len(feed) == COUNT and sum(map(len, feed.sequential_batches(2))) == COUNT


@pytest.mark.parametrize(("side", "expected"), [(32, 256), (256, 256), (512, 64), (8192, 1)])
def test_batches_of_inference_hold_fewer_large_images(tmp_path, monkeypatch, side, expected):
    labeled = images(tmp_path)
    monkeypatch.setattr(module, "free_memory", lambda: 0)
    size = Preprocessing(height=side, width=side, channels=3)
    loader = TrainLoader(labeled, labeled.samples, size, workers=0, reporter=NullReporter())
    assert loader.inference_batch_size == expected


@pytest.mark.parametrize(("reserved", "in_memory"), [(0, True), (2**30, False)])
def test_images_leave_the_memory_that_steps_need(tmp_path, monkeypatch, reserved, in_memory):
    labeled = images(tmp_path)
    monkeypatch.setattr(module, "free_memory", lambda: 2**30)
    size = Preprocessing(height=4, width=4, channels=1)
    loader = TrainLoader(labeled, labeled.samples, size, workers=0, reporter=NullReporter(), reserved=reserved)
    assert (loader.memory is not None) == in_memory


@pytest.mark.parametrize("config", [preset("hybrid-mini", image_size=384), preset("S"), preset("pico")])
def test_a_batch_of_validation_takes_a_bounded_part_of_the_memory(config):
    count, one = validation_batch_size(config, torch.device("cpu")), inference_memory(config)
    assert count * one <= module.MAX_FORWARD_BYTES
    assert count == 256 or (count + 1) * one > module.MAX_FORWARD_BYTES
    assert validation_batch_size(config, torch.device("cuda")) == 256


def test_batches_of_a_pass_have_at_most_the_images_that_are_asked_for(tmp_path, monkeypatch):
    loader, counts = make_feed(tmp_path, monkeypatch, memory=True), []

    def compute(batches):
        for batch in batches:
            counts.append(len(batch))
            yield batch[:, :, 0, 0].float()

    assert loader.map(compute, ParallelContext(), 4)[:, 0].tolist() == [10 * number for number in range(COUNT)]
    assert counts == [4, 2]
