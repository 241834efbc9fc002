"""The logits of many batches: in evaluation mode, without gradients, and with nothing left switched on."""

from typing import Any

import pytest
import torch

from megavit.config.preprocessing import Preprocessing
from megavit.data.augment import normalize
from megavit.predict.forward import compute_logits
from tests.helpers.bundles import make_model

SIZE = Preprocessing(height=8, width=8, channels=3, mean=0.4, std=0.3)
BATCHES = torch.randint(0, 256, (3, 2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_they_are_those_of_the_normalized_pictures():
    model = make_model().eval()
    found = list(compute_logits(model, BATCHES, SIZE))
    assert len(found) == 3
    for logits, batch in zip(found, BATCHES, strict=True):
        assert torch.equal(logits, model(normalize(batch, SIZE)))
        assert not logits.requires_grad


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_is_as_before(training):
    model = make_model(dropout=0.5).train(training)
    first, second = (torch.cat(list(compute_logits(model, BATCHES, SIZE))) for _ in range(2))
    assert torch.equal(first, second)
    assert model.training is training


def test_the_mode_is_as_before_where_the_reader_stops_early():
    model = make_model().train()
    answers: Any = compute_logits(model, BATCHES, SIZE)
    next(answers)
    answers.close()
    assert model.training


def test_the_mode_is_as_before_where_a_batch_cannot_be():
    model = make_model().train()
    with pytest.raises(ValueError):
        list(compute_logits(model, [torch.zeros(1, 3, 9, 9, dtype=torch.uint8)], SIZE))
    assert model.training


def test_bfloat16_gives_nearly_the_same_in_float32():
    model = make_model()
    exact = torch.cat(list(compute_logits(model, BATCHES, SIZE)))
    rounded = torch.cat(list(compute_logits(model, BATCHES, SIZE, torch.bfloat16)))
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1


def test_between_two_batches_the_caller_computes_as_ever():
    answers: Any = compute_logits(make_model(), BATCHES, SIZE, torch.bfloat16)
    next(answers)
    between = (torch.is_autocast_enabled("cpu"), torch.is_grad_enabled(), (torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
    answers.close()  # before the assertion, so that what is left on does not reach other tests
    assert between == (False, True, torch.float32)


def test_batches_are_asked_for_one_by_one():
    asked = []

    def batches():
        for i, batch in enumerate(BATCHES):
            asked.append(i)
            yield batch

    answers = compute_logits(make_model(), batches(), SIZE)
    assert asked == []
    next(answers)
    assert asked == [0]
