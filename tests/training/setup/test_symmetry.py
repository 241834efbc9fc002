import torch

from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.load import load_data
from megavit.training.setup.symmetry import MAX_UPRIGHT_SHARE, can_mirror, upright_share


def in_memory(pixels: torch.Tensor) -> LabeledImages:
    """Images (N, C, H, W), all for training."""
    count, channels, height, width = pixels.shape
    names = [f"{i:04}" for i in range(count)]
    samples = tuple(Sample(name, i % 2, "train", height, width, channels, name) for i, name in enumerate(names))
    memory = dict(zip(names, pixels, strict=True))
    return LabeledImages("images", None, ("cat", "dog"), samples, (), "all for training", memory)


def test_digits_cannot_be_mirrored() -> None:
    assert not can_mirror(load_data("demo:digits", DataRecipe()))


def test_images_with_a_bright_side_can_be_mirrored_only_if_it_is_on_either_side() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 60, (200, 3, 20, 20), dtype=torch.uint8)
    images[..., :10] += 120
    assert not can_mirror(in_memory(images))
    images[::2] = images[::2].flip(3)
    assert can_mirror(in_memory(images))


def test_images_of_other_channels_are_compared_too() -> None:
    torch.manual_seed(0)
    assert can_mirror(in_memory(torch.randint(0, 256, (50, 5, 9, 30), dtype=torch.uint8)))


def test_an_image_is_as_near_to_itself_as_its_mirror_image_is_to_the_mirrored_one() -> None:
    torch.manual_seed(0)
    images = torch.rand(30, 1, 8, 8)
    assert upright_share(images, images) == 1 > MAX_UPRIGHT_SHARE
    assert upright_share(images, images.flip(3)) == 0
