"""The quick checks find faults of files, classes, sizes and channels without reading a pixel."""

from dataclasses import replace

import pytest
from PIL import Image

from megavit.config.recipe import DataRecipe
from megavit.data.dataset import Skipped
from megavit.data.load import load_data
from megavit.data.sources.label_log import REASONS
from megavit.data_check.quick_checks import (
    HARMLESS,
    MAX_WARNINGS,
    class_findings,
    data_warnings,
    file_findings,
    quick_findings,
    shape_findings,
    summarize_shapes,
)
from megavit.labeling.store import LabelStore, Mark
from tests.helpers.label_server import write_images
from tests.helpers.labeled_images import make_labeled_images, make_scene, make_sized_samples


def test_the_worst_comes_first():
    samples = (*make_sized_samples(60), *(replace(one, target=1) for one in make_sized_samples(3)))
    images = replace(
        make_labeled_images([make_scene(0)]), samples=samples, skipped=(Skipped("a.png", "the file is empty"),)
    )
    kinds = [one.kind for one in quick_findings(images)]
    assert kinds == ["label_conflict"] * 3 + ["unreadable"] + ["duplicate"] * 3 + ["few_images", "imbalance"]


def test_a_run_tells_at_most_three_lines_and_nothing_where_all_is_well():
    even = (
        *make_sized_samples(60),
        *(replace(one, target=1, digest=f"b{one.digest}") for one in make_sized_samples(60)),
    )
    images = replace(make_labeled_images([make_scene(0)]), samples=even)
    assert data_warnings(images) == []
    leaked = replace(even[0], name="again", split="test")
    leak, missing = data_warnings(replace(images, samples=(*even, leaked)))
    assert leak == "one image in two splits: the same file in train and test, once"
    assert missing.startswith("classes missing from a split: test has no images of 1 of 2 classes: dog, once")
    assert missing.endswith("; megavit check lists them")
    bad = [replace(one, name=f"b{one.name}", target=1, split="test", height=2) for one in even[:5]]
    reported = data_warnings(replace(images, samples=(*even[:65], *bad, leaked)))
    assert len(reported) == MAX_WARNINGS and reported[-1].endswith("; megavit check has more")


def test_no_image_is_opened_however_many_there_are():
    samples = tuple(replace(one, target=place % 2) for place, one in enumerate(make_sized_samples(70_000)))
    assert quick_findings(replace(make_labeled_images([make_scene(0)]), samples=samples, memory={})) == []


# files


def file_kinds(*skipped):
    return [(one.kind, one.images) for one in file_findings(make_labeled_images([make_scene(0)], skipped=skipped))]


def test_a_damaged_image_is_serious_and_a_text_beside_it_is_not():
    assert file_kinds(Skipped("a.jpg", "damaged or truncated")) == [("unreadable", ("a.jpg",))]
    assert file_kinds(Skipped("a.jpg", "not an image (.jpg)")) == [("unreadable", ("a.jpg",))]
    assert file_kinds(Skipped("a.txt", "not an image (.txt)"), Skipped("b.txt", "not an image (.txt)")) == [
        ("unused", ("a.txt", "b.txt"))
    ]
    assert file_kinds(Skipped("a.npy", "5 channels, but most images have 1, 3 or 4")) == [("channels", ("a.npy",))]


def test_reasons_are_those_of_the_data(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        picture = make_scene(len(name) + ord(name[0]))
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / name / "a.png")
    (tmp_path / "cat" / ".hidden").touch()
    (tmp_path / "cat" / "a.explained.png").touch()
    (tmp_path / "loose.png").touch()
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    images = load_data(tmp_path, DataRecipe())
    found = {one.images: (one.kind, one.message) for one in file_findings(images)}
    assert found.pop(("cat/gone.png",)) == ("unreadable", "a broken link")
    assert {kind for kind, _ in found.values()} == {"unused"}
    assert {reason for _, reason in found.values()} == set(HARMLESS) - {"listed twice", *REASONS.values()}


