"""Images as the model takes them: one way for training and prediction."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import (
    ImageDataset,
    compute_channel_statistics,
    convert_channels,
    load_into_memory,
    make_batch,
    preprocess,
    resize,
)
from megavit.data.load import load_data
from megavit.errors import DataError, ImageError
from tests.helpers.difficult_images import encode_image, make_image
from tests.helpers.sizes import sized

RGB = torch.from_numpy(make_image(24, 16)).permute(2, 0, 1)
sides = st.integers(1, 40)
new_sides = st.integers(2, 40)  # as Preprocessing allows


def size(height: int, width: int, channels: int) -> Preprocessing:
    return Preprocessing(height=height, width=width, channels=channels)


@given(sides, sides, new_sides, new_sides, st.sampled_from([1, 3]), st.sampled_from([1, 3]))
def test_any_size_and_channels_become_those_asked_for(height, width, new_height, new_width, channels, new_channels):
    image = torch.full((channels, height, width), 77, dtype=torch.uint8)
    prepared = preprocess(image, *sized(new_height, new_width, new_channels))
    assert prepared.shape == (new_channels, new_height, new_width)
    assert prepared.dtype == torch.uint8
    assert prepared.is_contiguous()
    assert prepared.unique().tolist() == [77]


def test_the_right_size_is_left_as_it_is():
    assert resize(RGB, 24, 16) is RGB
    assert torch.equal(preprocess(RGB, *sized(24, 16, 3)), RGB)


@pytest.mark.parametrize("size", [(9, 7), (48, 40), (24, 5)])
def test_resizing_is_pillows_bicubic_to_one_level(size):
    expected = np.array(Image.fromarray(make_image(24, 16)).resize(size[::-1], Image.Resampling.BICUBIC))
    mine = resize(RGB, *size).permute(1, 2, 0).numpy()
    assert np.abs(mine.astype(int) - expected.astype(int)).max() <= 1


def test_gray_is_pillows_luma():
    every = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = np.array(Image.fromarray(every.permute(1, 2, 0).numpy()).convert("L"))
    assert np.array_equal(convert_channels(every, 1)[0], expected)


def test_gray_becomes_three_equal_channels():
    assert torch.equal(convert_channels(RGB[:1], 3), RGB[:1].repeat(3, 1, 1))


@pytest.fixture
def folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(70):
            data = encode_image(make_image() + np.uint8(number), "PNG" if number % 2 else "BMP")
            (tmp_path / name / f"{number}.img").write_bytes(data)
    return tmp_path


def test_pictures_are_the_prepared_samples(folder):
    images = load_data(folder, DataRecipe())
    samples = images.in_split("val")
    pictures = ImageDataset(images, samples, size(8, 10, 1))
    assert len(pictures) == len(samples) == 14
    assert pictures.nbytes == 14 * 80
    for place, sample in enumerate(samples):
        assert torch.equal(pictures[place], preprocess(images.load_pixels(sample), *sized(8, 10, 1)))


@pytest.mark.parametrize("workers", [0, 2])
def test_all_in_memory_are_the_same_pictures(workers, folder):
    images = load_data(folder, DataRecipe())
    pictures = ImageDataset(images, images.samples, size(6, 5, 3))
    calls: list[tuple[int, int]] = []
    whole = load_into_memory(pictures, workers, lambda done, total: calls.append((done, total)))
    assert isinstance(whole, torch.Tensor)
    assert torch.equal(whole, torch.stack([pictures[place] for place in range(len(pictures))]))
    assert calls == [(64, 140), (128, 140), (140, 140)]
    assert whole.nbytes == pictures.nbytes


def test_a_demo_set_is_in_memory_already():
    images = load_data("demo:digits", DataRecipe())
    whole = load_into_memory(ImageDataset(images, images.in_split("test"), size(8, 8, 1)), workers=2)
    assert torch.equal(whole[3], images.load_pixels(images.in_split("test")[3]))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_has_gone_since_is_named(workers, folder):
    images = load_data(folder, DataRecipe())
    (folder / "cat/7.img").unlink()
    with pytest.raises(DataError, match=r"^'cat/7.img' of .* can no longer be read: no such file"):
        load_into_memory(ImageDataset(images, images.samples, size(6, 5, 3)), workers)


@pytest.mark.parametrize(("have", "want"), [(5, 3), (3, 5), (5, 6), (1, 4), (3, 4), (2, 1), (4, 2)])
def test_channels_that_do_not_fit_are_refused(have, want):
    with pytest.raises(ImageError, match=f"the image has {have} channels, but the model expects"):
        preprocess(torch.zeros(have, 4, 4, dtype=torch.uint8), *sized(4, 4, want))


@pytest.mark.parametrize("channels", [2, 4, 5, 64])
def test_many_channels_are_resized_each_by_itself(channels):
    image = torch.randint(0, 256, (channels, 20, 30), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    each = torch.cat([preprocess(one[None], *sized(7, 9, 1)) for one in image])
    assert (preprocess(image, *sized(7, 9, channels)).int() - each.int()).abs().max() <= 1


def test_the_statistics_of_channels_are_those_of_all_pixels():
    random = torch.Generator().manual_seed(0)
    memory = {str(i): torch.randint(0, 256, (5, 6, 6), generator=random, dtype=torch.uint8) for i in range(4)}
    for image in memory.values():
        image[4] = 51
    samples = tuple(Sample(name, 0, "train", 6, 6, 5, name) for name in memory)
    images = LabeledImages("demo:x", None, ("a", "b"), samples, (), "all of it", memory)
    mean, std = compute_channel_statistics(ImageDataset(images, samples, size(6, 6, 5)))
    values = torch.stack(list(memory.values())).double() / 255
    assert mean == pytest.approx(values.mean(dim=(0, 2, 3)).tolist())
    assert std[:4] == pytest.approx(values.std(dim=(0, 2, 3), correction=0).tolist()[:4])
    assert std[4] == pytest.approx(1 / 255)  # of a channel that is the same everywhere


KEPT = Preprocessing(height=16, width=16, channels=3, keep_aspect=True, patch_size=4)


@pytest.fixture
def shapes(tmp_path):
    """Pictures of three shapes: wide, tall and square."""
    random = np.random.default_rng(0)
    for name, sides in (("wide", (20, 80)), ("tall", (90, 30)), ("square", (8, 8))):
        (tmp_path / name).mkdir()
        for number in range(3):
            data = encode_image(random.integers(0, 256, (*sides, 3), dtype=np.uint8), "PNG")
            (tmp_path / name / f"{number}.png").write_bytes(data)
    return load_data(tmp_path, DataRecipe(val=0, test=0))


@pytest.mark.parametrize("workers", [0, 2])
def test_shapes_that_are_kept_are_a_list_of_the_same_pictures(workers, shapes):
    pictures = ImageDataset(shapes, shapes.samples, KEPT)
    whole = load_into_memory(pictures, workers)
    assert isinstance(whole, list) and len(whole) == 9
    assert {tuple(image.shape) for image in whole} == {(3, 8, 32), (3, 28, 8), (3, 16, 16)}
    assert sum(image.nbytes for image in whole) == pictures.nbytes
    for place, image in enumerate(whole):
        assert torch.equal(image, pictures[place])
    sample = shapes.samples[0]
    pixels = shapes.load_pixels(sample)
    assert torch.equal(whole[0], preprocess(pixels, KEPT.size_for(sample.height, sample.width), KEPT))


def test_a_margin_is_kept_where_an_image_has_the_detail(shapes):
    pictures = ImageDataset(shapes, shapes.samples, KEPT, margin=1.25)
    sizes = {sample.name.split("/")[0]: pictures.output_size(sample) for sample in pictures.samples}
    assert sizes == {"wide": (10, 40), "tall": (35, 10), "square": (16, 16)}


def test_a_batch_is_one_tensor_unless_shapes_are_kept():
    pictures = [torch.zeros(3, 16, 16, dtype=torch.uint8)] * 2
    batch = make_batch(pictures, size(16, 16, 3))
    assert isinstance(batch, torch.Tensor) and batch.shape == (2, 3, 16, 16)
    assert isinstance(make_batch(pictures, KEPT), list)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("capability", ["DEFAULT", "AVX2"])
def test_resizing_is_torchvisions_on_every_processor(capability, interpolation, monkeypatch):
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    image = torch.randint(256, (3, 61, 47), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = transforms.resize(image, [23, 35], interpolation=InterpolationMode(interpolation), antialias=True)
    assert torch.equal(resize(image, 23, 35, interpolation), expected)
