"""The demo set."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from megavit.config.recipe import DataRecipe
from megavit.data.sources.demo import read_demo
from megavit.errors import DataError


def test_the_digits_are_all_there_and_span_8_bits():
    images = read_demo("demo:digits", DataRecipe())
    pixels, target = map(np.asarray, load_digits(return_X_y=True))
    assert images.classes == tuple("0123456789")
    assert [sample.label for sample in images.samples] == target.tolist()
    assert {(sample.height, sample.width, sample.channels) for sample in images.samples} == {(8, 8, 1)}
    mine = np.stack([images.load_pixels(sample).numpy().ravel() for sample in images.samples])
    assert mine.dtype == np.uint8
    assert np.array_equal(mine, np.floor(pixels / 16 * 255 + 0.5))


def test_the_digits_are_divided_by_class_and_alike_each_time():
    images = read_demo("demo:digits", DataRecipe(val=0.1, test=0.2))
    counts = images.class_counts()
    for name in images.classes:
        total = sum(counts[split][name] for split in counts)
        assert abs(counts["val"][name] - 0.1 * total) <= 1
        assert abs(counts["test"][name] - 0.2 * total) <= 1
    assert images.fingerprint() == read_demo("demo:digits", DataRecipe(val=0.1, test=0.2)).fingerprint()
    assert images.fingerprint() != read_demo("demo:digits", DataRecipe(val=0.1, test=0.2, seed=1)).fingerprint()


def test_another_name_is_refused_naming_those_there_are():
    with pytest.raises(DataError, match="'demo:cats'; the demo sets are demo:digits"):
        read_demo("demo:cats", DataRecipe())
