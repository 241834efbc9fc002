from dataclasses import replace

import pytest
import torch

from megavit.config.recipe import DataRecipe
from megavit.data.sources.demo import read_demo
from megavit.errors import Interrupted
from megavit.training import cross_val_predict as module
from megavit.training.cross_val_predict import cross_val_predict
from megavit.training.progress import NullReporter


class Counting:
    def __init__(self):
        self.reported, self.said = [], []

    def say(self, text):
        self.said.append(text)

    def progress(self, what, done, total):
        self.reported.append((what, done, total))

    def data(self, dataset): ...

    def plan(self, recipe, steps, parameters): ...

    def step(self, step, steps, loss): ...

    def epoch(self, record): ...


@pytest.fixture(scope="module")
def digits():
    """600 images, of every class."""
    whole = read_demo("demo:digits", DataRecipe())
    return replace(whole, samples=whole.samples[::3])


def test_every_image_is_answered_for_by_models_that_learned_from_others(digits, monkeypatch):
    seen = []
    whole = module.train_stage

    def watched(ctx, inputs, method, budget_seconds):
        loaders = (inputs.train_loader, inputs.held_out_loader)
        seen.append([set(loader.images.samples) for loader in loaders])
        assert inputs.task.num_images == len(loaders[0]) == len(loaders[0].labels)
        return whole(ctx, inputs, method, budget_seconds)

    monkeypatch.setattr(module, "train_stage", watched)
    monkeypatch.setattr(module, "MAX_EPOCHS", 2)  # so that the number of steps does not hang on the machine's speed
    monkeypatch.setattr(module, "MAX_STEPS", 16)
    watch = Counting()
    answers = cross_val_predict(digits, 30, watch, "cpu")
    assert answers.indices.tolist() == list(range(len(digits.samples)))
    torch.testing.assert_close(answers.probabilities.sum(dim=1), torch.ones(len(digits.samples)))
    labels = torch.tensor([sample.label for sample in digits.samples])
    assert (answers.probabilities.argmax(dim=1) == labels).float().mean() > 0.2
    held = [names for _, names in seen]
    assert sum(map(len, held)) == len(set().union(*held)) == len(digits.samples)
    assert not any({one.name for one in learned} & {one.name for one in names} for learned, names in seen)
    assert watch.reported[-1][1:] == (100, 100) and len({what for what, *_ in watch.reported}) == 1


def test_a_wish_to_stop_ends_it_with_a_word(digits, monkeypatch):
    def stopped(*_arguments):
        raise Interrupted("stopped as requested after step 1 of 20; all progress is saved", 15)

    monkeypatch.setattr(module, "train_stage", stopped)
    with pytest.raises(Interrupted, match="the labels were not checked") as raised:
        cross_val_predict(digits, 0.05, NullReporter(), "cpu")
    assert raised.value.exit_code == 128 + 15
