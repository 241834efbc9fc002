"""When the engine changes, and that its answers do not."""

import sys
import threading
from typing import Any

import pytest
import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import preset
from megavit.data.augment import normalize
from megavit.engine import engine as module
from megavit.engine import openvino
from megavit.engine.engine import Engine, check_precision
from megavit.errors import ConfigError
from megavit.model.vit import MegaVit
from megavit.runtime.device import has_bfloat16


@pytest.fixture
def model() -> MegaVit:
    return MegaVit.from_config(preset("micro", num_classes=0)).eval()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.0)


def features(model: MegaVit, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.features(normalize(x, PREPROCESSING)).pooled


REAL_CALL = openvino.OpenVino.__call__
X = torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PREPROCESSING = Preprocessing(height=64, width=64, channels=3)


def test_the_first_answer_waits_for_nothing(model: MegaVit) -> None:
    engine = Engine(model, PREPROCESSING)
    assert torch.equal(engine(X).pooled, features(model, X))
    assert engine.note.startswith("PyTorch")


@pytest.mark.usefixtures("impatient")
def test_answers_stay_whichever_way_they_are_computed(model: MegaVit) -> None:
    engine = Engine(model, PREPROCESSING)
    for _ in range(3):
        torch.testing.assert_close(engine(X).pooled, features(model, X), rtol=0, atol=1e-5)
    assert "times as fast as" in engine.note


@pytest.mark.usefixtures("impatient")
def test_it_follows_the_weights(model: MegaVit) -> None:
    engine = Engine(model, PREPROCESSING)
    before = [engine(X).pooled for _ in range(3)][-1]
    with torch.no_grad():
        model.get_parameter("transformer.layers.0.attention.out.weight")[0] += 1.0
    after = engine(X).pooled
    torch.testing.assert_close(after, features(model, X), rtol=0, atol=1e-5)
    assert not torch.allclose(before, after, atol=1e-3)


@pytest.mark.usefixtures("impatient")
def test_another_engine_that_disagrees_is_not_used(model: MegaVit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        openvino.OpenVino, "__call__", lambda self, images: tuple(part + 0.01 for part in REAL_CALL(self, images))
    )
    engine = Engine(model, PREPROCESSING)
    for _ in range(3):
        assert torch.equal(engine(X).pooled, features(model, X))
    assert "differ by" in engine.note


@pytest.mark.usefixtures("impatient")
def test_another_engine_that_is_slower_is_not_used(model: MegaVit, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = lambda compute: 2.0 if isinstance(compute, openvino.OpenVino) else 1.0  # noqa: E731
    monkeypatch.setattr(module, "_timed", lambda compute, images: (compute(images), seconds(compute)))
    engine = Engine(model, PREPROCESSING)
    for _ in range(3):
        assert torch.equal(engine(X).pooled, features(model, X))
    assert engine.note.startswith("PyTorch") and "as fast as OpenVINO" in engine.note


@pytest.mark.parametrize("factor", [1.0, 100.0], ids=["short batches", "long batches, in two turns only"])
def test_a_single_slow_turn_does_not_decide(model: MegaVit, monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    turns = 3 if factor == 1.0 else 2
    theirs = iter([factor * seconds for seconds in (0.2, 0.005, 0.01)][:turns])
    ours = iter([factor * seconds for seconds in (0.01, 0.02, 0.02)][:turns])
    seconds = lambda compute: next(theirs if isinstance(compute, openvino.OpenVino) else ours)  # noqa: E731
    monkeypatch.setattr(module, "_timed", lambda compute, images: (compute(images), seconds(compute)))
    engine = Engine(model, PREPROCESSING)
    engine.choose_runtime(X)
    assert engine.note == "OpenVINO: 2.0 times as fast as PyTorch here"
    assert not [*theirs, *ours]


def test_nothing_else_computes_while_a_run_is_timed(model: MegaVit, monkeypatch: pytest.MonkeyPatch) -> None:
    computing, held, timed = threading.Lock(), [], module._timed

    def record(*arguments: Any) -> Any:
        held.append(computing.locked())
        return timed(*arguments)

    monkeypatch.setattr(module, "_timed", record)
    Engine(model, PREPROCESSING).choose_runtime(X, computing)
    assert len(held) >= 4 and all(held) and not computing.locked()


@pytest.mark.usefixtures("impatient")
def test_another_engine_that_fails_is_not_used(model: MegaVit, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(openvino.OpenVino, "__call__", fail)
    engine = Engine(model, PREPROCESSING)
    for _ in range(3):
        assert torch.equal(engine(X).pooled, features(model, X))
    assert "no such instruction" in engine.note


@pytest.mark.usefixtures("impatient")
def test_another_engine_that_cannot_be_imported_is_not_used(model: MegaVit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "megavit.engine.openvino", None)  # as where a library that it needs is missing
    engine = Engine(model, PREPROCESSING)
    for _ in range(3):
        assert torch.equal(engine(X).pooled, features(model, X))
    assert "does not run here" in engine.note


@pytest.mark.usefixtures("impatient")
def test_images_of_different_sizes_come_back_in_order(model: MegaVit) -> None:
    engine = Engine(model, PREPROCESSING)
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(256, (3, 8 * rows, 64), dtype=torch.uint8, generator=generator) for rows in (8, 3, 8, 5, 3)]
    expected = torch.cat([features(model, image[None]) for image in images])
    for _ in range(3):
        torch.testing.assert_close(engine(images).pooled, expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("impatient")
def test_the_models_mode_is_left_alone(model: MegaVit) -> None:
    model.train()
    engine = Engine(model, PREPROCESSING)
    for _ in range(3):
        engine(X)
    assert model.training


@pytest.mark.usefixtures("impatient")
def test_a_model_that_has_no_graph_is_computed_all_the_same() -> None:
    from megavit.config.vit import ZETA

    model = MegaVit.from_config(preset("nano", num_classes=0, design=ZETA)).eval()
    engine = Engine(model, PREPROCESSING)
    x = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    for _ in range(3):
        assert torch.equal(engine(x).pooled, features(model, x))


def test_a_precision_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert check_precision("float32", cpu) == "float32"
    with pytest.raises(ConfigError, match="float16"):
        check_precision("float16", cpu)
    monkeypatch.setattr(module, "has_bfloat16", lambda device: False)
    with pytest.raises(ConfigError, match="does not support bfloat16"):
        check_precision("bfloat16", cpu)


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="this processor has no bfloat16")
@pytest.mark.usefixtures("impatient")
def test_bfloat16_is_near_whichever_way_it_is_computed(model: MegaVit) -> None:
    engine = Engine(model, PREPROCESSING, "bfloat16")
    for _ in range(3):
        found = engine(X).pooled
        assert found.dtype == torch.float32
        assert 0 < (found - features(model, X)).abs().max() < 0.1
