"""A recipe's settings are checked where they are made, and the defaults pass."""

from dataclasses import FrozenInstanceError, asdict
from typing import Any

import pytest

from megavit.config.presets import PRESETS
from megavit.config.recipe import (
    AugmentRecipe,
    DataRecipe,
    ModelRecipe,
    OptimizerRecipe,
    ParallelRecipe,
    Recipe,
    RunRecipe,
    ScheduleRecipe,
)
from megavit.errors import ConfigError


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        (ModelRecipe, {"preset": "huge"}, ["preset", "auto, ", "pico, ", "'huge'"]),
        (ModelRecipe, {"image_size": 0}, ["image_size", "at least 1", "got 0"]),
        (ModelRecipe, {"patch_size": 4.0}, ["patch_size", "got 4.0"]),
        (ModelRecipe, {"channels": 65}, ["channels", "1 to 64", "got 65"]),
        (ModelRecipe, {"dropout": 1.0}, ["dropout", "[0, 1)"]),
        (ModelRecipe, {"drop_path": -0.1}, ["drop_path", "[0, 1)"]),
        (DataRecipe, {"val": 1.0}, ["val", "[0, 1)"]),
        (DataRecipe, {"test": -0.1}, ["test", "[0, 1)"]),
        (DataRecipe, {"val": 0.5, "test": 0.5}, ["val + test", "0.5 + 0.5"]),
        (DataRecipe, {"on_corrupt": "ignore"}, ["on_corrupt", "skip, fail", "'ignore'"]),
        (DataRecipe, {"seed": -1}, ["seed", "at least 0", "got -1"]),
        (DataRecipe, {"balance": "weights"}, ["balance", "none, loss, sampler", "'weights'"]),
        (AugmentRecipe, {"crop": 0}, ["crop", "(0, 1]", "got 0"]),
        (AugmentRecipe, {"crop": 1.1}, ["crop", "(0, 1]", "got 1.1"]),
        (AugmentRecipe, {"crop": True}, ["crop", "got True"]),
        (AugmentRecipe, {"crop": float("nan")}, ["crop", "got nan"]),
        (AugmentRecipe, {"rotate": 181}, ["rotate", "from 0 to 180", "got 181"]),
        (AugmentRecipe, {"shift": 1}, ["shift", "[0, 1)"]),
        (AugmentRecipe, {"color": 2}, ["color", "[0, 1)"]),
        (AugmentRecipe, {"mixup": -1}, ["mixup", "from 0 to 10"]),
        (AugmentRecipe, {"cutmix": 11}, ["cutmix", "from 0 to 10"]),
        (OptimizerRecipe, {"learning_rate": 0}, ["learning_rate", "above 0"]),
        (OptimizerRecipe, {"learning_rate": "1e-3"}, ["learning_rate", "'1e-3'"]),
        (OptimizerRecipe, {"weight_decay": -0.1}, ["weight_decay", "from 0 to 10"]),
        (OptimizerRecipe, {"beta1": 1.0}, ["beta1", "[0, 1)"]),
        (OptimizerRecipe, {"beta2": 1}, ["beta2", "[0, 1)"]),
        (OptimizerRecipe, {"clip_norm": float("inf")}, ["clip_norm", "got inf"]),
        (OptimizerRecipe, {"ema": 1.0}, ["ema", "[0, 1)"]),
        (OptimizerRecipe, {"label_smoothing": -0.1}, ["label_smoothing", "[0, 1)"]),
        (ScheduleRecipe, {"kind": "step"}, ["kind", "cosine, linear", "'step'"]),
        (ScheduleRecipe, {"warmup": 1.0}, ["warmup", "[0, 1)"]),
        (ScheduleRecipe, {"hold": 1.0}, ["hold", "[0, 1)"]),
        (RunRecipe, {"epochs": 0}, ["epochs", "at least 1", "got 0"]),
        (RunRecipe, {"epochs": 1.5}, ["epochs", "got 1.5"]),
        (RunRecipe, {"minutes": 0}, ["minutes", "above 0"]),
        (RunRecipe, {"batch_size": 0}, ["batch_size", "at least 1"]),
        (RunRecipe, {"seed": 0.5}, ["seed", "got 0.5"]),
        (RunRecipe, {"precision": "float16"}, ["precision", "auto, float32, bfloat16", "'float16'"]),
        (RunRecipe, {"checkpoint_seconds": -1}, ["checkpoint_seconds", "above 0"]),
        (RunRecipe, {"patience": 0, "epochs": 1}, ["patience", "at least 1"]),
        (RunRecipe, {"patience": 3}, ["patience", "by epochs"]),
        (RunRecipe, {"workers": -1}, ["workers", "at least 0"]),
        (RunRecipe, {"gradient_accumulation": 0}, ["gradient_accumulation", "at least 1"]),
        (RunRecipe, {"gradient_checkpointing": 1}, ["gradient_checkpointing", "true or false", "1"]),
        (RunRecipe, {"compile": "yes"}, ["compile", "true or false", "yes"]),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(kind: type, changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**changes)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        (AugmentRecipe, "flip", "no"),
        (AugmentRecipe, "flip", 1),
        (ModelRecipe, "channels", True),
        (ModelRecipe, "channels", 3.0),
    ],
)
def test_settings_of_the_wrong_type_are_refused(kind: type, setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=setting):
        kind(**{setting: value})


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12", "mps", "xpu", "xpu:1"])
def test_a_device_may_be(device: str) -> None:
    assert RunRecipe(device=device).device == device


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "auto:", "CUDA", None, 0])
def test_a_device_may_not_be(device: Any) -> None:
    with pytest.raises(ConfigError, match="device must be auto, cpu, cuda, cuda:N, mps, xpu or xpu:N"):
        RunRecipe(device=device)


