"""Which precision is faster, decided from the times of batches."""

import pytest
import torch

from megavit.bench import precisions as module
from megavit.bench.precisions import BatchSpeed, time_precisions
from megavit.bench.timing import Timing
from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import preset
from megavit.engine.int8 import calibrate
from megavit.model.vit import MegaVit

SIZE = Preprocessing(height=8, width=8, channels=3)


@pytest.mark.parametrize(
    ("seconds", "alternative", "speedup", "is_faster"),
    [
        ({"float32": 0.2, "bfloat16": 0.1, "int8": 0.05}, "bfloat16", 2.0, True),
        ({"float32": 0.1, "bfloat16": 0.2, "int8": 0.05}, "float32", 2.0, True),
        ({"float32": 0.2, "bfloat16": 0.1, "int8": 0.125}, "bfloat16", 0.8, False),
        ({"float32": 0.102, "int8": 0.1}, "float32", 1.02, False),
    ],
)
def test_int8_is_faster_only_if_it_beats_the_fastest_other_precision_by_more_than_the_spread(
    seconds: dict[str, float], alternative: str, speedup: float, is_faster: bool
) -> None:
    found = BatchSpeed(16, seconds)
    assert found.to_dict() == {
        "batch": 16,
        "seconds": seconds,
        "alternative": alternative,
        "speedup": pytest.approx(speedup),
        "faster": is_faster,
    }


@pytest.mark.parametrize("bfloat16", [True, False])
def test_each_batch_is_computed_in_every_precision_of_the_machine(bfloat16, monkeypatch) -> None:
    model = MegaVit.from_config(preset("pico", num_classes=5)).eval()
    torch.nn.init.normal_(model.get_parameter("mlp_head.weight"))
    sizes: list[int] = []

    def time_once(contenders, seconds, device):
        outputs = {name: run() for name, run in contenders.items()}
        exact = outputs["float32"].logits
        assert all((found.logits - exact).abs().max() <= 0.1 * exact.abs().max() for found in outputs.values())
        assert not torch.equal(outputs["int8"].logits, exact)
        sizes.append(len(exact))
        return {name: Timing((1.0, 2.0 + place, 9.0)) for place, name in enumerate(outputs)}

    monkeypatch.setattr(module, "time_interleaved", time_once)
    monkeypatch.setattr(module, "has_bfloat16", lambda device: bfloat16)
    bounds = calibrate(model, SIZE, [torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)])
    single, many = time_precisions(model, SIZE, bounds)
    floats = ["float32", "bfloat16"] if bfloat16 else ["float32"]
    assert sizes == [single.batch, many.batch] == [1, 16]
    assert single.seconds == {name: 2.0 + place for place, name in enumerate([*floats, "int8"])}, "medians"
