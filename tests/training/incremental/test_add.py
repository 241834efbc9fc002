"""Classes are added to a bundle without any change of the others, and everything that follows is renewed."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import megavit
from megavit.config.target import Target
from megavit.data.dataset import read_samples
from megavit.errors import BundleError, ConfigError, DataError, OutputError
from megavit.predict.predictor import Predictor
from megavit.training.progress import NullReporter
from megavit.weights.bundle.bundle import CARD, SAMPLES
from tests.helpers.bundles import edit_bundle_info, make_bundle, make_model
from tests.helpers.digits import make_digits_folder
from tests.helpers.digits_bundle import make_look_alike

OLD = 3


class Saying(NullReporter):
    """A reporter that remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def head_of(predictor: Predictor) -> tuple[torch.Tensor, torch.Tensor]:
    state = predictor.model.mlp_head.state_dict()
    return state["weight"], state["bias"]


@pytest.fixture(scope="module")
def five(digits_bundle: Path, added_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> megavit.ClassAddition:
    """The bundle with two more classes."""
    folders = [added_digits / "new" / f"digit {digit}" for digit in (3, 4)]
    return megavit.add_classes(digits_bundle, folders, out=tmp_path_factory.mktemp("five") / "bundle")


def test_the_rows_of_other_classes_and_the_features_stay_as_they_are(
    five: megavit.ClassAddition, digits_bundle: Path
) -> None:
    before, after = megavit.load(digits_bundle), megavit.load(five, verify=True)
    assert after.labels == (*before.labels, "digit 3", "digit 4")
    for old, new in zip(head_of(before), head_of(after), strict=True):
        assert torch.equal(old, new[:OLD]) and len(new) == OLD + 2
    images = sorted((digits_bundle.parent / "digits").rglob("*.png"))[::7]
    assert torch.equal(before.embed(images), after.embed(images))


def test_logits_of_other_classes_stay_the_same_to_the_bit_however_often_classes_are_added(
    five: megavit.ClassAddition, digits_bundle: Path, added_digits: Path, tmp_path: Path
) -> None:
    shutil.copytree(added_digits / "more" / "digit 1", tmp_path / "one")
    six = megavit.add_classes(
        megavit.remove_classes(five, ["digit 3"], out=tmp_path / "four"), [tmp_path / "one"], out=tmp_path / "six"
    )
    assert [megavit.load(bundle).info.head_parts for bundle in (digits_bundle, five, six)] == [[], [3, 2], [3, 1, 1]]
    images = [megavit.load(digits_bundle).prepare(path) for path in sorted(added_digits.rglob("*.png"))[:17]]
    for count in (1, 2, 5, 17):
        before, *after = (
            megavit.load(bundle).engine.run_pytorch(torch.stack(images[:count]))
            for bundle in (digits_bundle, five, six)
        )
        assert all(torch.equal(before.logits, one.logits[:, :OLD]) for one in after)


def test_the_new_classes_are_recognized_and_everything_is_measured_anew(
    five: megavit.ClassAddition, digits_bundle: Path
) -> None:
    former, info = megavit.load(digits_bundle).info, megavit.load(five).info
    images = {"train": 24, "val": 3, "test": 3}
    assert [(one.name, one.images, one.is_new) for one in five.added] == [
        ("digit 3", images, True),
        ("digit 4", images, True),
    ]
    assert all(one.recall is not None and one.recall.value > 0.8 and one.is_separable for one in five.added)
    assert five.advice == () and not five.needs_training
    assert five.metrics.images == former.data["counts"]["test"] + 6
    assert info.metrics == five.metrics.to_dict()
    assert info.calibration.images == former.data["counts"]["val"] + 6
    assert info.calibration.test_metrics == json.loads(json.dumps(five.uncertainty.to_dict()))
    assert five.after.value >= five.before.value - 0.1


def test_the_bundle_lists_the_new_images_and_says_where_its_classes_come_from(
    five: megavit.ClassAddition, digits_bundle: Path, added_digits: Path
) -> None:
    rows, former = read_samples(five.folder / SAMPLES), read_samples(digits_bundle / SAMPLES)
    assert rows[: len(former)] == former
    assert {(row.name, row.target) for row in rows[len(former) :]} == {
        (f"digit {digit}/{number:03}.png", f"digit {digit}") for digit in (3, 4) for number in range(30)
    }
    folder = str(added_digits / "new" / "digit 3")
    assert megavit.load(five).info.data["added"][0] == {
        "class": "digit 3",
        "folder": folder,
        "images": 30,
        "is_new": True,
    }
    assert "The class digit 3 was added later, with 30 images" in (five.folder / CARD).read_text("utf-8")


def test_a_bundle_with_added_classes_finds_all_its_images_again(
    five: megavit.ClassAddition, added_digits: Path, tmp_path: Path
) -> None:
    reporter = Saying()
    more = [added_digits / "more" / "digit 1"]
    again = megavit.add_classes(five, more, out=tmp_path / "again", reporter=reporter)
    (one,) = again.added
    assert (one.name, one.is_new) == ("digit 1", False)
    assert again.metrics.images == five.metrics.images + one.images["test"] and reporter.said == []
    before, after = megavit.load(five), megavit.load(again)
    others = [0, 2, 3, 4]
    for old, new in zip(head_of(before), head_of(after), strict=True):
        assert torch.equal(old[others], new[others])


def test_more_images_of_every_class_are_only_calibrated_and_measured_on(digits_bundle: Path, tmp_path: Path) -> None:
    make_digits_folder(tmp_path / "more", range(OLD), slice(40, 60), "digit ")
    added = megavit.add_classes(digits_bundle, sorted((tmp_path / "more").iterdir()), out=tmp_path / "out")
    before, after = megavit.load(digits_bundle), megavit.load(added)
    for old, new in zip(head_of(before), head_of(after), strict=True):
        assert torch.equal(old, new)
    assert added.metrics.images == 12 + 3 * 2 and [one.is_new for one in added.added] == [False] * OLD


def test_images_that_the_bundle_has_are_left_out_and_said(digits_bundle: Path, tmp_path: Path) -> None:
    digits = digits_bundle.parent / "digits"
    folder = make_digits_folder(tmp_path / "new", (3,), slice(12), "digit ") / "digit 3"
    shutil.copy(digits / "digit 1" / "000.png", folder / "one.png")
    added = megavit.add_classes(digits_bundle, [folder], out=tmp_path / "out")
    assert added.notes == (f"{str(folder)!r}: 1 left out, the same files as images of the class 'digit 1'",)
    with pytest.raises(DataError, match="no image that can be added: 40 left out, already images of the bundle"):
        megavit.add_classes(digits_bundle, [digits / "digit 1"], out=tmp_path / "other")


def test_one_image_is_enough_but_nothing_can_be_said_of_its_class(
    digits_bundle: Path, added_digits: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "digit 3"
    folder.mkdir()
    shutil.copy(added_digits / "new" / "digit 3" / "000.png", folder)
    added = megavit.add_classes(digits_bundle, [folder], out=tmp_path / "out")
    (one,) = added.added
    assert (one.images, one.recall, one.is_separable) == ({"train": 1, "val": 0, "test": 0}, None, None)
    assert megavit.load(added).predict(folder / "000.png").label == "digit 3"


def test_a_class_that_looks_like_another_needs_a_training(digits_bundle: Path, tmp_path: Path) -> None:
    folder = make_look_alike(digits_bundle, tmp_path / "zero")
    added = megavit.add_classes(digits_bundle, [folder], out=tmp_path / "out")
    (one,) = added.added
    assert one.is_separable is False and one.nearest_class == "digit 0" and added.needs_training
    assert one.told_apart is not None and one.told_apart < 0.8
    assert added.advice[0].startswith("'zero' is not separable from 'digit 0' with these features")


def test_a_name_that_looks_like_another_is_refused(digits_bundle: Path, added_digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Digit_1"
    shutil.copytree(added_digits / "more" / "digit 1", folder)
    with pytest.raises(DataError, match=r"hard to distinguish from another by name, 'digit 1' .* and 'Digit_1'"):
        megavit.add_classes(digits_bundle, [folder], out=tmp_path / "out")
    with pytest.raises(ConfigError, match="no folder was given"):
        megavit.add_classes(digits_bundle, [], out=tmp_path / "out")


def test_images_that_were_moved_are_found_where_they_are_said_to_be(
    digits_bundle: Path, added_digits: Path, tmp_path: Path
) -> None:
    bundle, folders = tmp_path / "elsewhere", [added_digits / "new" / "digit 3"]
    shutil.copytree(digits_bundle, bundle)
    edit_bundle_info(bundle, lambda table: table["data"].update(source=str(tmp_path / "gone")))
    with pytest.raises(BundleError, match=r"are no longer at .*gone: pass its images with --data"):
        megavit.add_classes(bundle, folders, out=tmp_path / "out")
    moved = tmp_path / "moved"
    shutil.copytree(digits_bundle.parent / "digits", moved)
    shutil.copytree(added_digits / "new" / "digit 4", moved / "digit 4")
    (moved / "digit 0" / "000.png").unlink()
    reporter = Saying()
    added = megavit.add_classes(digits_bundle, folders, out=tmp_path / "out", data=moved, reporter=reporter)
    assert added.metrics.images in (14, 15)
    assert megavit.load(added).info.data["location"] == str(moved)
    assert reporter.said == [
        "1 of the 120 images of the bundle are no longer there, or have changed: the others are used"
    ]
    shutil.rmtree(moved / "digit 2")
    with pytest.raises(DataError, match="no longer has the training images of 'digit 2'"):
        megavit.add_classes(digits_bundle, folders, out=tmp_path / "other", data=moved)


def test_a_bundle_is_only_replaced_if_it_is_named_as_output(
    digits_bundle: Path, added_digits: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "run" / "bundle"
    shutil.copytree(digits_bundle, bundle)
    folders = [added_digits / "new" / "digit 3"]
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match=r"taken already exists: choose a new folder with --out, or pass that of"):
        megavit.add_classes(bundle, folders, out=tmp_path / "taken")
    added = megavit.add_classes(bundle, folders, out=bundle.parent)
    assert added.folder == bundle and "digit 3" in megavit.load(bundle.parent).labels


@pytest.mark.parametrize(
    ("outputs", "target", "said"),
    [(0, Target(), "has no classifier"), (1, Target(kind="regression"), "predicts a number for an image")],
)
def test_other_bundles_are_refused(outputs: int, target: Target, said: str, added_digits: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", make_model(outputs), (), target=target, metrics={})
    with pytest.raises(BundleError, match=said):
        megavit.add_classes(tmp_path / "bundle", [added_digits / "new" / "digit 3"], out=tmp_path / "out")
