"""Models for Core ML: what is converted computes as the bundle, and what only a Mac can verify is said."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from megavit.errors import ExportError
from megavit.exporting.export import export, model_size
from megavit.exporting.targets import coreml
from tests.helpers.export_cases import make_predictor, parity_images

SIZE = (1, 3, 8, 8)


def described(inputs: dict[str, tuple[int, ...]], outputs: tuple[str, ...]) -> SimpleNamespace:
    """What a model says of itself, as coremltools reads it."""

    def one(name: str, shape: tuple[int, ...] = ()) -> SimpleNamespace:
        return SimpleNamespace(name=name, type=SimpleNamespace(multiArrayType=SimpleNamespace(shape=shape)))

    interface = SimpleNamespace(input=[one(*item) for item in inputs.items()], output=[one(name) for name in outputs])
    return SimpleNamespace(description=interface)


@pytest.mark.parametrize(
    "spec",
    [
        described({"pixels": SIZE}, ("probabilities", "embedding")),
        described({"images": (2, 3, 8, 8)}, ("probabilities", "embedding")),
        described({"images": SIZE}, ("embedding", "probabilities")),
    ],
)
def test_other_inputs_or_outputs_are_an_error(spec: SimpleNamespace) -> None:
    with pytest.raises(ExportError, match="nothing was written"):
        coreml.check_interface(spec, ("probabilities", "embedding"), SIZE)
    coreml.check_interface(
        described({"images": SIZE}, ("probabilities", "embedding")), ("probabilities", "embedding"), SIZE
    )


def test_a_package_says_what_is_not_verified(tmp_path: Path) -> None:
    tools = pytest.importorskip("coremltools", reason="coremltools has no wheel for every system")
    predictor = make_predictor(tmp_path / "bundle", True, depth=1)
    out = tmp_path / "out"
    found = export(predictor, "coreml", out, parity_images(predictor), input="images", precision="float16")
    assert found.feature_error < 1e-4, "of the module in PyTorch"
    spec = tools.models.MLModel(str(out / "model.mlpackage"), skip_model_load=True).get_spec()
    metadata = json.loads(spec.description.metadata.userDefined["megavit"])
    assert "runs on macOS only" in metadata["unverified"] and metadata["labels"] == ["cat", "dog", "newt"]
    said = (out / "README.md").read_text()
    assert "Not verified here: Core ML runs on macOS only" in said and "module that it is converted from" in said
    weights = sum(weight.numel() * 4 for weight in predictor.model.parameters())
    assert 0.4 * weights < model_size(out) < 2 * weights
    assert (out / "reference.npz").is_file() and not (out / "predict.py").exists()
