import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from megavit.evaluation.probes.linear_probe import fit_linear_probes, select_linear_probe
from tests.evaluation.probes.test_knn import clouds


def test_it_is_the_logistic_regression_of_scikit_learn():
    embeddings, labels = clouds(60, 0.6)
    penalty = 0.03
    probe = fit_linear_probes(embeddings, F.one_hot(labels, 3).float(), F.cross_entropy, torch.zeros(3), (penalty,))[0]
    mean, std = embeddings.mean(0), embeddings.std(0, correction=0)
    # Its objective is C × the sum of losses + half the sum of squares.
    theirs = LogisticRegression(C=1 / (2 * penalty * 60), tol=1e-10, max_iter=10_000)
    theirs.fit(((embeddings - mean) / std).double().numpy(), labels.numpy())
    expected = theirs.predict_proba(((embeddings - mean) / std).double().numpy())
    np.testing.assert_allclose(probe.logits(embeddings).softmax(1).numpy(), expected, atol=2e-4)


def test_a_constant_feature_and_scale_do_not_matter():
    embeddings, labels = clouds(40, 0.3)
    soft = F.one_hot(labels, 3).float()
    plain = fit_linear_probes(embeddings, soft, F.cross_entropy, torch.zeros(3), (0.01,))[0]
    scaled = torch.cat([embeddings * 1000 + 7, torch.full((40, 1), 3.0)], dim=1)
    other = fit_linear_probes(scaled, soft, F.cross_entropy, torch.zeros(3), (0.01,))[0]
    torch.testing.assert_close(other.logits(scaled), plain.logits(embeddings), atol=0.02, rtol=0.02)
    assert other.weight.isfinite().all()


@pytest.mark.parametrize("images", [3, 30, 2500])
def test_the_penalty_is_strong_where_there_is_nothing_to_learn_and_weak_where_there_is(images):
    embeddings, labels = clouds(images, 0.05)
    soft = F.one_hot(labels, 3).float()
    learned = select_linear_probe(embeddings, soft, labels, F.cross_entropy, torch.zeros(3))
    assert (learned.logits(embeddings).argmax(1) == labels).all()
    noise = torch.randn(images, 5, generator=torch.Generator().manual_seed(1))
    nothing = select_linear_probe(noise, soft, labels, F.cross_entropy, torch.zeros(3))
    assert nothing.penalty > learned.penalty or images == 3


def test_labels_and_scores_are_fitted_by_their_own_losses():
    embeddings, _ = clouds(60, 0.4)
    present = embeddings[:, :2] > 0.5
    labels = select_linear_probe(
        embeddings, present.float(), present, F.binary_cross_entropy_with_logits, torch.tensor([-1.0, 1.0])
    )
    assert ((labels.logits(embeddings) > 0) == present).float().mean() > 0.9
    scores = embeddings @ torch.tensor([[1.0], [2.0], [0.0], [0.0], [-1.0]]) + 3
    fitted = select_linear_probe(embeddings, scores, scores[:, 0], F.mse_loss, torch.zeros(1))
    torch.testing.assert_close(fitted.logits(embeddings), scores, atol=0.05, rtol=0.05)
