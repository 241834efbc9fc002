import torch
from torch.nn import functional as F

from megavit.data_check.registration import registered_similarity, standardize, warp
from tests.helpers.labeled_images import make_scene

ALIKE = 0.94
PICTURES = torch.stack([make_scene(seed, side=32, channels=1)[0].float() for seed in range(24)])


def moved(pictures, stretch, shift):
    return warp(pictures, torch.tensor([stretch, shift, stretch, -shift]).repeat(len(pictures), 1))


def test_a_picture_is_like_itself_in_any_brightness_and_contrast():
    torch.testing.assert_close(registered_similarity(PICTURES, PICTURES), torch.ones(len(PICTURES)))
    torch.testing.assert_close(registered_similarity(PICTURES, 0.3 * PICTURES + 40), torch.ones(len(PICTURES)))


def test_a_cropped_picture_is_like_its_original_whichever_comes_first():
    cropped = moved(PICTURES, 0.92, 0.05)
    assert registered_similarity(PICTURES, cropped).min() > ALIKE
    torch.testing.assert_close(registered_similarity(cropped, PICTURES), registered_similarity(PICTURES, cropped))


def test_noise_of_compression_leaves_it_alike():
    random = torch.Generator().manual_seed(0)
    noisy = PICTURES + 3 * torch.randn(PICTURES.shape, generator=random)
    assert registered_similarity(PICTURES, noisy).min() > ALIKE


def test_other_pictures_are_not_alike_even_with_the_same_soft_parts():
    assert registered_similarity(PICTURES, PICTURES.roll(1, dims=0)).max() < ALIKE
    soft = F.interpolate(F.avg_pool2d(PICTURES[:, None], 8), (32, 32), mode="bicubic")[:, 0]
    details = 0.5 * (PICTURES - PICTURES.mean(dim=(1, 2), keepdim=True)).roll(1, dims=0)
    assert registered_similarity(soft + details, soft - details).max() < ALIKE


def test_standard_pictures_have_mean_0_and_deviation_1_and_one_shade_stays_finite():
    found = standardize(torch.cat([PICTURES, torch.full((1, 32, 32), 7.0)]))
    torch.testing.assert_close(found[:-1].mean(dim=(1, 2)), torch.zeros(len(PICTURES)), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:-1].std(dim=(1, 2), correction=0), torch.ones(len(PICTURES)))
    assert found[-1].abs().max() == 0
