import pytest
import torch
from torch.nn import functional as F

from megavit.config.distillation import DistillationRecipe
from megavit.training.optim.distillation import DistillationLoss, TeacherTargets, drop_teacher_outputs, standardize
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


def test_features_are_standardized_over_views_and_images() -> None:
    features = 5 * draw(2, 9, 4) + 3
    features[..., 2] = 7.0
    found = standardize(features)
    torch.testing.assert_close(found.mean((0, 1)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std((0, 1), correction=0), torch.tensor([1.0, 1, 0, 1]))


def test_one_view_leaves_the_crops_to_the_student() -> None:
    maps, nothing = draw(2, 5, 2, 3), torch.zeros(2, 5, 4)
    several = TeacherTargets(maps, nothing, None, torch.zeros(5), {})
    indices = torch.tensor([4, 0])
    found = several.select_maps(torch.tensor([1, 0]), indices)
    assert found is not None and torch.equal(found, torch.stack([maps[1, 4], maps[0, 0]]))
    assert set(several.draw_views(50, is_whole=False).tolist()) == {0, 1}
    assert several.draw_views(50, is_whole=True).tolist() == [0] * 50
    assert (
        TeacherTargets(maps[:1], nothing, None, torch.zeros(5), {}).select_maps(torch.zeros(2).long(), indices) is None
    )


def test_the_outputs_for_features_are_dropped_and_the_others_kept() -> None:
    model = make_model(2 + 7).eval()
    student = drop_teacher_outputs(model, 2).eval()
    images = draw(3, 3, 8, 8)
    assert student.config.num_classes == 2
    assert torch.equal(student(images), model(images)[:, :2]) or torch.allclose(student(images), model(images)[:, :2])
