from dataclasses import replace

import pytest

from megavit.check.quick_checks import shape_findings, shapes_of
from tests.helpers.labeled_images import labeled, scene, sized


def kinds(samples):
    images = replace(labeled([scene(0)]), samples=tuple(samples))
    return [(one.kind, one.images) for one in shape_findings(images)]


def test_a_uniform_set_has_nothing_odd():
    assert kinds(sized(100)) == []
    assert kinds(sized(100, height=8, width=8)) == []  # all of them small: a set of small images
    assert kinds(sized(50, height=30, width=300)) == []  # all of them long
    assert kinds([]) == []


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
    samples = sized(100)
    samples[3] = replace(samples[3], **odd)
    assert kinds(samples) == [(kind, ("3",))]


def test_gray_and_color_half_and_half_is_a_part_of_the_set():
    assert kinds([*sized(50), *sized(50, channels=1)]) == []
    assert len(kinds([*sized(97, channels=1), *sized(3)])) == 3


def test_shapes_are_least_median_and_most():
    found = shapes_of([*sized(3), *sized(1, height=10, channels=1)])
    assert found.height == (10, 40, 40) and found.width == (40, 40, 40) and found.channels == {3: 3, 1: 1}
