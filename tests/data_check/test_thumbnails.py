import torch

from megavit.data_check.thumbnails import SIDE, blank_findings, load_thumbnails
from tests.helpers.labeled_images import make_labeled_images, make_scene


def test_looks_are_gray_and_empty_ones_are_told():
    flat = [torch.full((3, 20, 30), value, dtype=torch.uint8) for value in (0, 128, 255)]
    almost = flat[1].clone()
    almost[:, :10] += 4
    images = make_labeled_images([*flat, almost, make_scene(0), make_scene(1, channels=1)])
    thumbnails = load_thumbnails(images)
    assert thumbnails.gray.shape == (6, SIDE, SIDE) and thumbnails.gray.dtype == torch.uint8
    assert thumbnails.blank.tolist() == [True, True, True, True, False, False]
    assert [(one.kind, *one.images) for one in blank_findings(images, thumbnails)] == [
        ("blank", f"{place:04}.png") for place in range(4)
    ]
    shades = [finding.message.rpartition(" entirely ")[2] for finding in blank_findings(images, thumbnails)]
    assert shades[:3] == ["black", "one shade", "white"]


def test_images_of_many_channels_are_seen_as_their_mean():
    picture = torch.stack([make_scene(0, channels=1)[0], torch.zeros(48, 48, dtype=torch.uint8)])
    thumbnails = load_thumbnails(make_labeled_images([picture, picture]))
    alone = load_thumbnails(make_labeled_images([picture[:1], picture[:1]]))
    assert (thumbnails.gray.float() - alone.gray.float() / 2).abs().max() <= 1


def test_progress_ends_with_all_of_them():
    reported = []
    load_thumbnails(
        make_labeled_images([make_scene(seed) for seed in range(70)]),
        lambda done, total: reported.append((done, total)),
    )
    assert reported[-1] == (70, 70)
