"""Exports to every runtime, run there."""

import json
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from PIL import Image

from megavit.config.export_info import ExportPrecision, InputKind
from megavit.config.vit import ZETA, Design, ViTConfig
from megavit.errors import ConfigError, ExportError, OutputError
from megavit.exporting import module as export_module
from megavit.exporting import resize
from megavit.exporting.export import export, model_size
from megavit.exporting.parity import TOLERANCES
from megavit.exporting.targets import openvino
from megavit.predict.exported_predictor import load_exported
from megavit.predict.predictor import load
from tests.engine.test_openvino import grown, preprocessing_of
from tests.helpers.bundles import make_bundle
from tests.helpers.export_cases import CASES, ExportCase, ExportedCase, make_images, make_predictor, parity_images
from tests.properties.test_model import configs

NUMBER = r"(?<=[: ])\d+\.?\d*(?=%|$)"
MULTILABEL, REGRESSION = "multilabel, rotary", "regression, middle rounded down, and not all of it"
ONNX_CASES = ("plain", "class token and mean", MULTILABEL, REGRESSION, "features alone")


def check_same_predictions(made: ExportedCase, case: str, within: float = 1e-4) -> None:
    predictor, folder, result = made
    assert result.output_error < 1e-4 and result.feature_error < 1e-4
    if case == "features alone":
        return
    exported = load_exported(folder)
    coverage = 0.9 if predictor.calibrator.supports_coverage(0.9) else None
    for image in parity_images(predictor):
        expected, found = (one.predict(image.pixels, coverage=coverage).to_dict() for one in (predictor, exported))
        assert expected.keys() == found.keys()
        assert found.get("out_of_distribution") == expected.get("out_of_distribution")
        for name in ("probability", "score"):
            assert found.get(name, 0) == pytest.approx(expected.get(name, 0), rel=within)
        assert found.get("interval", []) == pytest.approx(expected.get("interval", []), rel=within)
        for name in ("top", "labels", "prediction_set"):
            names = [[one["label"] for one in answer.get(name, [])] for answer in (expected, found)]
            assert names[0] == names[1]
        assert np.allclose(exported.embed(image.pixels), predictor.embed(image.pixels).numpy(), atol=1e-2)


@pytest.mark.parametrize("case", ONNX_CASES)
def test_onnx_predicts_as_the_bundle(case: str, export_case: ExportCase) -> None:
    check_same_predictions(export_case("onnx", case), case)


@pytest.mark.parametrize("case", CASES)
def test_openvino_predicts_as_the_bundle(case: str, export_case: ExportCase) -> None:
    check_same_predictions(export_case("openvino", case), case)


