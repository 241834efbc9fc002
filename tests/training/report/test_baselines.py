import json

import pytest
import torch

from megavit.cli.render.metrics import show_trained
from megavit.evaluation.metrics.classification import ClassificationMetrics
from megavit.training.loop.build import make_train_loader
from megavit.training.progress import NullReporter
from megavit.training.report.baselines import shrink_training_images
from megavit.training.report.result import Run
from megavit.training.run import train
from tests.helpers.baselines import summary
from tests.helpers.digits import make_digits_folder
from tests.helpers.training import make_context, make_dataset, make_task


def test_a_model_ahead_of_all_is_not_warned_of():
    found = summary(180, 100, 150)
    assert found.warning is None and found.to_dict()["warning"] is None
    difference = found.results[1].comparison.differences[0].difference
    assert difference.value == pytest.approx(0.15) and difference.low > 0.09


def test_the_best_baseline_that_is_not_surpassed_is_named_with_what_to_do():
    worse = summary(100, 90, 180, 120)
    assert worse.warning == (
        "The model is worse than a logistic regression on thumbnails: 50.0% against 90.0% on 200 test images "
        "(p < 0.0001)."
    )
    assert worse.advice is not None and all(word in worse.advice for word in ("--minutes", "--from", "megavit check"))
    level = summary(102, 100)
    assert level.warning is not None and "not better, by more than chance, than nearest neighbors" in level.warning
    assert level.advice is not None and "more test images" in level.advice
    tuned = summary(102, 100, is_pretrained=True)
    assert tuned.advice is not None and " other pretrained weights (--from)" in tuned.advice


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that learned nothing in its one epoch."""
    folder = tmp_path_factory.mktemp("bad")
    make_digits_folder(folder / "digits", range(3), slice(50))
    changes = {
        "run": {"epochs": 1, "batch_size": 32, "device": "cpu", "precision": "float32", "workers": 0},
        "model": {"preset": "pico"},
        "optimizer": {"learning_rate": 1e-9},
    }
    return train(str(folder / "digits"), folder / "run", recipe="auto", overrides=changes, reporter=NullReporter())


def test_a_model_that_learned_nothing_is_called_so_in_the_first_line_and_on_top_of_the_report(bad, capsys):
    show_trained(bad, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("The model is worse than ") and lines[1].startswith("What may help: more time")
    assert lines[2].startswith("accuracy ") and "|  thumbnails: nearest neighbors " in lines[3]
    page = bad.report.read_text("utf-8")
    assert (
        page.index("The model is worse than") < page.index('class="headline"') < page.index("Against simple baselines")
    )


def test_the_json_has_the_baselines_on_the_same_images_as_the_model(bad, capsys):
    show_trained(bad, as_json=True)
    written = json.loads(capsys.readouterr().out)
    assert isinstance(bad.metrics, ClassificationMetrics)
    found = written["baselines"]
    assert found["accuracy"] == pytest.approx(bad.metrics.accuracy.value)
    assert [one["comparison"]["images"] for one in found["results"]] == [bad.metrics.images] * 2
    assert (found["images"], found["available"]) == (120, 120) and "seconds" not in found


def test_training_images_are_shrunk_in_order_and_not_read_once_more_if_they_are_not_in_memory(tmp_path):
    task = make_task()
    loader = make_train_loader(make_context(tmp_path, make_dataset()), task)
    found, first = (shrink_training_images(loader, task.preprocessing, count) for count in (None, 5))
    assert found is not None and first is not None
    assert torch.equal(found.labels, loader.labels) and found.pixels.shape == (32, 1, 4, 4)
    assert torch.equal(first.pixels, found.pixels[:5])
    loader.memory = None
    assert shrink_training_images(loader, task.preprocessing) is None
