"""Variation of training images: what may change, what must not, and where every pixel comes from.

Most tests read the geometry off a ramp: an image whose first two channels say where each pixel is. Resampled
linearly, every pixel of the result then says which place of the picture it was taken from.
"""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import AugmentRecipe
from megavit.data.augment import augment, canvas_size, normalize

EVERYTHING = AugmentRecipe(crop=0.4, flip=True, rotate=30, shift=0.1, color=0.5)


def shape(height: int, width: int, channels: int = 3) -> Preprocessing:
    return Preprocessing(height=height, width=width, channels=channels)


def noise(batch: int, channels: int, height: int, width: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8, generator=random)


def varied(images: Tensor, recipe: AugmentRecipe, seed: int = 0) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return augment(images, shape(images.shape[2], images.shape[3], images.shape[1]), recipe)


def ramp(batch: int, height: int, width: int) -> Tensor:
    """Channel 0 is twice the column, channel 1 twice the row."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    picture = torch.stack([2 * columns, 2 * rows, torch.zeros_like(rows)])
    return picture.to(torch.uint8).expand(batch, -1, -1, -1)


def places(result: Tensor) -> tuple[Tensor, Tensor]:
    """(column, row) in the ramp that each pixel of (B, 3, H, W) comes from."""
    found = result * 255 / 2
    return found[:, 0], found[:, 1]


def steps(result: Tensor, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each image, how far (column, row) in the picture one goes by a step right, and by a step down.

    Each is the median over pixels that are well inside the picture.
    """
    columns, rows = places(result)
    height, width = images.shape[2:]
    found = []
    for x, y in zip(columns, rows, strict=True):
        inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
        pairs_right = inside[:, 1:] & inside[:, :-1]
        pairs_down = inside[1:] & inside[:-1]
        right = torch.stack([x.diff(dim=1)[pairs_right].median(), y.diff(dim=1)[pairs_right].median()])
        down = torch.stack([x.diff(dim=0)[pairs_down].median(), y.diff(dim=0)[pairs_down].median()])
        found.append((right, down))
    return found


def largest_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, low, high: self.fill_(high))


# any of it


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_asked_gives_exactly_the_pixels(channels):
    images = noise(3, channels, 5, 7)
    assert torch.equal(varied(images, AugmentRecipe()), images.float() / 255)


@given(
    st.builds(
        AugmentRecipe,
        crop=st.floats(0.05, 1),
        flip=st.booleans(),
        rotate=st.floats(0, 180),
        shift=st.floats(0, 0.9),
        color=st.floats(0, 0.9),
    ),
    st.integers(1, 3),
    st.sampled_from([1, 3]),
    st.integers(2, 9),
    st.integers(2, 9),
    st.integers(0, 99),
)
def test_the_result_has_the_models_size_and_stays_in_range(recipe, batch, channels, height, width, seed):
    result = varied(noise(batch, channels, height, width), recipe, seed)
    assert result.shape == (batch, channels, height, width)
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 1


def test_the_same_seed_gives_the_same_result_and_another_another():
    images = noise(4, 3, 8, 8)
    assert torch.equal(varied(images, EVERYTHING, 1), varied(images, EVERYTHING, 1))
    assert not torch.equal(varied(images, EVERYTHING, 1), varied(images, EVERYTHING, 2))


def test_each_image_of_a_batch_is_varied_by_itself():
    images = noise(1, 3, 8, 8).expand(6, -1, -1, -1)
    results = varied(images, EVERYTHING)
    assert len({tuple(result.flatten().tolist()) for result in results}) == 6


def test_the_pictures_given_are_not_changed():
    images = noise(4, 3, 8, 8)
    before = images.clone()
    varied(images, EVERYTHING)
    assert torch.equal(images, before)


@pytest.mark.parametrize("recipe", [EVERYTHING, AugmentRecipe(crop=0.3), AugmentRecipe(rotate=180, shift=0.5)])
def test_a_picture_of_one_color_has_no_border(recipe):
    geometry = AugmentRecipe(crop=recipe.crop, flip=recipe.flip, rotate=recipe.rotate, shift=recipe.shift)
    images = torch.full((4, 3, 6, 10), 200, dtype=torch.uint8)
    torch.testing.assert_close(varied(images, geometry), torch.full((4, 3, 6, 10), 200 / 255))


