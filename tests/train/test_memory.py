import pytest
import torch

from megavit.config.presets import preset
from megavit.errors import ConfigError
from megavit.runtime.memory import main_memory
from megavit.train import memory as module
from megavit.train.memory import check_memory, least_memory

CPU = torch.device("cpu")


def test_models_that_no_machine_of_ours_holds_are_refused_with_what_to_change():
    for config in (preset("22B"), preset("nano", image_size=100_000, num_classes=2)):
        with pytest.raises(ConfigError, match=r"at least .* GB .*--batch-size"):
            check_memory(config, 1, CPU)


def test_the_limit_is_what_the_machine_has(monkeypatch):
    config = preset("nano", num_classes=2)
    need = least_memory(config, 32)
    for there_is in (need - 1, need):
        monkeypatch.setattr(module, "main_memory", lambda there_is=there_is: there_is)
        if there_is < need:
            with pytest.raises(ConfigError):
                check_memory(config, 32, CPU)
        else:
            check_memory(config, 32, CPU)


def test_it_is_a_lower_bound_that_grows_with_the_batch_and_the_images():
    small, large = preset("nano", image_size=28, num_classes=2), preset("nano", image_size=56, num_classes=2)
    assert least_memory(small, 1) < least_memory(small, 64) < least_memory(large, 64) < main_memory()
