"""A run on Python objects is as others are, and is resumed with the same objects only."""

from pathlib import Path

import numpy as np
import pytest

from megavit.errors import DataError
from megavit.training.progress import NullReporter
from megavit.training.run import resume, train
from megavit.training.run_dir import read_plan

OVERRIDES = {
    "model": {"preset": "pico", "image_size": 8, "patch_size": 4, "channels": 1},
    "run": {"epochs": 1, "device": "cpu", "precision": "float32"},
}


def test_a_run_on_arrays_is_resumed_with_the_same_arrays_only(tmp_path: Path) -> None:
    rows = np.arange(80)[:, None, None]
    pixels = (np.random.default_rng(0).integers(0, 100, (80, 8, 8)) + rows % 2 * 150).astype(np.uint8)
    data = pixels, np.arange(80) % 2
    first = train(data, tmp_path / "run", recipe="small", overrides=OVERRIDES, reporter=NullReporter())
    assert read_plan(tmp_path / "run").source == "images in memory"
    with pytest.raises(DataError, match="were in the memory of a process that has ended: resume it from Python"):
        resume(tmp_path / "run", reporter=NullReporter())
    with pytest.raises(DataError, match="images in memory has changed since the run began"):
        resume(tmp_path / "run", reporter=NullReporter(), source=(255 - pixels, data[1]))
    again = resume(tmp_path / "run", reporter=NullReporter(), source=data)
    assert again.metrics.to_dict() == first.metrics.to_dict()