# shift


def test_a_shift_is_by_whole_pixels_and_keeps_their_values():
    height, width, share = 20, 30, 0.2
    images = noise(40, 3, height, width)
    results = varied(images, AugmentRecipe(shift=share))
    shifts = set()
    for image, result in zip(images.float() / 255, results, strict=True):
        found = [
            (down, right)
            for down in range(-4, 5)
            for right in range(-6, 7)
            # The part of the result that is 4 and 6 pixels from its edges shows picture all over.
            if torch.allclose(
                result[:, 4:-4, 6:-6], image[:, 4 + down : height - 4 + down, 6 + right : width - 6 + right], atol=1e-4
            )
        ]
        assert len(found) == 1
        shifts.add(found[0])
    down, right = zip(*shifts, strict=True)
    assert min(down) < -1 < 1 < max(down)
    assert min(right) < -2 < 2 < max(right)


def test_a_shift_of_less_than_half_a_pixel_is_none():
    images = noise(4, 1, 8, 8)
    torch.testing.assert_close(varied(images, AugmentRecipe(shift=0.06)), images.float() / 255, atol=1e-5, rtol=0)


def test_what_a_shift_brings_in_repeats_the_edge(monkeypatch):
    largest_draws(monkeypatch)
    images = noise(1, 1, 4, 4)
    result = augment(images, shape(4, 4, 1), AugmentRecipe(shift=0.5))
    expected = (images.float() / 255)[:, :, [2, 3, 3, 3]][..., [2, 3, 3, 3]]
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


# mirroring


