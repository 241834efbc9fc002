"""A file that is no longer what it was when the data was scanned is never learned from, nor measured on."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import DataRecipe
from megavit.data import dataset
from megavit.data.dataset import LabeledImages
from megavit.data.decode import image_file
from megavit.data.image_dataset import ImageDataset, load_into_memory
from megavit.data.load import load_data
from megavit.data.loader.loader import iter_batches, sequential_batches
from megavit.errors import DataError
from megavit.training.progress import NullReporter
from megavit.training.run import resume, train

SIZE = Preprocessing(height=8, width=8, channels=3)
CHANGED = r"^'{}' of .* has changed since the run began: its bytes differ"


def write_bitmaps(root: Path, count: int = 20) -> None:
    """Two classes of uncompressed pictures of noise: every file has the same size."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(count):
            noise = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / name / f"{number:02}.bmp")


def exchange(one: Path, other: Path) -> None:
    """Swap two files or folders as `mv` does, which keeps sizes and the times of what was written."""
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def overwrite(one: Path, other: Path) -> None:
    """Copy another file's bytes into this one, and give it back the time it had."""
    times = one.stat()
    one.write_bytes(other.read_bytes())
    os.utime(one, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def images(tmp_path: Path) -> LabeledImages:
    write_bitmaps(tmp_path / "data")
    return load_data(tmp_path / "data", DataRecipe())


@pytest.mark.parametrize("change", [exchange, overwrite])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_with_other_bytes_of_the_same_size_and_time_is_named(images, change, workers):
    assert images.root is not None
    change(images.root / "cat/07.bmp", images.root / "dog/07.bmp")
    pictures = ImageDataset(images, images.samples, SIZE)
    with pytest.raises(DataError, match=CHANGED.format("cat/07.bmp")):
        load_into_memory(pictures, workers)
    with pytest.raises(DataError, match=CHANGED.format("cat/07.bmp")):
        list(iter_batches(pictures, sequential_batches(len(pictures), 4), workers))
    sample = next(sample for sample in images.samples if sample.name == "cat/07.bmp")
    with pytest.raises(DataError, match=CHANGED.format("cat/07.bmp")):
        images.load_pixels(sample)


def test_a_file_that_was_copied_and_put_back_is_the_same(images):
    assert images.root is not None
    shutil.copy(images.root / "cat/07.bmp", images.root / "copy")
    (images.root / "copy").replace(images.root / "cat/07.bmp")
    assert len(load_into_memory(ImageDataset(images, images.samples, SIZE), 0)) == 40


def test_files_that_nobody_has_touched_are_not_hashed_again(tmp_path, monkeypatch):
    write_bitmaps(tmp_path / "data")
    monkeypatch.setattr(image_file, "SETTLED_SECONDS", 0)  # as if they were written long ago
    images = load_data(tmp_path / "data", DataRecipe())
    hashed: list[bytes] = []
    digest = dataset.content_digest
    monkeypatch.setattr(dataset, "content_digest", lambda data: hashed.append(data) or digest(data))
    pictures = ImageDataset(images, images.samples, SIZE)
    load_into_memory(pictures, 0)
    assert len(hashed) == 0
    assert images.root is not None
    os.utime(images.root / "cat/07.bmp")
    load_into_memory(pictures, 0)
    assert len(hashed) == 1


class Meddler(NullReporter):
    """Changes something when the run says a certain word."""

    def __init__(self, word: str, change: Callable[[], None]) -> None:
        self.word, self.change = word, change

    def say(self, text: str) -> None:
        if self.word in text:
            self.change()


def test_a_run_ends_where_its_test_images_were_exchanged_and_goes_on_when_they_are_back(tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    write_bitmaps(data)

    def change() -> None:
        exchange(data / "cat", data / "dog")

    settings = {"run": {"epochs": 1, "precision": "float32", "device": "cpu"}, "model": {"preset": "pico"}}
    with pytest.raises(DataError, match=r"has changed since the run began.*train --resume"):
        train(str(data), out, recipe="small", overrides=settings, reporter=Meddler("test images", change))
    assert not (out / "bundle").exists() and not (out / "report.html").exists()
    change()
    assert resume(out, reporter=NullReporter()).report == out / "report.html" and (out / "report.html").exists()
