from dataclasses import replace

import pytest
import torch

from megavit.errors import Interrupted
from megavit.predict.forward import compute_embeddings
from megavit.runtime.seeds import seed_all
from megavit.training.finetune import embeddings as module
from megavit.training.finetune.embeddings import Embeddings
from megavit.training.loop.build import StartingModel, make_eval_loader
from megavit.weights.pretrained.origin import Origin
from tests.helpers.listener import Listener
from tests.helpers.training import fresh_state, make_context, make_task


@pytest.fixture
def start() -> StartingModel:
    seed_all(0)
    task = make_task()
    return StartingModel(fresh_state(task).model, task, [], Origin())


@pytest.fixture
def ctx(tmp_path):
    return make_context(tmp_path, reporter=Listener())


@pytest.fixture
def computed(monkeypatch):
    """The number of images of each batch that was computed, of three at most, each of which is written."""
    sizes: list[int] = []
    run = module.Engine.__call__

    def count(engine, images):
        sizes.append(len(images))
        return run(engine, images)

    monkeypatch.setattr(module, "short_batch_size", lambda config, device: 3)
    monkeypatch.setattr(module, "WRITE_SECONDS", -1.0)
    monkeypatch.setattr(module.Engine, "__call__", count)
    return sizes


def loader_of(ctx, start, split):
    return make_eval_loader(ctx, start.task, ctx.dataset.in_split(split))


def test_embeddings_are_those_of_the_model_and_are_computed_once(ctx, start, computed):
    embeddings, loader = Embeddings(ctx, start, "weights"), loader_of(ctx, start, "train")
    found = embeddings.of(loader)
    batches = loader.sequential_batches()
    expected = torch.cat([*compute_embeddings(start.model, batches, start.task.preprocessing)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert sum(computed) == len(loader) and embeddings.image_seconds > 0
    assert torch.equal(embeddings.of(loader.subset(torch.tensor([5, 2]))), found[[5, 2]])
    assert sum(computed) == len(loader)
    embeddings.of(loader_of(ctx, start, "val"))
    assert sum(computed) == len(loader) + 8


def test_a_stopped_run_goes_on_from_what_was_embedded_to_the_same_bits(ctx, start, computed, tmp_path):
    loader = loader_of(ctx, start, "train")
    whole = Embeddings(replace(ctx, run_dir=tmp_path / "other"), start, "weights").of(loader)
    computed.clear()

    class Stopping(Listener):
        def progress(self, what, done, total):
            if done >= 9:
                raise Interrupted("stopped", 15)

    with pytest.raises(Interrupted):
        Embeddings(replace(ctx, reporter=Stopping()), start, "weights").of(loader)
    assert computed == [3, 3, 3]
    resumed = Embeddings(ctx, start, "weights")
    assert resumed.seconds > 0 and resumed.elapsed > 0
    assert torch.equal(resumed.of(loader), whole)
    assert sum(computed) == len(loader)  # none of them twice


def test_another_model_or_preprocessing_has_its_own_embeddings(ctx, start, computed):
    loader = loader_of(ctx, start, "val")
    Embeddings(ctx, start, "weights").of(loader)
    Embeddings(ctx, start, "other weights").of(loader)
    blurred = replace(start.task, preprocessing=replace(start.task.preprocessing, mean=0.1))
    Embeddings(ctx, replace(start, task=blurred), "weights").of(loader)
    assert sum(computed) == 3 * len(loader)


def test_a_run_in_bfloat16_embeds_in_bfloat16_and_reads_no_other_embeddings(ctx, start, computed):
    loader = loader_of(ctx, start, "train")
    exact = Embeddings(ctx, start, "weights").of(loader)
    recipe = replace(start.task.recipe, run=replace(start.task.recipe.run, precision="bfloat16"))
    rounded = Embeddings(ctx, replace(start, task=replace(start.task, recipe=recipe)), "weights")
    found = rounded.of(loader)
    assert sum(computed) == 2 * len(loader)
    assert 0 < (found - exact).norm() / exact.norm() < 0.02
    assert rounded.exact_image_seconds > rounded.image_seconds


def test_a_damaged_file_is_said_and_its_images_are_embedded_again(ctx, start, computed):
    loader = loader_of(ctx, start, "val")
    found = Embeddings(ctx, start, "weights").of(loader)
    first = max(ctx.run_dir.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    first.write_bytes(first.read_bytes()[:-10])
    computed.clear()
    assert torch.equal(Embeddings(ctx, start, "weights").of(loader), found)
    assert computed == [3] and f"the embeddings in {first} are damaged" in ctx.reporter.lines[0]


def test_a_run_by_epochs_never_chooses_its_runtime_by_measuring(ctx, start):
    assert start.task.recipe.run.epochs and Embeddings(ctx, start, "weights")._engine.patience == float("inf")
    by_time = replace(start.task.recipe, run=replace(start.task.recipe.run, epochs=None))
    timed = replace(start, task=replace(start.task, recipe=by_time))
    assert Embeddings(ctx, timed, "weights")._engine.patience < 1


def test_another_run_by_minutes_takes_what_the_first_has_computed(ctx, start, computed, tmp_path, monkeypatch):
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "cache"))
    recipe = replace(start.task.recipe, run=replace(start.task.recipe.run, epochs=None, minutes=1.0))
    by_minutes = replace(start, task=replace(start.task, recipe=recipe))
    loader = loader_of(ctx, start, "train")
    first = Embeddings(ctx, by_minutes, "weights")
    found = first.of(loader)
    count = sum(computed)
    again = Embeddings(replace(ctx, run_dir=tmp_path / "again"), by_minutes, "weights")
    assert torch.equal(again.of(loader), found) and sum(computed) == count
    assert again.seconds == 0 and again.image_seconds == pytest.approx(first.image_seconds)
    by_epochs = Embeddings(replace(ctx, run_dir=tmp_path / "exact"), start, "weights")
    by_epochs.of(loader)
    assert sum(computed) == 2 * count
