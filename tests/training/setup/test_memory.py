import pytest
import torch

from megavit.config.presets import preset
from megavit.config.recipe import RunRecipe
from megavit.config.vit import PLAIN_VIT, Design
from megavit.errors import ConfigError
from megavit.model.activation_memory import activation_memory
from megavit.model.statistics import parameter_count
from megavit.model.vit import MegaVit
from megavit.runtime.memory import main_memory
from megavit.training.setup import memory as module
from megavit.training.setup.memory import check_memory, choose_gradient_accumulation, min_memory

CPU = torch.device("cpu")


def test_models_that_no_machine_of_ours_holds_are_refused_with_what_to_change():
    for config in (preset("22B"), preset("nano", image_size=100_000, num_classes=2)):
        with pytest.raises(ConfigError, match=r"at least .* GB .*--batch-size"):
            check_memory(config, RunRecipe(batch_size=1), CPU)


def test_the_limit_is_what_the_machine_has(monkeypatch):
    config = preset("nano", num_classes=2)
    need = min_memory(config, RunRecipe(batch_size=32))
    for there_is in (need - 1, need):
        monkeypatch.setattr(module, "total_memory", lambda device, there_is=there_is: there_is)
        if there_is < need:
            with pytest.raises(ConfigError):
                check_memory(config, RunRecipe(batch_size=32), CPU)
        else:
            check_memory(config, RunRecipe(batch_size=32), CPU)


def test_it_is_a_lower_bound_that_grows_with_the_batch_and_the_images():
    small, large = preset("nano", image_size=28, num_classes=2), preset("nano", image_size=56, num_classes=2)
    one, many, saving = (
        RunRecipe(batch_size=1),
        RunRecipe(batch_size=64),
        RunRecipe(batch_size=64, gradient_checkpointing=True),
    )
    assert min_memory(small, one) < min_memory(small, many) < min_memory(large, many) < main_memory()
    assert min_memory(large, one) < min_memory(large, saving) < min_memory(large, many)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("design", [Design(), PLAIN_VIT, Design(mlp="swiglu", registers=2)])
def test_what_a_step_keeps_is_foreseen(design, checkpointing):
    images, config = 4, preset("Ti", design=design, num_classes=2)
    model = MegaVit.from_config(config)
    model.transformer.gradient_checkpointing = checkpointing
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        everything.append(tensor)  # or another could be given its place
        return tensor

    everything: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.randn(images, 3, 224, 224))
    foreseen = images * activation_memory(config, checkpointing)
    # The block that is computed again on the way back is not among what the way there has kept.
    assert sum(kept.values()) < foreseen * 1.1
    if not checkpointing:
        assert sum(kept.values()) > foreseen * 0.8


def test_a_step_is_divided_only_where_it_must(monkeypatch):
    config = preset("Ti", num_classes=2)
    one = activation_memory(config)
    fixed = 4 * module.COPIES * parameter_count(config)
    for images, parts in ((64, 1), (63, 2), (16, 4), (5, 13), (1, 64), (0, 64)):
        there_is = int((fixed + (images + 0.5) * one) / module.USABLE)
        monkeypatch.setattr(module, "MIN_OTHERS", 0)
        monkeypatch.setattr(module, "total_memory", lambda device, there_is=there_is: there_is)
        assert choose_gradient_accumulation(config, 64, False, CPU) == parts
    assert choose_gradient_accumulation(config, 64, True, CPU) < 64


def test_of_a_small_main_memory_much_is_left_for_libraries_and_batches(monkeypatch):
    config = preset("Ti", num_classes=2)
    fixed = 4 * module.COPIES * parameter_count(config)
    there_is = module.MIN_OTHERS + fixed + int(16.5 * activation_memory(config))
    monkeypatch.setattr(module, "total_memory", lambda device: there_is)
    assert choose_gradient_accumulation(config, 64, False, CPU) == 4
    monkeypatch.setattr(module, "total_memory", lambda device: module.MIN_OTHERS)
    assert choose_gradient_accumulation(config, 64, False, CPU) == 64
