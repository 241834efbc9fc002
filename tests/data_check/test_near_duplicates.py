from io import BytesIO

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from megavit.data_check.near_duplicates import (
    FREQUENCIES,
    MIN_TYPICAL_ERROR,
    REFERENCE_RANKS,
    compute_descriptors,
    dct_basis,
    find_candidates,
    find_near_duplicates,
    mirror_descriptors,
    typical_errors,
)
from megavit.data_check.neighbors import NeighborIndex
from megavit.data_check.thumbnails import load_thumbnails
from tests.helpers.labeled_images import make_labeled_images, make_scene

SCENES = [make_scene(seed) for seed in range(60)]


def pairs_of(pictures):
    thumbnails = load_thumbnails(make_labeled_images(pictures))
    return {
        (one, other): score
        for one, other, score in find_near_duplicates(thumbnails, torch.ones(len(pictures), dtype=torch.bool))
    }


def pillow(picture):
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


def tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def test_pictures_that_differ_are_no_copies():
    assert pairs_of(SCENES) == {}


def test_copies_are_found_however_they_were_changed():
    image = pillow(SCENES[7])
    saved = BytesIO()
    image.save(saved, format="JPEG", quality=60)
    changed = {
        "saved as JPEG": Image.open(saved),
        "larger": image.resize((90, 90), Image.Resampling.BICUBIC),
        "cropped": image.resize(image.size, Image.Resampling.BICUBIC, (2, 1, 46, 46)),
        "brighter": ImageEnhance.Brightness(image).enhance(1.2),
        "gray": image.convert("L").convert("RGB"),
        "mirrored": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    }
    for what, copy in changed.items():
        found = pairs_of([*SCENES, tensor(copy)])
        assert set(found) == {(7, len(SCENES))}, what
        assert 0.9 < found[7, len(SCENES)] <= 1 + 1e-6


def test_two_images_alone_and_images_of_one_shade_are_no_trouble():
    assert pairs_of([SCENES[0], SCENES[1]]) == {}
    assert set(pairs_of([SCENES[0], (SCENES[0] * 0.8).to(torch.uint8)])) == {(0, 1)}
    flat = [torch.full((3, 48, 48), value, dtype=torch.uint8) for value in (0, 10, 10, 200)]
    assert pairs_of(flat) == {}
    assert pairs_of([SCENES[0]]) == {}


def test_only_the_images_asked_for_are_compared():
    thumbnails = load_thumbnails(make_labeled_images([SCENES[0], SCENES[0] // 2 * 2, SCENES[1]]))
    assert [pair[:2] for pair in find_near_duplicates(thumbnails, torch.tensor([True, True, True]))] == [(0, 1)]
    assert find_near_duplicates(thumbnails, torch.tensor([True, False, True])) == []


def test_the_cosines_are_orthonormal_and_a_mirror_image_is_described_by_other_signs():
    basis = dct_basis()
    torch.testing.assert_close(basis @ basis.T, torch.eye(FREQUENCIES), atol=1e-5, rtol=0)
    gray = torch.stack([make_scene(seed, side=32, channels=1)[0] for seed in range(8)])
    both = compute_descriptors(torch.cat([gray, gray.flip(2)]))
    torch.testing.assert_close(mirror_descriptors(both[:8]), both[8:], atol=1e-5, rtol=0)


@given(st.integers(0, 2**31), st.integers(2, 40))
def test_candidates_are_pairs_of_different_images_each_once(seed, count):
    described = torch.randn(count, FREQUENCIES**2 - 1, generator=torch.Generator().manual_seed(seed))
    described[count // 2] = described[0]
    described /= described.norm(dim=1, keepdim=True)
    found = find_candidates(described, NeighborIndex(described))
    assert (found.indices[:, 0] < found.indices[:, 1]).all()
    rows = [(*pair, turned) for pair, turned in zip(found.indices.tolist(), found.mirrored.tolist(), strict=True)]
    assert len(set(rows)) == len(rows)
    assert (0, count // 2, False) in rows


def test_the_usual_error_is_large_among_different_pictures_and_small_among_like_ones():
    random = torch.Generator().manual_seed(0)
    like = [(SCENES[0].float() + 9 * torch.randn(SCENES[0].shape, generator=random)).clamp(0, 255) for _ in range(40)]
    thumbnails = load_thumbnails(make_labeled_images([*(one.to(torch.uint8) for one in like), *SCENES[1:]]))
    described = compute_descriptors(thumbnails.gray)
    found = typical_errors(thumbnails.gray, described, torch.arange(99), NeighborIndex(described))
    assert found[:40].max() < 0.2 < 0.5 < found[40:].min()
    assert found.min() >= torch.tensor(MIN_TYPICAL_ERROR) and found.max() <= 1
    few = typical_errors(
        thumbnails.gray[: REFERENCE_RANKS[-1]],
        described[: REFERENCE_RANKS[-1]],
        torch.arange(5),
        NeighborIndex(described),
    )
    assert few.tolist() == [1.0] * 5  # too few to tell


def test_pictures_that_were_each_varied_many_times_are_found():
    pictures = [
        tensor(ImageEnhance.Brightness(pillow(one).resize((48, 48), Image.Resampling.BICUBIC, box)).enhance(light))
        for one in SCENES[:12]
        for box, light in zip(
            [(0, 0, 48, 48), (1, 2, 47, 48), (2, 0, 48, 46), (0, 2, 45, 47), (1, 1, 47, 47), (2, 2, 48, 48)] * 2,
            [1.0] * 6 + [0.85] * 6,
            strict=True,
        )
    ]
    found = pairs_of(pictures)
    assert all(one // 12 == other // 12 for one, other in found)
    assert {place for pair in found for place in pair} == set(range(len(pictures)))


def test_where_many_pictures_are_much_alike_a_copy_must_be_more_so():
    base = make_scene(0).float()
    family = [
        (base + 20 * torch.randn(base.shape, generator=torch.Generator().manual_seed(seed))) for seed in range(40)
    ]
    family = [one.clamp(0, 255).to(torch.uint8) for one in family]
    copy = (family[3] * 0.9).to(torch.uint8)
    assert set(pairs_of([*family, copy])) == {(3, 40)}
    noisy = (make_scene(0).float() + 7 * torch.randn(base.shape, generator=torch.Generator().manual_seed(0))).clamp(
        0, 255
    )
    assert set(pairs_of([make_scene(0), noisy.to(torch.uint8), *SCENES[1:]])) == {(0, 1)}  # nothing else is like them