@settings(max_examples=settings().max_examples // 2)
@given(config=configs().filter(lambda config: config.design.block != "zeta"))
def test_models_of_any_design_in_openvino(config: ViTConfig, tmp_path_factory: pytest.TempPathFactory) -> None:
    if min(config.image_hw) < 2 or config.channels == 2:
        return  # images have at least two pixels a side, and no picture has two channels
    folder = tmp_path_factory.mktemp("any")
    make_bundle(
        folder / "bundle",
        grown(config),
        [str(place) for place in range(config.num_classes)],
        preprocessing=preprocessing_of(config),
    )
    predictor = load(folder / "bundle", device="cpu")
    found = export(predictor, "openvino", folder / "out", parity_images(predictor))
    assert found.feature_error < 1e-3


@pytest.mark.parametrize("pool", ["cls", "mean", "cls_mean", "map"])
@pytest.mark.parametrize("patches", [3, 4])
def test_as_many_heads_as_tokens_in_openvino(pool: str, patches: int, tmp_path: Path) -> None:
    """OpenVINO (2026.4) then takes one for the other where it knows all sizes."""
    predictor = make_predictor(tmp_path / "bundle", image_size=(4, 4 * patches), heads=4, pool=pool)
    assert export(predictor, "openvino", tmp_path / "out", parity_images(predictor)).feature_error < 1e-4


@pytest.mark.parametrize("case", ["plain", "class token and mean"])
def test_programs_of_pytorch(case: str, export_case: ExportCase) -> None:
    _, folder, result = export_case("torch", case)
    assert result.output_error < 1e-4 and result.feature_error < 1e-4
    assert model_size(folder) == (folder / "model.pt2").stat().st_size


def test_compiled_programs_of_pytorch(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path / "bundle", True, depth=1)
    result = export(predictor, "aotinductor", tmp_path / "out", parity_images(predictor))
    assert result.output_error < 1e-4 and result.feature_error < 1e-4


@pytest.mark.parametrize(
    ("target", "precision"),
    [("onnx", "float16"), ("openvino", "float16"), ("torch", "bfloat16"), ("onnx", "int8"), ("openvino", "int8")],
)
def test_fewer_bits_are_near_and_take_less_room(
    target: str, precision: ExportPrecision, export_case: ExportCase
) -> None:
    predictor, small, rounded = export_case(target, "wide", precision)
    weights = sum(parameter.numel() * 4 for parameter in predictor.model.parameters())
    assert rounded.feature_error > 1e-4, "the error of float32 is below"
    assert rounded.feature_error < (0.5 if precision == "int8" else TOLERANCES[precision].features)
    assert model_size(small) < 0.75 * weights


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_images_that_others_prepare(target: str, tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path / "bundle", True, design=Design(stem="conv", norm="batch"))
    found = export(predictor, target, tmp_path / "out", parity_images(predictor), input="images")
    assert found.output_error < 1e-4 and found.feature_error < 1e-4 and not found.stretched
    assert not (tmp_path / "out" / "predict.py").exists()
    with pytest.raises(ConfigError, match="--input images"):
        load_exported(tmp_path / "out")


@pytest.mark.parametrize(
    ("target", "wrong"),
    [
        ("onnx", "mean"),
        *(("openvino", wrong) for wrong in ("mean", "std", "bilinear", "another kernel", "channels")),
    ],
)
def test_a_sabotaged_export_is_refused_and_leaves_nothing(target: str, wrong: str, tmp_path: Path, monkeypatch) -> None:
    predictor = make_predictor(tmp_path / "bundle")
    right = predictor.info.preprocessing
    other = {
        "mean": replace(right, mean=0.5),
        "std": replace(right, std=(0.2, 0.27, 0.33)),
        "bilinear": replace(right, interpolation="bilinear"),
    }
    if wrong == "channels":
        mixed = lambda real: lambda pixels, *rest: real(_reversed(pixels), *rest)  # noqa: E731
        monkeypatch.setattr(export_module, "resize_and_crop", mixed(export_module.resize_and_crop))
        monkeypatch.setattr(openvino, "resize_and_crop", mixed(openvino.resize_and_crop))
    elif wrong == "another kernel":
        monkeypatch.setattr(resize, "CUBIC", -0.75)
        monkeypatch.setattr(openvino, "CUBIC", -0.75)
    else:
        with_other = {"resize_and_crop": 1, "normalize": 1}
        for module in (export_module, openvino):
            for name in with_other:
                if hasattr(module, name):
                    real = getattr(module, name)
                    monkeypatch.setattr(module, name, lambda x, _, real=real: real(x, other[wrong]))
        real_build = openvino.build
        monkeypatch.setattr(openvino, "build", lambda model, _, product: real_build(model, other[wrong], product))
    with pytest.raises(ExportError, match=r"on 10 real images, of which 'picture .*nothing was written"):
        export(predictor, target, tmp_path / "out", parity_images(predictor))
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def _reversed(pixels):
    if isinstance(pixels, torch.Tensor):
        return pixels.flip(1)
    from openvino import opset15 as op

    return op.gather(pixels, openvino.constant_int([2, 1, 0]), openvino.constant_int(3))


def test_int8_that_costs_too_much_is_refused(tmp_path: Path, monkeypatch) -> None:
    predictor = make_predictor(tmp_path / "bundle")
    images = parity_images(predictor)
    answers = [predictor.predict(image.pixels).label for image in images]
    labels = [predictor.labels.index(answer) for answer in answers]
    right = [replace(image, label=label) for image, label in zip(images, labels, strict=True)]
    from megavit.engine import int8

    monkeypatch.setattr(int8, "LEVELS", 4)  # of 2 bits
    with pytest.raises(ExportError, match=r"int8 in openvino loses .* more than 0.5; nothing was written"):
        export(predictor, "openvino", tmp_path / "out", right, precision="int8")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_done_is_told_before_anything_is_written(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path / "bundle")
    images = parity_images(predictor)
    with pytest.raises(ConfigError, match="onnx, openvino, web, torch, aotinductor, executorch"):
        export(predictor, "tensorflow", tmp_path / "out", images)
    with pytest.raises(ConfigError, match="onnx can be exported in float32, float16, int8, not in bfloat16"):
        export(predictor, "onnx", tmp_path / "out", images, precision="bfloat16")
    with pytest.raises(ConfigError, match="--data"):
        export(predictor, "onnx", tmp_path / "out", [replace(one, label=None) for one in images], precision="int8")
    with pytest.raises(ConfigError, match="--onnxruntime-web"):
        export(predictor, "onnx", tmp_path / "out", images, runtime=tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="choose a new folder"):
        export(predictor, "onnx", tmp_path / "out", images)


def test_models_that_openvinos_graph_does_not_have_are_sent_to_onnx(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path / "bundle", design=ZETA)
    with pytest.raises(ConfigError, match="export it to onnx"):
        export(predictor, "openvino", tmp_path / "out", parity_images(predictor))
    assert not (tmp_path / "out").exists()


def test_the_file_says_what_it_is(export_case: ExportCase) -> None:
    folder = export_case("onnx", "plain").folder
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    about = json.loads(session.get_modelmeta().custom_metadata_map["megavit"])
    assert about["labels"] == ["cat", "dog", "newt"] and about["name"] == "flowers"
    assert about["sets"].keys() == {"0.8", "0.9", "0.95", "0.99"} and len(about["sets"]["0.9"]) == 3
    assert about["ood_threshold"] == 9.0 and about["channels"] == 3
    said = (folder / "README.md").read_text()
    assert "6 pictures and 4 of them at other sizes" in said and "0 of 10 get a different prediction" in said


@pytest.mark.parametrize(
    ("target", "case"),
    [
        ("onnx", "plain"),
        ("openvino", "plain"),
        ("openvino", MULTILABEL),
        ("openvino", REGRESSION),
        ("torch", "plain"),
    ],
)
def test_the_script_beside_it_answers_as_the_bundle(
    target: str, case: str, tmp_path: Path, export_case: ExportCase, monkeypatch, capsys
) -> None:
    predictor, folder, _ = export_case(target, case)
    paths, expected = [], []
    for place, one in enumerate(make_images(3)):
        image = Image.fromarray(one).convert("RGBA") if place == 1 else Image.fromarray(one)
        if place == 1:
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(tmp_path / f"{place}.png")
        paths.append(str(tmp_path / f"{place}.png"))
        found = predictor.predict(tmp_path / f"{place}.png")
        said = {
            "plain": lambda found=found: f"{found.label} {found.probability:.1%}",
            MULTILABEL: lambda found=found: (
                ", ".join(sorted(f"{label} {p:.1%}" for label, p in found.labels)) or "none"
            ),
            REGRESSION: lambda found=found: f"{found.score:.6g}",
        }[case]()
        mark = " (unlike the training images: not reliable)" if found.out_of_distribution else ""
        expected.append(f"{paths[-1]}: {said}{mark}")
    script = str(folder / "predict.py")
    if target == "torch":  # here, which spares the import of PyTorch
        monkeypatch.setattr(sys, "argv", [script, *paths])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(script, run_name="__main__")
        assert not end.value.code
        got = capsys.readouterr().out.splitlines()
    else:
        command = [sys.executable, "-W", "error", script, *paths]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        got = done.stdout.splitlines()
    if case == "plain":
        assert got == expected
    else:  # the last digits may differ
        assert [re.sub(NUMBER, "N", line) for line in got] == [re.sub(NUMBER, "N", line) for line in expected]
        numbers = [
            [float(number) for line in lines for number in re.findall(NUMBER, line)] for lines in (got, expected)
        ]
        assert numbers[0] == pytest.approx(numbers[1], abs=0.11, rel=1e-4)


STEM = Design(stem="conv", positions="rope")


@pytest.mark.parametrize("input", ["pixels", "images"])
@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-4), ("int8", 0.1)])
@pytest.mark.parametrize("case", [{}, {"design": STEM, "resize": 21}], ids=["patches", "convolutions"])
def test_executorch(
    tmp_path: Path, case: dict[str, Any], precision: ExportPrecision, bound: float, input: InputKind
) -> None:
    pytest.importorskip("executorch", reason="executorch is an extra that tests do without")
    check_phone_export(tmp_path, "executorch", case, precision, bound, input)
    program = (tmp_path / "out" / "model.pte").read_bytes()
    # The names of the operations that XNNPACK does not take, which other code runs far more slowly.
    assert b"aten::native_layer_norm" in program and b"aten::convolution" not in program


