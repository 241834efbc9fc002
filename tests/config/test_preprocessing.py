"""What becomes of pixels is checked where it is written down."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from megavit.config.preprocessing import Preprocessing, crop_start
from megavit.errors import ConfigError


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_and_rgb_are_taken(channels: int) -> None:
    preprocessing = Preprocessing(height=32, width=48, channels=channels)
    assert (preprocessing.mean, preprocessing.std) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height": 0}, ["height", "at least 2", "got 0"]),
        ({"width": 32.0}, ["width", "got 32.0"]),
        ({"width": True}, ["width", "got True"]),
        ({"channels": 65}, ["channels", "1 to 64", "got 65"]),
        ({"channels": "3"}, ["channels", "1 to 64", "got '3'"]),
        ({"mean": "0.5"}, ["mean", "got '0.5'"]),
        ({"mean": True}, ["mean", "got True"]),
        ({"channels": 5, "mean": (0.5, 0.5)}, ["mean", "one for each of 5", "(0.5, 0.5)"]),
        ({"channels": 2, "mean": (0.5, "0.5")}, ["mean", "got '0.5'"]),
        ({"channels": 2, "std": (0.5, 0.0)}, ["std", "from 1e-06", "got 0.0"]),
        ({"std": 0}, ["std", "from 1e-06", "got 0"]),
        ({"std": -0.5}, ["std", "from 1e-06", "got -0.5"]),
        ({"std": float("nan")}, ["std", "got nan"]),
        ({"crop_size": 40}, ["crop_size", "set resize as well"]),
        ({"resize": 64, "crop_size": 30}, ["crop_size must be at least the model's input size, 32 × 32", "got 30"]),
        ({"resize": 40, "crop_size": (32, 48)}, ["resize must be at least the crop size, 32 × 48", "got 40"]),
        ({"crop_rounding": "up"}, ["crop_rounding", "half_even, floor", "got 'up'"]),
        ({"resize_dtype": "float16"}, ["resize_dtype", "uint8, float32", "got 'float16'"]),
        ({"channels": 1, "resize_dtype": "float32"}, ["resize_dtype", "several channels"]),
        ({"reduced_decoding": 0}, ["reduced_decoding", "got 0"]),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(changes: dict[str, Any], words: list[str]) -> None:
    settings: dict[str, Any] = {"height": 32, "width": 32, "channels": 3} | changes
    with pytest.raises(ConfigError) as caught:
        Preprocessing(**settings)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("channels", True), ("channels", 3.0), ("mean", float("nan")), ("mean", float("inf"))],
)
def test_values_that_only_look_right_are_refused(setting: str, value: Any) -> None:
    settings: dict[str, Any] = {"height": 32, "width": 32, "channels": 3, setting: value}
    with pytest.raises(ConfigError, match=setting):
        Preprocessing(**settings)


@given(margin=st.integers(0, 10_000))
def test_a_crop_begins_where_torchvision_and_hugging_face_begin_it(margin: int) -> None:
    assert crop_start(margin, "half_even") == round(margin / 2)
    assert crop_start(margin, "floor") == int(margin / 2)


def test_the_model_sees_the_top_left_of_a_crop_that_is_no_whole_number_of_patches() -> None:
    preprocessing = Preprocessing(
        height=378, width=378, channels=3, resize=400, crop_size=384, crop_rounding="floor", patch_size=14
    )
    assert preprocessing.size_for(640, 427) == (599, 400)
    assert preprocessing.crop_offset(599, 400) == ((599 - 384) // 2, 8)


def test_it_is_frozen_and_compares_by_value() -> None:
    preprocessing = Preprocessing(height=32, width=32, channels=3)
    assert preprocessing == Preprocessing(height=32, width=32, channels=3)
    assert hash(preprocessing) == hash(Preprocessing(height=32, width=32, channels=3))
    with pytest.raises(FrozenInstanceError):
        preprocessing.height = 64  # pyrefly: ignore[read-only]


def kept(rows: int, columns: int, patch: tuple[int, int]) -> Preprocessing:
    height, width = rows * patch[0], columns * patch[1]
    return Preprocessing(height=height, width=width, channels=3, keep_aspect=True, patch_size=patch)


patches = st.tuples(st.integers(1, 20), st.integers(1, 20))
sides = st.integers(1, 2**15)


@given(st.integers(2, 40), st.integers(2, 40), patches, sides, sides)
def test_every_image_gets_whole_patches_and_not_too_many(
    rows: int, columns: int, patch: tuple[int, int], height: int, width: int
) -> None:
    preprocessing = kept(rows, columns, patch)
    new_height, new_width = preprocessing.size_for(height, width)
    assert new_height % patch[0] == 0 and new_width % patch[1] == 0
    assert min(new_height, new_width) >= 2
    assert new_height * new_width <= preprocessing.height * preprocessing.width


@given(st.integers(8, 40), st.integers(1, 20), sides, st.floats(0.25, 4))
def test_of_usual_shapes_hardly_any_patch_is_left_and_the_shape_is_kept(
    side: int, patch: int, height: int, aspect: float
) -> None:
    width = max(1, round(height * aspect))
    aspect = width / height
    assume(0.25 <= aspect <= 4)
    new_height, new_width = kept(side, side, (patch, patch)).size_for(height, width)
    # The shorter side of the ideal grid has side / 2 patches or more, and half a patch is as near as one can be.
    assert new_width / new_height == pytest.approx(aspect, rel=1.6 / (side / 2))
    assert new_height * new_width >= (1 - 1.6 / (side / 2)) * (side * patch) ** 2


@pytest.mark.parametrize(
    ("image", "grid"),
    [
        ((224, 224), (14, 14)),
        ((50, 50), (14, 14)),
        ((480, 640), (12, 16)),
        ((1600, 900), (19, 10)),
        ((2, 200), (1, 140)),
        ((30_000, 300), (140, 1)),
    ],
)
def test_sizes_of_a_vit_of_14_by_14_patches(image: tuple[int, int], grid: tuple[int, int]) -> None:
    assert kept(14, 14, (16, 16)).size_for(*image) == (16 * grid[0], 16 * grid[1])


@given(st.integers(2, 30), patches, st.integers(1, 200))
def test_an_image_of_the_models_own_shape_gets_the_models_own_size(
    side: int, patch: tuple[int, int], times: int
) -> None:
    preprocessing = kept(side, side + 1, patch)
    size = (preprocessing.height, preprocessing.width)
    assert preprocessing.size_for(size[0] * times, size[1] * times) == size


@given(sides, sides)
def test_without_it_every_image_gets_the_same_size(height: int, width: int) -> None:
    assert Preprocessing(height=20, width=30, channels=3, patch_size=7).size_for(height, width) == (20, 30)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keep_aspect": 1}, "keep_aspect must be true or false, got 1"),
        ({"patch_size": 0}, "patch_size must be an integer of at least 1"),
        ({"patch_size": (4, 5, 6)}, "patch_size must be an integer or"),
        ({"patch_size": 5, "keep_aspect": True}, "32, must be divisible by the patch's height, 5"),
    ],
)
def test_patches_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    settings: dict[str, Any] = {"height": 32, "width": 32, "channels": 3} | changes
    with pytest.raises(ConfigError, match=words):
        Preprocessing(**settings)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0)])
def test_an_image_without_pixels_has_no_size(height: int, width: int) -> None:
    with pytest.raises(ConfigError, match=r"an image's (height|width) must be .* at least 1, got 0"):
        kept(4, 4, (4, 4)).size_for(height, width)
