"""The memory of a forward pass that saves nothing is foreseen, so that batches of large images can be small enough."""

import pytest
import torch

from megavit.config.presets import preset
from megavit.data.augment import normalize
from megavit.model.activation_memory import inference_memory
from megavit.model.vit import MegaVit
from megavit.plan.trace.memory_tracker import MemoryTracker
from megavit.training.loop.build import make_preprocessing


@pytest.mark.parametrize(
    "config",
    [
        preset("hybrid-nano", image_size=96, num_classes=2),
        preset("hybrid-mini", image_size=128, num_classes=2),
        preset("nano", image_size=64, num_classes=2),
        preset("Ti", image_size=224, num_classes=2),
    ],
    ids=lambda config: f"{config.dim}-{config.image_size}",
)
def test_the_peak_of_a_forward_pass_is_foreseen(config):
    model = MegaVit.from_config(config).eval()
    images = torch.zeros(2, config.channels, *config.image_hw, dtype=torch.uint8)
    tracker = MemoryTracker()
    tracker.track(list(model.state_dict().values()))
    before = tracker.alive
    with torch.no_grad(), tracker:
        model(normalize(images, make_preprocessing(config)))
    assert 0.6 < (tracker.peak - before) / (2 * inference_memory(config)) < 1.1
