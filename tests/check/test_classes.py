from dataclasses import replace

from megavit.check.quick_checks import class_findings
from tests.helpers.labeled_images import labeled, scene, sized


def found(cats, dogs, split="train", **changes):
    samples = (*sized(cats), *(replace(one, target=1) for one in sized(dogs)))
    images = replace(labeled([scene(0)]), samples=samples, **changes)
    return [(one.kind, one.sentence, one.score) for one in class_findings(images)]


def test_even_classes_are_no_news():
    assert found(100, 20) == []


def test_a_small_class_is_few_and_makes_the_set_uneven():
    (few, imbalance) = found(200, 8)
    assert few == ("few", "the class dog has 8 images to learn from", 1 - 8 / 10)
    assert imbalance == ("imbalance", "200 images of cat to learn from and 8 images of dog: 25 times as many", 25.0)
    assert "1 image to" in found(1, 20)[0][1]


def test_a_class_missing_from_a_split_is_told_and_an_empty_split_is_not():
    samples = (*sized(30), *(replace(one, target=1) for one in sized(30)), *sized(5, split="test"))
    (missing,) = class_findings(replace(labeled([scene(0)]), samples=samples))
    assert (missing.kind, missing.sentence) == ("missing", "test has no image of 1 of 2: dog")


def test_labels_are_uneven_by_nature_and_scores_have_no_classes():
    samples = (*(replace(one, target=(0,)) for one in sized(300)), *(replace(one, target=(0, 1)) for one in sized(12)))
    assert class_findings(replace(labeled([scene(0)]), samples=samples, target="multilabel")) == []
    scores = (replace(sized(1)[0], target=1.0),)
    assert class_findings(replace(labeled([scene(0)]), samples=scores, target="regression", classes=())) == []
