import math
from pathlib import Path

import pytest
import torch

from megavit.config.target import Target, TargetKind
from megavit.data.byte_range import content_digest
from megavit.data.dataset import LabeledImages, Sample, TargetValue
from megavit.evaluation.inference import run_inference
from megavit.evaluation.robustness import robustness
from megavit.evaluation.robustness.corruptions import CORRUPTIONS, SEVERITIES
from megavit.evaluation.robustness.robustness import Robustness, compute_robustness, corrupt_image, stratified_sample
from megavit.predict.predictor import Predictor, load
from tests.helpers.bundles import LABELS, make_bundle, make_model


def quiet(done: int, total: int) -> None:
    pass


def labeled(count: int, kind: TargetKind, channels: int = 3) -> LabeledImages:
    random = torch.Generator().manual_seed(1)
    memory = {
        f"{i:03}": torch.randint(0, 256, (channels, 8, 8), dtype=torch.uint8, generator=random) for i in range(count)
    }
    targets: dict[TargetKind, list[TargetValue]] = {
        "classification": [i % 3 for i in range(count)],
        "multilabel": [(i % 3,) if i % 2 else () for i in range(count)],
        "regression": [i / count for i in range(count)],
    }
    samples = tuple(
        Sample(name, target, "test", 8, 8, channels, content_digest(picture.numpy().tobytes()))
        for (name, picture), target in zip(memory.items(), targets[kind], strict=True)
    )
    names = () if kind == "regression" else LABELS
    return LabeledImages("photos", None, names, samples, (), "", memory, kind)


def predictor_of(folder: Path, kind: TargetKind = "classification", channels: int = 3) -> Predictor:
    outputs = 1 if kind == "regression" else 3
    model = make_model(outputs, channels=channels)
    target = Target(kind=kind, thresholds=[0.5] * 3 if kind == "multilabel" else [])
    make_bundle(folder, model, () if kind == "regression" else LABELS, target=target, metrics={})
    predictor = load(folder, device="cpu")
    predictor.engine.patience = math.inf  # PyTorch alone, so that answers are the same however busy the machine is
    return predictor


def measured(folder: Path, kind: TargetKind = "classification", count: int = 12, batch_size: int = 8) -> Robustness:
    images = labeled(count, kind)
    found = compute_robustness(predictor_of(folder, kind), images, images.samples, batch_size, quiet)
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def few_corruptions(monkeypatch, request):
    """Three corruptions at two severities, but in the test of all."""
    if "every_corruption" not in request.node.name:
        few = {name: CORRUPTIONS[name] for name in ("Gaussian noise", "saturate", "JPEG")}
        monkeypatch.setattr(robustness, "CORRUPTIONS", few)
        monkeypatch.setattr(robustness, "SEVERITIES", (1, 5))


@pytest.mark.parametrize(
    ("kind", "metric"),
    [("classification", "accuracy"), ("multilabel", "mean average precision"), ("regression", "mean absolute error")],
)
def test_every_corruption_has_every_severity_and_the_means_are_means(tmp_path, kind, metric):
    found = measured(tmp_path / "b", kind)
    assert (found.metric, found.images, found.available) == (metric, 12, 12)
    assert [one.name for one in found.corruptions] == list(CORRUPTIONS)
    for one in found.corruptions:
        assert len(one.severities) == len(SEVERITIES)
        assert one.mean.value == pytest.approx(sum(cell.value for cell in one.severities) / len(SEVERITIES))
        assert all(cell.low <= cell.value <= cell.high for cell in (*one.severities, one.mean))
    means = [one.mean.value for one in found.corruptions]
    assert found.mean.value == pytest.approx(sum(means) / len(means))


def test_images_that_are_resized_without_rounding_are_changed_at_whole_levels():
    picture = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    levels = (picture * 255).round().to(torch.uint8)
    assert torch.equal(
        corrupt_image(picture, "Gaussian noise", 2, "x"), corrupt_image(levels, "Gaussian noise", 2, "x")
    )


def test_the_clean_figure_is_the_usual_one_on_the_same_images(tmp_path):
    predictor, images = predictor_of(tmp_path / "b"), labeled(30, "classification")
    found = compute_robustness(predictor, images, images.samples, 7, quiet)
    answers = predictor.calibrator.outputs(run_inference(predictor, images, images.samples, 30, quiet).logits)
    right = sum(int(answer.argmax()) == sample.label for answer, sample in zip(answers, images.samples, strict=True))
    assert found is not None and found.clean.value == right / 30


def test_the_same_again_and_whatever_the_batch(tmp_path):
    first = measured(tmp_path / "a", batch_size=8)
    assert measured(tmp_path / "b", batch_size=8) == first
    assert measured(tmp_path / "c", batch_size=12).mean.value == pytest.approx(first.mean.value, abs=0.003)


def test_progress_counts_every_picture_once(tmp_path):
    reported: list[tuple[int, int]] = []
    images = labeled(5, "classification")
    compute_robustness(
        predictor_of(tmp_path / "b"), images, images.samples, 2, lambda done, total: reported.append((done, total))
    )
    total = 5 * (1 + 3 * 2)
    assert reported[-1] == (total, total)
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)


def test_color_is_left_out_of_a_gray_model(tmp_path):
    images = labeled(6, "classification", 1)
    found = compute_robustness(predictor_of(tmp_path / "b", channels=1), images, images.samples, 6, quiet)
    assert found is not None
    assert [one.name for one in found.corruptions] == ["Gaussian noise", "JPEG"]


def test_gray_pictures_have_no_color_to_lose_in_a_color_model(tmp_path):
    images = labeled(6, "classification", 1)
    found = compute_robustness(predictor_of(tmp_path / "b"), images, images.samples, 6, quiet)
    assert found is not None and "saturate" not in [one.name for one in found.corruptions]


def test_images_that_keep_their_aspect_are_measured_one_by_one(tmp_path):
    make_bundle(tmp_path / "b")
    images = labeled(6, "classification")
    found = compute_robustness(load(tmp_path / "b", device="cpu", keep_aspect=True), images, images.samples, 4, quiet)
    assert found is not None and found.images == 6


def test_without_any_label_there_is_nothing_to_measure(tmp_path):
    images = labeled(4, "multilabel")
    bare = [Sample(one.name, (), "test", 8, 8, 3, one.digest) for one in images.samples]
    assert compute_robustness(predictor_of(tmp_path / "b", "multilabel"), images, bare, 4, quiet) is None


def test_a_part_of_the_images_has_every_class_in_its_share():
    samples = [Sample(f"{i}", int(i % 10 == 0), "test", 8, 8, 3, content_digest(f"{i}".encode())) for i in range(2000)]
    chosen = stratified_sample(samples, 500)
    assert len({sample.name for sample in chosen}) == 500
    assert sum(sample.label for sample in chosen) == 50
    assert stratified_sample(samples[::-1], 500) == chosen
    assert stratified_sample(samples[:9], 500) == samples[:9]
