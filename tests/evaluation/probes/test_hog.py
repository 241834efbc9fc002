import pytest
import torch

from megavit.evaluation.probes.hog import BINS, GRID, compute_color_histograms, compute_hog, describe_images


def ramp(angle: float, side: int = 24) -> torch.Tensor:
    """One gray image whose square root rises evenly in a direction, in degrees from the right towards the bottom."""
    y, x = torch.meshgrid(torch.arange(side) / side, torch.arange(side) / side, indexing="ij")
    direction = torch.deg2rad(torch.tensor(angle))
    rise = 0.5 + 0.35 * ((x - 0.5) * direction.cos() + (y - 0.5) * direction.sin())
    return (255 * rise.square()).round().to(torch.uint8)[None, None]


@pytest.mark.parametrize(("angle", "shares"), [(0, {0: 1.0}), (80, {4: 1.0}), (90, {4: 0.5, 5: 0.5}), (260, {4: 1.0})])
def test_an_orientation_is_shared_by_the_two_nearest_bins_and_has_no_sign(angle, shares):
    blocks = compute_hog(ramp(angle), grid=2).view(4, BINS)  # one block of four equal cells
    expected = torch.tensor([shares.get(b, 0.0) for b in range(BINS)])
    expected /= 2 * expected.norm()
    assert torch.allclose(blocks, expected.expand(4, -1), atol=0.06)


def test_blocks_have_length_one_whatever_the_contrast_and_nothing_comes_of_nothing():
    noise = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    strong, weak = (compute_hog((255 * factor * noise).to(torch.uint8)) for factor in (1, 0.25))
    assert strong.shape == (1, (GRID - 1) ** 2 * 4 * BINS)
    lengths = strong.view(4 * BINS, -1).norm(dim=0)
    assert torch.allclose(lengths, torch.ones_like(lengths), atol=0.01)
    assert (strong - weak).abs().mean() < 0.02
    assert not compute_hog(torch.full((1, 3, 24, 24), 200, dtype=torch.uint8)).any()


def test_a_histogram_has_the_root_of_the_share_of_each_color():
    image = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    image[0, 0, 0] = 255  # one row of four is red
    found = compute_color_histograms(image)[0]
    assert found[48].item() == 0.5 and found[0].item() == pytest.approx(0.75**0.5) and int((found > 0).sum()) == 2
    assert describe_images(image.repeat(3, 1, 8, 8)).shape == (3, (GRID - 1) ** 2 * 4 * BINS + 64)
    assert describe_images(image[:, :1].repeat(3, 1, 8, 8)).shape == (3, (GRID - 1) ** 2 * 4 * BINS)
