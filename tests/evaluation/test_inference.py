"""A bundle is measured on images it has not learned from, with its own numbers for the classes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from megavit.config.recipe import DataRecipe
from megavit.data.byte_range import content_digest
from megavit.data.dataset import LabeledImages, Sample, SampleRow, read_samples
from megavit.data.load import load_data
from megavit.errors import DataError
from megavit.evaluation.inference import SplitSelection, check_channels, run_inference, select_split
from megavit.predict.predictor import Predictor, load
from megavit.weights.bundle.bundle import SAMPLES
from tests.helpers.bundles import LABELS, make_bundle


def sample(name: str, label: int, split: str = "train") -> Sample:
    return Sample(name, label, split, 8, 8, 3, content_digest(name.encode()))


def images_of(samples: Sequence[Sample], classes: tuple[str, ...] = LABELS, root: Path | None = None) -> LabeledImages:
    return LabeledImages("photos", root, classes, tuple(samples), (), "")


def known(*rows: tuple[str, str]) -> tuple[SampleRow, ...]:
    """(content, split) as rows under other names than those of the data."""
    return tuple(
        SampleRow(f"elsewhere/{i}", "cat", split, content_digest(name.encode())) for i, (name, split) in enumerate(rows)
    )


def names(choice: SplitSelection) -> list[str]:
    return [sample.name for sample in choice.samples]


# which images


@pytest.mark.parametrize(
    ("splits", "taken"), [(("train", "val", "test"), "test"), (("train", "val"), "val"), (("train",), "all")]
)
def test_the_test_split_is_taken_else_the_validation_split_else_all(splits, taken):
    samples = [sample(f"{split}{i}", i, split) for split in splits for i in range(3)]
    choice = select_split(images_of(samples), LABELS, ())
    assert choice.split == taken
    assert names(choice) == [one.name for one in samples if taken in (one.split, "all")]
    assert choice.excluded == 0


def test_images_trained_on_are_known_by_content_and_left_out():
    samples = [sample(name, 0) for name in "abcd"]
    choice = select_split(images_of(samples), LABELS, known(("b", "train"), ("d", "val"), ("other", "train")))
    assert names(choice) == ["a", "c"]
    assert choice.excluded == 2


def test_the_bundles_own_test_images_may_be_measured_again():
    samples = [sample(name, 0, "test") for name in "ab"]
    assert names(select_split(images_of(samples), LABELS, known(("a", "test"), ("b", "test")))) == ["a", "b"]


def test_an_image_that_was_both_trained_and_tested_on_is_left_out():
    samples = [sample(name, 0) for name in "ab"]
    assert names(select_split(images_of(samples), LABELS, known(("a", "test"), ("a", "train")))) == ["b"]


def test_the_same_names_with_other_content_are_new():
    rows = (SampleRow("a", "cat", "train", content_digest(b"another picture")),)
    assert names(select_split(images_of([sample("a", 0)]), LABELS, rows)) == ["a"]


def test_when_nothing_is_left_it_is_said():
    with pytest.raises(DataError, match="trained or selected on all 2 images of photos"):
        select_split(images_of([sample("a", 0), sample("b", 1)]), LABELS, known(("a", "train"), ("b", "val")))


# which labels


def test_labels_are_the_bundles_numbers_whatever_those_of_the_data():
    samples = [sample("a", 0), sample("b", 1), sample("c", 2)]
    choice = select_split(images_of(samples, ("newt", "cat", "dog")), LABELS, ())
    assert [one.label for one in choice.samples] == [2, 0, 1]


def test_data_may_have_only_some_of_the_classes():
    choice = select_split(images_of([sample("a", 0), sample("b", 1)], ("dog", "newt")), LABELS, ())
    assert [one.label for one in choice.samples] == [1, 2]


def test_nothing_but_the_label_of_a_sample_changes():
    one = sample("a", 0, "test")
    assert select_split(images_of([one], ("newt",)), LABELS, ()).samples == (replace(one, target=2),)


def test_classes_that_the_bundle_does_not_know_are_refused_by_name():
    with pytest.raises(DataError) as caught:
        select_split(images_of([sample("a", 0)], ("cat", "Dog", "owl")), LABELS, ())
    assert "photos has classes that the bundle does not have: 'Dog', 'owl'" in str(caught.value)
    assert "it has 'cat', 'dog', 'newt'" in str(caught.value)


def test_of_many_classes_the_refusal_names_ten():
    with pytest.raises(DataError) as caught:
        select_split(images_of([], tuple(f"x{i:02}" for i in range(50))), [f"y{i:02}" for i in range(50)], ())
    reported = str(caught.value)
    assert "'x09'" in reported
    assert "'x10'" not in reported
    assert "'y09' …" in reported
    assert "'y10'" not in reported


# measuring


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    make_bundle(tmp_path / "bundle")
    return load(tmp_path / "bundle", device="cpu")


def pictures(count: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        f"{i:03}": torch.randint(0, 256, (3, 9 + i % 3, 12), dtype=torch.uint8, generator=random) for i in range(count)
    }


@pytest.mark.parametrize("batch_size", [1, 4, 99])
def test_the_metrics_are_those_of_the_predictors_answers(batch_size, predictor):
    memory = pictures(11)
    answers = [predictor.predict(picture).label for picture in memory.values()]
    classes = ("newt", "dog", "cat")  # in another order than the bundle's
    samples = [sample(name, classes.index(answer)) for name, answer in zip(memory, answers, strict=True)]
    samples[3] = replace(samples[3], target=(samples[3].label + 1) % 3)  # one answer is wrong
    images = replace(images_of(samples, classes), memory=memory)
    reported: list[tuple[int, int]] = []
    choice = select_split(images, predictor.labels, ())
    outputs = run_inference(
        predictor, images, choice.samples, batch_size, lambda done, total: reported.append((done, total))
    )
    predicted = predictor.calibrator.outputs(outputs.logits).argmax(dim=1).tolist()
    assert [LABELS[label] for label in predicted] == answers
    assert sum(label == one.label for label, one in zip(predicted, choice.samples, strict=True)) == 10
    assert reported == [(min(done, 11), 11) for done in range(batch_size, 11 + batch_size, batch_size)]


def test_a_folder_of_images_that_were_moved_and_renamed_is_recognized(tmp_path):
    def write(name: str, seed: int) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        array = np.random.default_rng(seed).integers(0, 256, (10, 10, 3), dtype=np.uint8)
        PIL.Image.fromarray(array).save(tmp_path / name)

    for seed in range(6):
        write(f"then/{LABELS[seed % 2]}/{seed}.png", seed)
    for seed in range(4, 9):
        write(f"now/{LABELS[seed % 2]}/inner/renamed-{seed}.png", seed)

    then = load_data(str(tmp_path / "then"), DataRecipe(val=0, test=0))
    make_bundle(tmp_path / "bundle", samples=then.samples)
    now = load_data(str(tmp_path / "now"), DataRecipe(val=0, test=0))
    choice = select_split(now, LABELS, read_samples(tmp_path / "bundle" / SAMPLES))
    assert names(choice) == [f"{LABELS[seed % 2]}/inner/renamed-{seed}.png" for seed in (6, 8, 7)]
    assert choice.excluded == 2
    outputs = run_inference(load(tmp_path / "bundle"), now, choice.samples, 2, lambda done, total: None)
    assert outputs.logits.shape == (3, 3)


# other targets


def test_labels_get_the_bundles_numbers_and_scores_stay():
    labels = LabeledImages(
        "x.csv", None, ("dog", "cat"), (replace(sample("a", 0), target=(0, 1)),), (), "", target="multilabel"
    )
    assert select_split(labels, LABELS, (), "multilabel").samples[0].labels == (0, 1)
    newt = replace(labels, classes=("newt", "cat"))
    assert select_split(newt, LABELS, (), "multilabel").samples[0].labels == (0, 2)
    scores = LabeledImages("x.csv", None, (), (replace(sample("a", 0), target=2.5),), (), "", target="regression")
    assert select_split(scores, (), (), "regression").samples == scores.samples


@pytest.mark.parametrize(("target", "said"), [("multilabel", "column labels"), ("regression", "column score")])
def test_data_of_another_target_is_refused_saying_what_to_give(target, said):
    with pytest.raises(DataError, match=rf"photos has one class per image, but the bundle predicts .*{said}"):
        select_split(images_of([sample("a", 0)]), LABELS, (), target)


def test_images_of_other_channels_than_the_models_are_refused_by_name():
    odd = replace(sample("odd.npy", 0, "test"), channels=5)
    images = LabeledImages("photos", None, ("a", "b"), (odd,), (), "all of it")
    with pytest.raises(DataError, match=r"'odd.npy' of 'photos' has 5 channels, but the bundle takes images with 3"):
        check_channels(images, (odd,), 3)
