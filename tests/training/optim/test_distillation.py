import pytest
import torch
from torch.nn import functional as F

from megavit.config.distillation import DistillationRecipe
from megavit.training.optim.distillation import (
    OWN,
    DistillationLoss,
    TeacherTargets,
    drop_teacher_outputs,
    standardize,
)
from megavit.training.optim.loss import CrossEntropy
from tests.helpers.bundles import make_model


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("has_logits", [True, False])
def test_the_loss_is_that_of_labels_features_and_softened_logits(has_logits: bool) -> None:
    recipe = DistillationRecipe(teacher="name", features=2.0, logits=0.25, temperature=3.0)
    outputs, labels, features = draw(6, 3 + 5), F.one_hot(torch.tensor([0, 2, 1, 1, 0, 2]), 3).float(), draw(6, 5)
    teacher = (draw(6, 3) / 3).softmax(dim=1)
    targets = torch.cat([labels, features, teacher] if has_logits else [labels, features], dim=1)
    found = DistillationLoss(CrossEntropy(0.1), 3, recipe)(outputs, targets)
    by_labels = F.cross_entropy(outputs[:, :3], labels, label_smoothing=0.1)
    by_features = F.mse_loss(outputs[:, 3:], features)
    softened = F.cross_entropy(outputs[:, :3] / 3, teacher) * 9
    expected = (0.75 * by_labels + 0.25 * softened if has_logits else by_labels) + 2 * by_features
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("has_logits", [True, False])
def test_views_that_the_teacher_has_not_seen_count_for_the_labels_alone(has_logits: bool) -> None:
    recipe = DistillationRecipe(teacher="name", features=2.0, logits=0.25)
    loss = DistillationLoss(CrossEntropy(0.0), 3, recipe)
    labels = F.one_hot(torch.tensor([0, 2, 1, 1]), 3).float()
    imitated = draw(4, 5 + 3 * has_logits).softmax(dim=1)
    unseen = torch.full_like(imitated, torch.nan)
    outputs = draw(4, 3 + 5).requires_grad_()
    none = loss(outputs, torch.cat([labels, unseen], dim=1))
    torch.testing.assert_close(none, F.cross_entropy(outputs[:, :3], labels))
    none.backward()
    assert outputs.grad is not None and outputs.grad.isfinite().all() and not outputs.grad[:, 3:].any()
    half = torch.cat([torch.cat([labels, imitated], dim=1)[:2], torch.cat([labels, unseen], dim=1)[2:]])
    labels_alone = F.cross_entropy(outputs[:, :3], labels)
    features = 2 * F.mse_loss(outputs[:2, 3:], imitated[:2, :5]) / 2
    if has_logits:
        softened = F.cross_entropy(outputs[:2, :3] / 2, imitated[:2, 5:]) * 4
        labels_alone = (1 - 0.25 / 2) * labels_alone + 0.25 / 2 * softened
    torch.testing.assert_close(loss(outputs, half), labels_alone + features)


def test_features_are_standardized_over_views_and_images() -> None:
    features = 5 * draw(2, 9, 4) + 3
    features[..., 2] = 7.0
    found = standardize(features)
    torch.testing.assert_close(found.mean((0, 1)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std((0, 1), correction=0), torch.tensor([1.0, 1, 0, 1]))


def test_about_half_of_the_images_are_seen_as_the_teacher_saw_them() -> None:
    maps, features, own = draw(2, 5, 2, 3), draw(2, 5, 4), draw(3, 2, 3)
    targets = TeacherTargets(maps, features, None, torch.zeros(5), {})
    views, indices = torch.tensor([1, OWN, 0]), torch.tensor([4, 2, 0])
    assert torch.equal(targets.select_maps(views, indices, own), torch.stack([maps[1, 4], own[1], maps[0, 0]]))
    found = targets.look_up(views, indices)
    assert torch.equal(found[[0, 2]], torch.stack([features[1, 4], features[0, 0]])) and found[1].isnan().all()
    torch.manual_seed(0)
    drawn = targets.draw_views(1000, is_whole=False)
    assert set(drawn.tolist()) == {OWN, 0, 1} and 400 < int((drawn == OWN).sum()) < 600
    assert targets.draw_views(50, is_whole=True).tolist() == [0] * 50


def test_the_outputs_for_features_are_dropped_and_the_others_kept() -> None:
    model = make_model(2 + 7).eval()
    student = drop_teacher_outputs(model, 2).eval()
    images = draw(3, 3, 8, 8)
    assert student.config.num_classes == 2
    assert torch.equal(student(images), model(images)[:, :2]) or torch.allclose(student(images), model(images)[:, :2])
