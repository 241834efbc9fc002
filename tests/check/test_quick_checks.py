from dataclasses import replace

from megavit.check.quick_checks import MOST_LINES, data_warnings, quick_findings
from megavit.data.dataset import Skipped
from tests.helpers.labeled_images import labeled, scene, sized


def test_the_worst_comes_first():
    samples = (*sized(60), *(replace(one, target=1) for one in sized(3)))
    images = replace(labeled([scene(0)]), samples=samples, skipped=(Skipped("a.png", "an empty file"),))
    kinds = [one.kind for one in quick_findings(images)]
    assert kinds == ["conflict"] * 3 + ["unreadable"] + ["copy"] * 3 + ["few", "imbalance"]


def test_a_run_tells_at_most_three_lines_and_nothing_where_all_is_well():
    even = (*sized(60), *(replace(one, target=1, digest=f"b{one.digest}") for one in sized(60)))
    images = replace(labeled([scene(0)]), samples=even)
    assert data_warnings(images) == []
    leaked = replace(even[0], name="again", split="test")
    leak, missing = data_warnings(replace(images, samples=(*even, leaked)))
    assert leak == "one picture in two splits: the same file in train and test, once"
    assert missing.startswith("classes missing from a split: test has no image of 1 of 2: dog, once")
    assert missing.endswith("; megavit check lists them")
    bad = [replace(one, name=f"b{one.name}", target=1, split="test", height=2) for one in even[:5]]
    told = data_warnings(replace(images, samples=(*even[:65], *bad, leaked)))
    assert len(told) == MOST_LINES and told[-1].endswith("; megavit check has more")


def test_no_image_is_opened_however_many_there_are():
    samples = tuple(replace(one, target=place % 2) for place, one in enumerate(sized(70_000)))
    assert quick_findings(replace(labeled([scene(0)]), samples=samples, memory={})) == []
