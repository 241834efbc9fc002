"""Training images that come from shards: in windows, damaged or not, the same however often the run is stopped."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages
from megavit.data.load import load_data
from megavit.data.loader import shard_windows as windows_module
from megavit.training import data as module
from megavit.training.data import MAX_REPORTED, TrainLoader
from megavit.training.progress import NullReporter
from tests.helpers.shards import flip_bit, make_class_folders, make_shards
from tests.helpers.training import make_task

IMAGES, BATCH, STEPS = 90, 12, 20
SIZE = Preprocessing(height=2, width=2, channels=1)


class Told(NullReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_shards(make_class_folders(tmp_path / "in", IMAGES), tmp_path / "out")
    return tmp_path / "out"


def read(folder: Path) -> LabeledImages:
    return load_data(folder, DataRecipe(val=0, test=0), verify="none")


def make_feed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, memory: bool, watch: NullReporter | None = None
) -> TrainLoader:
    monkeypatch.setattr(module, "free_memory", lambda: 2**30 if memory else 0)
    images = read(folder)
    return TrainLoader(images, images.samples, SIZE, workers=0, reporter=watch or NullReporter())


def stream(feed: TrainLoader, start: int, steps: int) -> list[tuple[list[float], list[int]]]:
    """Of each batch the images, each told by its first pixel, and the labels."""
    task = replace(make_task(), batch_size=BATCH, num_images=IMAGES)
    found = feed.train_batches(task, start, steps)
    return [(torch.as_tensor(images)[:, 0, 0, 0].tolist(), labels.tolist()) for images, labels in found]


@pytest.mark.parametrize("window", [1, 2, 16])
def test_every_cut_gives_the_same_stream_from_memory_or_not(window, folder, monkeypatch):
    monkeypatch.setattr(windows_module, "WINDOW_SHARDS", window)
    whole = stream(make_feed(folder, monkeypatch, memory=True), 0, STEPS)
    came = [image for images, _ in whole for image in images]
    for epoch in range(2):
        assert sorted(came[epoch * IMAGES : (epoch + 1) * IMAGES]) == list(range(IMAGES))
    # Picture n is of class n modulo 3: cat, dog and newt, which are sorted as 0, 1, 2.
    assert all([int(image) % 3 for image in images] == labels for images, labels in whole)
    for start in (0, 3, 8):
        assert stream(make_feed(folder, monkeypatch, memory=False), start, STEPS) == whole[start:]


@pytest.mark.parametrize("memory", [True, False])
def test_damage_is_told_once_and_changes_nothing_else(memory, folder, monkeypatch):
    whole = stream(make_feed(folder, monkeypatch, memory=memory), 0, STEPS)
    at = read(folder).samples[7].location
    assert at is not None
    flip_bit(Path(at.file), at.offset + at.size - 20)
    reported = Told()
    found = stream(make_feed(folder, monkeypatch, memory, reported), 0, STEPS)
    number = int(read(folder).samples[7].name[-8:-4])
    differ = [
        (before, after)
        for (was, labels), (now, same) in zip(whole, found, strict=True)
        for before, after in zip(was, now, strict=True)
        if before != after or labels != same
    ]
    assert {before for before, _ in differ} == {number} and len(differ) >= STEPS * BATCH // IMAGES
    assert {after % 3 for _, after in differ} == {number % 3} and len({after for _, after in differ}) == 1
    (line,) = reported.lines
    assert line.endswith(
        "is damaged (its bytes do not match their digest): another image with the same or a similar target replaces it"
    )


def test_of_much_damage_a_few_lines_are_told(folder, monkeypatch):
    for sample in read(folder).samples[:15]:
        assert sample.location is not None
        flip_bit(Path(sample.location.file), sample.location.offset + sample.location.size - 20)
    for memory in (True, False):
        reported = Told()
        feed = make_feed(folder, monkeypatch, memory, reported)
        stream(feed, 0, STEPS)
        assert len(feed.images.damaged) == 15
        assert len(reported.lines) == MAX_REPORTED + 1
        assert reported.lines[-1] == "more images are damaged: run megavit check to list them all"