@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-4), ("float16", 1e-2), ("int8", 0.1)])
@pytest.mark.parametrize("case", [{}, {"design": STEM}], ids=["patches", "convolutions"])
def test_litert(tmp_path: Path, case: dict[str, Any], precision: ExportPrecision, bound: float) -> None:
    pytest.importorskip("litert_torch", reason="litert is an extra that tests do without")
    check_phone_export(tmp_path, "litert", case, precision, bound, "images")


def check_phone_export(
    tmp_path: Path, target: str, case: dict[str, Any], precision: ExportPrecision, bound: float, input: InputKind
) -> None:
    predictor = make_predictor(tmp_path / "bundle", True, **case)
    images = parity_images(predictor)
    found = export(predictor, target, tmp_path / "out", images, input=input, precision=precision, max_accuracy_drop=100)
    assert found.output_error < bound and found.feature_error < bound
    assert (found.feature_error > 1e-5) == (precision != "float32")
    assert found.stretched == (4 if input == "pixels" else 0)
    assert json.loads((tmp_path / "out" / "model.json").read_text())["labels"] == ["cat", "dog", "newt"]


@pytest.mark.parametrize(("target", "package"), [("executorch", "executorch"), ("litert", "litert_torch")])
def test_a_package_that_is_not_there_is_told(tmp_path: Path, target: str, package: str) -> None:
    if find_spec(package) is not None:
        pytest.skip("it is there")
    with pytest.raises(ConfigError, match=rf"pip install 'megavit\[{target}\]'"):
        export(make_predictor(tmp_path / "bundle"), target, tmp_path / "out", [], input="images")