@pytest.mark.parametrize("name", ["auto", *PRESETS])
def test_every_preset_may_be_asked_for(name: str) -> None:
    assert ModelRecipe(preset=name).preset == name


def test_the_bounds_themselves() -> None:
    AugmentRecipe(crop=1, rotate=180, mixup=10, cutmix=0, shift=0.99)
    DataRecipe(val=0, test=0)
    DataRecipe(val=0.5, test=0.49)
    RunRecipe(epochs=1, workers=0, batch_size=1)


def test_a_recipe_is_its_parts_and_all_defaults_pass() -> None:
    recipe = Recipe()
    parts = {"model", "data", "augment", "optimizer", "schedule", "run", "finetune", "parallel"}
    assert {name for name, part in asdict(recipe).items() if part is not None} == parts
    assert recipe == Recipe(model=ModelRecipe(), run=RunRecipe())
    assert recipe != Recipe(run=RunRecipe(seed=1))
    assert hash(recipe) == hash(Recipe())


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Recipe().run.seed = 1  # pyrefly: ignore[read-only]


def test_images_are_not_mirrored_or_turned_unless_asked() -> None:
    """Letters and digits would be learned wrongly."""
    augment = AugmentRecipe()
    assert not augment.flip
    assert augment.rotate == 0


def test_weights_to_begin_with_leave_no_preset_open() -> None:
    assert ModelRecipe(pretrained="runs/before").preset == "auto"
    with pytest.raises(ConfigError, match=r"pretrained .* and preset .* leave out 'nano' to use that of 'runs/before'"):
        ModelRecipe(pretrained="runs/before", preset="nano")


@pytest.mark.parametrize("decay", [0, -0.5, 1.1, float("nan")])
def test_a_layers_share_of_the_rate_is_above_zero_and_at_most_one(decay: float) -> None:
    with pytest.raises(ConfigError, match="layer_decay"):
        OptimizerRecipe(layer_decay=decay)


def test_processes_divide_into_copies_shards_and_those_of_a_layer():
    parallel = ParallelRecipe(nproc=8, fsdp=2, tp=2)
    assert (parallel.replicate, parallel.dp_world_size) == (2, 4)
    assert (ParallelRecipe().replicate, ParallelRecipe().dp_world_size) == (1, 1)


@pytest.mark.parametrize(
    "settings", [{"nproc": 0}, {"fsdp": 0}, {"tp": 1.5}, {"nproc": 4, "fsdp": 3}, {"timeout_seconds": 0}]
)
def test_processes_that_do_not_divide_are_refused(settings):
    with pytest.raises(ConfigError):
        ParallelRecipe(**settings)