@pytest.mark.parametrize("channels", [1, 3])
def test_half_of_the_images_are_mirrored_and_no_value_changes(channels):
    images = noise(400, channels, 5, 9)
    plain = images.float() / 255
    results = varied(images, AugmentRecipe(flip=True))
    as_they_were = (results - plain).abs().amax(dim=(1, 2, 3)) < 1e-4
    mirrored = (results - plain.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert (as_they_were ^ mirrored).all()
    assert 150 < mirrored.sum() < 250  # five standard deviations


# rotation


def test_a_quarter_turn_is_exact(monkeypatch):
    largest_draws(monkeypatch)
    images = noise(2, 3, 8, 8)
    result = augment(images, shape(8, 8), AugmentRecipe(rotate=90))
    torch.testing.assert_close(result, (images.float() / 255).rot90(1, (2, 3)), atol=1e-4, rtol=0)


def test_a_half_turn_of_an_oblong_picture_is_exact(monkeypatch):
    largest_draws(monkeypatch)
    images = noise(2, 3, 6, 10)
    result = augment(images, shape(6, 10), AugmentRecipe(rotate=180))
    torch.testing.assert_close(result, (images.float() / 255).rot90(2, (2, 3)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(6, 12), (12, 6)])
def test_a_quarter_turn_of_an_oblong_picture_turns_its_middle_square(height, width, monkeypatch):
    largest_draws(monkeypatch)
    images = noise(1, 3, height, width)
    result = augment(images, shape(height, width), AugmentRecipe(rotate=90))
    top, left = (height - 6) // 2, (width - 6) // 2
    middle = (slice(None), slice(None), slice(top, top + 6), slice(left, left + 6))
    torch.testing.assert_close(result[middle], (images.float() / 255)[middle].rot90(1, (2, 3)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(60, 60), (40, 90), (90, 40)])
def test_a_rotation_neither_shears_nor_stretches(height, width):
    images = ramp(16, height, width)
    angles = []
    for right, down in steps(varied(images, AugmentRecipe(rotate=40)), images):
        assert right.norm().item() == pytest.approx(1, abs=0.01)
        assert down.norm().item() == pytest.approx(1, abs=0.01)
        assert right.dot(down).item() == pytest.approx(0, abs=0.01)
        angles.append(math.degrees(math.atan2(right[1].item(), right[0].item())))
    assert -40.5 < min(angles) < -15
    assert 15 < max(angles) < 40.5


def test_a_rotation_is_about_the_middle():
    images = ramp(8, 41, 81)
    columns, rows = places(varied(images, AugmentRecipe(rotate=180)))
    assert columns[:, 20, 40].tolist() == pytest.approx([40.0] * 8, abs=0.01)
    assert rows[:, 20, 40].tolist() == pytest.approx([20.0] * 8, abs=0.01)


def test_a_mirrored_picture_is_rotated_without_shear_too():
    images = ramp(32, 40, 90)
    found = steps(varied(images, AugmentRecipe(rotate=40, flip=True)), images)
    handed = [(right[0] * down[1] - right[1] * down[0]).item() for right, down in found]
    assert [abs(value) for value in handed] == pytest.approx([1.0] * 32, abs=0.02)
    assert {round(value) for value in handed} == {-1, 1}
    assert max(abs(right.dot(down).item()) for right, down in found) < 0.01


# crops


def sides(images: Tensor, recipe: AugmentRecipe) -> tuple[Tensor, Tensor]:
    """The width and height of each crop, as shares of the picture's; an upright crop is asserted."""
    found = steps(varied(images, recipe), images)
    assert max(max(abs(right[1].item()), abs(down[0].item())) for right, down in found) < 0.01
    return torch.stack([right[0] for right, _ in found]), torch.stack([down[1] for _, down in found])


@pytest.mark.parametrize("smallest", [0.1, 0.35, 0.7, 0.8, 0.95])
def test_a_crop_has_at_least_the_smallest_area(smallest):
    width, height = sides(ramp(60, 100, 100), AugmentRecipe(crop=smallest))
    area = width * height
    assert smallest - 0.02 < area.min()
    assert area.max() < 1.02
    assert area.max() - area.min() > (1 - smallest) / 2


def test_a_crop_is_wider_or_higher_by_up_to_a_third():
    width, height = sides(ramp(60, 100, 100), AugmentRecipe(crop=0.3))
    ratio = width / height
    assert 0.74 < ratio.min() < 0.85
    assert 1.18 < ratio.max() < 1.35


@pytest.mark.parametrize(("height", "width"), [(100, 100), (50, 100)])
def test_a_crop_is_within_the_picture_anywhere(height, width):
    columns, rows = places(varied(ramp(60, height, width), AugmentRecipe(crop=0.2)))
    left, right = columns[:, 0, 0] / (width - 1), columns[:, -1, -1] / (width - 1)
    top, bottom = rows[:, 0, 0] / (height - 1), rows[:, -1, -1] / (height - 1)
    for low, high in ((left, right), (top, bottom)):
        # Nothing is taken from beyond the edge, where pixels would repeat.
        assert (high - low).min() > 0.3
        assert low.min() < 0.1
        assert high.max() > 0.9
        assert low.max() > 0.3
        assert high.min() < 0.7


def test_no_place_of_a_crop_comes_twice():
    columns, rows = places(varied(ramp(30, 60, 60), AugmentRecipe(crop=0.5)))
    # Half a pixel at the rim is the same place by design: the outermost centers are half a pixel inside.
    assert columns[:, 30].diff(dim=1)[:, 1:-1].min() > 0.3
    assert rows[:, :, 30].diff(dim=1)[:, 1:-1].min() > 0.3


def test_the_canvas_has_the_models_size_where_nothing_is_cropped():
    assert canvas_size(shape(24, 40), AugmentRecipe(rotate=30, shift=0.2), 500) == (24, 40)


def test_the_canvas_for_crops_is_larger_only_where_the_images_are():
    crop = AugmentRecipe(crop=0.5)
    assert canvas_size(shape(24, 40), crop, 500) == (30, 50)
    assert canvas_size(shape(24, 40), crop, 26) == (26, 40)
    assert canvas_size(shape(24, 40), crop, 8) == (24, 40)


def test_images_on_the_canvas_come_out_at_the_models_size():
    size, recipe = shape(24, 40), AugmentRecipe(crop=0.5)
    images = noise(2, 3, *canvas_size(size, recipe, 500))
    assert augment(images, size, recipe).shape == (2, 3, 24, 40)


# color


def test_gray_stays_gray():
    images = noise(8, 1, 6, 6).expand(-1, 3, -1, -1)
    result = varied(images, AugmentRecipe(color=0.9))
    assert (result.amax(dim=1) - result.amin(dim=1)).max() < 1e-5
    assert (result[:, 0] - images[:, 0] / 255).abs().max() > 0.1


def test_one_channel_is_varied_in_brightness_and_contrast():
    images = noise(8, 1, 6, 6)
    result = varied(images, AugmentRecipe(color=0.3))
    assert result.shape == images.shape
    change = (result - images.float() / 255).abs().amax(dim=(1, 2, 3))
    assert change.min() > 0.003
    # Both factors within 0.7 and 1.3; what is brightest goes furthest.
    assert change.max() < 1.3 * 1.3 - 1


def test_color_moves_no_pixel():
    black_and_white = torch.zeros(8, 3, 6, 6, dtype=torch.uint8)
    black_and_white[:, :, 2:4, 1:3] = 255
    result = varied(black_and_white, AugmentRecipe(color=0.3))
    bright = black_and_white > 0
    assert (result[bright].view(8, -1).amin(dim=1) > result[~bright].view(8, -1).amax(dim=1)).all()


def test_the_strength_bounds_the_change():
    images = noise(8, 3, 6, 6)
    weak = varied(images, AugmentRecipe(color=0.01)) - images.float() / 255
    assert 0 < weak.abs().max() < 0.04


def test_saturation_draws_colors_together_or_apart(monkeypatch):
    draws = iter([1.0, 1.0])

    def only_saturation(self: Tensor, low: float, high: float) -> Tensor:
        if self.ndim == 5:  # brightness, contrast, saturation
            self.fill_(1.0)
            self[2] = 0.5
            return self
        return self.fill_(next(draws))

    monkeypatch.setattr(torch.Tensor, "uniform_", only_saturation)
    images = torch.tensor([200, 100, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    result = augment(images, shape(2, 2), AugmentRecipe(color=0.5))[0, :, 0, 0] * 255
    gray = 0.299 * 200 + 0.587 * 100
    assert result.tolist() == pytest.approx([(200 + gray) / 2, (100 + gray) / 2, gray / 2], abs=1e-3)


# normalizing


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_normalizing_takes_pixels_or_shares(kind):
    images: Any = torch.tensor([[[[0, 51, 255], [51, 0, 51]]]], dtype=torch.uint8)
    given_images = images if kind == "uint8" else images.float() / 255
    size = Preprocessing(height=2, width=3, channels=1, mean=0.2, std=0.4)
    expected = torch.tensor([[[[-0.5, 0.0, 2.0], [0.0, -0.5, 0.0]]]])
    torch.testing.assert_close(normalize(given_images, size), expected)


def test_each_channel_is_normalized_by_its_own_mean_and_spread():
    size = Preprocessing(height=2, width=2, channels=2, mean=(0.2, 0.6), std=(0.1, 0.2))
    images = torch.tensor([0.3, 0.4]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    assert torch.allclose(normalize(images, size), torch.tensor([1.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2))


KEPT = Preprocessing(height=16, width=16, channels=3, mean=0.4, std=0.2, keep_aspect=True, patch_size=4)


def test_images_that_keep_their_shape_are_varied_each_at_its_own_size():
    images = [noise(1, 3, *sides)[0] for sides in [(8, 32), (32, 8), (16, 16), (20, 20), (10, 40)]]
    every = AugmentRecipe(crop=0.5, flip=True, rotate=10, shift=0.1, color=0.3)
    torch.manual_seed(0)
    varied = augment(images, KEPT, every)
    assert [tuple(image.shape[1:]) for image in varied] == [(8, 32), (32, 8), (16, 16), (16, 16), (8, 32)]
    assert all(image.min() >= 0 and image.max() <= 1 for image in varied)
    torch.manual_seed(0)
    again = augment(images, KEPT, every)
    assert all(torch.equal(a, b) for a, b in zip(varied, again, strict=True))
    assert not torch.equal(varied[0], images[0].float() / 255)


def test_without_variation_they_are_left_as_they_are():
    images = [noise(1, 3, *sides)[0] for sides in [(8, 32), (16, 12)]]
    for image, varied in zip(images, augment(images, KEPT, AugmentRecipe()), strict=True):
        assert torch.equal(varied, image.float() / 255)


def test_a_list_is_normalized_as_a_batch_is():
    images = noise(2, 3, 8, 8)
    assert torch.equal(torch.stack(list(normalize(list(images), KEPT))), normalize(images, KEPT))