def test_what_was_decided_when_labeling_is_no_fault_of_the_files(tmp_path):
    folder = write_images(tmp_path, [f"{number}.png" for number in range(8)])
    store = LabelStore(folder)
    for number, status in enumerate(("skipped", "unsure", "excluded", "unlabeled")):
        store.add(f"{number}", [Mark(f"{number}.png", status)], "ada")
    for number in range(4, 8):
        store.add(f"{number}", [Mark(f"{number}.png", "labeled", (("cat", "dog")[number % 2],))], "ada")
    found = file_findings(load_data(folder, DataRecipe()))
    assert [(one.kind, one.images) for one in found] == [("unused", (f"{number}.png",)) for number in range(4)]


# classes


def class_kinds(cats, dogs, split="train", **changes):
    samples = (*make_sized_samples(cats), *(replace(one, target=1) for one in make_sized_samples(dogs)))
    images = replace(make_labeled_images([make_scene(0)]), samples=samples, **changes)
    return [(one.kind, one.message, one.score) for one in class_findings(images)]


def test_even_classes_are_no_news():
    assert class_kinds(100, 20) == []


def test_a_small_class_is_few_and_makes_the_set_uneven():
    (few, imbalance) = class_kinds(200, 8)
    assert few == ("few_images", "the class dog has 8 images to train on", 1 - 8 / 10)
    assert imbalance == ("imbalance", "200 images of cat to train on and 8 images of dog: 25 times as many", 25.0)
    assert "1 image to" in class_kinds(1, 20)[0][1]


def test_a_class_missing_from_a_split_is_told_and_an_empty_split_is_not():
    samples = (
        *make_sized_samples(30),
        *(replace(one, target=1) for one in make_sized_samples(30)),
        *make_sized_samples(5, split="test"),
    )
    (missing,) = class_findings(replace(make_labeled_images([make_scene(0)]), samples=samples))
    assert (missing.kind, missing.message) == ("missing_class", "test has no images of 1 of 2 classes: dog")


def test_labels_are_uneven_by_nature_and_scores_have_no_classes():
    samples = (
        *(replace(one, target=(0,)) for one in make_sized_samples(300)),
        *(replace(one, target=(0, 1)) for one in make_sized_samples(12)),
    )
    assert class_findings(replace(make_labeled_images([make_scene(0)]), samples=samples, target="multilabel")) == []
    scores = (replace(make_sized_samples(1)[0], target=1.0),)
    assert (
        class_findings(replace(make_labeled_images([make_scene(0)]), samples=scores, target="regression", classes=()))
        == []
    )


# sizes and channels


def shape_kinds(samples):
    images = replace(make_labeled_images([make_scene(0)]), samples=tuple(samples))
    return [(one.kind, one.images) for one in shape_findings(images)]


def test_a_uniform_set_has_nothing_odd():
    assert shape_kinds(make_sized_samples(100)) == []
    assert shape_kinds(make_sized_samples(100, height=8, width=8)) == []  # all of them small: a set of small images
    assert shape_kinds(make_sized_samples(50, height=30, width=300)) == []  # all of them long
    assert shape_kinds([]) == []


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        ({"height": 4, "width": 40}, "tiny"),
        ({"height": 9, "width": 9}, "tiny"),
        ({"height": 30, "width": 150}, "aspect"),
        ({"height": 400, "width": 400}, "size"),
        ({"channels": 1}, "channels"),
    ],
)
def test_what_differs_is_told(odd, kind):
    samples = make_sized_samples(100)
    samples[3] = replace(samples[3], **odd)
    assert shape_kinds(samples) == [(kind, ("3",))]


def test_gray_and_color_half_and_half_is_a_part_of_the_set():
    assert shape_kinds([*make_sized_samples(50), *make_sized_samples(50, channels=1)]) == []
    assert len(shape_kinds([*make_sized_samples(97, channels=1), *make_sized_samples(3)])) == 3


def test_shapes_are_least_median_and_most():
    found = summarize_shapes([*make_sized_samples(3), *make_sized_samples(1, height=10, channels=1)])
    assert found.height == (10, 40, 40) and found.width == (40, 40, 40) and found.channels == {3: 3, 1: 1}
