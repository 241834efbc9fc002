from pathlib import Path

import numpy as np
import pandas
import pytest

from megavit.sklearn import MegaVitClassifier
from megavit.sklearn.images import find_pixel_range, is_paths, read_images, scale_pixels

ESTIMATOR = MegaVitClassifier()


def test_paths_are_told_from_pixels() -> None:
    assert is_paths(["a.png"]) and is_paths([Path("a.png")]) and is_paths(np.array(["a.png", "b.png"]))
    assert is_paths(pandas.Series(["a.png"])) and is_paths([np.zeros((2, 3)), np.zeros((4, 5))])
    assert not is_paths(np.zeros((2, 4, 4))) and not is_paths([[1, 2], [3, 4]]) and not is_paths([])
    assert read_images(ESTIMATOR, pandas.Series(["a.png"]), None, reset=True) == ["a.png"]


def test_rows_of_numbers_are_images_only_where_their_shape_is_given() -> None:
    rows = np.arange(24.0).reshape(2, 12)
    assert read_images(MegaVitClassifier(), rows, (2, 2, 3), reset=True).shape == (2, 2, 2, 3)
    assert read_images(MegaVitClassifier(), rows, (3, -1), reset=True).shape == (2, 3, 4)
    with pytest.raises(ValueError, match=r"shape \(2, 12\).*need image_shape"):
        read_images(ESTIMATOR, rows, None, reset=True)


def test_other_values_than_pixels_need_a_range() -> None:
    pixels = np.array([[[0.0, 16.0]]])
    with pytest.raises(ValueError, match="got float64 from 0 to 16: set pixel_range"):
        find_pixel_range(pixels, None)
    assert find_pixel_range(pixels.astype(np.uint8), None) is None and find_pixel_range(pixels / 16, None) is None
    assert find_pixel_range(pixels, (0, 16)) == find_pixel_range(pixels, "fit") == (0.0, 16.0)
    assert find_pixel_range(np.zeros((1, 2, 2)), "fit") == (0.0, 1.0)
    for wrong in ((1, 1), "auto"):
        with pytest.raises(ValueError, match="pixel_range must be"):
            find_pixel_range(pixels, wrong)


def test_values_beyond_the_range_are_cut_off() -> None:
    assert scale_pixels(np.array([-8.0, 0.0, 8.0, 20.0]), (0.0, 16.0)).tolist() == [0, 0, 0.5, 1]
    assert scale_pixels(["a.png"], (0.0, 16.0)) == ["a.png"]
